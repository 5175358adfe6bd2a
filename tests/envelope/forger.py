"""A hostile sender: envelopes in the folder form whose signature, hash and tag are right and whose content is not."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.envelope import independent_reader
from tests.envelope.envelopes import Parties


def sign(parties: Parties, folder: Path, manifest: dict[str, Any]) -> None:
    """Writes this manifest and a good signature over it."""
    data = json.dumps(manifest).encode()
    (folder / "manifest.json").write_bytes(data)
    (folder / "manifest.jws").write_bytes(parties.signer.sign_jws(data, "jmix-manifest+jws"))


def members(parties: Parties, folder: Path) -> dict[str, bytes]:
    """The files of an envelope in the folder form."""
    key = folder.parent / "forger.key"
    if not key.exists():
        parties.recipient.write(str(key))
    manifest = json.loads((folder / "manifest.json").read_bytes())
    tar = independent_reader.decrypt(manifest, (folder / "payload.encrypted").read_bytes(), key.read_bytes())
    with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr] # files


def listed(files: dict[str, bytes]) -> dict[str, bytes]:
    """These files with a files.json that is right about them."""
    others = {name: data for name, data in files.items() if name != "files.json"}
    lines = [
        {"file": name, "hash": f"sha256:{hashlib.sha256(data).hexdigest()}", "size_bytes": len(data)}
        for name, data in others.items()
    ]
    return others | {"files.json": json.dumps(lines).encode()}


def tar_of(files: dict[str, bytes], edit: Callable[[tarfile.TarInfo], None] = lambda _: None) -> bytes:
    """An archive of these files, each header edited."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            edit(info)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def seal(parties: Parties, folder: Path, tar: bytes) -> None:
    """Replaces the payload by this one, sealed to the same receiver and signed by the same sender."""
    ephemeral = X25519PrivateKey.generate()
    shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(parties.recipient.public))
    key = HKDF(SHA256(), 32, salt=None, info=b"JMIX-payload-encryption").derive(shared)
    public = ephemeral.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    seal_with(parties, folder, tar, key=key, ephemeral=public, iv=os.urandom(12))


def seal_with(parties: Parties, folder: Path, tar: bytes, *, key: bytes, ephemeral: bytes, iv: bytes) -> None:
    """The same under an AES key that stands for this ephemeral public key."""
    sealed = AESGCM(key).encrypt(iv, tar, None)
    payload, tag = sealed[:-16], sealed[-16:]
    (folder / "payload.encrypted").write_bytes(payload)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["security"]["payload_hash"] = f"sha256:{hashlib.sha256(payload).hexdigest()}"
    block = {"ephemeral_public_key": ephemeral, "iv": iv, "auth_tag": tag}
    manifest["security"]["encryption"] |= {name: base64.b64encode(value).decode() for name, value in block.items()}
    manifest["extensions"]["ief"].pop("payload_list_hash", None)
    sign(parties, folder, manifest)
