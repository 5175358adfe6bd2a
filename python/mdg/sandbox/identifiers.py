"""Healthcare identifiers for demo and tests: valid in form, issued to nobody.

The three constants are the published examples of the Australian guides (AU Base, `au-ihi`, `au-hpio`); `made_up` makes
as many others as wanted. Its nine issued digits start with 99 so that a made-up one is seen to be one.
"""

from __future__ import annotations

import hashlib
from typing import TypeVar

from mdg.model.identity import HealthcareIdentifier, HpiO, Ihi, luhn_digit

EXAMPLE_IHI = Ihi.parse("8003608833357361")
EXAMPLE_PROVIDER = HpiO.parse("8003621566684455")
EXAMPLE_CONSUMER = HpiO.parse("8003626566707032")

Identifier = TypeVar("Identifier", bound=HealthcareIdentifier)


def made_up(kind: type[Identifier], name: str) -> Identifier:
    """An identifier of `kind`, the same for the same `name`: prefix, 99, seven digits of a hash, check digit."""
    digits = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % 10_000_000
    first = f"{kind.prefix}99{digits:07d}"
    return kind.parse(first + luhn_digit(first))
