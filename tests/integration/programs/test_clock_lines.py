"""DL/T 645 meters on a line are told the time all at once, or one by one with a password.

Where no recorded traces of setting clocks exist: the frames are held against the standard's form by
`tests/unit/test_dlt645_clock.py`, and both ends here are ours.
"""

import asyncio
import dataclasses
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from concentrator_sim.meter_clock import MeterClock
from headend.approvals.campaigns import shown
from headend.drivers.dlt645.clock import Dlt645Clocks
from headend.drivers.dlt645.conversation import Dlt645Conversation
from headend.programs.clocks import unread
from headend.programs.clocks.procedure import ClockProcedure
from headend.store.errors import ConflictError
from protocols.errors import LinkClosed
from schemas.campaign import MeterProgress, Plan
from schemas.job import Selection
from schemas.programs.clock import ClockProgram
from tests.integration.programs.field import EVERYBODY, Works, works
from tests.integration.programs.test_clock import World

LINE = [{"kind": "dlt645_tcp", "count": 1, "meters": 3}]
PROGRAM = ClockProgram(shift_s=300)


class Noon(World):
    """A world where it is noon in China, of yesterday or before: no midnight is near, whatever time it really
    is, and what is put off is due at once."""

    def __init__(self) -> None:
        super().__init__(0)
        now = self.now()
        noon = (now + timedelta(hours=8)).replace(hour=12, minute=7, second=0, microsecond=0)
        self.ahead_s += int((noon - timedelta(days=1) - (now + timedelta(hours=8))).total_seconds())


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = Noon()
    monkeypatch.setattr("headend.drivers.dlt645.conversation.Dlt645Clocks.__init__", clocked(made))
    monkeypatch.setattr(unread, "FETCHED_DAYS", 1)
    return made


def clocked(world: World) -> Any:
    whole = Dlt645Clocks.__init__

    def init(self: Dlt645Clocks, model: Any, address: Any, now: Any) -> None:
        whole(self, model, address, world.now)

    return init


def lines(here: Works, world: World) -> list[Any]:
    (found,) = [one for one in here.house.procedures if isinstance(one, ClockProcedure)]
    found._now = world.now
    (station,) = here.field.stations
    meters: list[Any] = station._meters  # type: ignore[attr-defined]
    return meters


def put_off(one: Any, by_s: int) -> MeterClock:
    clock: MeterClock = one.meter.part(MeterClock)
    since_s = one.now - 3600
    clock.set(since_s, since_s + by_s)
    return clock


async def test_one_broadcast_serves_a_line(embedded_database: Any, world: World) -> None:
    """Of each of its meters what it measured is read before; each is flagged, also who was nearly right, and
    verified."""
    async with works(embedded_database.dsn, clock=world.seconds, meters=0, stations=LINE) as here:
        meters = lines(here, world)
        for one, by_s in zip(meters, (-40, 70, 3), strict=True):
            put_off(one, by_s)
        found = {one.meter_id: one for one in await here.apply(PROGRAM)}
        assert all(abs(one.shown_s - one.now) <= 1 for one in meters)
        numbers = {here.meters[one.serial] for one in meters}
        told = dict(here.rows("SELECT meter_id, step FROM clock_changes"))
        assert told.keys() == numbers
        (first,) = [number for number, step in told.items() if step == "broadcast-1"]
        assert {told[number] for number in numbers - {first}} == {f"broadcast-1 of {first}"}
        assert found[first].proof["line"] == {"others": 2, "verified": 2}
        off = {here.meters[one.serial] for one in meters[:2]}
        assert all(found[number].state is MeterProgress.DONE for number in off)
        assert [found[number].proof.get("broadcast_at") is None for number in off - {first}] == [False]
        known = dict(here.rows("SELECT meter_id, took_effect FROM clock_changes"))
        assert all(known[number] for number in off)
        assert known[here.meters[meters[2].serial]] is not False  # by 3 s: no reading can tell, so it counts
        stored = dict(here.rows("SELECT meter_id, count(*) FROM interval_reads GROUP BY meter_id"))
        assert stored == dict.fromkeys(numbers, 95)  # also of the third, which asked for nothing


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
        assert here.rows("SELECT * FROM clock_changes WHERE change = 'broadcast'") == []


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
        assert here.rows("SELECT count(*) FROM clock_changes WHERE campaign_id = 2") == [(0,)]


def everybody_but(here: Works, one: Any) -> Plan:
    others = tuple(name for name in here.meters if name != one.serial)
    return EVERYBODY.model_copy(update={"selection": Selection(meters=others)})


@pytest.mark.parametrize("state", ["commissioned", "suspended"])
async def test_a_line_of_which_a_meter_is_not_meant_is_not_told(
    embedded_database: Any, world: World, state: str
) -> None:
    async with works(embedded_database.dsn, clock=world.seconds, meters=0, stations=LINE) as here:
        meters = lines(here, world)
        put_off(meters[0], -40)
        out, told = meters[2], str(meters[2].serial)
        if state == "suspended":
            with psycopg.connect(here.dsn) as connection:
                number = here.meters[told]
                connection.execute(
                    "INSERT INTO meter_states VALUES (%s, 'suspended', clock_timestamp())", [number]
                )
            told += " (suspended)"
        with pytest.raises(ConflictError) as refused:
            await here.propose(PROGRAM, everybody_but(here, out))
        assert f"a broadcast to its line reaches {told} too, which the campaign is not for" in str(
            refused.value
        )


