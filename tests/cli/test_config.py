"""`mdg config check` finds what would keep `mdg serve` from starting, and says it in the same words."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.cli.conftest import Mdg

from mdg.cli.stage import free_port
from mdg.keys import Card

SETTINGS = """
custodian = "8003621566684455"
public_url = "https://mdg.example.org"
data = "{folder}/data"
sources = [{{ kind = "folder", name = "dicom", path = "{folder}/images" }}]
bind = "127.0.0.1:{port}"
admin_bind = "127.0.0.1:0"
default_issuer = "DEMO"
time_zone = "Australia/Brisbane"
directory_url = "https://directory.example.invalid"
"""


def test_the_check_and_the_start_find_the_same(mdg: Mdg, tmp_path: Path) -> None:
    """Each obstacle in turn ends `config check` and `serve` with the same words and the same exit code."""
    (tmp_path / "images").mkdir()
    whole, bind = tmp_path / "mdg.toml", free_port()
    settings = SETTINGS.format(folder=tmp_path, port=bind)
    wrong = tmp_path / "identity.csv"
    wrong.write_text("PatientID,issuer,IHI,source,date\nX,DEMO,8003608833357362,me,2026-01-01\n")
    shut = tmp_path / "file"
    shut.write_text("")
    key = tmp_path / "data-with-key" / "keys" / "ticket.key"
    key.parent.mkdir(parents=True)
    key.write_bytes(b"short")
    key.chmod(0o600)
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    (damaged / "mdg.sqlite").write_bytes(b"no database" * 1000)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o770)
    data = f'data = "{tmp_path / "data"}"'
    for line, code, said in (
        (("images", "none"), 4, "it is not a folder"),
        ((data, f'{data}\nidentity = "{wrong}"'), 3, "E_IDENTITY"),
        ((data, f'{data}\nidentity = "{tmp_path / "none.csv"}"'), 4, "none.csv"),
        ((data, f'data = "{shut / "data"}"'), 4, str(shut)),
        ((data, f'data = "{key.parent.parent}"'), 2, "ticket.key"),
        (("https://directory.example.invalid", "http://directory.example.org"), 2, "directory_url: only https URLs"),
        ((data, f'{data}\nallow = ["http://other.example.org"]'), 2, "allow: only https URLs"),
        (
            (data, f'{data}\nissuers = [{{iss = "https://as.example.org", jwks_url = "http://as.example.org"}}]'),
            2,
            "jwks_url",
        ),
        ((data, f'data = "{shared}"'), 4, f"chmod 700 {shared}"),
        ((data, f'data = "{damaged}"'), 4, "the database cannot be used"),
        ((data, f'{data}\ndatabase = "postgresql://mdg@127.0.0.1:{bind}/mdg"'), 4, "database: "),
    ):
        whole.write_text(settings.replace(*line))
        whole.chmod(0o600)
        checked, started = (mdg(*command, "--config", whole) for command in (("config", "check"), ("serve",)))
        assert said in checked.err, (line, checked)
        assert checked == started, line
        assert checked.code == code, line
        assert not (tmp_path / "data").exists(), line
    whole.write_text(settings)
    with socket.create_server(("127.0.0.1", bind)):
        checked, started = (mdg(*command, "--config", whole) for command in (("config", "check"), ("serve",)))
    assert checked == started
    assert (checked.code, str(bind) in checked.err) == (4, True)


def test_the_card_is_that_of_the_gateway_and_verifies(mdg: Mdg, tmp_path: Path) -> None:
    config = tmp_path / "mdg.toml"
    config.write_text(SETTINGS.format(folder=tmp_path, port=0))
    shown = mdg("config", "card", "--config", config)
    assert shown.code == 0
    card = Card.parse(shown.out.encode())
    assert card.id.endswith("/8003621566684455")
    assert card == Card.parse(mdg("config", "card", "--config", config).out.encode()), "keys are made once"
    assert "private" not in shown.out
