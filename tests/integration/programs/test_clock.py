"""Clocks of simulated meters are read, shifted and set, through real sockets and a real database."""

import itertools
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest

from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.meter_clock import MeterClock
from headend.drivers.dlms.commands import clock as clock_commands
from headend.drivers.dlms.commands.clock import ClockCommands
from headend.programs.clocks.procedure import ClockProcedure
from headend.store import clocks
from protocols.dlms.cosem import clock as cosem_clock
from protocols.dlms.cosem_time import CosemDateTime
from protocols.errors import LinkClosed
from schemas.campaign import MeterProgress
from schemas.job import Clock
from schemas.programs.clock import ClockProgram
from tests.integration.programs.field import Works, works

QUARTER_S = 900
QUARTER = timedelta(seconds=QUARTER_S)


class World:
    """The field's clock and the head-end's: the real one, moved to a place within a quarter of an hour."""

    def __init__(self, into_quarter_s: int) -> None:
        self.ahead_s = (into_quarter_s - int(time.time())) % QUARTER_S

    def seconds(self) -> int:
        return int(time.time()) + self.ahead_s

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.ahead_s)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Some minutes into a quarter: a boundary is near for no test that takes less than a minute."""
    made = World(150)
    monkeypatch.setattr(clock_commands, "utc_now", made.now)
    return made


def procedure(here: Works, world: World) -> None:
    """The house's own, by the world's clock."""
    (found,) = [one for one in here.house.procedures if isinstance(one, ClockProcedure)]
    found._now = world.now


def put_off(meter: SimulatedMeter, world: World, by_s: int) -> MeterClock:
    """For ten days."""
    clock, since_s = meter.part(MeterClock), world.seconds() - 10 * 86_400
    clock.set(since_s, since_s + by_s)
    return clock


async def collected(here: Works, world: World) -> dict[datetime, int]:
    """Active import by the start of its interval, as it is stored, read over the last hours."""
    async with here.house.by_hand("test") as hand:
        await hand.collect(world.now() - timedelta(hours=4), world.now())
    rows = here.rows("SELECT start, active_import FROM interval_reads WHERE meter_id = 1 ORDER BY start")
    return {start.astimezone(UTC): value for start, value in rows}


@pytest.mark.parametrize("off_s", [-400, 400])
async def test_nothing_is_lost_or_doubled_over_a_change(
    embedded_database: Any, world: World, off_s: int
) -> None:
    world.ahead_s += 400 if off_s < 0 else 0  # a slow clock is 400 s behind in its quarter
    async with works(embedded_database.dsn, clock=world.seconds, meters=1) as here:
        procedure(here, world)
        clock = put_off(here.simulated(), world, off_s)
        changed_at = world.now()
        (done,) = await here.apply(ClockProgram(shift_s=900))
        assert done.state is MeterProgress.DONE, done.reason
        assert abs(clock.shows(world.seconds()) - world.seconds()) <= 1
        assert abs(done.proof["offset_ms"]) <= done.proof["uncertainty_ms"]
        assert abs(done.proof["changed"]["before"]["offset_ms"] - off_s * 1000) <= 2000
        assert here.rows("SELECT count(*) FROM interval_reads")[0][0] >= 7 * 95  # fetched before

        world.ahead_s += 2 * 3600
        stored = await collected(here, world)
        starts = list(stored)
        gaps = {after - before for before, after in itertools.pairwise(starts)}
        assert gaps == {timedelta(seconds=QUARTER_S)}
        assert here.rows("SELECT count(*) FROM interval_fragments") == [(0,)]
        consumption = here.simulated().consumption
        for start, value in stored.items():
            end_s = int(start.timestamp()) + QUARTER_S
            captured_s = end_s - off_s if end_s - off_s <= changed_at.timestamp() else end_s
            assert value == consumption.at(0, captured_s)
        flagged = here.rows(
            "SELECT count(*) FROM interval_reads r JOIN clock_changes c USING (meter_id) "
            "WHERE c.took_effect AND c.affected && tstzrange(r.start, r.start + interval '15 minutes')"
        )
        assert flagged == [(1,)]  # no boundary lay between: it is the one interval in which it happened


@pytest.mark.parametrize(("off_s", "stored_twice"), [(2000, 2), (-2000, 0)])
async def test_a_change_over_boundaries_keeps_what_comes_twice_and_invents_nothing(
    embedded_database: Any, world: World, off_s: int, stored_twice: int
) -> None:
    """Set back, the meter comes upon boundaries again: those rows are fragments. Set forward, it jumps over
    some: these intervals have no row, and what was used is in the next one."""
    world.ahead_s += 200  # 350 s into a quarter, and 2000 s before and behind that it is clear too
    async with works(embedded_database.dsn, clock=world.seconds, meters=1) as here:
        procedure(here, world)
        put_off(here.simulated(), world, off_s)
        before = world.now() + timedelta(seconds=off_s)
        (done,) = await here.apply(ClockProgram())
        assert (done.state, done.proof["changed"]["by"]) == (MeterProgress.DONE, "set"), done.reason
        after = world.now()
        world.ahead_s += 2 * 3600
        stored = await collected(here, world)
        starts = list(stored)
        missing = [late - soon for soon, late in itertools.pairwise(starts) if late - soon != QUARTER]
        assert missing == ([] if off_s > 0 else [QUARTER * (1 + abs(off_s) // QUARTER_S)])
        assert list(stored.values()) == sorted(stored.values())
        repeated = here.rows("SELECT reason, stamp FROM interval_fragments")
        assert [reason for reason, _ in repeated] == [2] * stored_twice
        assert all(after <= stamp <= before for _, stamp in repeated)
        ((since, until),) = here.rows("SELECT lower(affected), upper(affected) FROM clock_changes")
        low, high = sorted((before, after))
        assert abs(since - low) < timedelta(seconds=30)
        assert abs(until - high) < timedelta(seconds=30)


async def test_a_clock_is_set_where_it_is_further_off_than_a_shift_goes(
    embedded_database: Any, world: World
) -> None:
    async with works(embedded_database.dsn, clock=world.seconds, meters=2) as here:
        procedure(here, world)
        put_off(here.simulated(0), world, 5400)
        (first, second) = await here.apply(ClockProgram())
        assert (first.state, second.state) == (MeterProgress.DONE, MeterProgress.UNCHANGED)
        assert first.proof["changed"]["by"] == "set"
        assert [one.step for one in await here.steps(1, first.meter_id) if one.phase == "intended"] == [
            "set-1"
        ]
        put_off(here.simulated(1), world, 5400)
        (_, second) = await here.apply(ClockProgram(may_set=False))
        assert second.state is MeterProgress.FAILED
        assert "may not set" in (second.reason or "")


async def test_reading_the_clock_alone_is_a_work_of_its_own(embedded_database: Any, world: World) -> None:
    async with works(embedded_database.dsn, clock=world.seconds, meters=1) as here:
        put_off(here.simulated(), world, 42)
        async with here.house.by_hand("test") as hand:
            assert (await hand.read([1], Clock())).read == 1
        async with here.house.base.pool.connection() as connection:
            (found,) = await clocks.series(
                connection, 1, world.now() - timedelta(hours=1), world.now() + timedelta(hours=1), limit=9
            )
        assert abs(found.reading.offset - timedelta(seconds=42)) <= found.reading.uncertainty
        assert found.reading.deviation_min == -60
        assert here.rows("SELECT count(*) FROM clock_changes") == [(0,)]


@pytest.mark.parametrize("was_made", [True, False])
async def test_a_shift_of_which_nobody_heard_is_made_once(
    embedded_database: Any, world: World, monkeypatch: pytest.MonkeyPatch, was_made: bool
) -> None:
    """The link breaks around the shift, before or after the meter makes it."""
    whole, broken = ClockCommands.shift_clock, []

    async def shift(self: ClockCommands, by: timedelta) -> None:
        if broken:
            await whole(self, by)
            return
        broken.append(by)
        if was_made:
            await whole(self, by)
        raise LinkClosed("it broke")

    monkeypatch.setattr(ClockCommands, "shift_clock", shift)
    async with works(embedded_database.dsn, clock=world.seconds, meters=1) as here:
        procedure(here, world)
        clock = put_off(here.simulated(), world, -30)
        (done,) = await here.apply(ClockProgram())
        assert done.state is MeterProgress.DONE, done.reason
        assert abs(clock.shows(world.seconds()) - world.seconds()) <= 1
        made = here.rows("SELECT step, took_effect FROM clock_changes ORDER BY change_id")
        assert made == ([("shift-1", True)] if was_made else [("shift-1", False), ("shift-2", True)])


async def test_a_shift_of_which_nobody_can_tell_is_not_made_again(
    embedded_database: Any, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    shifts = []

    async def shift(self: ClockCommands, by: timedelta) -> None:
        shifts.append(by)
        clock.set(world.seconds(), clock.shows(world.seconds()) + 200)  # somebody else moved it meanwhile
        raise LinkClosed("it broke")

    monkeypatch.setattr(ClockCommands, "shift_clock", shift)
    async with works(embedded_database.dsn, clock=world.seconds, meters=1) as here:
        procedure(here, world)
        clock = put_off(here.simulated(), world, -30)
        (done,) = await here.apply(ClockProgram())
        assert done.state is MeterProgress.UNSURE
        assert len(shifts) == 1


async def test_a_meter_that_takes_no_shift_is_set(embedded_database: Any, world: World) -> None:
    async with works(embedded_database.dsn, clock=world.seconds, meters=1) as here:
        procedure(here, world)
        clock = put_off(here.simulated(), world, -30)
        clock.takes_shift = False
        (done,) = await here.apply(ClockProgram())
        assert (done.state, done.proof["changed"]["by"]) == (MeterProgress.DONE, "set")
        assert abs(clock.shows(world.seconds()) - world.seconds()) <= 1
        assert here.rows("SELECT step, took_effect FROM clock_changes ORDER BY change_id") == [
            ("shift-1", False),
            ("set-2", True),
        ]


async def test_the_rules_of_summer_time_are_held_against_the_models_zone(
    embedded_database: Any, world: World, tmp_path: Path
) -> None:
    model = 'title = "By wall clock"\ninherit = "headend-sim-hls5"\n[clock]\ntime_zone = "Europe/Berlin"\n'
    (tmp_path / "wall-clock.toml").write_text(model + 'changes = ["preset"]\n')
    settings = {"profiles_dir": tmp_path}
    async with works(embedded_database.dsn, clock=world.seconds, meters=1, settings=settings) as here:
        procedure(here, world)
        with psycopg.connect(here.dsn) as connection:
            connection.execute("UPDATE meters SET model = 'wall-clock'")
        clock = put_off(here.simulated(), world, -30)
        (done,) = await here.apply(ClockProgram())
        assert done.state is MeterProgress.DONE, done.reason
        assert done.proof["rules_before"] == "UTC+1 h, no summer time"
        assert done.proof["rules"] == "UTC+1 h, +60 min from ????-03-last 02:00:00 to ????-10-last 03:00:00"
        assert clock.rules == cosem_clock.summer_time(ZoneInfo("Europe/Berlin"), world.now().year)
        assert done.proof["changed"]["by"] == "preset"
        assert abs(clock.shows(world.seconds()) - world.seconds()) <= 1
        july = int(datetime(2027, 7, 1, tzinfo=UTC).timestamp())
        assert CosemDateTime.from_bytes(clock.stamp(july)).deviation_min == -120


async def test_concentrators_have_clocks_too(embedded_database: Any, world: World) -> None:
    stations = [{"kind": "store_and_forward", "count": 2, "meters": 1}]
    async with works(embedded_database.dsn, clock=world.seconds, meters=0, stations=stations) as here:
        procedure(here, world)
        station: Any = here.field.stations[0]
        clock = put_off(station.head, world, -30)
        found = await here.apply(ClockProgram(of="concentrators"))
        assert all(one.meter_id < 0 for one in found)
        assert sorted(one.state for one in found) == [MeterProgress.DONE, MeterProgress.UNCHANGED]
        assert abs(clock.shows(world.seconds()) - world.seconds()) <= 1