async def test_who_approves_sees_whom_a_line_keeps_out(embedded_database: Any, world: World) -> None:
    two = [{"kind": "dlt645_tcp", "count": 2, "meters": 2}]
    async with works(embedded_database.dsn, clock=world.seconds, meters=0, stations=two) as here:
        out = here.field.stations[1]._meters[0]  # type: ignore[attr-defined]
        campaign = await here.propose(PROGRAM, everybody_but(here, out))
        async with here.house.base.pool.connection() as connection:
            told = await shown(connection, campaign)
        assert (told["meters"], told["unfit"]) == (2, 1)
        ((why, count),) = told["why_unfit"].items()
        assert (out.serial in why, count) == (True, 1)


async def test_a_meter_that_came_to_the_line_since_is_not_told_unasked(
    embedded_database: Any, world: World
) -> None:
    async with works(embedded_database.dsn, clock=world.seconds, meters=0, stations=LINE) as here:
        meters = lines(here, world)
        put_off(meters[0], -40)
        campaign = await here.propose(PROGRAM)
        with psycopg.connect(here.dsn) as connection:
            connection.execute(
                "INSERT INTO meters (asset_id, model, address) SELECT 'NEW', model, "
                "split_part(address, '?', 1) || '?meter=000000000999' FROM meters LIMIT 1"
            )
            connection.execute(
                "INSERT INTO meter_states SELECT meter_id, 'commissioned', clock_timestamp() FROM meters "
                "WHERE asset_id = 'NEW'"
            )
        await here.approve(campaign.campaign_id)
        found = {one.meter_id: one for one in await here.ended(campaign.campaign_id)}
        off = found[here.meters[meters[0].serial]]
        assert off.state is MeterProgress.FAILED
        assert "reaches NEW too" in (off.reason or "")
        assert here.rows("SELECT * FROM clock_changes") == []
        assert meters[0].shown_s - meters[0].now == -40


async def test_who_does_not_answer_holds_his_line_for_a_while_and_is_named(
    embedded_database: Any, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = property(lambda one: 0.1, lambda one, seconds: None)
    monkeypatch.setattr(Dlt645Conversation, "_answer_s", short, raising=False)
    async with works(embedded_database.dsn, clock=world.seconds, meters=0, stations=LINE) as here:
        meters = lines(here, world)
        put_off(meters[0], -40)
        meters[2].leaf = dataclasses.replace(meters[2].leaf, dead=True)
        number, dead = (here.meters[one.serial] for one in (meters[0], meters[2]))
        campaign = await here.propose(PROGRAM)
        await here.approve(campaign.campaign_id)
        async with asyncio.timeout(30):
            while True:
                await here.advance(campaign.campaign_id)
                found = {one.meter_id: one for one in await here.standing(campaign.campaign_id)}
                if found[number].ended_at is not None:
                    break
                await asyncio.sleep(0.05)
        assert found[number].state is MeterProgress.DONE, found[number].reason
        assert found[number].proof["line"] == {"others": 2, "verified": 1, "silent": 1}
        steps = [one.step for one in await here.steps(campaign.campaign_id, number)]
        assert steps.count(f"{meters[2].serial} did not answer") == 3
        ((at, low, high, took),) = here.rows(
            "SELECT at, lower(affected), upper(affected), took_effect FROM clock_changes "
            f"WHERE meter_id = {dead}"
        )
        assert (at - low, high - at, took) == (timedelta(minutes=5), timedelta(minutes=5), None)


@pytest.mark.parametrize(("was_sent", "off_s"), [(True, (-40, 70, 55)), (False, (-40, 0, 0))])
async def test_a_broadcast_of_which_nobody_heard(
    embedded_database: Any,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    was_sent: bool,
    off_s: tuple[int, ...],
) -> None:
    """The link breaks around it: clocks tell whether it was sent; where it was not, it is sent again."""
    whole, broken, sent = Dlt645Clocks.broadcast_clock, [], []

    async def broadcast(self: Dlt645Clocks) -> None:
        if broken or was_sent:
            await whole(self)
            sent.append(self)
        if not broken:
            broken.append(self)
            raise LinkClosed("it broke")

    monkeypatch.setattr(Dlt645Clocks, "broadcast_clock", broadcast)
    async with works(embedded_database.dsn, clock=world.seconds, meters=0, stations=LINE) as here:
        meters = lines(here, world)
        for one, by_s in zip(meters, off_s, strict=True):
            put_off(one, by_s)
        found = {one.meter_id: one for one in await here.apply(PROGRAM)}
        assert all(abs(one.shown_s - one.now) <= 1 for one in meters)
        assert len(sent) == 1
        off = [here.meters[one.serial] for one, by_s in zip(meters, off_s, strict=True) if by_s]
        for number in off:
            assert found[number].state is MeterProgress.DONE, found[number].reason
            took = here.rows(
                f"SELECT took_effect FROM clock_changes WHERE meter_id = {number} ORDER BY change_id"
            )
            assert took == ([(True,)] if was_sent else [(False,), (True,)])


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
