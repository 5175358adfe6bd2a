"""The vectors of JMIX 1.0: how they are read, and how the bad ones are made from the good ones.

The bad ones are made by `cryptography` and the standard library alone, with given keys and IV, so that each run gives
the same bytes: `python -m tests.vectors.jmix` from the root of the repository, after the good ones (README.md).
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

HERE = Path(__file__).resolve().parent / "jmix-1.0"

RECIPIENT, SIGNER, EPHEMERAL, STRANGER = (bytes([byte]) * 32 for byte in (9, 7, 5, 1))
IV = bytes([4]) * 12
LABEL = b"JMIX-payload-encryption"

Files = dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Vector:
    """One situation. `expect` is `ok` or the code of the refusal; `payload` names what was in a good one."""

    name: str
    expect: str
    comment: str
    recipient: bytes
    signer: bytes
    sha256: str
    payload: str | None
    envelope: bytes


def read(path: Path) -> Vector:
    """A vector from its file: lines of a header, an empty line, the envelope."""
    head, _, envelope = path.read_bytes().partition(b"\n\n")
    header = dict(line.split(": ", 1) for line in head.decode().splitlines())
    keys = bytes.fromhex(header["recipient"]), bytes.fromhex(header["signer"])
    payload = header.get("payload")
    return Vector(path.name, header["expect"], header["comment"], *keys, header["sha256"], payload, envelope)


def vectors() -> list[Vector]:
    """All of them."""
    return [read(path) for path in sorted(HERE.iterdir()) if not path.suffix]


def digest(files: Files) -> str:
    """SHA-256 of one line `DIGEST  NAME` for each file, in the order of their names."""
    lines = (f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files, key=str.encode))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


# --- an envelope, taken apart and put together ---


def entries_of(envelope: bytes) -> Files:
    with zipfile.ZipFile(io.BytesIO(envelope)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zip_of(entries: Files, *, crc: Callable[[str, int], int] = lambda _, crc: crc) -> bytes:
    """A stored ZIP as the format of the repository wants it (APPNOTE.TXT 4.3)."""
    local, central = b"", b""
    for name, data in entries.items():
        fields = struct.pack(
            "<HHHIIIIHH", 20, 0, 0, 0x5D784000, crc(name, zlib.crc32(data)), *(len(data),) * 2, len(name), 0
        )
        central += b"PK\x01\x02\x14\x00" + fields + bytes(10) + struct.pack("<I", len(local)) + name.encode()
        local += b"PK\x03\x04" + fields + name.encode() + data
    end = struct.pack("<HHHHIIH", 0, 0, len(entries), len(entries), len(central), len(local), 0)
    return local + central + b"PK\x05\x06" + end


def key_for(public: bytes, label: bytes = LABEL) -> bytes:
    shared = X25519PrivateKey.from_private_bytes(EPHEMERAL).exchange(X25519PublicKey.from_public_bytes(public))
    return HKDF(SHA256(), 32, salt=None, info=label).derive(shared)


def public_of(secret: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def payload_of(entries: Files) -> Files:
    block = json.loads(entries["manifest.json"])["security"]["encryption"]
    iv, tag = (base64.b64decode(block[name]) for name in ("iv", "auth_tag"))
    tar = AESGCM(key_for(public_of(RECIPIENT))).decrypt(iv, entries["payload.encrypted"] + tag, None)
    with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr] # files


def listed(files: Files) -> Files:
    """These files with a files.json that is right about them."""
    others = {name: data for name, data in files.items() if name != "files.json"}
    lines = [
        {"file": name, "hash": f"sha256:{hashlib.sha256(data).hexdigest()}", "size_bytes": len(data)}
        for name, data in others.items()
    ]
    return others | {"files.json": json.dumps(lines).encode()}


def tar_of(files: Files, edit: Callable[[tarfile.TarInfo], None] = lambda _: None) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            edit(info)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def signed(entries: Files, change: Callable[[dict[str, Any]], object], signer: bytes = SIGNER) -> Files:
    """The entries with a changed manifest and a good signature over it."""
    manifest = json.loads(entries["manifest.json"])
    change(manifest)
    data = json.dumps(manifest).encode()
    private = Ed25519PrivateKey.from_private_bytes(signer)
    kid = base64.urlsafe_b64encode(hashlib.sha256(private.public_key().public_bytes_raw()).digest())
    head = json.dumps(
        {"alg": "EdDSA", "kid": kid.rstrip(b"=").decode(), "typ": "jmix-manifest+jws"}, separators=(",", ":")
    )
    text = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (head.encode(), data))
    signature = base64.urlsafe_b64encode(private.sign(text)).rstrip(b"=")
    return entries | {"manifest.json": data, "manifest.jws": text + b"." + signature}


def sealed(entries: Files, tar: bytes, *, to: bytes = RECIPIENT, label: bytes = LABEL) -> Files:
    """The entries with this payload, sealed to the holder of `to`, and signed."""
    both = AESGCM(key_for(public_of(to), label)).encrypt(IV, tar, None)
    payload, tag = both[:-16], both[-16:]

    def change(manifest: dict[str, Any]) -> None:
        manifest["security"]["payload_hash"] = f"sha256:{hashlib.sha256(payload).hexdigest()}"
        block = {"ephemeral_public_key": public_of(EPHEMERAL), "iv": IV, "auth_tag": tag}
        manifest["security"]["encryption"] |= {name: base64.b64encode(value).decode() for name, value in block.items()}
        del manifest["extensions"]["ief"]["payload_list_hash"]
        del manifest["sender"]["assertion"]

    return signed(entries | {"payload.encrypted": payload}, change)


# --- the bad ones ---


def flipped(data: bytes, at: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


def link(info: tarfile.TarInfo) -> None:
    if info.name.startswith("dicom/"):
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"


def bad(envelope: bytes) -> Iterator[tuple[str, str, str, bytes]]:
    """(name, code, comment, envelope) of each, from a good envelope of one instance."""
    entries = entries_of(envelope)
    files = payload_of(entries)
    payload, manifest = entries["payload.encrypted"], entries["manifest.json"]

    yield "cut_in_the_payload", "E_ZIP_END", "the second half is missing", envelope[: len(envelope) // 2]
    yield "cut_by_one_byte", "E_ZIP_END", "the last byte is missing", envelope[:-1]
    yield "a_byte_behind_the_end", "E_ZIP_END", "something follows the end record", envelope + b"\n"
    yield "a_byte_before_the_begin", "E_ZIP_DIRECTORY", "something stands before the first entry", b"\n" + envelope
    order = ("manifest.jws", "manifest.json", "audit.json", "payload.encrypted")
    yield (
        "entries_in_another_order",
        "E_ZIP_NAME",
        "every header is right",
        zip_of({name: entries[name] for name in order}),
    )
    more = zip_of(entries | {"readme.txt": b"hello"})
    yield "an_entry_too_many", "E_ZIP_NAME", "a file that nothing signs", more
    wrong = zip_of(entries, crc=lambda name, crc: crc ^ (name == "payload.encrypted"))
    yield "crc_of_the_payload", "E_ZIP_CRC", "the payload is as it was signed, its CRC-32 is not", wrong

    without = zip_of({name: data for name, data in entries.items() if name != "manifest.jws"})
    yield "signature_missing", "E_DOWNGRADE", "nobody signed", without
    stranger = zip_of(signed(entries, lambda _: None, STRANGER))
    yield "signature_of_a_stranger", "E_SIG_KEY", "a good signature by a key that nobody trusts", stranger
    changed = manifest.replace(b"Clinic A", b"Clinic X")
    yield (
        "manifest_changed",
        "E_MANIFEST_MISMATCH",
        "the signed bytes are others",
        zip_of(entries | {"manifest.json": changed}),
    )
    head, body, signature = entries["manifest.jws"].split(b".")
    raw = flipped(base64.urlsafe_b64decode(signature + b"=="), 3)
    broken = b".".join([head, body, base64.urlsafe_b64encode(raw).rstrip(b"=")])
    yield "signature_changed", "E_SIG_INVALID", "one bit of the signature", zip_of(entries | {"manifest.jws": broken})
    ief = zip_of(signed(entries, lambda manifest: manifest["extensions"]["ief"].update(kdf_info="JMIX-AES256-GCM")))
    yield "another_dialect", "E_PROFILE_VERSION", "names the HKDF label of jmix-rs", ief
    seg = zip_of(signed(entries, lambda manifest: manifest["extensions"].update(ief_seg={})))
    yield "a_segmented_profile", "E_PROFILE_VERSION", "a later version of the format", seg
    year = zip_of(signed(entries, lambda manifest: manifest.update(timestamp="24 Nov 2026")))
    yield "timestamp_of_no_form", "E_SCHEMA", "the schema wants RFC 3339", year

    yield (
        "payload_changed",
        "E_PAYLOAD_HASH",
        "one bit of the ciphertext",
        zip_of(entries | {"payload.encrypted": flipped(payload, 700)}),
    )
    tag = signed(
        entries,
        lambda manifest: manifest["security"]["encryption"].update(auth_tag=base64.b64encode(bytes(16)).decode()),
    )
    yield "tag_changed", "E_PAYLOAD_TAG", "signed by the sender all the same", zip_of(tag)
    zero = base64.b64encode(bytes(32)).decode()
    small = signed(entries, lambda manifest: manifest["security"]["encryption"].update(ephemeral_public_key=zero))
    yield "ephemeral_key_of_small_order", "E_WRAP", "RFC 7748 6.1: anybody knows the shared secret", zip_of(small)
    tar = tar_of(files)
    yield (
        "sealed_to_another_key",
        "E_NO_RECIPIENT",
        "the holder of the key given cannot open it",
        zip_of(sealed(entries, tar, to=STRANGER)),
    )
    js = zip_of(sealed(entries, tar, label=b"JMIX-Payload-Encryption"))
    yield "sealed_with_another_label", "E_NO_RECIPIENT", "the HKDF label of jmix-js, and no word of it", js

    outside = tar_of({f"../{name}" if name.startswith("dicom/") else name: data for name, data in files.items()})
    yield "a_name_that_leads_outside", "E_TAR_NAME", "../dicom/", zip_of(sealed(entries, outside))
    yield "a_link", "E_TAR_TYPE", "a symbolic link to /etc/passwd", zip_of(sealed(entries, tar_of(files, link)))
    yield (
        "no_end_of_the_tar",
        "E_TAR_SIZE",
        "the two zero blocks are missing",
        zip_of(sealed(entries, tar.rstrip(b"\0")[: 512 * 3])),
    )
    yield (
        "segments_inside",
        "E_DOWNGRADE",
        "a segmented envelope stripped of its profile",
        zip_of(sealed(entries, tar_of({"segments.json": b"[]"} | files))),
    )
    extra = tar_of(files | {"files/hidden.txt": b"not in files.json"})
    yield "a_file_that_is_not_listed", "E_INDEX_FILES", "files.json does not name it", zip_of(sealed(entries, extra))
    name = next(name for name in files if name.startswith("dicom/"))
    swapped = tar_of(files | {name: flipped(files[name], -1)})
    yield (
        "a_file_of_another_digest",
        "E_FILE_DIGEST",
        "files.json says another SHA-256",
        zip_of(sealed(entries, swapped)),
    )
    metadata = json.loads(files["metadata.json"]) | {"id": "6f57f5fa-1cd1-45be-a5c3-000000000000"}
    other = tar_of(listed(files | {"metadata.json": json.dumps(metadata).encode()}))
    yield (
        "metadata_of_another_envelope",
        "E_INDEX_ID",
        "its id is not that of the manifest",
        zip_of(sealed(entries, other)),
    )
    twin = files[name].replace(b"1.2.3.4\0", b"1.2.3.5\0").replace(b"1.2.3.4.1", b"1.2.3.4.2")
    both = tar_of(listed(files | {"dicom/1.2.3.4.2.dcm": twin}))
    yield "two_studies", "E_DICOM_IDENTITY", "an instance of another study is among them", zip_of(sealed(entries, both))


def main() -> None:
    good = read(HERE / "one_instance")
    for name, code, comment, envelope in bad(good.envelope):
        sha256 = hashlib.sha256(envelope).hexdigest()
        lines = {
            "expect": code,
            "comment": comment,
            "recipient": RECIPIENT.hex(),
            "signer": good.signer.hex(),
            "sha256": sha256,
        }
        head = "".join(f"{key}: {value}\n" for key, value in lines.items())
        (HERE / name).write_bytes(head.encode() + b"\n" + envelope)


if __name__ == "__main__":
    main()
