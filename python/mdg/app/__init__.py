"""Composition: settings in, the public and the admin application out.

`rooms` opens the rooms of a gateway once, `routes` hangs the doors of both listeners on them, `services` says whom the
gateway asks, `state` what it says of itself to its operator.
"""

from mdg.app.rooms import Rooms, open_gateway
from mdg.app.routes import create_admin, create_public

__all__ = ["Rooms", "create_admin", "create_public", "open_gateway"]
