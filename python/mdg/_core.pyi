"""The Rust core, as Python sees it. Every call releases the interpreter lock while it works.

Errors: `mdg.errors.Refused`, `Unsupported`, `InputOutput`, `Misuse`.
"""

from collections.abc import Callable, Sequence
from os import PathLike
from typing import final

__all__ = [
    "Digest",
    "Ed25519Key",
    "Header",
    "Indexed",
    "Recipe",
    "Stream",
    "X25519Key",
    "__version__",
    "canonical_json",
    "check_json",
    "digest_file",
    "index_files",
    "inspect",
    "kid",
    "open_envelope",
    "pack",
    "read_header",
    "remove_abandoned",
    "verify",
    "verify_jws",
    "verify_signature",
]

__version__: str

# --- keys and signatures (seg/1 4.1, 4.2; RFC 7515, 7748, 8032, 8037) ---

@final
class X25519Key:
    """A private X25519 key. Its bytes never become a Python object; it wipes itself."""

    @staticmethod
    def generate() -> X25519Key: ...
    @staticmethod
    def read(path: str) -> X25519Key:
        """From a file of 32 raw bytes. `Misuse` for another length, `InputOutput` when it cannot be read or when
        others than its owner may read it."""
    def write(self, path: str) -> None:
        """To a new file, mode 0600, synced. `InputOutput` when the path exists."""
    @property
    def public(self) -> bytes:
        """32 raw bytes."""

@final
class Ed25519Key:
    """A private Ed25519 key (its 32-byte seed), under the same rules as `X25519Key`."""

    @staticmethod
    def generate() -> Ed25519Key: ...
    @staticmethod
    def read(path: str) -> Ed25519Key: ...
    def write(self, path: str) -> None: ...
    @property
    def public(self) -> bytes: ...
    @property
    def kid(self) -> str:
        """base64url, no padding, of SHA-256 of the raw public key (seg/1 4.1)."""
    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
    def sign_jws(self, payload: bytes, typ: str) -> bytes:
        """JWS compact serialization with exactly `alg` EdDSA, `kid`, `typ` in its protected header."""

def kid(public: bytes) -> str:
    """The key id of a raw Ed25519 public key."""

def verify_signature(public: bytes, message: bytes, signature: bytes) -> None:
    """Strict Ed25519 (seg/1 4.2). `Refused` E_SIG_INVALID."""

def verify_jws(jws: bytes, typ: str, trusted: Sequence[bytes]) -> tuple[bytes, bytes]:
    """(payload, raw public key) of a compact JWS by one of the `trusted` raw keys, in the order of checks of seg/1 4.2.
    `Refused` E_SIG_FORMAT, E_SIG_HEADER, E_SIG_ALG, E_SIG_KEY, E_SIG_INVALID."""

def check_json(data: bytes) -> None:
    """The JSON rules of seg/1 3.1. `Refused` E_JSON with the byte."""

def canonical_json(data: bytes) -> bytes:
    """RFC 8785 of one JSON value under the rules of `check_json`. `Refused` E_JSON."""

# --- DICOM headers (PS3.5, PS3.10) and digests (seg/1 9.1) ---

@final
class Header:
    """Facts of one DICOM file. Text attributes are decoded by SpecificCharacterSet, None when absent or empty;
    they are never padded."""

    TransferSyntaxUID: str
    is_directory: bool
    """A DICOMDIR, by its MediaStorageSOPClassUID: it lists the files of a disk and is no instance (PS3.10 8.6)."""
    SOPClassUID: str | None
    SOPInstanceUID: str | None
    StudyInstanceUID: str | None
    SeriesInstanceUID: str | None
    SpecificCharacterSet: str | None
    StudyDate: str | None
    StudyTime: str | None
    TimezoneOffsetFromUTC: str | None
    AccessionNumber: str | None
    IssuerOfAccessionNumber: str | None
    Modality: str | None
    StudyDescription: str | None
    SeriesDescription: str | None
    SeriesNumber: str | None
    InstanceNumber: str | None
    BodyPartExamined: str | None
    Laterality: str | None
    NumberOfFrames: str | None
    Rows: int | None
    Columns: int | None
    BitsAllocated: int | None
    PatientID: str | None
    IssuerOfPatientID: str | None
    PatientName: str | None
    PatientBirthDate: str | None
    PatientSex: str | None
    ReferringPhysicianName: str | None
    InstitutionName: str | None
    other_patient_ids: list[tuple[str, str | None, str | None]]
    """(PatientID, issuer or universal id, TypeOfPatientID) of each item of OtherPatientIDsSequence."""
    ihis: list[tuple[str, str]]
    """(IHI, form `1`..`5`) of every valid IHI in the spellings of spec/patient-identity 2, in order of appearance."""
    ihi_candidates: int
    """How many bare 16-digit `800360…` values stood without an issuer; never used by themselves."""
    pixel_offset: int | None
    """Byte where the value of PixelData, FloatPixelData or DoubleFloatPixelData begins; None when there is none, or
    when it lies inside a deflate stream."""
    pixel_length: int | None
    """Its length in bytes; None when undefined (encapsulated) or absent."""
    executable_preamble: bool
    """The 128-byte preamble starts like a program or archive (CVE-2019-11687)."""

