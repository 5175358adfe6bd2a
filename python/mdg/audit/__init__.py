"""What happened, provably: one AuditEvent per event, durable before anything leaves."""

from mdg.audit.event import Agent
from mdg.audit.record import Audit, recorded

__all__ = ["Agent", "Audit", "recorded"]
