"""Tariff documents: every mistake with its line and all at once, and what a right one says."""

from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from headend.cli.tariff_picture import svg, terminal
from schemas.model.tariff import TariffLimits
from schemas.program import PROGRAM, digest
from schemas.programs.tariff import TariffProgram
from schemas.tariff.document import TariffDocument
from schemas.tariff.explain import explain
from schemas.tariff.finding import Severity
from schemas.tariff.reading import read, read_plain
from tests.integration.programs.tariffs import THREE, program

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
LIMITS = TariffLimits(selectors={1: 1, 2: 2, 3: 3})
WRONG = """\
name = "HTNT27"
zone = "Europe/Berlin"
activation = 2026-11-01T00:00:00

[periods]
peak = 1
off-peak = 2
half = 3

[[days]]
name = "work"
switches = [
  { from = "00:00", period = "off-peak" },
  { from = "06:00", period = "peak" }, # [[days]]
  { from = "06:00", period = "off-peak" },
  { from = "25:00", period = "night" },
]

[[days]]
name = "sunday"
switches = [{ from = "01:00", period = "off-peak" }]

[[weeks]]
name = "w"
monday = "work"
tuesday = "work"
wednesday = "work"
thursday = "work"
friday = "work"
saturday = "sunda"
sunday = "sunday"
funday = "sunday"

[[seasons]]
name = "s"
from = "01-01"
week = "w"

[[seasons]]
name = "t"
from = "01-01"
week = "v"

[[special_days]]
date = 2026-12-25
weekday = "sunday"
day = "sunday"

[[special_days]]
date = "12-25"
day = "sunday"
"""


def test_everything_that_is_wrong_is_told_at_once_with_its_line() -> None:
    found = read(WRONG, now=NOW)
    assert not found.is_right
    told = [(one.line, one.message.split(":")[0]) for one in found.findings if one.severity is Severity.ERROR]
    assert told == [
        (3, "2026-11-01T00"),
        (15, "overlap"),
        (16, "'night' is none of the periods"),
        (16, "'25"),
        (21, "gap"),
        (30, "'sunda' is none of the days"),
        (32, "is not known here"),
        (41, "unreachable"),
        (42, "'v' is none of the weeks"),
        (46, "2026-12-25 is a friday, not a sunday"),
        (50, "overlap"),
    ]
    assert [one.line for one in found.findings if one.severity is Severity.WARNING] == [8]


def test_the_document_of_the_readme_is_right() -> None:
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text("utf-8")
    text = readme.split("## Time-of-use programs")[1].split("```toml\n")[1].split("```")[0]
    found = read(text, limits=LIMITS, now=NOW)
    assert found.is_right
    assert found.findings == ()


def _changed(path: tuple[str | int, ...], value: Any) -> dict[str, Any]:
    whole = deepcopy(THREE)
    at: Any = whole
    for one in path[:-1]:
        at = at[one]
    if value is None:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return whole


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("days", 0, "switches", 1, "from"), "24:00", "no time of day"),
        (("days", 0, "switches", 1, "from"), "6:00", "no time of day"),
        (("days", 0, "switches"), [], "say what counts from 00:00 on"),
        (("days", 1, "name"), "work", "there twice"),
        (("seasons", 0, "from"), "02-30", "no day of a year"),
        (("seasons", 1, "name"), "winter", "there twice"),
        (("special_days", 0, "date"), "2027-02-29", "no date"),
        (("special_days", 0, "weekday"), "friday", "some years only"),
        (("special_days", 1, "weekday"), "freitag", "no day of the week"),
        (("special_days", 0, "day"), "feast", "none of the days"),
        (("zone",), "Europe/Atlantis", "no time zone"),
        (("activation",), "soon", "neither 'at once' nor a time"),
        (("activation",), "2026-11-28T12:59:00", "is past"),
        (("activation",), "2027-03-28T02:30:00", "does not exist"),
        (("activation",), "2027-10-31T02:30:00", "exists twice"),
        (("periods", "peak"), 0, "greater than or equal to 1"),
        (("periods", "peak"), 4, "the meter has no tariff 4"),
        (("name",), "THREE PERIODS", "longer than the 8 characters"),
        (("name",), "DREIGÄNG", "printable ASCII"),
        (("weeks",), None, "is missing"),
    ],
)
def test_each_mistake_is_refused_at_its_place(path: tuple[str | int, ...], value: Any, message: str) -> None:
    found = read_plain(_changed(path, value), limits=LIMITS, now=NOW)
    assert not found.is_right
    (told,) = [one for one in found.findings if one.severity is Severity.ERROR and message in one.message]
    assert told.path[: len(path)] == path


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"seasons": 1}, "too many: 2 seasons"),
        ({"weeks": 1}, "too many: 2 weeks"),
        ({"days": 1}, "too many: 2 days"),
        ({"switches": 3}, "too many: 4 switches in 'work'"),
        ({"special_days": 1}, "too many: 2 special_days"),
        ({"name_length": 4}, "longer than the 4 characters"),
        ({"one_day_weeks": True}, "all seven days must be the same"),
    ],
)
def test_what_a_model_does_not_take_is_told(limits: dict[str, Any], message: str) -> None:
    assert read_plain(THREE, limits=LIMITS).is_right
    found = read_plain(THREE, limits=LIMITS.model_copy(update=limits))
    assert any(message in one.message for one in found.findings)
    assert not found.is_right


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{\n "name": 3,\n', 3),
        ('name = "x"\nzone = 06:\n', 2),
        ("[" * 5000, None),
        *(('{"a":' + "[" * deep + "]" * deep + "}", None) for deep in (600, 900, 5000)),
        ("x" * (1 << 20) + "x", None),
    ],
)
def test_what_is_no_document_at_all_is_told(text: str, line: int | None) -> None:
    found = read(text)
    assert found.document is None
    assert len(found.findings) == 1
    if line is not None:
        assert found.findings[0].line == line


