"""Tariff programs of DL/T 645 meters, frame by frame against the simulated one.

No recorded trace of writing tariff tables exists here: what a table looks like is put together by hand from
what makers' manuals tell of the standard.
"""

from datetime import date, datetime, timedelta
from itertools import combinations
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from concentrator_sim import dlt645_tariff
from concentrator_sim.dlt645_clock import CHINA
from concentrator_sim.dlt645_meter import Dlt645Line
from concentrator_sim.meter import SimulatedMeter
from headend.cli.tariff import awaited
from headend.drivers.dlt645.tariff import Dlt645Tariffs
from headend.programs.contract import Finished, Later, Outcome, Unfit
from headend.programs.tariffs.procedure import TariffProcedure
from protocols.dlt645 import conversation as dlt
from protocols.dlt645 import special_days
from protocols.dlt645 import tariff as tables
from protocols.dlt645.control import AbnormalAnswer, Control, ErrorWord
from protocols.dlt645.identifiers import DataId
from protocols.errors import LocalProtocolError, RemoteProtocolError
from schemas.line_model import LineModel, load_line_model
from schemas.models import load_any
from schemas.programs.tariff import TariffProgram
from schemas.tariff.calendar import CalendarSpecial, compiled, meaning
from schemas.tariff.check import check
from schemas.tariff.explain import explain
from schemas.tariff.finding import Severity, errors_in
from schemas.tariff.rest_days import RestDays, split
from tests.integration.programs.tariffs import THREE, program
from tests.unit.test_tariff_procedure import Kept, Remembered, _target

#: No example is judged by how long it takes.
UNHURRIED = settings(max_examples=50, deadline=None)
NOON = datetime(2026, 11, 30, 12, 5, 7, tzinfo=CHINA)
SAID = {"password": "02000000", "operator": "11223344"}
_ALL = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def model(**said: Any) -> LineModel:
    plain = load_line_model("dlt645-2007-load-records", language="dlt645").model_dump()
    plain["tariff"] = {**SAID, **said}
    return LineModel.model_validate(plain)


def seasonal(activation: datetime | None = None) -> TariffProgram:
    """Two seasons of one kind of day each."""
    return program(
        activation,
        zone="Asia/Shanghai",
        weeks=[{"name": name, **dict.fromkeys(_ALL, day)} for name, day in (("W", "work"), ("S", "rest"))],
        special_days=[],
    )


class Talk(Dlt645Tariffs):
    """The simulated meter behind its line."""

    def __init__(self, said: LineModel, now: list[datetime]) -> None:
        self._model, self._now = said, lambda: now[0]
        self._meter: Any = SimpleNamespace(
            meter=SimulatedMeter(1, 1), serial="SIM000010000001", says=lambda data: data, hears=True
        )
        self._address = "000010000001"
        self.written: list[str] = []
        self.lacks: tuple[DataId, ...] = ()

    async def _exchange(self, request: dlt.Request) -> bytes:
        self._meter.now = self._meter.shown_s = int(self._now().timestamp())
        talk = dlt.Conversation(request)
        if request.data[:4] in [di.to_wire() for di in self.lacks]:
            raise AbnormalAnswer(Control(0xD1), bytes((ErrorWord.NO_SUCH_DATA,)))
        if request.function is dlt.Function.WRITE:
            self.written.append(request.data[:4][::-1].hex())
        came = talk.receive(Dlt645Line([self._meter]).receive(talk.start()))
        if isinstance(came, AbnormalAnswer):
            raise came
        assert isinstance(came, dlt.Answer)
        return came.data


def test_tables_by_hand() -> None:
    zones = tables.encode_zones([tables.Zone(1, 1, 2), tables.Zone(10, 15, 3)])
    assert zones[:9].hex(" ") == "02 01 01 03 15 10 03 15 10"
    assert len(zones) == 3 * 14
    assert (
        tables.encode_table([tables.Period(0, 4), tables.Period(17 * 60 + 30, 1)])[:6].hex(" ")
        == "04 00 00 01 30 17"
    )
    assert tables.encode_time(datetime(2027, 2, 1, 0, 30)).hex(" ") == "30 00 01 02 27"  # noqa: DTZ001
    assert tables.decode_status(bytes.fromhex("2000")) == (2, 1)
    with pytest.raises(LocalProtocolError, match="whole minutes"):
        tables.encode_time(datetime(2027, 2, 1, 0, 30, 5))  # noqa: DTZ001
    with pytest.raises(LocalProtocolError, match="1 to 14"):
        tables.encode_zones([])


