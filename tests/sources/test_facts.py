"""Header values as the field writes them become valid facts or none (spec/fhir 3)."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest

from mdg.errors import Refused
from mdg.sources import facts

MELBOURNE = ZoneInfo("Australia/Melbourne")


@pytest.mark.parametrize(
    ("day", "clock", "offset", "expected"),
    [
        ("20240115", "093000", None, "2024-01-15T09:30:00+11:00"),  # summer time
        ("20240715", "093000", None, "2024-07-15T09:30:00+10:00"),
        ("20240715", "093000", "+0930", "2024-07-15T09:30:00+09:30"),
        ("20240715", "093000", "-0330", "2024-07-15T09:30:00-03:30"),
        ("20240715", "093000", "+1500", "2024-07-15T09:30:00+10:00"),  # no such offset
        ("20240715", "093000", "Z", "2024-07-15T09:30:00+10:00"),
        ("20240715", "0930", None, "2024-07-15T09:30:00+10:00"),
        ("20240715", "09", None, "2024-07-15T09:00:00+10:00"),
        ("20240715", "093015.123456", None, "2024-07-15T09:30:15+10:00"),
        ("20240715", "235960", None, "2024-07-15T23:59:59+10:00"),
        ("2024.07.15", "09:30:15", None, "2024-07-15T09:30:15+10:00"),
        ("20240715", None, None, "2024-07-15"),
        ("20240715", "250000", None, "2024-07-15"),
        ("20240715", "noon", None, "2024-07-15"),
        ("18800101", "093000", None, "1880-01-01"),  # local mean time
        ("00000000", "093000", None, None),
        ("20240230", "093000", None, None),
        (None, "093000", "+1000", None),
    ],
)
def test_started(day: str | None, clock: str | None, offset: str | None, expected: str | None) -> None:
    row = {"StudyDate": day, "StudyTime": clock, "TimezoneOffsetFromUTC": offset}
    assert facts.started([{name: value for name, value in row.items() if value is not None}], MELBOURNE) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [("7", 7), ("0", 0), ("+3", 3), ("-1", None), ("1.5", None), ("x", None), (None, None), ("2147483648", None)],
)
def test_series_number(value: str | None, expected: int | None) -> None:
    assert facts.series_number(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("CT", "CT"),
        (None, "OT"),
        ("ct", "OT"),
        ("C\\T", "OT"),
        ("XYZZY", "OT"),
        ("C", "OT"),
        ("RTSTRUCT", "RTSTRUCT"),
        ("DS", "DS"),
        ("A" * 17, "OT"),
        ("SR", "SR"),
    ],
)
def test_modality(value: str | None, expected: str) -> None:
    assert facts.modality(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Doe^Jane^Ann^Dr^PhD", ("Doe", ("Jane", "Ann"))),
        ("Doe", ("Doe", ())),
        ("Do\x00e^Ja\x1bne", ("Do e", ("Ja ne",))),
        ("=山田^太郎", ("山田", ("太郎",))),
        ("^Jane", (None, ("Jane",))),
        ("^^^^", (None, ())),
        (None, (None, ())),
    ],
)
def test_name(value: str | None, expected: tuple[str | None, tuple[str, ...]]) -> None:
    found = facts.name(value)
    assert (found.family, found.given) == expected


def test_prefix_and_suffix_of_a_name_are_read() -> None:
    assert facts.name("Lovelace^Ada^King^Countess^PhD") == ("Lovelace", ("Ada", "King"), "Countess", "PhD")


def test_date_time_and_offset_of_a_study_are_of_one_instance() -> None:
    dated = {"StudyDate": "20190611"}
    timed = {"StudyDate": "20190612", "StudyTime": "101010", "TimezoneOffsetFromUTC": "+0930"}
    early = {"StudyDate": "20190612", "StudyTime": "090000"}
    assert facts.started([dated, timed], MELBOURNE) == "2019-06-11"
    assert facts.started([timed, early], MELBOURNE) == "2019-06-12T09:00:00+10:00"
    assert facts.started([{"StudyDate": "20190612"}, timed], MELBOURNE) == "2019-06-12T10:10:10+09:30"
    assert facts.started([{"StudyTime": "080000"}, timed], MELBOURNE) == "2019-06-12T10:10:10+09:30"


def test_sex_laterality_and_birth_date_know_only_their_codes() -> None:
    assert [facts.sex(value) for value in ("M", "F", "O", "m", "U", None)] == ["M", "F", "O", None, None, None]
    assert [facts.laterality(value) for value in ("R", "L", "B", "U", None)] == ["R", "L", "B", None, None]
    assert str(facts.day("19700131")) == "1970-01-31"
    assert facts.day("1970") is None


def test_text_has_no_control_characters_and_an_end() -> None:
    assert facts.text(" a\x00b\tc\x7f ") == "a b c"
    assert facts.text("\x00 \n") is None
    assert facts.text("x" * 5000) == "x" * facts.LONGEST


@pytest.mark.parametrize("value", ["1.2.3", "0.1", "1.2.0.3", "2." + "9" * 62])
def test_a_valid_uid_is_kept(value: str) -> None:
    assert facts.uid(value, "StudyInstanceUID", "a.dcm") == value


@pytest.mark.parametrize("value", [None, "", "1", "1.02", "1..2", ".1", "1.", "1.2a", "1.2 ", "2." + "9" * 63, "1.٣"])
def test_an_invalid_uid_is_refused_without_its_value(value: str | None) -> None:
    with pytest.raises(Refused) as caught:
        facts.uid(value, "StudyInstanceUID", "a.dcm")
    assert caught.value.code == "E_DICOM"
    assert caught.value.part == "a.dcm"
    assert "StudyInstanceUID" in caught.value.why
