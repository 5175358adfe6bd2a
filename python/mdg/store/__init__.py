"""What this gateway itself keeps: the database, its one writer, the index and received objects.

The room owns the engine, transactions and migrations (spec/storage 3). Each other room keeps its own tables and SQL
beside its logic, on `mdg.store.schema.metadata`, and reaches the database through `Store.read` and `Store.write` only.
"""

from mdg.store.engine import Store, announce
from mdg.store.lock import DataFolder
from mdg.store.room import has_room

__all__ = ["DataFolder", "Store", "announce", "has_room"]
