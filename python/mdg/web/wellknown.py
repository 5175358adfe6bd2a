"""What a client must know before it can ask: whose tokens count and how they are bound (RFC 9728; spec/fhir 7.2)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from starlette.requests import Request
from starlette.responses import Response

from mdg.web.answers import JsonResponse

SCOPES = {
    "discovery": ("system/ImagingStudy.rs", "system/Endpoint.rs", "system/Patient.rs"),
    "subscription": ("system/Subscription.crud",),
    "retrieval": ("urn:ief:scope:imaging.retrieve",),
}
"""The scopes that open each capability (spec/access 4)."""
ALGORITHMS = ("ES256",)
"""Of DPoP proofs."""
_CACHED = {"Cache-Control": "max-age=300"}


class WellKnownDoor:
    """Public documents of the listener at `public_url`, which trusts `issuers` and offers `capabilities`, keys of
    SCOPES."""

    def __init__(self, public_url: str, issuers: Sequence[str], token_url: str, capabilities: Collection[str]) -> None:
        self._public_url = public_url
        self._issuers = list(issuers)
        self._token_url = token_url
        self._scopes = [scope for name, scopes in SCOPES.items() if name in capabilities for scope in scopes]

    async def protected_resource(self, request: Request) -> Response:
        """`GET /.well-known/oauth-protected-resource/fhir` (RFC 9728 3.1: the path of the resource stands behind), and
        the same document without `/fhir` for clients that ask at the root."""
        return JsonResponse(
            {
                "resource": f"{self._public_url}/fhir",
                "authorization_servers": self._issuers,
                "scopes_supported": self._scopes,
                "bearer_methods_supported": ["header"],
                "dpop_signing_alg_values_supported": ALGORITHMS,
                "dpop_bound_access_tokens_required": True,
            },
            headers=_CACHED,
        )

    async def smart_configuration(self, request: Request) -> Response:
        """`GET /.well-known/smart-configuration` (SMART App Launch 2.2): the token endpoint is another server's."""
        document: dict[str, object] = {
            "token_endpoint": self._token_url,
            "grant_types_supported": ["client_credentials"],
            "code_challenge_methods_supported": ["S256"],
            "dpop_signing_alg_values_supported": ALGORITHMS,
            "scopes_supported": self._scopes,
            "capabilities": ["client-confidential-asymmetric", "permission-v2"],
        }
        if len(self._issuers) == 1:
            document["issuer"] = self._issuers[0]
        return JsonResponse(document, headers=_CACHED)
