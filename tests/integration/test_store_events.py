"""Events into the database, on both: each once, nothing lost, shown by whom and what they speak of."""

import asyncio
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from headend.store import events, meters
from headend.store.events import EventFilter
from headend.store.pool import open_pool
from headend.store.writer import UnknownMeter, Written, write
from schemas.event import EventLog, EventMeaning, MeterEvent
from schemas.meter import MeterState, NewMeter
from schemas.reading import registers_only

T0 = datetime(2026, 3, 1, tzinfo=UTC)
US = 1_772_323_200_000_000  # T0
SECOND = 1_000_000
DAY = 86_400 * SECOND


@pytest.fixture
async def pool(database):
    async with open_pool(database.dsn, max_size=4) as opened:
        yield opened


@pytest.fixture
async def fleet(pool) -> dict[str, int]:
    new = [
        NewMeter("M1", "headend-sim", address="tcp://h:1", feeder="F1", transformer="T1"),
        NewMeter("M2", "headend-sim", address="tcp://h:2", feeder="F1", transformer="T2"),
        NewMeter("M3", "headend-sim", feeder="F2", transformer="T3"),
    ]
    async with pool.connection() as connection:
        return await meters.add_many(connection, new, since=T0, state=MeterState.COMMISSIONED)


def event(
    meter: int | None, *, code: int | None = 1, at_s: int | None = 0, came_s: int = 60, **more
) -> MeterEvent:
    return MeterEvent(
        meter,
        more.pop("log", EventLog.STANDARD),
        more.pop("meaning", EventMeaning.POWER_DOWN),
        code,
        None if at_s is None else US + at_s * SECOND,
        US + came_s * SECOND,
        more.pop("source", "test"),
        **more,
    )


async def store(pool, *told: MeterEvent) -> Written:
    return await write(pool, registers_only([], source="test", events=told))


async def shown(pool, only: EventFilter = EventFilter(), **more) -> list[events.StoredEvent]:  # noqa: B008 - frozen
    async with pool.connection() as connection:
        return await events.page(connection, only, limit=more.pop("limit", 100), **more)


async def test_an_event_is_stored_with_all_it_says(pool, fleet):
    told = event(fleet["M1"], duration_s=240, text="L2", log=EventLog.POWER_FAILURE, node="DC7")
    written = await store(pool, told)
    assert (written.events, written.repeated) == (1, 0)
    [found] = await shown(pool)
    assert (found.at, found.occurred_at, found.received_at) == (T0, T0, T0 + timedelta(seconds=60))
    assert (found.asset_id, found.node, found.log, found.code) == ("M1", "DC7", EventLog.POWER_FAILURE, 1)
    assert (found.duration_s, found.text, found.source) == (240, "L2", "test")


async def test_the_same_again_leaves_no_trace(pool, fleet, database):
    told = event(fleet["M1"])
    await store(pool, told)
    again = await store(pool, replace(told, received_us=US + DAY, source="elsewhere"))
    assert (again.batch_id, again.events, again.repeated) == (None, 0, 1)
    with psycopg.connect(database.dsn) as connection:
        assert connection.execute("SELECT count(*) FROM batches").fetchone() == (1,)


async def test_codes_logs_moments_and_durations_tell_events_apart(pool, fleet):
    base = event(fleet["M1"], code=0)
    others = [
        replace(base, code=2),
        replace(base, code=None),
        replace(base, log=EventLog.FRAUD),
        replace(base, occurred_us=US + SECOND),
        replace(base, duration_s=0),
        replace(base, duration_s=1),
        replace(base, text="L1"),
        replace(base, meter_id=fleet["M2"]),
        replace(base, node="DC7"),
    ]
    assert (await store(pool, base, *others)).events == len(others) + 1
    assert (await store(pool, *others, base)).events == 0


async def test_a_profile_that_learns_a_meaning_makes_no_second_event(pool, fleet):
    told = event(fleet["M1"], meaning=EventMeaning.OTHER)
    await store(pool, told)
    assert (await store(pool, replace(told, meaning=EventMeaning.POWER_DOWN))).events == 0


async def test_without_a_time_of_its_own_repeats_within_a_minute_are_one(pool, fleet):
    lost = event(fleet["M1"], code=None, at_s=None, meaning=EventMeaning.LINK_LOST, log=EventLog.PRESENCE)
    back = replace(lost, meaning=EventMeaning.LINK_RESTORED)

    def later(one: MeterEvent, seconds: int) -> MeterEvent:
        return replace(one, received_us=one.received_us + seconds * SECOND)

    assert (await store(pool, lost, later(lost, 5))).events == 1
    assert (await store(pool, later(lost, 30))).events == 0
    # gone, back and gone again within a minute are three events: the last one says how it is now
    assert (await store(pool, later(back, 40))).events == 1
    assert (await store(pool, later(lost, 50))).events == 1
    assert (await store(pool, later(lost, 300))).events == 1
    assert (await store(pool, replace(lost, source="another broker"))).events == 1


