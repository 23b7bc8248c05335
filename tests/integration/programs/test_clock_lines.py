"""DL/T 645 meters on a line are told the time all at once, or one by one with a password.

Where no recorded traces of setting clocks exist: the frames are held against the standard's form by
`tests/unit/test_dlt645_clock.py`, and both ends here are ours.
"""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from concentrator_sim.meter_clock import MeterClock
from headend.programs.clocks.procedure import ClockProcedure
from schemas.campaign import MeterProgress
from schemas.job import Clock
from schemas.programs.clock import ClockProgram
from tests.integration.programs.field import Works, works
from tests.integration.programs.test_clock import World

LINE = [{"kind": "dlt645_tcp", "count": 1, "meters": 3}]
PROGRAM = ClockProgram(shift_s=300)


class Noon(World):
    """A world whose day in China is at noon: no midnight is near, whatever time it really is."""

    def __init__(self) -> None:
        super().__init__(0)
        now = self.now()
        noon = (now + timedelta(hours=8)).replace(hour=12, minute=5, second=0, microsecond=0)
        self.ahead_s += int((noon - (now + timedelta(hours=8))).total_seconds())


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = Noon()
    monkeypatch.setattr("headend.drivers.dlt645.conversation.Dlt645Clocks.__init__", clocked(made))
    return made


def clocked(world: World) -> Any:
    from headend.drivers.dlt645.clock import Dlt645Clocks

    whole = Dlt645Clocks.__init__

    def init(self: Dlt645Clocks, model: Any, address: Any, now: Any) -> None:
        whole(self, model, address, world.now)

    return init


def lines(here: Works, world: World) -> list[Any]:
    (found,) = [one for one in here.house.procedures if isinstance(one, ClockProcedure)]
    found.now = world.now
    (station,) = here.field.stations
    meters: list[Any] = station._meters  # type: ignore[attr-defined]
    return meters


def put_off(one: Any, by_s: int) -> MeterClock:
    clock: MeterClock = one.meter.part(MeterClock)
    since_s = one.now - 3600
    clock.set(since_s, since_s + by_s)
    return clock


async def test_one_broadcast_serves_a_line(embedded_database: Any, world: World) -> None:
    async with works(embedded_database.dsn, clock=world.seconds, meters=0, stations=LINE) as here:
        meters = lines(here, world)
        for one, by_s in zip(meters, (-40, 70, 3), strict=True):
            put_off(one, by_s)
        async with here.house.by_hand("test") as hand:
            assert (await hand.read([here.meters[meters[1].serial]], Clock())).read == 1
        found = await here.apply(PROGRAM)
        states = {one.meter_id: one.state for one in found}
        numbers = [here.meters[one.serial] for one in meters]
        assert [states[number] for number in numbers[:2]] == [MeterProgress.DONE] * 2
        assert all(abs(one.shown_s - one.now) <= 1 for one in meters)
        assert len(here.rows("SELECT * FROM clock_broadcasts")) == 1
        steps = [step for one in found for step in await here.steps(1, one.meter_id)]
        assert sum(one.step == "broadcast-1" and one.phase == "intended" for one in steps) == 1
        told = dict(here.rows("SELECT meter_id, step FROM clock_changes WHERE took_effect"))
        assert sorted(told[number] for number in numbers[:2]) == ["broadcast-1", "broadcast-joined"]
        # the third was right: it may have had its turn before the line was told, and then was left alone
        assert (numbers[2] in told) == (states[numbers[2]] is MeterProgress.DONE)


async def test_a_meter_that_is_too_far_off_is_refused_by_us_or_written(
    embedded_database: Any, world: World, tmp_path: Path
) -> None:
    (tmp_path / "dlt645").mkdir()
    (tmp_path / "dlt645" / "with-password.toml").write_text(
        'title = "With a password"\ninherit = "dlt645-2007-load-records"\n[clock]\npassword = "02000000"\n'
    )
    settings = {"profiles_dir": tmp_path}
    async with works(
        embedded_database.dsn, clock=world.seconds, meters=0, stations=LINE, settings=settings
    ) as here:
        meters = lines(here, world)
        put_off(meters[0], -1000)
        put_off(meters[1], 1000)
        with psycopg.connect(here.dsn) as connection:
            connection.execute(
                "UPDATE meters SET model = 'with-password' WHERE asset_id = %s", [meters[1].serial]
            )
        found = {one.meter_id: one for one in await here.apply(PROGRAM)}
        first, second, third = (found[here.meters[one.serial]] for one in meters)
        assert first.state is MeterProgress.FAILED
        assert "by broadcast it takes 300 s at most" in (first.reason or "")
        assert second.state is MeterProgress.DONE, second.reason
        assert second.proof["changed"]["by"] == "set"
        assert abs(meters[1].shown_s - meters[1].now) <= 1
        assert third.state is MeterProgress.UNCHANGED
        assert here.rows("SELECT * FROM clock_broadcasts") == []


async def test_what_was_told_once_today_is_not_told_again(embedded_database: Any, world: World) -> None:
    async with works(embedded_database.dsn, clock=world.seconds, meters=0, stations=LINE) as here:
        meters = lines(here, world)
        put_off(meters[0], -40)
        await here.apply(PROGRAM)
        clock = meters[0].meter.part(MeterClock)
        clock.set(meters[0].now, meters[0].now - 50)  # off again on the same day
        found = {one.meter_id: one for one in await here.apply(PROGRAM)}
        again = found[here.meters[meters[0].serial]]
        assert again.state is MeterProgress.FAILED
        assert "was told the time today" in (again.reason or "")
        assert meters[0].shown_s - meters[0].now == -50


def test_no_meter_is_told_around_midnight() -> None:
    from headend.drivers.dlt645.clock import Dlt645Clocks
    from schemas.address import LinkAddress
    from schemas.line_model import load_line_model

    model = load_line_model("dlt645-2007", language="dlt645")
    address = LinkAddress.parse("dlt645+tcp://127.0.0.1:1?meter=000000000001")
    clocks = Dlt645Clocks(model, address, lambda: datetime.now().astimezone())
    for text, wanted in (
        ("2026-03-01T12:00:00+08:00", "2026-03-01T12:00:00+08:00"),
        ("2026-03-01T23:49:59+08:00", "2026-03-01T23:49:59+08:00"),
        ("2026-03-01T23:50:00+08:00", "2026-03-02T00:10:01+08:00"),
        ("2026-03-02T00:05:00+08:00", "2026-03-02T00:10:01+08:00"),
        ("2026-03-02T00:10:01+08:00", "2026-03-02T00:10:01+08:00"),
    ):
        assert clocks.takes_broadcast(datetime.fromisoformat(text)) == datetime.fromisoformat(wanted)
