"""Tariff documents, the lines of their texts, calendars, and the interface classes that carry them."""

import json
import tomllib
from datetime import UTC, date, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.dlms import axdr
from protocols.dlms.cosem import activity_calendar as calendars
from protocols.dlms.cosem import register_activation as activation
from protocols.dlms.cosem import script_table, special_days
from protocols.dlms.cosem_time import CosemDate, CosemDateTime, CosemTime
from protocols.dlms.obis import Obis
from protocols.errors import RemoteProtocolError
from schemas.model.tariff import TariffLimits
from schemas.tariff.calendar import (
    Calendar,
    CalendarDay,
    CalendarSpecial,
    CalendarSwitch,
    Compiled,
    compiled,
    day_numbers,
    differences,
    meaning,
)
from schemas.tariff.document import TariffDocument
from schemas.tariff.explain import explain, rule_of
from schemas.tariff.locate import json_lines, toml_lines
from tests.integration.programs.tariffs import THREE

#: No example is judged by how long it takes.
UNHURRIED = settings(max_examples=50, deadline=None)
OCTETS = st.binary(max_size=16)
TIME = st.builds(
    CosemTime, st.integers(0, 23), st.integers(0, 59), st.integers(0, 59) | st.none(), st.none() | st.just(0)
)
DATE = st.builds(
    CosemDate, st.integers(2000, 2100) | st.none(), st.integers(1, 12), st.integers(1, 31), st.none()
)
OBIS = st.binary(min_size=6, max_size=6).map(Obis.from_bytes)
U8, U16 = st.integers(0, 0xFF), st.integers(0, 0xFFFF)
SEASONS = st.lists(
    st.builds(calendars.SeasonProfile, OCTETS, st.builds(CosemDateTime, DATE, TIME), OCTETS), max_size=4
)
WEEKS = st.lists(st.builds(calendars.WeekProfile, OCTETS, st.tuples(*[U8] * 7)), max_size=4)
DAYS = st.lists(
    st.builds(
        calendars.DayProfile,
        U8,
        st.lists(st.builds(calendars.DayAction, TIME, OBIS, U16), max_size=5).map(tuple),
    ),
    max_size=4,
)
SPECIALS = st.lists(st.builds(special_days.SpecialDayEntry, U16, DATE, U8), max_size=6)
SCRIPTS = st.lists(
    st.builds(
        script_table.Script,
        U16,
        st.lists(
            st.builds(
                script_table.ScriptAction,
                st.sampled_from(script_table.Service),
                U16,
                OBIS,
                st.integers(0, 127),
                OCTETS.map(axdr.octets),
            ),
            max_size=3,
        ).map(tuple),
    ),
    max_size=4,
)
MASKS = st.lists(st.builds(activation.Mask, OCTETS, st.lists(U8, max_size=5).map(tuple)), max_size=4)
ASSIGNED = st.lists(st.builds(activation.Assigned, U16, OBIS), max_size=5)


def _through(data: axdr.Data) -> axdr.Data:
    return axdr.decode_exact(axdr.encode(data))


@UNHURRIED
@given(SEASONS, WEEKS, DAYS, SPECIALS)
def test_calendars_come_back_as_they_were_written(seasons: Any, weeks: Any, days: Any, specials: Any) -> None:
    assert calendars.seasons(_through(calendars.table(seasons))) == tuple(seasons)
    assert calendars.weeks(_through(calendars.table(weeks))) == tuple(weeks)
    assert calendars.days(_through(calendars.table(days))) == tuple(days)
    assert special_days.special_days(_through(special_days.entries(specials))) == tuple(specials)


@UNHURRIED
@given(SCRIPTS, MASKS, ASSIGNED)
def test_scripts_and_masks_come_back_as_they_were_written(scripts: Any, masks: Any, assigned: Any) -> None:
    assert script_table.scripts(_through(axdr.array(one.encode() for one in scripts))) == tuple(scripts)
    assert activation.masks(_through(axdr.array(one.encode() for one in masks))) == tuple(masks)
    assert activation.assignment(_through(axdr.array(one.encode() for one in assigned))) == tuple(assigned)


_DECODERS = (
    calendars.seasons, calendars.weeks, calendars.days, special_days.special_days, script_table.scripts,
    activation.masks, activation.assignment,
)  # fmt: skip


@UNHURRIED
@given(st.sampled_from(_DECODERS), st.binary(max_size=80))
def test_any_bytes_are_tables_or_refused(decode: Any, raw: bytes) -> None:
    for text in (raw, b"\x01\x01\x02" + raw):
        try:
            decode(axdr.decode_exact(text))
        except RemoteProtocolError:
            continue


# ---- documents ------------------------------------------------------------------------------------------

NAME = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=8)


def _paths(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    out = [path] if path else []
    if isinstance(value, dict):
        for key, inner in value.items():
            out += _paths(inner, (*path, key))
    elif isinstance(value, list):
        for n, inner in enumerate(value):
            out += _paths(inner, (*path, n))
    return out


TEXT = st.text(st.characters(codec="ascii", exclude_categories=("Cc",)), max_size=12)
SCALAR = st.integers(-9, 9) | st.booleans() | TEXT
VALUES = st.recursive(
    SCALAR,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAME, inner, max_size=3),
    max_leaves=12,
)