async def test_a_standing_state_is_one_event_a_day(pool, fleet):
    alarm = event(fleet["M1"], code=6, at_s=None, log=EventLog.ALARM, standing=True)
    assert (await store(pool, alarm)).events == 1
    hourly = [replace(alarm, received_us=alarm.received_us + hour * 3600 * SECOND) for hour in range(1, 24)]
    assert (await store(pool, *hourly[:12])).events == 0
    assert (await store(pool, *hourly)).events == 0
    assert (await store(pool, replace(alarm, code=7))).events == 1
    assert (await store(pool, replace(alarm, received_us=alarm.received_us + 2 * DAY))).events == 1


async def test_an_event_of_a_node_has_no_meter(pool, fleet):
    told = event(None, node="DC7", log=EventLog.STATION, meaning=EventMeaning.LINK_LOST, code=None)
    await store(pool, told)
    [found] = await shown(pool, EventFilter(node="DC7"))
    assert (found.asset_id, found.node) == (None, "DC7")


async def test_an_unknown_meter_is_refused_as_for_readings(pool, fleet):
    with pytest.raises(UnknownMeter, match="99999"):
        await store(pool, event(99999))


async def test_what_the_database_cannot_hold_waits_in_the_inbox(pool, fleet, database):
    m1 = fleet["M1"]
    bad = [event(m1, text="a\0b"), event(m1, code=2**63), event(m1, came_s=-(10**12)), event(None)]
    written = await store(pool, event(m1), *bad)
    assert (written.events, written.quarantined) == (1, len(bad))
    with psycopg.connect(database.dsn) as connection:
        rows = connection.execute("SELECT identity, payload FROM inbox ORDER BY inbox_id").fetchall()
    assert {row[0] for row in rows} == {f"meter {m1}", None}
    assert any(str(2**63).encode() in bytes(row[1]) for row in rows)


@pytest.mark.parametrize(("stamp_us", "said"), [(0, "1970-01-01T00:00:00+00:00"), (10**18, "10" + "0" * 17)])
async def test_an_event_of_a_clock_that_was_never_set_is_kept_with_what_it_said(pool, fleet, stamp_us, said):
    told = replace(event(fleet["M1"], text="L1"), occurred_us=stamp_us)
    assert (await store(pool, told)).events == 1
    assert (await store(pool, replace(told, received_us=told.received_us + 3600 * SECOND))).events == 0
    [found] = await shown(pool)
    assert (found.occurred_at, found.at, found.standing) == (None, found.received_at, True)
    assert (found.text or "").startswith(f"L1, its clock said {said}")


async def test_pages_follow_one_another_without_gap_or_repeat(pool, fleet):
    told = [event(fleet["M1"], code=n, at_s=n // 3) for n in range(20)]
    await store(pool, *told)
    found: list[events.StoredEvent] = []
    before = None
    while page := await shown(pool, limit=7, before=before):
        found += page
        before = (page[-1].at, page[-1].identity)
    assert sorted(one.code or 0 for one in found) == list(range(20))
    assert [one.at for one in found] == sorted((one.at for one in found), reverse=True)


async def test_filters(pool, fleet):
    await store(
        pool,
        event(fleet["M1"]),
        event(fleet["M2"], meaning=EventMeaning.MAGNET, log=EventLog.FRAUD, at_s=10),
        event(fleet["M3"], meaning=EventMeaning.POWER_UP, at_s=20),
    )

    async def who(**filters) -> set[str | None]:
        return {one.asset_id for one in await shown(pool, EventFilter(**filters))}

    assert await who(below=("F1",)) == {"M1", "M2"}
    assert await who(below=("T3",)) == {"M3"}
    assert await who(below=("F1", "T2")) == {"M2"}
    assert await who(below=("F1", "T3")) == set()
    assert await who(below=("nowhere",)) == set()
    assert await who(meter_id=fleet["M2"]) == {"M2"}
    assert await who(logs=(EventLog.FRAUD,)) == {"M2"}
    assert await who(meanings=(EventMeaning.MAGNET, EventMeaning.POWER_UP)) == {"M2", "M3"}
    assert await who(since=T0, until=T0 + timedelta(seconds=10)) == {"M1"}
    async with pool.connection() as connection:
        came = await events.arrived(connection, EventFilter(below=("F2",)), since=T0, limit=10)
        assert [one.asset_id for one in came] == ["M3"]
        assert not await events.arrived(connection, EventFilter(), since=T0 + timedelta(hours=1), limit=10)


async def test_two_writers_at_once_keep_one(pool, fleet):
    told = [event(fleet["M1"], code=n, at_s=n) for n in range(50)]
    shuffled = random.Random(7).sample(told, len(told))
    both = await asyncio.gather(store(pool, *told), store(pool, *shuffled))
    assert sum(one.events for one in both) == 50
    assert len(await shown(pool)) == 50


async def test_cursors_never_go_back(pool, fleet):
    async with pool.connection() as connection:
        assert dict(await events.due(connection, ["headend-sim"])) == {fleet["M1"]: None, fleet["M2"]: None}
        await events.move_cursors(connection, [(fleet["M1"], T0 + timedelta(days=1))])
        await events.move_cursors(connection, [(fleet["M1"], T0)])
        assert dict(await events.due(connection, ["headend-sim"]))[fleet["M1"]] == T0 + timedelta(days=1)
        assert await events.due(connection, ["other"]) == []
