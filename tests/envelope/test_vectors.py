"""The values of spec/jmix-1.0 4, through the real reader: keys, label and IV as other libraries use them."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from tests.envelope import forger
from tests.envelope.envelopes import Parties

from mdg import _core
from mdg.errors import Refused

RECIPIENT_SECRET = bytes(range(0x01, 0x21))
RECIPIENT_PUBLIC = base64.b64decode("B6N8vBQgk8i3VdwbEOhstCY3StFqqFPtC9/AsrhtHHw=")
EPHEMERAL_PUBLIC = base64.b64decode("WGmv9FBUlzLLqu1eXfmzCm2jHLDldCutWtShp2jxpns=")
IV = bytes(range(12))
DEFAULT_KEY = bytes.fromhex("edb1a110f2d9ae240332353643baebf3cd6031ccb59ccd224aae9f040ae12f28")
OTHER_KEYS = {
    "JMIX-AES256-GCM": "7449398a2ea00f1e7501e95050322e49dd4d851aa19c509df0aa8bb1952f8b35",
    "JMIX-Payload-Encryption": "0ab111d63602c40b71f7c66b95538772dd1246e60bd9b90faa59f2e387f4f0ee",
}


@pytest.fixture
def known(tmp_path: Path) -> Parties:
    """The recipient of the vector."""
    path = tmp_path / "vector.key"
    path.write_bytes(RECIPIENT_SECRET)
    path.chmod(0o600)
    parties = Parties(_core.Ed25519Key.generate(), _core.X25519Key.read(str(path)))
    assert parties.recipient.public == RECIPIENT_PUBLIC
    return parties


def reseal(parties: Parties, study: list[Path], folder: Path, key: bytes) -> None:
    parties.pack(study, folder, as_directory=True)
    tar = forger.tar_of(forger.members(parties, folder))
    forger.seal_with(parties, folder, tar, key=key, ephemeral=EPHEMERAL_PUBLIC, iv=IV)


def test_the_published_key_of_the_default_label_opens(known: Parties, study: list[Path], tmp_path: Path) -> None:
    reseal(known, study, tmp_path / "folder", DEFAULT_KEY)
    report = known.open(tmp_path / "folder", tmp_path / "out")
    assert (report["dialect"], report["instances"]) == ("jmix-1.0", 4)


@pytest.mark.parametrize("label", OTHER_KEYS)
def test_another_label_is_no_envelope_of_this_dialect(
    known: Parties, study: list[Path], tmp_path: Path, label: str
) -> None:
    reseal(known, study, tmp_path / "folder", bytes.fromhex(OTHER_KEYS[label]))
    with pytest.raises(Refused) as refused:
        known.open(tmp_path / "folder", tmp_path / "out")
    assert refused.value.code == "E_NO_RECIPIENT"
