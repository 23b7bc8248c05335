"""Rounds of event logs of a simulated field, over real sockets into a real database."""

import asyncio
from datetime import UTC, datetime, timedelta

import psycopg

from concentrator_sim.event_log import FRAUD, STANDARD, TERMINAL_COVER_OPENED
from concentrator_sim.field import Field
from concentrator_sim.scenario import make_scenario
from headend.house import House
from headend.jobs.by_hand import Outcome
from headend.listen.push import PushListener
from headend.store import events, meters
from headend.store.events import EventFilter, StoredEvent
from schemas.event import EventLog, EventMeaning
from schemas.job import Events
from tests.integration.test_collect import add, house_of


async def stored(house: House, **only) -> list[StoredEvent]:
    async with house.base.pool.connection() as connection:
        return await events.page(connection, EventFilter(**only), limit=1000)


async def read_logs(house: House) -> Outcome:
    async with house.base.pool.connection() as connection:
        numbers = [one.meter_id for one in await meters.page(connection, limit=100)]
    async with house.by_hand("test") as hand:
        return await hand.read(numbers, Events())


def cursors(dsn: str) -> dict[str, datetime]:
    with psycopg.connect(dsn) as connection:
        query = "SELECT asset_id, read_until FROM event_cursors JOIN meters USING (meter_id)"
        return dict(connection.execute(query).fetchall())


async def test_a_round_stores_what_the_meters_logs_hold_once(database):
    scenario = make_scenario({"base_port": 0, "meters": 3, "seed": 77, "security": "hls5"})
    async with Field(scenario) as field, house_of(database.dsn) as house:
        await add(house, field.csv())
        now_s = field.now()
        hit = field.meters[1].meter
        hit.events.power_failure(now_s - 900, now_s - 300)
        hit.events.add(FRAUD, now_s - 60, TERMINAL_COVER_OPENED)
        outcome = await read_logs(house)
        assert (outcome.due, outcome.read, outcome.failed) == (3, 3, 0)
        found = {(e.log, e.meaning, e.occurred_at, e.duration_s) for e in await stored(house)}

        def at(seconds: int) -> datetime:
            return datetime.fromtimestamp(now_s - seconds, UTC)

        assert {
            (EventLog.STANDARD, EventMeaning.POWER_DOWN, at(900), None),
            (EventLog.STANDARD, EventMeaning.POWER_UP, at(300), None),
            (EventLog.POWER_FAILURE, EventMeaning.POWER_FAILURE, at(300), 600),
            (EventLog.FRAUD, EventMeaning.TERMINAL_COVER_OPENED, at(60), None),
        } <= found
        before = len(await stored(house))
        again = await read_logs(house)
        assert (again.read, len(await stored(house))) == (3, before)
        hit.events.add(STANDARD, now_s, 200)
        await read_logs(house)
        assert len(await stored(house)) == before + 1
        [newest] = [e for e in await stored(house) if e.code == 200]
        assert (newest.asset_id, newest.meaning) == (hit.serial, EventMeaning.OTHER)


async def test_a_meter_that_is_not_read_keeps_its_cursor(embedded_database):
    scenario = make_scenario({"base_port": 0, "meters": 2, "seed": 78})
    async with house_of(embedded_database.dsn) as house:
        async with Field(scenario) as field:
            await add(house, field.csv())
            await read_logs(house)
            before = cursors(embedded_database.dsn)
            assert set(before) == {item.meter.serial for item in field.meters}
            assert all(timedelta() <= datetime.now(UTC) - at < timedelta(minutes=1) for at in before.values())
        outcome = await read_logs(house)  # nobody listens any more
        assert (outcome.read, outcome.failed) == (0, 2)
        assert cursors(embedded_database.dsn) == before


async def test_a_power_failure_is_told_by_the_last_gasp_and_later_by_the_logs(embedded_database):
    fault = {"kind": "reboot", "after_s": 1, "for_s": 2}
    table = {"base_port": 0, "meters": 2, "seed": 79, "security": "hls5", "push_every_s": 86_400}
    async with house_of(embedded_database.dsn, listen_push_tcp="127.0.0.1:0") as house:
        settings, connect = house.base.settings, house.base.pool.connection
        listener = PushListener(
            settings, connect, house.vault, house.pipeline, directory=house.directory, handler=house.handler
        )
        async with listener:
            push_to = f"tcp://127.0.0.1:{listener.tcp.port}"
            field = Field(make_scenario({**table, "push_to": push_to, "faults": [fault]}))
            # known before it pushes for the first time, so not yet where
            await add(house, field.csv().replace("127.0.0.1:0,", "127.0.0.1:1,"))
            async with field:
                async with house.base.pool.connection() as connection:
                    for item in field.meters:
                        meter = await meters.by_asset(connection, item.meter.serial)
                        await meters.set_address(connection, meter.meter_id, field.address(item))
                gasps = await eventually(house, 2, logs=(EventLog.LAST_GASP,))
                assert {e.asset_id for e in gasps} == {item.meter.serial for item in field.meters}
                assert {e.meaning for e in gasps} == {EventMeaning.LAST_GASP}
                faults = field.faults_of(field.meters[0].meter.serial)
                while faults.is_down(field.now()):  # noqa: ASYNC110 - the field's clock is the machine's
                    await asyncio.sleep(0.1)
                outcome = await read_logs(house)
        assert (outcome.read, outcome.failed) == (2, 0), outcome.failures
        for gasp in gasps:
            [down, *_] = [
                e
                for e in await stored(house, meanings=(EventMeaning.POWER_DOWN,))
                if e.asset_id == gasp.asset_id
            ]
            assert abs(down.at - gasp.at) <= timedelta(seconds=5)


async def eventually(house: House, count: int, **only) -> list[StoredEvent]:
    """Events, as soon as there are so many."""
    async with asyncio.timeout(20):
        while len(found := await stored(house, **only)) < count:  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(0.05)
    return found
