"""The one map from the core's errors to `mdg.errors`: each kind of blame arrives as its class, with its parts."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from mdg import _core
from mdg.errors import InputOutput, Misuse, Refused, Unsupported


def test_bad_content_is_refused_with_code_part_and_byte() -> None:
    with pytest.raises(Refused) as refused:
        _core.check_json(b'{"a":1} x')
    error = refused.value
    assert (error.code, error.part, error.at, error.exit_code) == ("E_JSON", "JSON", 8, 3)
    assert str(error) == f"E_JSON: JSON, byte 8: {error.why}"


def test_a_refusal_without_a_place_has_none() -> None:
    with pytest.raises(Refused) as refused:
        _core.verify_signature(bytes(32), b"", bytes(64))
    assert refused.value.at is None
    assert str(refused.value).startswith("E_SIG_INVALID: signature: ")


def test_a_kind_that_is_not_read_is_unsupported_and_named(tmp_path: Path) -> None:
    path = tmp_path / "deflated.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", "{}" * 100)
    with pytest.raises(Unsupported, match="only stored ones are read") as unsupported:
        _core.inspect(str(path))
    assert unsupported.value.part == "ZIP archive"
    assert unsupported.value.exit_code == 3


def test_a_failing_file_is_input_output_and_named(tmp_path: Path) -> None:
    with pytest.raises(InputOutput) as failed:
        _core.Ed25519Key.read(str(tmp_path / "missing.key"))
    assert failed.value.part == str(tmp_path / "missing.key")
    assert failed.value.exit_code == 4


def test_a_callers_mistake_is_misuse() -> None:
    with pytest.raises(Misuse, match="32 bytes, not 3") as misuse:
        _core.kid(b"abc")
    assert misuse.value.exit_code == 2