ZONES = st.lists(
    st.builds(tables.Zone, st.integers(1, 12), st.integers(1, 31), st.integers(1, 8)),
    min_size=1, max_size=14, unique=True,
)  # fmt: skip
PERIODS = st.lists(
    st.builds(tables.Period, st.integers(0, 1439), st.integers(1, 63)), min_size=1, max_size=14, unique=True
)


@UNHURRIED
@given(ZONES, PERIODS)
def test_tables_come_back_as_they_were_written(zones: Any, periods: Any) -> None:
    assert tables.decode_zones(tables.encode_zones(zones)) == tuple(zones)
    assert tables.decode_table(tables.encode_table(periods)) == tuple(periods)


@UNHURRIED
@given(
    st.binary(max_size=45), st.sampled_from((tables.decode_zones, tables.decode_table, tables.decode_time))
)
def test_any_bytes_are_a_table_or_refused(raw: bytes, decode: Any) -> None:
    try:
        decode(raw)
    except RemoteProtocolError:
        return


async def _visit(
    talk: Talk, journal: Kept, history: Remembered, applied: TariffProgram, now: datetime
) -> Outcome:
    procedure = TariffProcedure(history, now=lambda: now)
    procedure._limits = lambda target: talk._model.tariff  # type: ignore[method-assign]
    task: Any = SimpleNamespace(
        campaign_id=1, meter_id=7, target=_target("dlt645-2007-load-records"), program=applied, now=now
    )
    return await procedure.apply(talk, task, journal)  # type: ignore[arg-type]


@pytest.mark.parametrize("at", [None, NOON.replace(second=0) + timedelta(days=40)])
async def test_the_set_that_waits_is_written_and_becomes_the_one_that_counts(at: datetime | None) -> None:
    now, applied, journal, history = [NOON], seasonal(at), Kept(), Remembered()
    talk = Talk(model(), now)
    outcome = await _visit(talk, journal, history, applied, now[0])
    assert isinstance(outcome, Later)
    # day tables 2 and 3 (1 is the old one), time zones, and both switching times
    assert talk.written == ["04020002", "04020003", "04020000", "04000106", "04000107"]
    has = await talk.read_tariff()
    assert [one.number for one in has.active.days] == [1]
    now[0] = outcome.at
    outcome = await _visit(talk, journal, history, applied, now[0])
    assert isinstance(outcome, Finished)
    has = await talk.read_tariff()
    assert [(one.month, one.day, one.week) for one in has.active.seasons] == [
        (4, 1, "day 3"),
        (10, 1, "day 2"),
    ]
    assert [(one.minute, one.selector) for one in has.active.days[0].switches] == [
        (0, 2),
        (360, 3),
        (1020, 1),
        (1260, 2),
    ]
    assert len(talk.written) == 5
    began = NOON.replace(second=0) + timedelta(minutes=2) if at is None else at
    assert history.rows[-1] == ("began", "", began.astimezone(ZoneInfo("Asia/Shanghai")))


async def test_a_wrong_password_is_refused() -> None:
    talk = Talk(model(password="02999999"), [NOON])
    with pytest.raises(AbnormalAnswer, match="wrong password"):
        await _visit(talk, Kept(), Remembered(), seasonal(), NOON)