def test_a_program_is_always_right_and_has_one_digest() -> None:
    with pytest.raises(ValidationError, match="25:00"):
        TariffProgram.model_validate(
            {"kind": "tariff", "document": _changed(("days", 0, "switches", 3, "from"), "25:00")}
        )
    again = PROGRAM.validate_python(PROGRAM.dump_python(program(), mode="json"))
    assert digest(again) == digest(program())
    assert digest(program(name="OTHER")) != digest(program())


@pytest.mark.parametrize(
    ("at", "period", "following", "why"),
    [
        ("2026-11-30T18:30", "peak", "2026-11-30T21:00:00+01:00", "season 'winter'"),
        ("2026-11-28T18:30", "off-peak", "2026-11-30T06:00:00+01:00", "is a saturday"),
        ("2026-12-25T18:30", "off-peak", "2026-12-28T06:00:00+01:00", "is a special day"),
        ("2026-07-01T18:30", "off-peak", "2026-10-01T06:00:00+02:00", "season 'summer'"),
        ("2026-11-30T17:30:00+00:00", "peak", "2026-11-30T21:00:00+01:00", "tariff 1"),
        ("2027-03-26T12:00", "off-peak", "2027-03-29T06:00:00+02:00", "special day"),
        ("2026-01-01T05:59", "off-peak", "2026-01-01T06:00:00+01:00", "began on 10-01"),
    ],
)
def test_what_counts_is_explained(at: str, period: str, following: str, why: str) -> None:
    told = explain(TariffDocument.model_validate(THREE), datetime.fromisoformat(at))
    assert told.period == period
    assert told.next_at is not None
    assert told.next_at.isoformat() == following
    assert why in "\n".join(told.why)


def test_a_picture_shows_each_date_and_each_period(tmp_path: Path) -> None:
    from xml.etree import ElementTree as ET

    document = TariffDocument.model_validate(THREE)
    root = ET.fromstring(svg(document, 2028))  # noqa: S314 - made by ourselves
    titles = [one.text or "" for one in root.iter("{http://www.w3.org/2000/svg}title")]
    dates = [one for one in titles if one.startswith("2028-")]
    assert len(dates) == 366
    assert "2028-12-25 Monday: rest, season winter, special day" in dates
    assert {"00:00 off-peak", "06:00 half-peak", "17:00 peak", "21:00 off-peak"} <= set(titles)
    lines = terminal(document, 2027).plain.splitlines()
    (december,) = [line for line in lines if line.startswith("Dec")]
    assert december.split()[1:5] == ["A", "A", "A", "B"]
    assert december.split()[25] == "B*"
    (work,) = [line for line in lines if " work " in line]
    assert work.endswith("b" * 12 + "c" * 22 + "a" * 8 + "b" * 6)
