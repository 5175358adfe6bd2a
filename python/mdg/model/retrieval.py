"""A retrieval request: what a consumer signs and a provider reads, one type for both (seg/1 8.4).

The model knows the form alone. Whether the key, the time or the audience will do is asked in `access`.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Self

JWS_TYPE = "ief-retrieval+jws"
"""`typ` in the header of the signature."""
TYPE = "ief-retrieval/1"
SUITE = "HPKE-X25519-SHA256-AES256GCM"
"""Names a raw X25519 key, also where the profile is jmix-1.0."""
JMIX = "jmix-1.0"
"""The profile that is released today."""
DEFAULT_PROFILE = "seg/1"
"""What a request means that names no profile."""
LIFE = timedelta(seconds=300)
"""How long a request is good at most."""
NONCE = 32
"""Bytes of a nonce."""
LEVEL_MOST = 2
"""The highest level of forward secrecy: the key was made for this retrieval."""
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_TIME_FORM = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_STUDY_FORM = re.compile(r"[A-Za-z0-9.-]{1,64}", re.ASCII)


class WrongMember(ValueError):
    """A member of a request that has another form. `member` names it."""

    def __init__(self, member: str) -> None:
        super().__init__(f"the member {member} of the request has another form")
        self.member = member


@dataclass(frozen=True, slots=True)
class RetrievalRequest:
    """One study for one requester, to be sealed to `public_key`, a raw X25519 key of its own.

    `audience` is the entity id of the provider, `study` the logical id of an ImagingStudy, `requester` the entity id of
    who asks and `entity` all that the request says of them. `issued` and `expires` are UTC, to the second. `select`
    says whether a part of the study is asked for.
    """

    audience: str
    study: str
    requester: str
    public_key: bytes = field(repr=False)
    nonce: bytes = field(repr=False)
    issued: datetime
    expires: datetime
    profile: str = JMIX
    suite: str = SUITE
    codecs: tuple[str, ...] = ("none",)
    level: int = LEVEL_MOST
    select: bool = False
    entity: Mapping[str, object] = field(default_factory=dict, repr=False)

    def to_claims(self) -> dict[str, object]:
        """The members as they are signed; what is left at its default is left out."""
        return {
            "typ": TYPE,
            "aud": self.audience,
            "study": self.study,
            "requester": {**self.entity, "id": self.requester},
            "profile": self.profile,
            "key": {"suite": self.suite, "public_key": base64.b64encode(self.public_key).decode()},
            "nonce": base64.b64encode(self.nonce).decode(),
            "iat": self.issued.strftime(_TIME),
            "exp": self.expires.strftime(_TIME),
        }

    @classmethod
    def from_claims(cls, claims: Mapping[str, object]) -> Self:
        """The request in signed members. `WrongMember` names the first one that is missing or of another form."""
        if claims.get("typ") != TYPE:
            raise WrongMember("typ")
        entity = claims.get("requester")
        if not isinstance(entity, dict) or not isinstance(entity.get("id"), str):
            raise WrongMember("requester")
        key = claims.get("key")
        if not isinstance(key, dict) or not isinstance(key.get("suite"), str):
            raise WrongMember("suite")
        codecs, level = claims.get("codecs", ["none"]), claims.get("level", LEVEL_MOST)
        if not isinstance(codecs, list) or not all(isinstance(codec, str) for codec in codecs):
            raise WrongMember("codecs")
        if type(level) is not int:
            raise WrongMember("level")
        study = _text(claims, "study")
        if not _STUDY_FORM.fullmatch(study):
            raise WrongMember("study")
        return cls(
            audience=_text(claims, "aud"),
            study=study,
            requester=entity["id"],
            public_key=_raw(key, "public_key"),
            nonce=_raw(claims, "nonce"),
            issued=_time(claims, "iat"),
            expires=_time(claims, "exp"),
            profile=_text({"profile": DEFAULT_PROFILE, **claims}, "profile"),
            suite=key["suite"],
            codecs=tuple(codecs),
            level=level,
            select="select" in claims,
            entity=entity,
        )


def _text(claims: Mapping[str, object], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str):
        raise WrongMember(name)
    return value


def _raw(claims: Mapping[str, object], name: str) -> bytes:
    """The 32 bytes of canonical base64 in a member."""
    text = _text(claims, name)
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise WrongMember(name) from None
    if len(raw) != NONCE or base64.b64encode(raw).decode() != text:
        raise WrongMember(name)
    return raw


def _time(claims: Mapping[str, object], name: str) -> datetime:
    text = _text(claims, name)
    if not _TIME_FORM.fullmatch(text):
        raise WrongMember(name)
    try:
        return datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except ValueError:
        raise WrongMember(name) from None
