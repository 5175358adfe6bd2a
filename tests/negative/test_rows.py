"""Every row of hostile inputs, driven against a real gateway: the YAML files say what is sent and what must come back.

A case is a good call, changed: `door` or `method` and `path` say where to; `token`, `proof`, `ticket` say what is
wrong with them; `authorization`, `proofs`, `fields`, `host`, `framing`, `query`, `body` replace what would be sent.
`answer` is one of ANSWERS, `reason` is what the audit calls a refusal: each one names it. A `bare` answer is the HTTP
server's own, which no door ever sees. The connection stays open, unless the case says `closes` or `bare`. Cases with
the same `alike` get the same answer to the byte, by the same SQL statements. What holds for every refusal is in
`check_refusal`. To add a row is to write YAML; nothing here changes.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.negative.tickets import ticket_target
from tests.negative.world import FORM, Answer, World

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
PAGE = (REPOSITORY / "docs/spec/hostile-input.md").read_text()
ROWS: dict[str, str] = dict(re.findall(r"^\| ([A-L][0-9]+) \| .+ \| (.+) \|$", PAGE, re.MULTILINE))
"""Each row of the page, with the answer to it."""
PENDING: dict[str, str] = tomllib.loads((HERE / "pending.toml").read_text())
ELSEWHERE: dict[str, list[str]] = tomllib.loads((HERE / "elsewhere.toml").read_text())

DOORS: dict[str, dict[str, Any]] = {
    "search": {"method": "POST", "path": "/fhir/ImagingStudy/_search", "body": "patient.identifier={ihi}"},
    "payload": {"method": "GET", "path": "/api/jmix", "query": "studyInstanceUid={uid}"},
}
SUBSCRIBE: dict[str, Any] = {
    "method": "POST",
    "path": "/fhir/Subscription",
    "content_type": "application/fhir+json",
    "token": {"claims": {"scope": "system/Subscription.crud"}},
}
"""The door of those cases that name it; what a row says of no door is tried at both of DOORS."""
ANSWERS: dict[str, tuple[int, str, str | None]] = {
    "200": (200, "", None),
    "206": (206, "", None),
    "401": (401, "login", 'DPoP algs="ES256"'),
    "R401": (401, "login", 'DPoP error="invalid_token", algs="ES256"'),
    "R401P": (401, "login", 'DPoP error="invalid_dpop_proof", algs="ES256"'),
    "R403": (403, "forbidden", None),
    "R403S": (403, "forbidden", 'DPoP error="insufficient_scope", algs="ES256"'),
    "R404": (404, "not-found", None),
    "R400": (400, "", None),
    "R405": (405, "not-supported", None),
    "R406": (406, "not-supported", None),
    "R415": (415, "not-supported", None),
    "R416": (416, "", None),
    "R422": (422, "processing", None),
    "400": (400, "", None),
    "431": (431, "", None),
    "501": (501, "", None),
    "R503": (503, "transient", None),
}
"""Status, code of the OperationOutcome ("" when several fit), and challenge (None when there is none)."""


@dataclass(frozen=True)
class Case:
    """One thing to send and the answer to it."""

    row: str
    number: int
    door: str
    said: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.row}-{self.number}" + (f"-{self.door}" if self.door else "")

    @property
    def refused(self) -> bool:
        return self.said["answer"] not in ("200", "206")


def rows() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted(HERE.glob("*.yaml")):
        for name, row in yaml.safe_load(path.read_text()).items():
            assert name not in found, f"{path.name}: {name} is there twice"
            found[name] = row
    return found


def cases() -> Iterator[Case]:
    for name, row in rows().items():
        for number, said in enumerate(row["cases"], 1):
            addressed = "path" in said or "ticket" in said
            for door in [""] if addressed else [said["door"]] if "door" in said else DOORS:
                yield Case(name, number, door, said)


@pytest.mark.anyio
@pytest.mark.parametrize("case", list(cases()), ids=str)
async def test_row(case: Case, world: World, capfd: pytest.CaptureFixture[str]) -> None:
    if case.row in PENDING:
        with pytest.raises(AssertionError):
            await play(case, world, capfd)
    else:
        await play(case, world, capfd)


def test_every_refusal_names_the_reason_that_the_audit_gives() -> None:
    unsaid = [str(case) for case in cases() if case.refused and "reason" not in case.said and not case.said.get("bare")]
    assert unsaid == []


def test_every_row_is_tested_or_waits_with_a_reason() -> None:
    tested = set(rows()) | set(ELSEWHERE)
    assert not (set(ROWS) - tested - set(PENDING)), "rows without a test or a reason"
    assert not (tested | set(PENDING)) - set(ROWS), "not in docs/spec/hostile-input.md"
    assert not set(PENDING) & set(ELSEWHERE), "tested, so not pending"
    assert all(len(reason) >= 20 for reason in PENDING.values()), "a pending row says why"


def test_the_page_gives_the_answer_of_each_case() -> None:
    said = {case.row: re.findall(r"[A-Z0-9]+", ROWS[case.row]) for case in cases()}
    assert [f"{case}: {case.said['answer']}" for case in cases() if case.said["answer"] not in said[case.row]] == []
    assert {row for row, answer in ROWS.items() if answer == "—"} <= set(PENDING), "tested, so it has an answer"


@pytest.mark.parametrize("row", ELSEWHERE)
def test_the_tests_named_elsewhere_are_there(row: str) -> None:
    for named in ELSEWHERE[row]:
        path, _, test = named.partition("::")
        assert re.search(rf"\b(def|fn) {re.escape(test)}\b", (REPOSITORY / path).read_text()), named


async def play(case: Case, world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """Sends a case as often as it says and checks the answers."""
    capfd.readouterr()
    fetched = len(world.services.asked)
    for number in range(case.said.get("repeat", 1)):
        sent = await prepare(case, world, number)
        files = kept_files(world)
        async with world.revoked(case.said.get("revoke"), sent.token):
            answer = await world.send(sent.raw)
        left = kept_files(world)
        check_answer(case, answer)
        if "alike" in case.said:
            await compare(case, world, number)
        if case.said.get("bare"):
            assert (answer.body, answer.header("connection")) == (b"", "close")
        elif case.refused:
            await check_refusal(case, world, sent, answer)
            assert left == files, "a refusal left a file"
    asked = world.services.asked[fetched:]
    assert not [what for what in asked if what.startswith("other")], "an outbound request that nobody configured"
    assert len([what for what in asked if what.startswith("jwks")]) <= case.said.get("fetches", 1)
    printed = "".join(capfd.readouterr())
    assert not [value for value in sent.secret if value in printed], "the log has what it must not have"


async def compare(case: Case, world: World, number: int) -> None:
    """Sends a case and the first ones that it must be like: of all in bytes, of those at the same address in SQL
    statements, too. An address has another one to be compared with, or there would be nothing to see."""
    alike = [one for one in cases() if (one.row, one.said.get("alike")) == (case.row, case.said["alike"])]
    here = [one for one in alike if address(one) == address(case)]
    assert len(here) > 1, "nothing to compare the statements with"
    answers, costs = [], []
    for one in (case, alike[0], next(one for one in here if one != case)):
        sent = await prepare(one, world, number)
        answer = await world.send(sent.raw)
        answers.append(constant(answer))
        costs.append(await world.costs.of(answer.header("x-request-id")))
    assert len(set(answers)) == 1
    assert costs[0] == costs[2]


def address(case: Case) -> tuple[str, str]:
    """The path of a case with a placeholder for its id."""
    return case.door, re.sub(r"{\w+}|[0-9a-f-]{36}", "*", case.said.get("path", ""))


@dataclass(frozen=True)
class Sent:
    """What went over the wire, and what of it may not come back or be logged."""

    raw: bytes
    token: str
    secret: tuple[str, ...]


async def prepare(case: Case, world: World, number: int) -> Sent:
    said = {**(DOORS | {"subscribe": SUBSCRIBE}).get(case.door, {"method": "GET"}), **case.said}
    words = world.words
    words |= {"n": str(number)}
    token = world.forgery.token(said.get("token", {}))
    if "ticket" in said:
        path, query, method, granted = await ticket_target(world, said["ticket"])
        token = token if "token" in said else granted
        said = {**said, "path": path, "query": query, "method": method}
    method, path = said["method"], world.forgery.resolve(said["path"])
    words |= {"token": token, "path": path}
    proof = words["proof"] = world.forgery.proof(token, method, path, said.get("proof", {}))
    fields = [f"Authorization: {value}" for value in world.forgery.resolve(said.get("authorization", ["DPoP {token}"]))]
    fields += [f"DPoP: {value}" for value in world.forgery.resolve(said.get("proofs", ["{proof}"]))]
    fields += world.forgery.resolve(said.get("fields", []))
    target = path + (f"?{world.forgery.resolve(said['query'])}" if said.get("query") else "")
    body = world.forgery.resolve(said.get("body", "")).encode()
    host = world.forgery.resolve(said.get("host", ["Host: {address}"]))
    raw = world.message(
        method, target, fields, body, said.get("content_type", FORM), host=host, framing=said.get("framing")
    )
    secret = (token, proof, words["patient"], words["other_patient"], words["unknown_patient"], "canary", "evil")
    return Sent(raw, token, tuple(value for value in secret if value))


def check_answer(case: Case, answer: Answer) -> None:
    status, _, challenge = ANSWERS[case.said["answer"]]
    assert answer.status == status, answer.text[:2000]
    closes = bool(case.said.get("closes") or case.said.get("bare"))
    assert answer.closed == closes, f"{answer.text[:2000]}\n\nthe connection is {'closed' if answer.closed else 'open'}"
    shown, _, place = answer.header("www-authenticate").partition(", resource_metadata=")
    assert shown == (challenge or "")
    assert place.endswith('/.well-known/oauth-protected-resource/fhir"') == bool(challenge)
    assert not answer.header("server")
    assert not answer.header("x-powered-by")
    assert not [name for name, _ in answer.headers if name.startswith("access-control-")]
    assert answer.header("cache-control") == "no-store" or case.said.get("bare") or not case.refused
    assert answer.body.decode("latin-1") == case.said.get("body_of_answer", answer.body.decode("latin-1"))


def constant(answer: Answer) -> str:
    """The whole answer without what differs on purpose: its time and the id of the request."""
    return re.sub(r"[0-9a-f-]{36}", "", answer.text.replace(answer.header("date"), ""))


async def check_refusal(case: Case, world: World, sent: Sent, answer: Answer) -> None:
    """What holds for every refusal: one body form, nothing of the input in it, one record with a reason."""
    _, code, _ = ANSWERS[case.said["answer"]]
    outcome = json.loads(answer.body)
    assert outcome["resourceType"] == "OperationOutcome"
    assert outcome["issue"][0]["code"] == case.said.get("issue", code or outcome["issue"][0]["code"])
    for trace in ("Traceback", 'File "', ".py", "Error:", "sqlite"):
        assert trace not in answer.text
    assert not [value for value in sent.secret if value in answer.text], "the answer repeats its input"
    assert case.said.get("names", "") in answer.text
    if answer.status == 503:
        assert answer.header("retry-after")
    events = await world.rooms.audit.for_request(answer.header("x-request-id"))
    (event,) = [event for event in events if event["outcome"] in ("4", "8")]
    assert event["outcomeDesc"] == case.said["reason"]
    assert case.said["reason"] not in answer.text or case.said["reason"] == code


def kept_files(world: World) -> set[str]:
    """The files in the data folder but for the database's own."""
    data = world.rooms.settings.data
    return {str(path.relative_to(data)) for path in data.rglob("*") if not path.name.startswith("mdg.sqlite")}
