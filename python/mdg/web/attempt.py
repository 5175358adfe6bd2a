"""What a refused request would have been, so that its record is found where the record of a granted one is."""

from __future__ import annotations

from mdg.model.event import Kind

ATTACKS = frozenset(
    {
        "another-patient",
        "framing",
        "nonce-seen",
        "proof-replayed",
        "ticket-code",
        "token-in-body",
        "token-in-url",
        "token-revoked",
        "two-credentials",
    }
)
"""Reasons that no mistake explains: recorded as a Security Alert (DCM 110113), unlike a mistyped parameter."""

_ATTEMPTS = {
    ("GET", "/fhir/ImagingStudy"): Kind.SEARCH,
    ("POST", "/fhir/ImagingStudy/_search"): Kind.SEARCH,
    ("GET", "/fhir/ImagingStudy/{id}"): Kind.READ,
    ("GET", "/fhir/ImagingStudy/{id}/_history/{version}"): Kind.READ,
    ("GET", "/fhir/Patient"): Kind.SEARCH,
    ("POST", "/fhir/Patient/_search"): Kind.SEARCH,
    ("GET", "/fhir/Patient/{id}"): Kind.READ,
    ("GET", "/fhir/Endpoint/{id}"): Kind.READ,
    ("GET", "/fhir/Subscription/{id}"): Kind.READ,
    ("POST", "/fhir/Subscription"): Kind.SUBSCRIPTION_CREATED,
    ("DELETE", "/fhir/Subscription/{id}"): Kind.SUBSCRIPTION_DELETED,
    ("GET", "/api/jmix"): Kind.GRANT,
    ("POST", "/api/jmix/requests"): Kind.GRANT,
    ("POST", "/api/jmix/r/{recipe}/renew"): Kind.GRANT,
    ("GET", "/api/jmix/r/{recipe}"): Kind.RELEASE,
    ("GET", "/api/jmix/{id}"): Kind.RELEASE,
    ("GET", "/api/jmix/{id}/manifest"): Kind.READ,
    ("GET", "/audit"): Kind.AUDIT_READ,
    ("POST", "/audit/_search"): Kind.AUDIT_READ,
    ("GET", "/audit/{request_id}"): Kind.AUDIT_READ,
}


def attempt(method: str, door: str, status: int, reason: str) -> Kind:
    """The kind of event that a refusal is, by its method and path template, its status and the code of its reason."""
    if status == 401 and reason not in ATTACKS:
        return Kind.AUTHENTICATION_FAILED
    if reason in ATTACKS:
        return Kind.SECURITY_ALERT
    return _ATTEMPTS.get(("GET" if method == "HEAD" else method, door), Kind.OPERATION)
