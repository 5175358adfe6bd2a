"""identity.csv is taken whole or not at all, and complaints name lines and columns but never a value."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, event

from mdg.errors import InputOutput, Refused
from mdg.identity import Identities, enrichment, identity_csv
from mdg.model.identity import HpiO, Ihi, LocalId
from mdg.store import Store

pytestmark = pytest.mark.anyio
HEAD = "PatientID,issuer,IHI,source,date\n"
A, B = Ihi("8003608833357361"), Ihi("8003608166690503")


@pytest.fixture
async def identities(database: str) -> AsyncIterator[Identities]:
    async with Store.open(database) as store:
        yield Identities(store, HpiO("8003621566684455"))


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return tmp_path / "identity.csv"


async def test_a_good_file_maps_both_ways(identities: Identities, csv: Path) -> None:
    csv.write_text(
        HEAD
        + f"P1,RMH,{A},medicare card,2026-01-31\n"
        + "P2, RMH ,8003 6081 6669 0503,registration desk,2026-02-01\n\n"
        + f'"P,3",OTHER,{A},"said ""yes""",2026-02-01\n',
        encoding="utf-8-sig",
    )
    report = await identities.load_csv(csv)
    assert (report.rows, report.patients, report.ihis) == (3, 3, 2)
    assert list(await identities.local_ids(A)) == [LocalId("P,3", "OTHER"), LocalId("P1", "RMH")]
    assert await identities.ihi_of(LocalId("P2", "RMH")) == B
    assert await identities.ihi_of(LocalId("P2", "OTHER")) is None


async def test_the_file_replaces_what_it_said_before(identities: Identities, csv: Path) -> None:
    csv.write_text(f"{HEAD}P1,RMH,{A},card,2026-01-31\nP2,RMH,{B},card,2026-01-31\n")
    await identities.load_csv(csv)
    csv.write_text(f"{HEAD}P2,RMH,{A},card,2026-01-31\n")
    await identities.load_csv(csv)
    assert list(await identities.local_ids(A)) == [LocalId("P2", "RMH")]
    assert await identities.local_ids(B) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"P1,RMH,{A},card", "line 3: 4 columns instead of 5"),
        (f",RMH,{A},card,2026-01-31", "line 3: PatientID is empty"),
        (f"P1,,{A},card,2026-01-31", "line 3: issuer is empty"),
        (f"P1,RMH,{A},,2026-01-31", "line 3: source is empty"),
        ("P1,RMH,8003608833357362,card,2026-01-31", "line 3: the check digit of IHI is wrong"),
        ("P1,RMH,8003618833357361,card,2026-01-31", "line 3: IHI starts with 800360"),
        ("P1,RMH,80036088,card,2026-01-31", "line 3: IHI needs 16 digits"),
        ("P1,RMH,\uff18003608833357361,card,2026-01-31", "line 3: IHI needs 16 digits"),
        (f"P1,RMH,{A},card,31.1.2026", "line 3: date must be YYYY-MM-DD"),
        (f"P1,RMH,{A},card,20260131", "line 3: date must be YYYY-MM-DD"),
        (f"P1,RMH,{A},card,2999-01-31", "line 3: date lies in the future"),
        (f"P\x07,RMH,{A},card,2026-01-31", "line 3: PatientID has a control character"),
        (f"GOOD,RMH,{A},card,2026-01-31", "line 3: the same PatientID and issuer as line 2"),
        (f'"P1,RMH,{A},card,2026-01-31', "line 3: "),
    ],
)
async def test_one_bad_line_refuses_the_file(identities: Identities, csv: Path, line: str, said: str) -> None:
    csv.write_text(f"{HEAD}BEFORE,RMH,{B},card,2026-01-31\n")
    await identities.load_csv(csv)
    csv.write_text(f"{HEAD}GOOD,RMH,{A},card,2026-01-31\n{line}\n", encoding="utf-8")
    with pytest.raises(Refused) as caught:
        await identities.load_csv(csv)
    assert caught.value.code == "E_IDENTITY"
    assert said in caught.value.why
    assert "nothing was loaded" in caught.value.why
    for value in ("P1", A, "GOOD", "8003608833357362", "31.1.2026"):
        assert value not in str(caught.value)
    assert await identities.local_ids(A) == []
    assert await identities.ihi_of(LocalId("BEFORE", "RMH")) == B


async def test_many_bad_lines_are_counted(identities: Identities, csv: Path) -> None:
    csv.write_text(HEAD + "P,RMH,1,card,2026-01-31\n" * 30)
    with pytest.raises(Refused, match=r"line 21: IHI needs 16 digits; and 10 more lines"):
        await identities.load_csv(csv)


@pytest.mark.parametrize("content", [b"", b"PatientID;issuer;IHI;source;date\n", b"\xff\xfe\x00"])
async def test_another_kind_of_file_is_refused(identities: Identities, csv: Path, content: bytes) -> None:
    csv.write_bytes(content)
    with pytest.raises(Refused, match="E_IDENTITY"):
        await identities.load_csv(csv)


async def test_a_missing_file_is_an_input_error(identities: Identities, csv: Path) -> None:
    with pytest.raises(InputOutput):
        await identities.load_csv(csv)


