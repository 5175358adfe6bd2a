"""The namespaces of local numbers: a PatientID and an AccessionNumber leave with the system of their issuer (IEF DC1).

The custodian's own numbers leave under the Agency's HPI-O scoped systems (AU Base, "HPI-O scoped Identifiers"). Nothing
is added behind the HPI-O there, since the namespace is the Agency's: numbers of another issuer leave under systems of
this project, which keep the issuer, so that equal numbers never meet.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, unquote

from mdg.model.identity import ACCESSION_SYSTEM, MEDICAL_RECORD_SYSTEM, HpiO, Ihi, LocalId
from mdg.model.imaging import Study


@dataclass(frozen=True, slots=True)
class LocalNumbers:
    """The numbers of `custodian`, whose name is `name`; ids of `default_issuer` are its own."""

    custodian: HpiO
    name: str
    default_issuer: str
    canonical_base: str

    def record_system(self, local: LocalId) -> str | None:
        """The system of a local PatientID; None if the PatientID is itself an IHI, which is no medical record number
        and is named as the IHI already."""
        try:
            Ihi.parse(local.value)
        except ValueError:
            pass
        else:
            return None
        if local.issuer == self.default_issuer:
            return f"{MEDICAL_RECORD_SYSTEM}/{self.custodian}"
        return self._other("local-id", local.issuer)

    def accession_system(self, study: Study) -> str:
        """The system of the study's AccessionNumber."""
        return self._accession_system(study.accession_issuer)

    def accession_issuers(self, system: str) -> frozenset[str | None]:
        """The issuers whose AccessionNumbers have this system; None stands for a number without an issuer. A system
        that is nobody's has none."""
        quoted = system.removeprefix(self._other("accession", ""))
        possible = (None, system, unquote(quoted))
        return frozenset(issuer for issuer in possible if self._accession_system(issuer) == system)

    def _accession_system(self, issuer: str | None) -> str:
        if issuer is None:
            return f"{ACCESSION_SYSTEM}/{self.custodian}"
        if issuer.startswith(("http://", "https://", "urn:")):
            return issuer
        return self._other("accession", issuer)

    def _other(self, kind: str, issuer: str) -> str:
        return f"{self.canonical_base}/NamingSystem/{kind}/{self.custodian}/{quote(issuer, safe='')}"
