"""The patterns of the framework as stories: discovery, retrieval, registration, subscription and notification, and what
a consumer does with what it retrieved.

A story authenticates nobody and knows no HTTP: it gets a `Requester` from the door, asks `access` for each decision,
makes the audit durable before it gives anything back, and answers with the model or a `Release`; doors render the
model (docs/design/architecture.md, "Paths").
"""
