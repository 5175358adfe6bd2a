"""Who the patient is: which IHI belongs to which local patient id, and where that is unknown or in doubt.

A local patient id means something only together with its issuer. An IHI comes from `identity.csv`, from DICOM in one of
the five spellings of spec/patient-identity 2, or from the metadata of an envelope. A study is discoverable only when
exactly one is known for its patient.
"""

from mdg.identity.identities import Identities
from mdg.identity.identity_csv import CsvReport

__all__ = ["CsvReport", "Identities"]
