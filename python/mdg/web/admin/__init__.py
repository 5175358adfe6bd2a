"""The doors of the operator, on the admin listener only: the state of the gateway, its records, what it refuses, what
patients consent to, and what it retrieves as a consumer."""