def test_holidays_and_rest_days_by_hand() -> None:
    """Put together from tables of the standard's annexes A and C; no recorded trace of them is here."""
    assert str(special_days.holiday_id(254)) == "04-03-00-FE"
    holiday = special_days.Holiday(2027, 2, 6, 3)
    assert special_days.encode_holiday(holiday).hex(" ") == "03 06 02 27"
    assert special_days.decode_holiday(bytes.fromhex("03060227")) == holiday
    assert special_days.encode_count(254).hex(" ") == "54 02"
    assert special_days.decode_count(b"\x12") == 12
    assert special_days.encode_rest_days((5, 6)).hex() == "3e"  # Sunday is bit 0, Saturday bit 6
    assert special_days.encode_rest_days(()).hex() == "7f"
    assert special_days.decode_rest_days(b"\xbf") == (5,)  # bit 7 is reserved
    for unset in ("00000000", "ffffffff", "99999999"):
        assert special_days.decode_holiday(bytes.fromhex(unset)) is None
    for wrong in ("03300227", "09060227", "030602", "0306021f"):
        with pytest.raises(RemoteProtocolError):
            special_days.decode_holiday(bytes.fromhex(wrong))
    for data, decode in (
        (b"\x55\x02", special_days.decode_count),
        (b"", special_days.decode_rest_days),
        (b"\x09", special_days.decode_table_number),
    ):
        with pytest.raises(RemoteProtocolError):
            decode(data)
    with pytest.raises(LocalProtocolError, match="two digits"):
        special_days.encode_holiday(holiday._replace(year=1999))
    with pytest.raises(LocalProtocolError, match="up to 254"):
        special_days.encode_count(255)


HOLIDAYS = st.builds(
    lambda when, table: special_days.Holiday(when.year, when.month, when.day, table),
    st.dates(date(2000, 1, 1), date(2099, 12, 31)), st.integers(1, 8),
)  # fmt: skip


@UNHURRIED
@given(HOLIDAYS, st.integers(0, 254), st.frozensets(st.integers(0, 6)))
def test_holidays_and_rest_days_come_back_as_they_were_written(one: Any, count: int, days: Any) -> None:
    assert special_days.decode_holiday(special_days.encode_holiday(one)) == one
    assert special_days.decode_count(special_days.encode_count(count)) == count
    assert special_days.decode_rest_days(special_days.encode_rest_days(days)) == tuple(sorted(days))


DAYS_OF = st.sampled_from("abc")


@UNHURRIED
@given(st.lists(st.tuples(*[DAYS_OF] * 7), min_size=1, max_size=3))
def test_weeks_are_rest_days_where_anything_is(weeks: list[tuple[str, ...]]) -> None:
    """Against all that rest days can be."""
    possible = [
        (days, rest)
        for size in range(7)
        for days in combinations(range(7), size)
        for rest in ("abc" if days else "-")
        if all({week[n] for n in days} <= {rest} for week in weeks)
        if all(len({one for n, one in enumerate(week) if n not in days}) == 1 for week in weeks)
    ]
    found = split(weeks)
    if found is None:
        assert possible == []
        return
    assert len(found.weekdays) == min(len(days) for days, _ in possible)
    for week, own in zip(weeks, found.own, strict=True):
        assert week == tuple(found.rest if n in found.weekdays else own for n in range(7))


def chinese(activation: datetime | None = None, **changes: Any) -> TariffProgram:
    """Two seasons; Saturday and Sunday are rest days, and two dates public holidays."""
    holidays = [{"date": "2026-12-02", "day": "rest"}, {"date": "2027-02-08", "day": "fest"}]
    fest = {"name": "fest", "switches": [{"from": "00:00", "period": "peak"}]}
    return program(
        activation,
        **{"zone": "Asia/Shanghai", "days": [*THREE["days"], fest], "special_days": holidays, **changes},
    )


@pytest.mark.parametrize("at", [None, NOON.replace(second=0) + timedelta(days=40)])
async def test_holidays_and_rest_days_are_written_read_back_and_followed(at: datetime | None) -> None:
    now, applied, journal, history = [NOON], chinese(at), Kept(), Remembered()
    talk = Talk(model(), now)
    outcome = await _visit(talk, journal, history, applied, now[0])
    assert isinstance(outcome, Later)
    has = await talk.read_tariff()
    assert awaited(has.activates_at, now[0]) == f"is activated at {has.activates_at:%F %T}Z"
    written = ["04020002", "04020003", "04020004", "04020000"]
    # the second holiday is behind the activation; the first would be before it
    early = [] if at is None else ["04030001", "04000205"]
    assert talk.written == [*written, *early, "04000106", "04000107"]
    talk.written.clear()
    now[0] = outcome.at
    outcome = await _visit(talk, journal, history, applied, now[0])
    assert isinstance(outcome, Finished)
    assert talk.written == ["04030001", "04030002", "04000205", "04000802", "04000801"]
    assert outcome.proof["rest_days"] == [[5, 6], 3]
    has = await talk.read_tariff()
    assert awaited(has.activates_at, now[0]) == "is not activated by itself"  # it keeps the time that is past
    assert has.specials == (CalendarSpecial(2026, 12, 2, 3), CalendarSpecial(2027, 2, 8, 4))
    assert has.rest == RestDays((5, 6), 3)
    again = await _visit(talk, Kept(), Remembered(), applied, now[0])
    assert isinstance(again, Finished)
    assert not again.changed
    # eight days, a weekend and a holiday in them
    since = datetime(2027, 2, 4, 0, 0, tzinfo=CHINA)
    expected = dict.fromkeys((1, 2, 3, 4), 0)
    consumption = talk._meter.meter.consumption
    for n in range(8 * 48):
        begin, end = (since + timedelta(minutes=30 * (n + k)) for k in (0, 1))
        used = consumption.at(0, int(end.timestamp())) - consumption.at(0, int(begin.timestamp()))
        expected[explain(applied.document, begin).tariff] += used
    shown = []
    for moment in (since, since + timedelta(days=8)):
        talk._meter.now = talk._meter.shown_s = int(moment.timestamp())
        shown.append(dlt645_tariff.registers(talk._meter))
    assert [b - a for a, b in zip(*shown, strict=True)] == list(expected.values())
    assert min(expected[n] for n in (1, 2, 3)) > 0


