"""A head-end that dies at any moment of a program: the meter ends as it shall be, and no step with an effect
is done twice; where the meter cannot tell whether it took effect, a person is asked. Firmware and keys have
files of their own."""

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from concentrator_sim.breaker import Breaker
from concentrator_sim.calendar import TariffBook
from concentrator_sim.limiter import Limiter
from concentrator_sim.line_station import LineStation
from concentrator_sim.meter_clock import MeterClock
from concentrator_sim.parameters import ALARM_FILTERS, Parameters
from headend.drivers.dlms.commands import clock as clock_commands
from headend.programs.clocks.procedure import ClockProcedure
from headend.store.campaign_meters import CampaignMeter
from headend.switching.limiting import LimitProcedure
from schemas.campaign import MeterProgress
from schemas.programs.clock import ClockProgram
from schemas.programs.parameters import ParametersProgram
from schemas.programs.switch import LimitProgram, SwitchAction, SwitchProgram, SwitchReason
from tests.integration.programs import tariffs
from tests.integration.programs import test_switching_lines as switching_lines
from tests.integration.programs.dying import Mortal, World, forget, sweep
from tests.integration.programs.field import works

MANY = {"disconnections_per_hour": 10_000}


async def test_a_customer_is_switched_off_once(embedded_database: Any) -> None:
    program = SwitchProgram(action=SwitchAction.DISCONNECT, reason=SwitchReason.ARREARS)
    async with works(embedded_database.dsn, meters=1, working=False, settings=MANY) as here:
        meter = here.simulated()

        def connected() -> SwitchProgram:
            forget(meter, Breaker)
            return program

        def ended(found: CampaignMeter) -> None:
            breaker = meter.part(Breaker)
            assert (found.state, breaker.output, breaker.moves) == (MeterProgress.DONE, False, 1)
            assert found.proof["before"]["output"] is True
            assert found.proof["after"]["output"] is False

        assert await sweep(await Mortal.at(here, meter.serial), connected, ended, stride=5) > 20


async def test_a_customer_on_a_line_is_switched_off_once(embedded_database: Any, tmp_path: Path) -> None:
    """DL/T 645: the command is told to the relay, and its state is read."""
    settings = {**switching_lines.house(tmp_path, "02000000"), **MANY}
    line = [{"kind": "dlt645_tcp", "meters": 1}]
    async with works(
        embedded_database.dsn, meters=0, stations=line, working=False, settings=settings
    ) as here:
        (station,) = here.field.stations
        assert isinstance(station, LineStation)
        (asset_id,) = here.meters
        (served,) = station._meters
        program = SwitchProgram(action=SwitchAction.DISCONNECT, reason=SwitchReason.ARREARS)

        def connected() -> SwitchProgram:
            forget(served.meter, Breaker)
            return program

        def ended(found: CampaignMeter) -> None:
            breaker = served.meter.part(Breaker)
            assert (found.state, breaker.output, breaker.moves) == (MeterProgress.DONE, False, 1)

        assert await sweep(await Mortal.at(here, asset_id), connected, ended, stride=5) > 20


async def test_a_limit_for_a_time_begins_when_it_was_first_sent(embedded_database: Any) -> None:
    program = LimitProgram(reason=SwitchReason.ARREARS, watts=2000, for_s=7200, over_s=30)
    async with works(embedded_database.dsn, meters=1, working=False, settings=MANY) as here:
        (procedure,) = [one for one in here.house.procedures if isinstance(one, LimitProcedure)]
        seconds = itertools.count()
        procedure._now = lambda: datetime.now(UTC) + timedelta(seconds=next(seconds))
        meter = here.simulated()

        def unlimited() -> LimitProgram:
            forget(meter, Limiter)
            return program

        def ended(found: CampaignMeter) -> None:
            limiter = meter.part(Limiter)
            assert found.state is MeterProgress.DONE, found.reason
            assert (limiter.emergency, limiter.over_s, limiter.profile.duration_s) == (2000, 30, 7200)
            ((begins,),) = here.rows(
                "SELECT detail ->> 'begins' FROM campaign_steps WHERE phase = 'intended' "
                f"AND campaign_id = {found.campaign_id} ORDER BY at LIMIT 1"
            )
            assert found.proof["after"]["begins"] == begins

        assert await sweep(await Mortal.at(here, meter.serial), unlimited, ended, stride=7) > 20


