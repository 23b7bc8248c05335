"""Days of clocks that go wrong, and links that break at any step of putting them right: no interval is lost
or comes twice, and all that a change of ours touched are marked, of a meter by itself and of those of a line.

What is true is told by the simulated clocks: each row's stamp, and when it was really captured.
"""

import itertools
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from concentrator_sim.meter_clock import MeterClock
from headend.drivers.dlms.commands import clock as dlms_clock
from headend.drivers.dlms.commands.clock import ClockCommands
from headend.drivers.dlt645.clock import Dlt645Clocks
from headend.programs.clocks import unread
from headend.programs.journal import MeterJournal
from headend.store import curves
from protocols.errors import LinkClosed
from schemas.campaign import MeterProgress, Plan
from schemas.job import Retry, Selection
from schemas.programs.clock import ClockProgram
from tests.integration.programs.field import Works, works
from tests.integration.programs.test_clock_lines import Noon, clocked, lines

DAYS = 3
RIGHT = (MeterProgress.DONE, MeterProgress.UNCHANGED)
QUARTER_S = 900
PLAN = Plan(selection=Selection(), retry=Retry(attempts=20, first_s=0.01, longest_s=0.01), stop_percent=100)


class Breaks:
    """The link breaks, or we are killed, at a few of the steps: before or behind what the step does."""

    def __init__(self, draw: random.Random, patch: pytest.MonkeyPatch) -> None:
        self.draw = draw
        self.left = 0
        for owner, name in (
            (MeterJournal, "_write"),
            (Dlt645Clocks, "broadcast_clock"),
            (ClockCommands, "shift_clock"),
            (ClockCommands, "set_clock"),
        ):
            patch.setattr(owner, name, self._breaking(getattr(owner, name)))

    def _breaking(self, whole: Any) -> Any:
        async def step(*arguments: Any) -> None:
            when = self.draw.choice(("before", "behind", None, None)) if self.left else None
            self.left -= when is not None
            if when == "before":
                raise LinkClosed("it broke before")
            await whole(*arguments)
            if when == "behind":
                raise LinkClosed("it broke behind")

        return step


class Truth:
    """One simulated meter, and when its clock was changed by the head-end."""

    def __init__(self, meter_id: int, profile: int, meter: Any, crystal: Any) -> None:
        self.meter_id = meter_id
        self.profile = profile
        self.clock: MeterClock = meter.part(MeterClock)
        self.crystal = crystal
        self.changed: list[int] = []

    def goes_wrong(self, by_s: int) -> None:
        now = self.crystal()
        self.clock.set(now, self.clock.shows(now) + by_s)
        self.known = len(self.clock._stretches)

    def was_changed(self) -> None:
        self.changed += [one.since_s for one in self.clock._stretches[self.known :]]

    def rows(self, since_s: int) -> list[tuple[int, bool]]:
        """Ends of the intervals that it kept, and whether a change of ours lies in what each measured."""
        rows = self.clock.rows(self.crystal(), 96 * (DAYS + 1))
        told = []
        for before, row in itertools.pairwise(rows):
            if row.stamp_s > since_s:
                moved = any(before.captured_s < at <= row.captured_s for at in self.changed)
                told.append((row.stamp_s, moved))
        return told


async def stored(here: Works, one: Truth, since: datetime, until: datetime) -> list[tuple[int, bool]]:
    """What billing is given: ends of intervals, and whether each is marked."""
    async with here.house.base.pool.connection() as connection, curves.snapshot(connection):
        state = await curves.meter_state(connection, one.meter_id, one.profile, since, until)
        _, rows = await curves.rows(connection, state)
    return [(int(row.end.timestamp()), curves.clock_changed(row, state.clock_changes)) for row in rows]


@pytest.mark.parametrize("seed", [8])
async def test_days_of_wrong_clocks_and_broken_links(
    embedded_database: Any, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    draw, world = random.Random(seed), Noon()
    world.ahead_s -= DAYS * 86_400
    monkeypatch.setattr(Dlt645Clocks, "__init__", clocked(world))
    monkeypatch.setattr(dlms_clock, "utc_now", world.now)
    monkeypatch.setattr(unread, "FETCHED_DAYS", 1)
    breaks = Breaks(draw, monkeypatch)
    stations = [{"kind": "dlt645_tcp", "count": 1, "meters": 2}]
    async with works(embedded_database.dsn, clock=world.seconds, meters=1, stations=stations) as here:
        line = lines(here, world)
        alone = here.simulated()
        truths = [Truth(here.meters[alone.serial], 1, alone, world.seconds)]
        truths += [Truth(here.meters[one.serial], 2, one.meter, lambda one=one: one.now) for one in line]
        began = world.now() - timedelta(hours=3)
        for _ in range(DAYS):
            for one in truths:
                one.goes_wrong(draw.choice((0, 2, -2, -30, 45, -170, 200)))
            world.ahead_s += 900
            breaks.left = draw.choice((0, 1, 2, 3))
            found = await here.apply(ClockProgram(shift_s=draw.choice((60, 300))), PLAN)
            breaks.left = 0
            for one in truths:
                one.was_changed()
            sure = {one.meter_id for one in found if one.state in RIGHT}
            for one in truths:
                off_s = one.clock.shows(one.crystal()) - one.crystal()
                assert one.meter_id not in sure or abs(off_s) <= 6, (seed, found)
            world.ahead_s += 86_400 - 900
        world.ahead_s -= 86_400 - 7200
        async with here.house.by_hand("test") as hand:
            await hand.collect(began, world.now())
        assert all(one.changed for one in truths)
        assert here.rows("SELECT * FROM interval_fragments") == []
        doubtful = {
            number for (number,) in here.rows("SELECT meter_id FROM clock_changes WHERE took_effect IS NULL")
        }
        for one in truths:
            since_s = int(began.timestamp()) // QUARTER_S * QUARTER_S + QUARTER_S
            since = datetime.fromtimestamp(since_s, UTC)
            told = await stored(here, one, since, world.now())
            true = one.rows(since_s)
            assert [end for end, _ in told] == [end for end, _ in true]
            missed = [
                end for (end, marked), (_, moved) in zip(told, true, strict=True) if moved and not marked
            ]
            assert missed == []
            for (end, marked), (_, moved) in zip(told, true, strict=True):
                assert not marked or moved or one.meter_id in doubtful, (end, one.changed)
