"""The FHIR doors: searches, reads, subscriptions and the CapabilityStatement. What they do not know is refused."""