async def test_a_calendar_is_activated_once(embedded_database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    activated: list[int] = []
    activate = TariffBook.activate

    def counted(book: TariffBook, at_s: int) -> None:
        activated.append(at_s)
        activate(book, at_s)

    monkeypatch.setattr(TariffBook, "activate", counted)
    program = tariffs.program()
    async with works(embedded_database.dsn, meters=1, working=False) as here:
        meter = here.simulated()

        def before() -> Any:
            forget(meter, TariffBook)
            activated.clear()
            return program

        def ended(found: CampaignMeter) -> None:
            assert found.state is MeterProgress.DONE, found.reason
            assert found.proof["name"] == "THREE"
            assert len(activated) == 1
            assert b"THREE" in meter.part(TariffBook).active[0]

        assert await sweep(await Mortal.at(here, meter.serial), before, ended, stride=5) > 40
        assert here.rows("SELECT count(*) FROM meter_tariffs WHERE upper_inf(during)") == [(1,)]


async def test_a_clock_is_shifted_once(embedded_database: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(into_quarter_s=150)  # a boundary is near for no test that takes less than ten minutes
    monkeypatch.setattr(clock_commands, "utc_now", world.now)
    program = ClockProgram()
    async with works(embedded_database.dsn, meters=1, working=False, clock=world.seconds) as here:
        (procedure,) = [one for one in here.house.procedures if isinstance(one, ClockProcedure)]
        procedure._now = world.now
        meter = here.simulated()

        def behind() -> ClockProgram:
            forget(meter, MeterClock)
            now_s = world.seconds()
            meter.part(MeterClock).set(now_s, now_s - 40)
            return program

        def ended(found: CampaignMeter) -> None:
            assert found.state is MeterProgress.DONE, found.reason
            now_s = world.seconds()
            assert abs(meter.part(MeterClock).shows(now_s) - now_s) <= 1
            changes = here.rows(
                f"SELECT took_effect FROM clock_changes WHERE campaign_id = {found.campaign_id} "
                "ORDER BY change_id"
            )
            assert [took for (took,) in changes].count(True) == 1
            assert (None,) not in changes

        assert await sweep(await Mortal.at(here, meter.serial), behind, ended, stride=11) > 40


_WRITE = {
    "do": "write", "class_id": 1, "obis": str(ALARM_FILTERS[0]), "attribute": 2, "value": {"u32": 5},
}  # fmt: skip
_RESET: dict[str, Any] = {"do": "run", "script": 1}


@pytest.mark.parametrize(
    ("run", "may_be", "stride"),
    [
        (_RESET, {MeterProgress.DONE}, 13),
        ({**_RESET, "proven_by": "0-0:98.9.0*255"}, {MeterProgress.DONE, MeterProgress.UNSURE}, 5),
    ],
    ids=["the meter tells", "nobody can tell"],
)
async def test_a_billing_period_is_ended_once(
    embedded_database: Any, run: dict[str, Any], may_be: set[MeterProgress], stride: int
) -> None:
    program = ParametersProgram.model_validate({"items": [_WRITE, run]})
    states: list[MeterProgress] = []
    async with works(embedded_database.dsn, meters=1, working=False) as here:
        meter = here.simulated()

        def before() -> ParametersProgram:
            forget(meter, Parameters)
            return program

        def ended(found: CampaignMeter) -> None:
            states.append(found.state)
            part = meter.part(Parameters)
            assert part.filters[0] == 5
            if found.state is MeterProgress.DONE:
                assert len(part.resets) == 1
                assert [one["item"] for one in found.proof["items"]] == [1, 2]
            else:
                assert len(part.resets) <= 1
                assert "may have run" in (found.reason or "")

        assert await sweep(await Mortal.at(here, meter.serial), before, ended, stride=stride) > 30
        assert set(states) == may_be
