"""A second reader of JMIX 1.0 envelopes, default dialect, written from the specification on `cryptography` and the
standard library alone. It imports nothing of mdg: what it accepts, we did not only agree with ourselves about.

    python independent_reader.py ENVELOPE.zip KEY_FILE ED25519_PUBLIC_FILE
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def _b64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _resolve(manifest: Any, path: str) -> Any:
    value = manifest
    for step in path.removeprefix("manifest.").split("."):
        value = value[int(step)] if isinstance(value, list) else value[step]
    return value


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(what)


def decrypt(manifest: Any, sealed: bytes, secret: bytes) -> bytes:
    """The payload tar."""
    block = manifest["security"]["encryption"]
    ephemeral, iv, tag = (base64.b64decode(block[name]) for name in ("ephemeral_public_key", "iv", "auth_tag"))
    shared = X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(ephemeral))
    key = HKDF(SHA256(), 32, salt=None, info=b"JMIX-payload-encryption").derive(shared)
    return AESGCM(key).decrypt(iv, sealed + tag, None)


def read(path: Path, secret: bytes, signer: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    """(manifest, payload files by name) of a verified envelope; else ValueError or what `cryptography` raises."""
    with zipfile.ZipFile(path) as archive:
        _check(archive.testzip() is None, "CRC-32")
        entries = {name: archive.read(name) for name in archive.namelist()}
    _check(archive.namelist()[0] == "manifest.json", "manifest.json stands first")
    manifest = json.loads(entries["manifest.json"])

    public = Ed25519PublicKey.from_public_bytes(signer)
    header, body, signature = entries["manifest.jws"].decode("ascii").split(".")
    public.verify(_b64url(signature), f"{header}.{body}".encode())
    kid = base64.urlsafe_b64encode(hashlib.sha256(signer).digest()).rstrip(b"=").decode()
    _check(json.loads(_b64url(header)) == {"alg": "EdDSA", "kid": kid, "typ": "jmix-manifest+jws"}, "JWS header")
    _check(_b64url(body) == entries["manifest.json"], "the signature covers the exact manifest")

    assertion = manifest["sender"]["assertion"]
    signed = {field: _resolve(manifest, field) for field in assertion["signed_fields"]}
    canonical = json.dumps(signed, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    public.verify(base64.b64decode(assertion["signature"]), canonical)
    _check(assertion["signing_key"]["fingerprint"] == "SHA256:" + hashlib.sha256(signer).hexdigest(), "fingerprint")

    sealed = entries["payload.encrypted"]
    _check(_sha256(sealed) == manifest["security"]["payload_hash"], "payload_hash")
    tar = decrypt(manifest, sealed, secret)

    files: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(tar), mode="r:") as payload:
        for member in payload:
            _check(member.isreg(), "regular files only")
            content = payload.extractfile(member)
            _check(content is not None and member.name not in files, "one content a name")
            files[member.name] = content.read() if content else b""
    listed = {entry["file"]: entry for entry in json.loads(files["files.json"])}
    _check(listed.keys() == files.keys() - {"files.json"}, "files.json names every other file")
    for name, entry in listed.items():
        _check(entry["hash"] == _sha256(files[name]) and entry["size_bytes"] == len(files[name]), name)
    _check(json.loads(files["metadata.json"])["id"] == manifest["id"], "metadata.id")

    lines = {f"file:{name}:{len(data)}:{hashlib.sha256(data).hexdigest()}": name for name, data in files.items()}
    folders = {name[:at] for name in files for at, sign in enumerate(name) if sign == "/"}
    lines |= {f"dir:{folder}": folder for folder in folders}
    text = "".join(f"{line}\n" for line in sorted(lines, key=lambda line: lines[line].encode()))
    _check(manifest["extensions"]["ief"]["payload_list_hash"] == _sha256(text.encode()), "payload_list_hash")
    return manifest, files


if __name__ == "__main__":
    found, content = read(Path(sys.argv[1]), Path(sys.argv[2]).read_bytes(), Path(sys.argv[3]).read_bytes())
    sys.stdout.write(f"{found['id']}: {len(content)} files, signature and every hash hold\n")