@UNHURRIED
@given(st.dictionaries(NAME, VALUES, max_size=4), st.sampled_from((None, 0, 2)))
def test_every_path_of_a_json_text_has_a_line(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    lines = json_lines(text)
    assert set(_paths(value)) <= set(lines)
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())
    if indent is not None:
        rows = text.split("\n")
        for path, line in lines.items():
            if path and isinstance(path[-1], str):
                assert json.dumps(path[-1]) in rows[line - 1]


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list):
        return "[ # not ]\n" + "".join(f"  {_toml(one)},\n" for one in value) + "]"
    return json.dumps(value)


@UNHURRIED
@given(
    st.dictionaries(NAME, SCALAR, max_size=3),
    st.dictionaries(
        NAME, st.lists(st.dictionaries(NAME, VALUES, max_size=3), min_size=1, max_size=3), max_size=3
    ),
)
def test_every_path_of_a_toml_text_has_a_line(top: Any, tables: Any) -> None:
    top = {key: one for key, one in top.items() if key not in tables}
    text = "# head [x]\n" + "".join(f"{key} = {_toml(one)}\n" for key, one in top.items())
    wanted: dict[tuple[str | int, ...], int] = {}
    for name, several in tables.items():
        for n, one in enumerate(several):
            text += "\n"
            wanted[(name, n)] = text.count("\n") + 1
            text += f"[[{name}]]\n"
            for key, value in one.items():
                wanted[(name, n, key)] = text.count("\n") + 1
                text += f"{key} = {_toml(value)} # '\n"
    assert tomllib.loads(text) == {**top, **tables}
    lines = toml_lines(text)
    assert set(_paths({**top, **tables})) <= set(lines)
    assert {path: lines[path] for path in wanted} == wanted


DOCUMENT = TariffDocument.model_validate(THREE)


@UNHURRIED
@given(st.frozensets(st.integers(1, 40), max_size=40), st.integers(2, 40))
def test_day_numbers_are_apart_from_the_old_ones_where_there_are_enough(
    taken: frozenset[int], last: int
) -> None:
    numbers = day_numbers(DOCUMENT, TariffLimits(day_ids=(1, last)), taken)
    assert len(set(numbers.values())) == len(DOCUMENT.days)
    assert all(1 <= number <= last for number in numbers.values())
    free = [number for number in range(1, last + 1) if number not in taken]
    assert taken.isdisjoint(numbers.values()) or len(free) < len(DOCUMENT.days)


LIMITS = TariffLimits(selectors={1: 1, 2: 2, 3: 3})


def _compiled(first: int) -> Compiled:
    return compiled(DOCUMENT, LIMITS, {"work": first, "rest": first + 1})


@UNHURRIED
@given(st.integers(1, 200), st.integers(1, 200))
def test_a_calendar_means_the_same_whatever_its_days_are_called(one: int, other: int) -> None:
    first, second = _compiled(one), _compiled(other)
    assert meaning(*first) == meaning(*second)
    assert bool(differences(first.calendar, second.calendar)) == (one != other)


@UNHURRIED
@given(st.data())
def test_any_change_of_a_calendar_is_a_difference(data: st.DataObject) -> None:
    whole = _compiled(1).calendar
    n = data.draw(st.integers(0, len(whole.days) - 1))
    day = whole.days[n]
    m = data.draw(st.integers(0, len(day.switches) - 1))
    minute, selector = data.draw(st.integers(0, 1439)), data.draw(st.integers(1, 4))
    switches = list(day.switches)
    switches[m] = CalendarSwitch(minute, selector)
    days = list(whole.days)
    days[n] = CalendarDay(day.number, tuple(switches))
    changed = Calendar(whole.name, whole.seasons, whole.weeks, tuple(days))
    assert bool(differences(whole, changed)) == (sorted(switches) != sorted(day.switches))
    assert Calendar.of_json(json.loads(json.dumps(changed.as_json()))) == changed


@settings(max_examples=30, deadline=None)
@given(st.dates(date(2026, 1, 1), date(2028, 12, 31)), st.integers(0, 1439))
def test_what_is_explained_holds_until_the_next_switching(day: date, minute: int) -> None:
    """The next switching is a change, and nothing changes before it: looked at at eight moments."""
    moment = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(minutes=minute)
    told = explain(DOCUMENT, moment)
    assert rule_of(DOCUMENT, told.at.date()).day.name == told.rule.day.name
    assert told.next_at is not None
    assert told.next_at > moment
    assert explain(DOCUMENT, told.next_at).period == told.next_period != told.period
    for eighth in range(8):
        within = moment + (told.next_at - moment) * eighth / 8
        assert explain(DOCUMENT, within).period == told.period


@UNHURRIED
@given(
    st.integers(2026, 2028) | st.none(), st.integers(1, 12), st.integers(1, 31),
    st.dates(date(2026, 1, 1), date(2027, 12, 31)), st.integers(0, 400),
)  # fmt: skip
def test_a_special_day_happens_where_one_of_the_dates_is_it(
    year: int | None, month: int, day: int, since: date, length: int
) -> None:
    special = CalendarSpecial(year, month, day, 1)
    dates = [since + timedelta(days=n) for n in range(length)]
    by_hand = any((one.month, one.day) == (month, day) and year in (None, one.year) for one in dates)
    assert special.happens(since, since + timedelta(days=length)) == by_hand
