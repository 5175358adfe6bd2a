"""What a command says to somebody who made a mistake: one row for each mistake, with the words of the answer."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from tests.access.test_decide import SUBJECT
from tests.authority import CUSTODIAN, ORGANISATION
from tests.cli.conftest import Mdg, Said

from mdg.audit import Agent
from mdg.audit.event import to_fhir
from mdg.cli import audit
from mdg.cli.stage import free_port
from mdg.model.event import Event, Kind, Outcome

SETTINGS = """
custodian = "8003621566684455"
public_url = "https://mdg.example.org"
data = "/nowhere/data"
default_issuer = "DEMO"
time_zone = "Australia/Brisbane"
directory_url = "https://directory.example.org"
"""


@contextmanager
def listening(answers: dict[str, object]) -> Iterator[str]:
    """A service on this machine with these JSON answers by path, 404 for every other; its URL."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answers.get(self.path)).encode()
            self.send_response(200 if self.path in answers else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def find(mdg: Mdg, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Mdg:
    def call(gateway: object, *more: object) -> Said:
        monkeypatch.setattr(sys, "stdin", io.StringIO("8003608833357361\n"))
        return mdg("find", "--gateway", gateway, "--data", tmp_path / "consumer", *more)

    return call


def test_a_gateway_that_is_down(find: Mdg) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    said = find(url)
    assert (said.code, said.err) == (
        4,
        f"mdg: {url}: nothing answers there; is the gateway running?\n"
        "try: mdg serve --folder DIR --sandbox starts a gateway and prints its address\n",
    )


@pytest.mark.parametrize(
    "answers", [{}, {"/.well-known/oauth-protected-resource/fhir": ["other"]}], ids=["404", "JSON"]
)
def test_another_service(find: Mdg, answers: dict[str, object]) -> None:
    with listening(answers) as url:
        said = find(url)
    assert (said.code, said.err) == (1, f"mdg: {url} is no mdg gateway\n")


def test_the_admin_listener(find: Mdg) -> None:
    with listening({"/health": {"ready": True, "version": "1"}}) as url:
        said = find(url)
    assert (said.code, said.err) == (1, f"mdg: {url} is the admin listener of a gateway; name its public address\n")


def test_another_name_of_the_gateway(find: Mdg) -> None:
    """A proof for `localhost` does not hold at `127.0.0.1`, and the answer would be a 401 that explains nothing."""
    resource = {"resource": "http://127.0.0.1:8080/fhir", "authorization_servers": ["http://127.0.0.1:8080/sandbox"]}
    with listening({"/.well-known/oauth-protected-resource/fhir": resource}) as url:
        said = find(url)
    assert said.code == 2
    assert "this gateway is http://127.0.0.1:8080; use that address" in said.err


@pytest.mark.parametrize(
    ("gateway", "code", "words"),
    [
        ("127.0.0.1:8080", 2, "a URL begins with http:// or https://, as in http://127.0.0.1:8080"),
        ("http://127.0.0.1:8080/fhir", 2, "leave /fhir out: http://127.0.0.1:8080"),
        ("http://127.0.0.1:8080/fhir/", 2, "leave /fhir out: http://127.0.0.1:8080"),
        (
            "http://127.0.0.1:9",
            2,
            "no gateway answers at http://127.0.0.1:9: ports below 1024 other than 80 and 443 are not asked\n"
            "try: mdg serve --folder DIR --sandbox starts a gateway",
        ),
    ],
)
def test_an_address_that_is_none(find: Mdg, gateway: str, code: int, words: str) -> None:
    said = find(gateway)
    assert (said.code, words in said.err) == (code, True), said


def test_an_unknown_purpose_is_usage(find: Mdg) -> None:
    said = find("http://127.0.0.1:8080", "--purpose", "treatment")
    assert said.code == 2
    assert "--purpose: a code of v3-ActReason that is served here: CLINTRCH, " in said.err


def test_numbers_are_called_what_people_call_them(mdg: Mdg, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for text, words in (("8003608833357362", "the check digit of IHI is wrong"), ("80036088", "IHI needs 16 digits")):
        monkeypatch.setattr(sys, "stdin", io.StringIO(f"{text}\n"))
        assert words in mdg("find", "--gateway", "http://127.0.0.1:9").err
    path = tmp_path / "mdg.toml"
    path.write_text(SETTINGS.replace("8003621566684455", "80036"))
    assert "custodian: HPI-O needs 16 digits" in mdg("config", "check", "--config", path).err


def test_cards_and_private_keys_in_each_others_place(mdg: Mdg, keys: Path, study: Path, tmp_path: Path) -> None:
    out = ("-o", tmp_path / "out.zip")
    said = mdg("pack", study, "--to", keys / "consumer.card.json", "--sign", keys / "provider.card.json", *out)
    assert said.code == 2
    assert f"is a card, not a key; name {keys / 'provider.ed25519.key'}" in said.err
    said = mdg("pack", study, "--to", keys / "consumer.x25519.key", "--sign", keys / "provider.ed25519.key", *out)
    assert said.code == 2
    assert "is a private key, which never leaves its owner; name a card: NAME.card.json" in said.err
    assert "keygen" not in said.err.partition("try:")[2]


def test_a_card_that_does_not_hold_is_named(mdg: Mdg, keys: Path, study: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.card.json"
    bad.write_text("{]")
    parties = ("--sign", keys / "provider.ed25519.key", "-o", tmp_path / "out.zip")
    said = mdg("pack", study, "--to", bad, *parties, "--json")
    assert (said.code, said.json()["code"]) == (3, "E_JSON")
    assert str(bad) in said.err
    zero = tmp_path / "zero.x25519.pub"
    zero.write_bytes(bytes(32))
    said = mdg("pack", study, "--to", zero, *parties, "--json")
    assert (said.code, said.json()["code"]) == (3, "E_WRAP")
    assert str(zero) in said.err


@pytest.mark.parametrize(
    ("option", "way_out"),
    [
        ("--trust", "name the card of the sender"),
        ("--key", "mdg keygen --out DIR --name NAME --id URI makes"),
        ("--to", "ask the receiver for its card"),
        ("--sign", "mdg keygen --out DIR --name NAME --id URI makes"),
    ],
)
def test_a_key_or_card_that_is_not_there_is_named_with_its_option(
    mdg: Mdg, keys: Path, sealed: Path, study: Path, tmp_path: Path, *, option: str, way_out: str
) -> None:
    given: dict[str, Path] = {
        "--trust": keys / "provider.card.json",
        "--key": keys / "consumer.x25519.key",
        "--to": keys / "consumer.card.json",
        "--sign": keys / "provider.ed25519.key",
    }
    given[option] = tmp_path / "not-there"
    command, of_it = (
        (("open", sealed), ("--trust", "--key"))
        if option in ("--trust", "--key")
        else (("pack", study), ("--to", "--sign"))
    )
    said = mdg(*command, *(word for name in of_it for word in (name, given[name])), "-o", tmp_path / "out")
    first, second = said.err.splitlines()
    assert (said.code, first) == (4, f"mdg: {tmp_path / 'not-there'}: {option} names a file that is not there")
    assert second.startswith(f"try: {way_out}")


@pytest.mark.parametrize("group", [(), ("audit",), ("config",), ("sandbox",)])
def test_the_list_of_commands_cuts_no_sentence(
    mdg: Mdg, monkeypatch: pytest.MonkeyPatch, group: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    page = mdg(*group, "--help").out
    assert "Commands:" in page
    assert "..." not in page.partition("Commands:")[2]


def test_ctrl_c_shows_no_trace_of_an_import(tmp_path: Path) -> None:
    """At whatever moment it comes: an import that never ends stands for a slow disk."""
    (tmp_path / "typer.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    mdg = subprocess.Popen(
        [sys.executable, "-m", "mdg", "--version"],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert mdg.stdout is not None
    assert mdg.stdout.readline() == "importing\n"
    mdg.send_signal(signal.SIGINT)
    _, err = mdg.communicate(timeout=10)
    assert (mdg.returncode, err) == (-signal.SIGINT, "")


@pytest.mark.parametrize("twin", ["Report.txt", "report.txt"])
def test_two_attachments_of_one_name_are_both_named(
    mdg: Mdg, keys: Path, study: Path, tmp_path: Path, twin: str
) -> None:
    one, other = tmp_path / "report.txt", tmp_path / "b" / twin
    other.parent.mkdir()
    one.write_text("1")
    other.write_text("2")
    parties = ("--to", keys / "consumer.card.json", "--sign", keys / "provider.ed25519.key")
    said = mdg("pack", study, *parties, "-o", tmp_path / "out.zip", "--file", one, "--file", other)
    assert said.code == 2
    assert f"{one} and {other} cannot both lie under files/" in said.err
    assert "folder of its own" not in said.err


def test_a_wrong_key_is_told_for_whom_it_is(mdg: Mdg, keys: Path, sealed: Path, tmp_path: Path) -> None:
    trust = ("--trust", keys / "provider.card.json")
    said = mdg("open", sealed, *trust, "--key", keys / "provider.x25519.key", "-o", tmp_path / "out", "--json")
    assert (said.code, said.json()["code"]) == (3, "E_NO_RECIPIENT")
    assert 'sealed for "consumer"; the key given is another' in said.err


def test_a_changed_byte_is_fetched_again(mdg: Mdg, keys: Path, sealed: Path) -> None:
    data = bytearray(sealed.read_bytes())
    data[len(data) // 2] ^= 1
    sealed.write_bytes(data)
    said = mdg("verify", sealed, "--trust", keys / "provider.card.json")
    assert said.code == 3
    assert "try: fetch it again: it was damaged or changed on the way" in said.err


def test_what_is_no_envelope(mdg: Mdg, keys: Path, study: Path, tmp_path: Path) -> None:
    images, text = tmp_path / "images.zip", tmp_path / "README.md"
    with zipfile.ZipFile(images, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in study.iterdir():
            archive.write(path, f"study/{path.name}")
    text.write_text("# mdg\n\nA gateway that lets hospitals find and send imaging.\n")
    for path, words in ((images, "no JMIX envelope: it has no manifest.json"), (text, "not a ZIP file")):
        for command in (("inspect", path), ("verify", path, "--trust", keys / "provider.card.json")):
            said = mdg(*command)
            assert (said.code, words in said.err) == (3, True), said
    with zipfile.ZipFile(images, "a") as archive:
        archive.writestr("manifest.json", "{}")
    assert "only stored ones are read" in mdg("inspect", images).err
    said = mdg("inspect", study)
    assert (said.code, "unzip" in said.err) == (3, False)
    assert "no JMIX envelope: it has no manifest.json" in said.err


def test_a_foreign_file_in_an_envelope_is_named(mdg: Mdg, keys: Path, study: Path, tmp_path: Path) -> None:
    box = tmp_path / "box"
    parties = ("--to", keys / "consumer.card.json", "--sign", keys / "provider.ed25519.key")
    assert mdg("pack", study, *parties, "-o", box, "--as-directory").code == 0
    (box / "notes.txt").write_text("x")
    assert "notes.txt does not belong into an encrypted JMIX envelope" in mdg("inspect", box).err


def test_an_inspected_signature_is_present_and_not_checked(mdg: Mdg, sealed: Path) -> None:
    said = mdg("inspect", sealed)
    assert "signature: present, not checked" in said.out
    assert "full" not in said.out


def test_an_envelope_in_order_gives_no_warning(mdg: Mdg, keys: Path, sealed: Path, tmp_path: Path) -> None:
    key, trust = ("--key", keys / "consumer.x25519.key"), ("--trust", keys / "provider.card.json")
    for command in (("inspect", sealed), ("verify", sealed, *trust), ("verify", sealed, *trust, *key)):
        said = mdg(*command)
        assert (said.code, "warning:" in said.out, "note:" in said.out) == (0, False, False), said
        assert "format: jmix-1.0\n" in said.out
    said = mdg("open", sealed, *trust, *key, "-o", tmp_path / "out", "--verbose")
    assert "note: no forward secrecy" in said.out
    assert "note: not covered by the signature: ZIP time, audit.json" in said.out
    assert any("no forward secrecy" in note for note in mdg("verify", sealed, *trust, "--json").json()["notes"])


def test_an_envelope_that_names_somebody_else_gives_a_warning(
    mdg: Mdg, keys: Path, study: Path, tmp_path: Path
) -> None:
    sealed = tmp_path / "to-a-key.zip"
    parties = ("--to", keys / "consumer.x25519.pub", "--sign", keys / "provider.ed25519.key")
    assert mdg("pack", study, *parties, "-o", sealed).code == 0
    said = mdg("verify", sealed, "--trust", keys / "provider.card.json", "--key", keys / "consumer.x25519.key")
    assert "warning: the manifest names another receiver than the owner of your key" in said.out


def test_a_full_disk_says_what_is_needed(
    mdg: Mdg, keys: Path, study: Path, sealed: Path, *, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=100_000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    parties = ("--to", keys / "consumer.card.json", "--sign", keys / "provider.ed25519.key")
    said = mdg("pack", study, *parties, "-o", tmp_path / "out.zip")
    assert (said.code, said.err) == (4, f"mdg: {tmp_path}: 2.1 MB needed, 0.1 MB free\n")
    opener = ("--key", keys / "consumer.x25519.key", "--trust", keys / "provider.card.json")
    said = mdg("open", sealed, *opener, "-o", tmp_path / "out")
    assert (said.code, said.err) == (4, f"mdg: {tmp_path}: 2.1 MB needed, 0.1 MB free\n")


TWO = '[[sources]]\nkind = "folder"\nname = "ct"\npath = "/data/ct"\n'


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('allow = "study"', 'allow: a list, as in ["one", "two"]'),
        (
            'folders = ["/data"]',
            'folders: no such setting (PATH, line 9); write sources = [{ kind = "folder',
        ),
        ('[[sources]]\nkind = "s3"\nname = "a"', "sources.0.kind: is one of 'folder'"),
        ('[[sources]]\nkind = "folder"\nname = "A b"\npath = "/data"', "sources.0.name: at most 32 small letters"),
        ('[[sources]]\nkind = "folder"\nname = "a"', "sources.0.path is required"),
        ('[[sources]]\nkind = "folder"\nname = "a"\npath = []', "sources.0.path: is empty"),
        ('[[sources]]\nkind = "folder"\nname = "received"\npath = "/a"', "sources.0.name: received names what others"),
        (f"{TWO}{TWO}", "sources.1.name: ct is the name of sources.0 too"),
        (f"{TWO}{TWO.replace('ct', 'mr', 1)}", "sources.1.path: /data/ct shares files with /data/ct of sources.0"),
        (f"{TWO}{TWO.replace('ct', 'all', 1).replace('/ct', '')}", "sources.1.path: /data shares files with /data/ct"),
        ('issuers = ["https://as.example.org"]', "issuers.0: a table with settings of its own; mdg init writes"),
        ('publicurl = "https://x.example.org"', "publicurl: no such setting (PATH, line 9); did you mean public_url?"),
        ("[capabilities]\nretreival = true", "(PATH, line 10); did you mean retrieval?"),
    ],
)
def test_a_setting_that_is_wrong_says_what_was_meant(mdg: Mdg, tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "mdg.toml"
    path.write_text(f"{SETTINGS}\n{line}\n")
    said = mdg("config", "check", "--config", path)
    assert said.code == 2
    assert words.replace("PATH", str(path)) in said.err


def test_settings_that_are_missing_lead_to_the_file_that_holds_them(
    mdg: Mdg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = mdg("config", "check")
    assert (said.code, said.err.splitlines()[-1]) == (
        2,
        "try: name your settings file with --config; mdg init writes one",
    )
    said = mdg("config", "check", "--config", "mdg.toml")
    assert (said.code, said.err.splitlines()[-1]) == (
        4,
        "try: mdg init mdg.toml writes one with every setting and what it means",
    )
    assert mdg("init", "mdg.toml").code == 0
    assert "default_issuer: is empty" in mdg("config", "check", "--config", "mdg.toml").err


def test_an_envelope_that_is_not_there_is_not_to_be_inspected(mdg: Mdg, keys: Path, tmp_path: Path) -> None:
    said = mdg("verify", tmp_path / "nothing.zip", "--trust", keys / "provider.card.json")
    assert said.code == 4
    assert "try:" not in said.err


def test_an_at_sign_in_a_password_is_written_by_its_number(mdg: Mdg, tmp_path: Path) -> None:
    path = tmp_path / "mdg.toml"
    path.write_text(f'{SETTINGS}\ndatabase = "postgresql://mdg:s@cret@db.example.org/mdg?sslmode=verify-full"\n')
    path.chmod(0o600)
    said = mdg("config", "check", "--config", path)
    assert said.code == 2
    assert "database: in a password @ is written as %40" in said.err
    assert "cret" not in said.err


def test_the_settings_that_are_shown_can_be_read_back(mdg: Mdg, tmp_path: Path) -> None:
    path, again = tmp_path / "mdg.toml", tmp_path / "again.toml"
    path.write_text(
        f"""{SETTINGS}
[[sources]]
kind = "folder"
name = "ct"
path = "/data/ct"
[[sources]]
kind = "folder"
name = "archive"
path = ["/data/a", "/data/b"]
[[issuers]]
iss = "https://one.example.org"
jwks_url = "https://one.example.org/jwks"
[[issuers]]
iss = "https://two.example.org"
jwks_url = "https://two.example.org/jwks"
[issuers.clients]
"https://client.example.org/1" = "8003626566707032"
[subscribers]
8003626566707032 = ["https://ris.example.org"]
[roadmap]
discovery = 2027-01-01
"""
    )
    for more in ((), ("--origin",)):
        again.write_text(mdg("config", "show", "--config", path, *more).out)
        tomllib.loads(again.read_text())
        shown, read = (mdg("config", "show", "--config", one, "--json").json() for one in (path, again))
        assert read == shown
    assert again.read_text().count(f"[[sources]]  # {path}") == 2
    assert 'path = ["/data/a", "/data/b"]' in again.read_text()


def test_a_source_can_be_named_by_the_environment(mdg: Mdg, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mdg.toml"
    path.write_text(SETTINGS)
    monkeypatch.setenv("MDG_SOURCES__CT__KIND", "folder")
    monkeypatch.setenv("MDG_SOURCES__CT__PATH", "/data/ct")
    shown = mdg("config", "show", "--config", path, "--origin", "--json").json()["settings"]["sources"]
    assert shown == {"value": [{"kind": "folder", "name": "ct", "path": ["/data/ct"]}], "origin": "MDG_SOURCES"}
    monkeypatch.setenv("MDG_FOLDERS", '["/data"]')
    said = mdg("config", "show", "--config", path)
    assert said.code == 2
    assert 'MDG_FOLDERS: no such setting; write sources = [{ kind = "folder"' in said.err


@pytest.mark.parametrize("name", ["a\x1bb", "a\nb"])
def test_a_name_with_control_characters_is_usage(mdg: Mdg, tmp_path: Path, name: str) -> None:
    said = mdg("keygen", "--out", tmp_path / "new", "--name", name, "--id", "urn:example:x")
    assert said.code == 2
    assert not (tmp_path / "new").exists()


def test_a_closed_standard_error_changes_nothing(keys: Path, sealed: Path) -> None:
    command = f"'{sys.executable}' -m mdg.cli verify '{sealed}' --trust '{keys / 'provider.card.json'}' 2>&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, "signature: full" in done.stdout) == (0, True), done


def test_the_parties_of_a_record_have_their_roles() -> None:
    """The gateway that kept the record is not the one who did it."""
    event = Event(Kind.SEARCH, Outcome.SUCCESS, "req-1", requester=SUBJECT)
    agent = Agent("mdg", "0.1", "https://mdg.example.org")
    line = audit._line(to_fhir(event, CUSTODIAN, agent, datetime(2026, 11, 24, tzinfo=UTC)))
    parties = f"by {SUBJECT.client_id}, at {CUSTODIAN}, for {SUBJECT.practitioner}, purpose TREAT, of {ORGANISATION}"
    assert line.endswith(f": success  {parties}")
