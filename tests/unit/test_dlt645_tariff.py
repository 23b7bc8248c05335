"""Tariff programs of DL/T 645 meters, frame by frame against the simulated one.

No recorded trace of writing tariff tables exists here: what a table looks like is put together by hand from
what makers' manuals tell of the standard.
"""

from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from concentrator_sim.dlt645_clock import CHINA
from concentrator_sim.dlt645_meter import Dlt645Line
from concentrator_sim.meter import SimulatedMeter
from headend.drivers.dlt645.tariff import Dlt645Tariffs
from headend.programs.contract import Finished, Later, Outcome
from headend.programs.tariffs.procedure import TariffProcedure
from protocols.dlt645 import conversation as dlt
from protocols.dlt645 import tariff as tables
from protocols.dlt645.control import AbnormalAnswer
from protocols.errors import LocalProtocolError, RemoteProtocolError
from schemas.line_model import LineModel, load_line_model
from schemas.models import load_any
from schemas.programs.tariff import TariffProgram
from tests.integration.programs.tariffs import program
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

    async def _exchange(self, request: dlt.Request) -> bytes:
        self._meter.now = self._meter.shown_s = int(self._now().timestamp())
        talk = dlt.Conversation(request)
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


def test_weeks_and_special_days_are_not_for_these_meters() -> None:
    from schemas.tariff.check import check

    limits = model().tariff
    told = [one.message for one in check(program().document, limits=limits)]
    assert any("knows no weeks" in one for one in told)
    assert any("special_days" in one for one in told)
    assert not check(seasonal().document, limits=limits)
    assert "02000000" not in repr(limits)
    assert getattr(load_any("dlt645-2007-load-records"), "tariff", 0) is None  # no password, no programs
