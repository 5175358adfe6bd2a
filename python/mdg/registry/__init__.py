"""Who holds records for this person: what this gateway has told a registry, and the registry's own answers.

A record says that a service holds something about a person, and nothing clinical, not even a modality (IEF
A1.3.5). When a person must be registered or taken back is said in `exchange/registration.py`.
"""

from mdg.registry.client import Registry
from mdg.registry.record import Record, Status
from mdg.registry.registrations import Registration, Registrations

__all__ = ["Record", "Registration", "Registrations", "Registry", "Status"]