def test_weeks_mean_the_same_as_rest_days() -> None:
    document, limits = chinese().document, model().tariff
    assert limits is not None
    weeks = compiled(document, limits, {"work": 1, "rest": 2, "fest": 3})
    stored = Talk(model(), [NOON]).tariff_as_stored(weeks)
    assert stored.rest == RestDays((5, 6), 2)
    assert meaning(*stored) == meaning(*weeks)
    assert meaning(*stored._replace(rest=RestDays((6,), 2))) != meaning(*weeks)


async def test_rest_days_that_are_no_more_are_taken_back() -> None:
    now = [NOON]
    talk = Talk(model(), now)
    for applied in (chinese(), seasonal()):
        journal = Kept()
        outcome = await _visit(talk, journal, Remembered(), applied, now[0])
        while isinstance(outcome, Later):
            now[0] = outcome.at
            outcome = await _visit(talk, journal, Remembered(), applied, now[0])
        assert isinstance(outcome, Finished)
    has = await talk.read_tariff()
    assert (has.rest, has.specials) == (None, ())
    assert talk.written[-2:] == ["04000205", "04000801"]


async def test_a_meter_without_holidays_and_rest_days_is_unfit_for_them() -> None:
    talk = Talk(model(), [NOON])
    talk.lacks = (special_days.COUNT, special_days.REST_WORD)
    outcome = await _visit(talk, Kept(), Remembered(), chinese(), NOON)
    assert isinstance(outcome, Unfit)
    assert "no public holidays (04-00-02-05)" in outcome.reason
    assert "no rest days (04-00-08-01)" in outcome.reason
    assert talk.written == []
    outcome = await _visit(talk, Kept(), Remembered(), seasonal(), NOON)
    assert isinstance(outcome, Later)


def test_what_is_more_than_rest_days_and_holidays_is_refused_at_its_line() -> None:
    limits = model().tariff
    told = [(one.place, one.message) for one in check(program().document, limits=limits)]
    assert [place for place, _ in told] == ["special_days[0].date"]
    assert "12-25 of each year: the meter keeps special days with their year" in told[0][1]
    fine = chinese(NOON + timedelta(days=1))
    assert not check(fine.document, limits=limits)
    saturday = chinese(NOON.replace(day=5, month=12))
    (found,) = check(saturday.document, limits=limits)
    assert (found.place, found.severity) == ("activation", Severity.WARNING)
    assert "a saturday is a rest day" in found.message
    three = {**THREE["weeks"][1], "saturday": "work", "sunday": "fest"}
    (found,) = errors_in(check(chinese(weeks=[THREE["weeks"][0], three]).document, limits=limits))
    assert found.place == "weeks[1]"
    old = chinese(special_days=[{"date": "1999-12-31", "day": "rest"}])
    assert "2000 to 2099" in errors_in(check(old.document, limits=limits))[0].message
    assert not check(seasonal().document, limits=limits)
    assert "02000000" not in repr(limits)
    assert getattr(load_any("dlt645-2007-load-records"), "tariff", 0) is None  # no password, no programs
