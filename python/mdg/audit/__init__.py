"""What happened, provably: one AuditEvent per event, durable before anything leaves."""

from mdg.audit.event import Agent
from mdg.audit.record import Audit, Wanted, listed, recorded

__all__ = ["Agent", "Audit", "Wanted", "listed", "recorded"]