def read_header(path: str | PathLike[str]) -> Header:
    """One file, in any transfer syntax. `Refused` E_DICOM with part and byte, E_LIMIT over a budget of spec/hostile-input 1,
    `InputOutput` when it cannot be read."""

@final
class Digest:
    """One pass over the stored bytes."""

    size: int
    sha256: bytes
    check: bytes
    """BLAKE3, 32 bytes for each 64 KiB piece, the last one short (seg/1 9.1)."""

def digest_file(path: str) -> Digest: ...

@final
class Indexed:
    """What indexing one file found. Exactly one of `header` and `problem` is there; `digest` may be missing only when
    the file could not be read. A file that changed while it was read is a problem."""

    path: str
    mtime_ns: int
    header: Header | None
    digest: Digest | None
    problem: tuple[str, str] | None
    """(code, message that names the file and what to do). Codes: E_DICOM, E_LIMIT, E_SOURCE (could not be
    read), E_CHANGED."""

def index_files(paths: Sequence[str], threads: int = 0) -> list[Indexed]:
    """Header facts, SHA-256 and check table of many files in one pass each, in parallel (0 = as many threads as cores);
    the answer has the order of `paths`. Raises nothing for a bad file."""

# --- envelopes (spec/jmix-1.0) ---

def pack(
    instances: Sequence[tuple[str, bytes | None]],
    *,
    files: Sequence[tuple[str, str]] = ...,
    envelope_id: str,
    timestamp: str,
    patient_id: str,
    identifiers: Sequence[tuple[str, str]],
    sender: str,
    requester: str | None,
    receiver: str,
    recipient: bytes,
    signer: Ed25519Key,
    classification: str = ...,
    request_digest: bytes | None = None,
    out: str,
    as_directory: bool = False,
    recipe: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[str, bytes, Recipe | None]:
    """Writes one envelope to `out` and returns (JSON report {id, instances, files, bytes, length, payload_hash,
    manifest_sha256}, the bytes of manifest.json, the recipe that serves the file).

    The recipe is made as the file is written, which costs one more digest, and only with `recipe` true; a directory has
    none.

    `instances`: (path, SHA-256 recorded before or None); another digest is `Refused` E_STORE_CORRUPT. `files`: (path,
    name under `files/`), none by default. `patient_id` and `identifiers` (system, value) go to metadata.json only.
    `sender`, `requester`, `receiver`: JSON objects {id, name, contact}. `recipient`: raw X25519 key. `classification`:
    `confidential` by default. `request_digest`: 32 bytes, SHA-256 of the signed request that this answers. Mixed studies
    or patients: `Refused` E_DICOM_IDENTITY naming the file. Memory is flat. Nothing stays at `out` after an error.
    `progress(done, total)` in bytes, at most every 8 MiB."""

def inspect(path: str) -> str:
    """What the clear parts of a ZIP or directory say, without any key: JSON report."""

def remove_abandoned(target: str) -> None:
    """Removes what killed processes left beside `target`: `.NAME.<16 hex digits>.part` that nobody has locked."""

def verify(
    path: str,
    *,
    trust: Sequence[tuple[str | None, bytes]],
    key: X25519Key | None = None,
    request_digest: bytes | None = None,
    receiver: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """Signature and ciphertext hash; with `key` also tag, tar and every file hash, writing nothing. `trust`: (sender id or
    None for any, raw Ed25519 public key). `receiver`: entity id of the owner of `key`; a manifest that names others is a
    warning. JSON report; `Refused` with the first fault."""

def open_envelope(
    path: str,
    *,
    trust: Sequence[tuple[str | None, bytes]],
    key: X25519Key,
    out: str,
    request_digest: bytes | None = None,
    receiver: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """As `verify` with the key, into the new folder `out` (metadata.json, files.json, dicom/, files/): a private folder
    beside it is filled, verified, synced once and renamed. After an error nothing of it is left."""

# --- bytes on demand (spec/storage 5) ---

@final
class Recipe:
    """How to make any byte range of one release. Immutable."""

    @staticmethod
    def load(state: bytes) -> Recipe:
        """From `state`. `Refused` E_STORE_CORRUPT when it has changed or was not made by this version."""
    @property
    def state(self) -> bytes: ...
    @property
    def length(self) -> int: ...
    @property
    def digest(self) -> bytes:
        """32 bytes that name the content: two releases with the same digest are the same bytes."""
    def stream(self, paths: Sequence[str], start: int, end: int, piece: int = 524288) -> Stream:
        """The bytes [start, end) from the files of the release, one piece ahead. `piece` is 64 KiB to 4 MiB. `Refused`
        E_STORE_CORRUPT when a file has another length than when it was written."""

@final
class Stream:
    """Pieces of one range. `next` blocks; call it in a worker thread, one call at a time."""

    def next(self) -> bytes | None:
        """The next piece; None at the end. At most three pieces are alive while the caller holds one of them, and no copy of
        a piece was made. Pieces end at multiples of `piece`. `Refused` E_STORE_CORRUPT before a changed piece,
        `InputOutput` when the file cannot be read to its end; both stay."""
