"""Who the patient, the person and the organisation are, as values that can only be valid.

Australian healthcare identifiers have 16 digits: six that name the kind, nine issued, one check digit (Luhn over the
first fifteen). Rules and systems: `docs/spec/patient-identity.md`, AU Base `au-ihi`, `au-hpii`, `au-hpio`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Self

IHI_SYSTEM = "http://ns.electronichealth.net.au/id/hi/ihi/1.0"
IHI_SYSTEM_JMIX_ALIAS = "http://ns.electronichealth.net.au/id/ihi/1.0"
HPII_SYSTEM = "http://ns.electronichealth.net.au/id/hi/hpii/1.0"
HPIO_SYSTEM = "http://ns.electronichealth.net.au/id/hi/hpio/1.0"
MEDICAL_RECORD_SYSTEM = "http://ns.electronichealth.net.au/id/hpio-scoped/medicalrecord/1.0"
ACCESSION_SYSTEM = "http://ns.electronichealth.net.au/id/hpio-scoped/accessionnumber/1.0"

SERVICE_ID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""How a service is named in registries: a ULID or a UUID, in the one spelling of each that is compared as text."""

_DOUBLED = bytes.maketrans(b"0123456789", bytes((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)))
"""Each digit to the sum of the digits of its double."""


def luhn_digit(first: str) -> str:
    """The check digit (ISO/IEC 7812-1 annex B) for the decimal digits of `first`."""
    digits = first.encode()
    return str(-(sum(digits[-1::-2].translate(_DOUBLED)) + sum(digits[-2::-2]) - 48 * (len(digits) // 2)) % 10)


class HealthcareIdentifier(str):
    """A 16-digit identifier with its prefix and check digit verified. `parse` accepts spaces and hyphens."""

    __slots__ = ()
    word: ClassVar[str]
    """What people call it."""
    prefix: ClassVar[str]
    system: ClassVar[str]

    @classmethod
    def parse(cls, text: str) -> Self:
        """The identifier in `text`; `ValueError`, without the value, when it is not one."""
        digits = text.replace(" ", "").replace("-", "")
        if len(digits) != 16 or not (digits.isascii() and digits.isdigit()):
            raise ValueError(f"{cls.word} needs 16 digits")
        if not digits.startswith(cls.prefix):
            raise ValueError(f"{cls.word} starts with {cls.prefix}")
        if luhn_digit(digits[:15]) != digits[15]:
            raise ValueError(f"the check digit of {cls.word} is wrong")
        return cls(digits)

    @classmethod
    def from_uri(cls, uri: str) -> Self:
        """The identifier in its qualified form `<system>/<digits>`; `ValueError` for any other system."""
        head, _, digits = uri.rpartition("/")
        if head != cls.system:
            raise ValueError(f"{cls.word} is qualified by {cls.system}")
        return cls.parse(digits)

    @property
    def uri(self) -> str:
        """The qualified form, for places where one URI names the holder."""
        return f"{self.system}/{self}"

    @property
    def masked(self) -> str:
        """Prefix and last four digits: for a person's eyes where the whole value is not needed."""
        return f"{self[:6]}…{self[-4:]}"


class Ihi(HealthcareIdentifier):
    """Individual Healthcare Identifier: the patient."""

    __slots__ = ()
    word = "IHI"
    prefix = "800360"
    system = IHI_SYSTEM


class HpiI(HealthcareIdentifier):
    """Healthcare Provider Identifier - Individual: the practitioner."""

    __slots__ = ()
    word = "HPI-I"
    prefix = "800361"
    system = HPII_SYSTEM


class HpiO(HealthcareIdentifier):
    """Healthcare Provider Identifier - Organisation: the custodian or the requester's organisation."""

    __slots__ = ()
    word = "HPI-O"
    prefix = "800362"
    system = HPIO_SYSTEM


@dataclass(frozen=True, slots=True, order=True)
class LocalId:
    """A PatientID together with who issued it; without the issuer it means nothing (IEF DC1)."""

    value: str
    issuer: str
