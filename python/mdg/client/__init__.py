"""Talking to another gateway as an Imaging Consumer: a token, a search, a signed request, the envelope, its contents.

Used by the commands `find` and `fetch` and by the gateway itself when it retrieves. What arrives is untrusted until
`Gateway.open` has verified it.
"""

from mdg.client.gateway import Found, FoundStudy, Gateway, Grant, Opened, find_study, search_for, whole
from mdg.client.tokens import DISCOVERY, RETRIEVAL, AccessToken, Tokens

__all__ = [
    "DISCOVERY",
    "RETRIEVAL",
    "AccessToken",
    "Found",
    "FoundStudy",
    "Gateway",
    "Grant",
    "Opened",
    "Tokens",
    "find_study",
    "search_for",
    "whole",
]
