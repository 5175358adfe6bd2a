"""Whom a gateway asks, from its settings. In a sandbox the stand-ins are where the stand-in authority is."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from mdg.config import IssuerSettings, Settings


def issuers(settings: Settings) -> Sequence[IssuerSettings]:
    """Whose tokens count."""
    if not settings.own_sandbox:
        return settings.issuers
    return [IssuerSettings(iss=f"{settings.public_url}/sandbox", jwks_url=f"{settings.public_url}/sandbox/jwks")]


def directory_url(settings: Settings) -> str:
    """The key directory."""
    return settings.directory_url or issuers(settings)[0].iss


def registry_url(settings: Settings) -> str:
    """The registry, or the record locator of the sandbox."""
    return settings.registry_url or issuers(settings)[0].iss


def token_url(settings: Settings) -> str:
    """Where the gateway gets its own tokens; empty when it has nobody to ask."""
    trusted = issuers(settings)
    return settings.token_url or (f"{trusted[0].iss}/token" if trusted else "")


def origins(settings: Settings) -> list[str]:
    """Whom this gateway may ask: what its settings name, and nobody else."""
    urls = [*settings.allow, directory_url(settings), token_url(settings)]
    urls += [issuer.jwks_url for issuer in issuers(settings)]
    if settings.capabilities.registration:
        urls.append(registry_url(settings))
    return sorted({_origin(url) for url in urls if url})


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