async def test_a_file_that_is_the_same_as_last_time_is_not_parsed_again(
    identities: Identities, csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    csv.write_text(f"{HEAD}P1,RMH,{A},card,2026-01-31\n")
    first = await identities.load_csv(csv)
    with monkeypatch.context() as patched:
        patched.setattr(identity_csv, "read", None)
        assert await identities.load_csv(csv) == first
    assert await identities.holds(csv)
    csv.write_text(f"{HEAD}P1,RMH,{B},card,2026-01-31\n")
    assert not await identities.holds(csv)
    await identities.load_csv(csv)
    assert await identities.ihi_of(LocalId("P1", "RMH")) == B


async def test_lines_whose_patient_has_no_study_are_counted(identities: Identities, csv: Path) -> None:
    assert await identities.unmatched() == 0
    csv.write_text(f"{HEAD}P1,RMH,{A},card,2026-01-31\nP2,RMH,{B},card,2026-01-31\n")
    await identities.load_csv(csv)
    assert await identities.unmatched() == 2


async def test_a_file_that_changes_while_it_is_read_is_not_taken(
    identities: Identities, csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the digest of the old lines would stand beside the new ones, and the old file would never come back."""
    before = f"{HEAD}A,DEMO,{A},me,2026-01-01\n"
    csv.write_text(before)
    read = identity_csv.read

    def read_late(path: Path) -> identity_csv.IdentityTable:
        path.write_text(f"{HEAD}B,DEMO,{A},me,2026-01-01\n")
        return read(path)

    with monkeypatch.context() as swapped:
        swapped.setattr(identity_csv, "read", read_late)
        with pytest.raises(InputOutput, match="changed while it was read"):
            await identities.load_csv(csv)
    csv.write_text(before)
    assert (await identities.load_csv(csv)).rows == 1
    assert await identities.ihi_of(LocalId("A", "DEMO")) == A


async def test_a_corrected_table_writes_only_the_lines_that_differ(identities: Identities, csv: Path) -> None:
    lines = [f"P{number:05d},RMH,{A},card,2026-01-31" for number in range(12_000)]
    csv.write_text(HEAD + "\n".join(lines))
    await identities.load_csv(csv)
    lines[7_000] = f"P07000,RMH,{B},card,2026-01-31"
    lines[11_999] = f"NEW,RMH,{B},card,2026-01-31"
    csv.write_text(HEAD + "\n".join(reversed(lines)))
    written = []

    def note(_connection: object, _cursor: object, statement: str, rows: Any, *_: object) -> None:
        if statement.startswith(("INSERT INTO identities (", "DELETE FROM identities WHERE")):
            written.append(len(rows))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        report = await identities.load_csv(csv)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert (report.rows, report.patients, report.ihis) == (12_000, 12_000, 2)
    assert written == [2, 2]
    assert await identities.local_ids(B) == [LocalId("NEW", "RMH"), LocalId("P07000", "RMH")]
    assert await identities.ihi_of(LocalId("P11999", "RMH")) is None
    assert len(await identities.local_ids(A)) == 11_998


async def test_a_table_that_another_process_has_replaced_meanwhile_is_not_mixed_with_the_new_one(
    database: str, identities: Identities, csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    csv.write_text(f"{HEAD}P1,RMH,{A},card,2026-01-31\n")
    other = tmp_path / "other.csv"
    other.write_text(f"{HEAD}P2,RMH,{B},card,2026-01-31\n")
    in_force = enrichment.lines_in_force

    async def overtaken(*of: Any) -> AsyncIterator[Any]:
        async for page in in_force(*of):
            yield page
        monkeypatch.undo()
        await identities.load_csv(other)

    monkeypatch.setattr(enrichment, "lines_in_force", overtaken)
    with pytest.raises(InputOutput, match="load it again"):
        await identities.load_csv(csv)
    assert list(await identities.local_ids(A)) == []
    assert list(await identities.local_ids(B)) == [LocalId("P2", "RMH")]


def test_a_line_that_is_not_text_is_named(csv: Path) -> None:
    good = "".join(f"P{number},RMH,{A},card,2026-01-31\n" for number in range(5_000))
    csv.write_bytes((HEAD + good).encode() + b"M\xfcller,RMH,x,card,2026-01-31\n")
    with pytest.raises(Refused, match="line 5002 is not UTF-8"):
        identity_csv.read(csv)


def test_a_bad_table_takes_no_more_memory_however_long_it_is_and_however_often_it_is_read(csv: Path) -> None:
    csv.write_text(HEAD + "P,RMH,1,card,2026-01-31\n" * 50_000)
    said: list[str] = []
    tracemalloc.start()
    try:
        for _ in range(3):
            with pytest.raises(Refused, match=r"line 21: IHI needs 16 digits; and 49980 more lines") as caught:
                identity_csv.read(csv)
            said.append(caught.value.why)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()
    assert len(set(said)) == 1


async def test_a_table_that_another_process_takes_meanwhile_is_in_force_for_both(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes of a gateway start with the same new table."""
    table = tmp_path / "identity.csv"
    table.write_text("PatientID,issuer,IHI,source,date\nP1,RMH,8003608833357361,test,2026-01-01\n")
    custodian = HpiO("8003621566684455")
    async with Store.open(database) as store:
        first, second = Identities(store, custodian), Identities(store, custodian)
        compare = enrichment.lines_in_force

        async def late(*given: Any) -> AsyncIterator[Any]:
            async for page in compare(*given):
                yield page
            monkeypatch.undo()
            await first.load_csv(table)

        monkeypatch.setattr(enrichment, "lines_in_force", late)
        assert (await second.load_csv(table)).rows == 1
        assert await second.local_ids(Ihi("8003608833357361")) == [LocalId("P1", "RMH")]
