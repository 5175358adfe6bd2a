"""A token authority and a consumer for tests: they make what is right, and whatever is wrong in one point.

The tokens are those of spec/access 1. The identifiers are published test values or invented.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from joserfc import jws
from joserfc.jwk import ECKey

from mdg.keys.proof import ProofKey
from mdg.model.identity import HpiI, HpiO, Ihi

ISSUER = "https://as.example.gov.au"
PUBLIC_URL = "https://mdg.example.org"
CUSTODIAN = HpiO("8003621566684455")
ORGANISATION = HpiO("8003626566707032")
PRACTITIONER = HpiI("8003619900015717")
PATIENT = Ihi("8003608833357361")
OTHER_PATIENT = Ihi("8003608166690503")
ACT_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
SCOPES = "system/ImagingStudy.rs system/Endpoint.rs system/Patient.rs urn:ief:scope:imaging.retrieve"

Json = dict[str, Any]


def b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Authority:
    """Signs tokens for one consumer, whose key is `proof`."""

    def __init__(self, issuer: str = ISSUER, audience: str = f"{PUBLIC_URL}/fhir") -> None:
        self.issuer = issuer
        self.audience = audience
        self.key = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256", "kid": "key-1"})
        self.proof = ProofKey.generate()

    def jwks(self) -> Json:
        return {"keys": [self.key.as_dict(private=False)]}

    def claims(self, *, now: datetime | None = None) -> Json:
        """What a good token says at `now`."""
        issued = int((now or datetime.now(UTC)).timestamp())
        return {
            "iss": self.issuer,
            "sub": "u-31",
            "client_id": "client-4711",
            "aud": self.audience,
            "iat": issued,
            "exp": issued + 300,
            "jti": secrets.token_urlsafe(16),
            "scope": SCOPES,
            "cnf": {"jkt": self.proof.jkt},
            "extensions": {
                "ihe_iua": {
                    "subject_organization_id": ORGANISATION.uri,
                    "national_provider_identifier": PRACTITIONER.uri,
                    "person_id": PATIENT.uri,
                    "purpose_of_use": [{"system": ACT_REASON, "code": "TREAT"}],
                }
            },
        }

    def header(self) -> Json:
        return {"typ": "at+jwt", "alg": "ES256", "kid": "key-1"}

    def token(self, claims: Mapping[str, object] | None = None, header: Mapping[str, object] | None = None) -> str:
        """A token signed by the authority's key, whatever it says."""
        return self.signed(json.dumps(claims or self.claims()).encode(), json.dumps(header or self.header()).encode())

    def signed(self, claims: bytes, header: bytes, key: ECKey | None = None) -> str:
        """Raw header and claims under a genuine ES256 signature, so that nothing but their content can be at fault."""
        signing_input = f"{b64url(header)}.{b64url(claims)}"
        return f"{signing_input}.{b64url(es256(key or self.key, signing_input.encode()))}"


def es256(key: ECKey, message: bytes) -> bytes:
    """The raw ES256 signature (RFC 7518 3.4) of a message."""
    algorithm = jws.JWSRegistry.algorithms["ES256"]
    return algorithm.sign(message, key)
