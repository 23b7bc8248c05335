"""Open breakers in the database: what people see, what a new start finds, and what is closed when asked."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import psycopg
import pytest

from headend.drivers.contract import Target
from headend.links.breaker import Breakers
from headend.links.keeper import Keeper, Part
from headend.links.opened import BreakerOpen, Kind, State, Subject
from headend.store import link_states, meters
from headend.store.errors import ConflictError, UnavailableError
from headend.store.pool import open_pool
from schemas.address import LinkAddress
from schemas.failure import Stage
from schemas.meter import NewMeter
from schemas.network import NOWHERE, Place

T0 = datetime(2026, 3, 1, 8, tzinfo=UTC)


def subject(meter_id):
    return Subject(Kind.METER, str(meter_id))


LINE = Subject(Kind.LINE, "modbus+rtu:/dev/ttyUSB0")


class Clock:
    def __init__(self):
        self.now = T0

    def __call__(self):
        return self.now


def breakers(clock):
    return Breakers(now=clock, draw=lambda bound: bound)


def fail(some, meter_id, stage=Stage.TIMEOUT, behind=None, times=3):
    for _ in range(times):
        some.failed(some.admit(subject(meter_id), behind), stage, "nothing came\0 in time")


@pytest.fixture
async def pool(database):
    async with open_pool(database.dsn, max_size=3) as pool:
        yield pool


@pytest.fixture
async def meter_id(pool):
    async with pool.connection() as connection:
        return (await meters.add(connection, NewMeter("M-1", "generic-dlms"), since=T0)).meter_id


async def shown(pool, **how):
    async with pool.connection() as connection:
        return await link_states.page(connection, limit=how.pop("limit", 10), **how)


async def test_what_opened_is_seen_with_its_name_and_what_closed_is_not(pool, meter_id):
    clock = Clock()
    some = breakers(clock)
    async with Keeper(pool.connection, some, period_s=3600) as keeper:
        fail(some, meter_id)
        fail(some, 98, Stage.CONNECT, LINE)
        fail(some, 99, times=2)
        await keeper.flush()
        line, meter = await shown(pool)
        assert (line.name, line.state.kind, line.state.stage) == (LINE.id, "line", "connect")
        assert (meter.name, meter.state.kind, meter.state.id) == ("M-1", "meter", str(meter_id))
        assert (meter.state.since, meter.state.until) == (T0, T0 + timedelta(seconds=300))
        assert (meter.state.failures, meter.state.probes) == (3, 0)
        assert meter.state.reason == "nothing came in time"
        clock.now += timedelta(seconds=301)
        some.answered(some.admit(subject(meter_id), None))
        await keeper.flush()
        assert [one.name for one in await shown(pool)] == [LINE.id]


async def test_pages_go_by_kind_and_name(pool, meter_id):
    some = breakers(Clock())
    async with Keeper(pool.connection, some, period_s=3600) as keeper:
        fail(some, meter_id)
        fail(some, 98, Stage.CONNECT, LINE)
        await keeper.flush()
    first = await shown(pool, limit=1)
    rest = await shown(pool, after=(first[0].state.kind, first[0].name))
    assert [one.name for one in (*first, *rest)] == [LINE.id, "M-1"]
    assert [one.name for one in await shown(pool, kind="meter")] == ["M-1"]


async def test_a_meter_that_is_no_more_is_not_shown(pool):
    some = breakers(Clock())
    async with Keeper(pool.connection, some, period_s=3600):
        fail(some, 4711)
    assert await shown(pool) == []


async def test_a_new_start_does_not_ask_the_silent_again(pool, meter_id):
    clock = Clock()
    before = breakers(clock)
    async with Keeper(pool.connection, before, period_s=3600):
        fail(before, meter_id)
        clock.now += timedelta(seconds=300)
        fail(before, meter_id, times=1)
    after = breakers(clock)
    async with Keeper(pool.connection, after, period_s=3600):
        with pytest.raises(BreakerOpen) as refused:
            after.admit(subject(meter_id), None)
        assert refused.value.since == T0
        clock.now += timedelta(seconds=600)
        fail(after, meter_id, times=1)
        opened = after.opened(Subject(Kind.METER, str(meter_id)))
        assert opened is not None
        assert opened.until - clock.now == timedelta(seconds=1200)


async def test_what_a_person_resets_is_closed_by_the_service(pool, meter_id):
    some = breakers(Clock())
    async with Keeper(pool.connection, some, period_s=3600) as keeper:
        fail(some, meter_id)
        await keeper.flush()
        async with pool.connection() as connection:
            was = await link_states.ask_reset(connection, "meter", "M-1")
        assert was.state.failures == 3
        await keeper.flush()
        assert some.state(Subject(Kind.METER, str(meter_id))) is State.CLOSED
        assert await shown(pool) == []
        fail(some, meter_id)  # the request is not carried out twice
        await keeper.flush()
        assert some.state(Subject(Kind.METER, str(meter_id))) is State.OPEN


async def test_what_was_reset_while_no_service_ran_is_closed_for_the_next(pool, meter_id):
    before = breakers(Clock())
    async with Keeper(pool.connection, before, period_s=3600):
        fail(before, meter_id)
    async with pool.connection() as connection:
        await link_states.ask_reset(connection, "meter", "M-1")
    after = breakers(Clock())
    async with Keeper(pool.connection, after, period_s=3600):
        assert after.state(Subject(Kind.METER, str(meter_id))) is State.CLOSED


async def test_what_is_not_open_cannot_be_reset(pool, meter_id):
    async with pool.connection() as connection:
        with pytest.raises(ConflictError, match="meter M-1 has no open breaker"):
            await link_states.ask_reset(connection, "meter", "M-1")


async def test_while_the_database_is_away_nothing_is_lost(pool, meter_id):
    some = breakers(Clock())
    async with Keeper(pool.connection, some, period_s=3600) as keeper:
        fail(some, meter_id)

        def away():
            raise UnavailableError("away")

        keeper._connect, connect = away, keeper._connect
        with pytest.raises(UnavailableError):
            await keeper.flush()
        keeper._connect = connect
        await keeper.flush()
        assert len(await shown(pool)) == 1


async def test_a_failed_store_is_made_up_for(pool, meter_id, database):
    some = breakers(Clock())
    async with Keeper(pool.connection, some, period_s=3600) as keeper:
        fail(some, meter_id)
        with psycopg.connect(database.dsn, autocommit=True) as other:
            other.execute("ALTER TABLE link_states RENAME TO elsewhere")
            with pytest.raises(psycopg.Error):
                await keeper.flush()
            other.execute("ALTER TABLE elsewhere RENAME TO link_states")
        await keeper.flush()
        assert len(await shown(pool)) == 1


# ---- several processes, each with what it holds ---------------------------------------------------------


async def test_who_takes_over_a_lane_knows_what_the_last_holder_met(pool, meter_id):
    clock = Clock()
    first, second = breakers(clock), breakers(clock)
    async with (
        Keeper(pool.connection, first, shared=True, period_s=3600) as holder,
        Keeper(pool.connection, second, shared=True, period_s=3600) as next_holder,
    ):
        await holder.adopt([subject(meter_id), LINE])
        fail(first, meter_id)
        fail(first, 98, Stage.CONNECT, LINE)
        await holder.flush()
        holder.leave([subject(meter_id), LINE])
        assert len(first) == 0
        assert len(second) == 0, "what others hold is no business of it"
        await next_holder.adopt([subject(meter_id), LINE, subject(98)])
        assert second.state(subject(meter_id)) is State.OPEN
        assert second.state(LINE) is State.OPEN
        assert second.state(subject(98)) is State.CLOSED
        assert second.due(10) == []
        clock.now += timedelta(seconds=300)
        assert second.due(10) == [meter_id]


async def test_each_stores_what_it_met_itself(pool, meter_id):
    clock = Clock()
    first, second = breakers(clock), breakers(clock)
    async with Keeper(pool.connection, first, shared=True, period_s=3600) as holder:
        fail(first, meter_id)
        await holder.flush()
        async with Keeper(pool.connection, second, shared=True, period_s=3600) as other:
            fail(second, 98, Stage.CONNECT, LINE)
            await other.flush()
        await holder.flush()
    assert {one.name for one in await shown(pool)} == {"M-1", LINE.id}


async def test_what_the_next_holder_closed_is_closed_for_the_first_when_it_holds_it_again(pool, meter_id):
    clock = Clock()
    first, second = breakers(clock), breakers(clock)
    async with (
        Keeper(pool.connection, first, shared=True, period_s=3600) as holder,
        Keeper(pool.connection, second, shared=True, period_s=3600) as next_holder,
    ):
        fail(first, meter_id)
        await holder.flush()  # and then it is paused, and loses what it holds without knowing
        await next_holder.adopt([subject(meter_id)])
        clock.now += timedelta(seconds=301)
        second.answered(second.admit(subject(meter_id), None))
        await next_holder.flush()
        await holder.adopt([subject(meter_id)])
        assert first.state(subject(meter_id)) is State.CLOSED
        assert await shown(pool) == []


async def test_a_holder_that_was_paused_overwrites_nothing_that_was_told_later(pool, meter_id):
    clock = Clock()
    paused, second = breakers(clock), breakers(clock)
    async with (
        Keeper(pool.connection, paused, shared=True, period_s=3600) as holder,
        Keeper(pool.connection, second, shared=True, period_s=3600) as next_holder,
    ):
        fail(paused, meter_id)
        fail(paused, 98, Stage.CONNECT, LINE)
        await holder.flush()
        clock.now += timedelta(seconds=301)
        paused.answered(paused.admit(subject(meter_id), None))  # not stored: it is paused here
        fail(paused, 98, Stage.CONNECT, LINE, times=1)
        clock.now += timedelta(seconds=60)
        await next_holder.adopt([subject(meter_id), LINE])
        for meter, stage, behind in ((meter_id, Stage.TIMEOUT, None), (98, Stage.CONNECT, LINE)):
            fail(second, meter, stage, behind, times=1)
        await next_holder.flush()
        told = await shown(pool)
        await holder.flush()
        assert await shown(pool) == told
        assert [one.state.probes for one in told] == [1, 1]


async def test_what_changed_here_and_is_not_stored_yet_outlives_the_taking_over(pool, meter_id):
    clock = Clock()
    some = breakers(clock)
    async with Keeper(pool.connection, some, shared=True, period_s=3600) as keeper:
        fail(some, meter_id)
        await keeper.adopt([subject(meter_id)])
        assert some.state(subject(meter_id)) is State.OPEN
        await keeper.flush()
        clock.now += timedelta(seconds=301)
        some.answered(some.admit(subject(meter_id), None))
        await keeper.adopt([subject(meter_id)])
        assert some.state(subject(meter_id)) is State.CLOSED


def way(number, place=NOWHERE):
    target = Target(SimpleNamespace(meter_id=number), place)
    return SimpleNamespace(target=target, address=LinkAddress.parse("tcp://192.0.2.1:4059"))


async def test_a_lane_adopts_what_stands_on_its_ways_and_leaves_it_stored(pool, meter_id):
    clock = Clock()
    first, second = breakers(clock), breakers(clock)
    station = Subject(Kind.STATION, "7")
    lane = [way(meter_id, Place(station_id=7)), way(98, Place(station_id=7))]
    async with (
        Keeper(pool.connection, first, shared=True, period_s=3600) as one,
        Keeper(pool.connection, second, shared=True, period_s=3600) as other,
    ):
        part = Part(one)
        await part.adopt(lane)
        fail(first, meter_id, behind=station)
        fail(first, 98, Stage.CONNECT, station)
        await part.leave()
        assert len(first) == 0
        taken = Part(other)
        await taken.adopt(lane[:1])
        assert second.state(subject(meter_id)) is State.OPEN
        assert second.state(station) is State.OPEN
        second.reset(subject(meter_id))
        await taken.adopt(lane)
        assert second.state(subject(meter_id)) is State.CLOSED, "what is held is not read again"
        await taken.leave()


async def test_who_keeps_alone_forgets_nothing_at_the_end_of_a_lane(pool, meter_id):
    some = breakers(Clock())
    async with Keeper(pool.connection, some, period_s=3600) as keeper:
        part = Part(keeper)
        await part.adopt([way(meter_id)])
        fail(some, meter_id)
        await part.leave()
        assert some.state(subject(meter_id)) is State.OPEN
