"""Collections of a simulated field over real sockets into a real database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from concentrator_sim.field import Field
from concentrator_sim.generator import quarter_of
from concentrator_sim.scenario import make_scenario
from headend.drivers.contract import Target
from headend.foundation import open_base
from headend.house import House, open_house
from headend.ingest.meter_import import import_meters
from headend.jobs.by_hand import Outcome
from headend.store import meters
from schemas.config import load_settings
from schemas.failure import Stage
from schemas.meter import MeterState

UNTIL = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=26)
SINCE = UNTIL - timedelta(hours=6)
QUARTERS = 24
MASTER_KEY = "42" * 32


@asynccontextmanager
async def house_of(dsn: str, **given: Any) -> AsyncIterator[House]:
    settings = load_settings(
        **{
            "database_url": dsn,
            "master_key": MASTER_KEY,
            "retry_first_s": 0.01,
            "retry_longest_s": 0.01,
            "read_attempts": 2,
            **given,
        }
    )
    async with open_base(settings) as base, open_house(base) as house:
        yield house


async def collect(house: House, since: datetime, until: datetime, **given: Any) -> Outcome:
    """What is missing, as a job that is worked at here."""
    async with house.by_hand("test") as hand:
        return await hand.collect(since, until, **given)


async def add(house: House, csv: str) -> None:
    async with house.base.pool.connection() as connection:
        done = await import_meters(
            connection,
            csv.encode(),
            vault=await house.base.vault(),
            since=SINCE - timedelta(days=1),
            actor="test",
            allow_plain_keys=True,
        )
    assert not done.errors, done.errors


def altered(csv: str, serial: str, column: str, value: str) -> str:
    """The file with one cell of one meter changed."""
    head, *lines = csv.splitlines()
    place = head.split(",").index(column)
    changed = []
    for line in lines:
        cells = line.split(",")
        if cells[0] == serial:
            cells[place] = value
        changed.append(",".join(cells))
    return "\n".join([head, *changed]) + "\n"


def stored(dsn: str) -> dict[str, list[tuple[Any, ...]]]:
    """Rows of each meter by asset id: start and the four registers."""
    found: dict[str, list[tuple[Any, ...]]] = {}
    with psycopg.connect(dsn) as connection:
        for asset_id, *row in connection.execute(
            """SELECT asset_id, start, active_import, active_export, reactive_import, reactive_export
               FROM interval_reads JOIN meters USING (meter_id) ORDER BY asset_id, start"""
        ):
            found.setdefault(asset_id, []).append(tuple(row))
    return found


def truth(field: Field, n: int) -> list[tuple[Any, ...]]:
    """What the field's meter ``n`` had at the ends of the intervals of [SINCE, UNTIL)."""
    first = quarter_of(round(SINCE.timestamp())) + 1
    columns = field.meters[n].meter.consumption.quarters(range(4), first, QUARTERS)
    starts = [SINCE + k * timedelta(minutes=15) for k in range(QUARTERS)]
    return [(start, *(int(column[k]) for column in columns)) for k, start in enumerate(starts)]


def field_of(**settings: Any) -> Field:
    return Field(make_scenario({"base_port": 0, **settings}))


async def test_every_kind_of_meter_gives_its_truth_once(database: Any) -> None:
    async with field_of(meters=33, mix="all") as field, house_of(database.dsn) as house:
        await add(house, field.csv())
        seen: list[int] = []
        outcome = await collect(house, SINCE, UNTIL, on_progress=lambda now: seen.append(now.done))
        assert (outcome.due, outcome.read, outcome.failures) == (33, 33, [])
        assert outcome.intervals == 33 * QUARTERS
        assert seen == sorted(seen)
        assert seen[-1] == 33
        rows = stored(database.dsn)
        for n, item in enumerate(field.meters):
            assert rows[item.meter.serial] == truth(field, n), item.meter.mode

        again = await collect(house, SINCE, UNTIL)
        assert (again.due, again.intervals) == (0, 0)
        # one quarter of an hour more is all that is asked for then
        more = await collect(house, SINCE, UNTIL + timedelta(minutes=15))
        assert (more.due, more.intervals) == (33, 33)


async def test_dead_meters_cost_nobody_else(embedded_database: Any) -> None:
    async with (
        field_of(meters=12, silent_every=4) as field,
        house_of(embedded_database.dsn, response_timeout_s=0.3, collector_concurrency=2) as house,
    ):
        await add(house, field.csv())
        outcome = await collect(house, SINCE, UNTIL)
        assert (outcome.read, outcome.failed) == (9, 3)
        assert {one.name for one in outcome.failures} == {
            item.meter.serial for item in field.meters if item.silent
        }
        assert {(one.stage, one.attempts) for one in outcome.failures} == {(Stage.TIMEOUT, 2)}
        assert outcome.stages == {Stage.TIMEOUT: 3}
        assert outcome.retries == 3


async def test_a_wrong_key_and_an_exchanged_meter_are_refused_and_the_rest_is_read(
    embedded_database: Any,
) -> None:
    async with field_of(meters=3, security="hls5") as field, house_of(embedded_database.dsn) as house:
        one, two, three = (item.meter.serial for item in field.meters)
        csv = altered(field.csv(), one, "encryption_key_plain", "00" * 16)
        csv = altered(csv, two, "system_title", "4845530099999999")
        await add(house, csv)
        outcome = await collect(house, SINCE, UNTIL)
        assert (outcome.read, outcome.failed) == (1, 2)
        failed = {failure.name: failure for failure in outcome.failures}
        assert failed[two].stage is Stage.ASSOCIATION
        assert failed[two].attempts == 1
        assert set(failed) == {one, two}
        assert set(stored(embedded_database.dsn)) == {three}


async def test_a_meter_that_others_have_read_before_us_is_read_by_us(embedded_database: Any) -> None:
    async with field_of(meters=2, security="hls5") as field:
        async with house_of(embedded_database.dsn) as house:
            await add(house, field.csv())
            assert (await collect(house, SINCE, UNTIL)).read == 2
        with psycopg.connect(embedded_database.dsn) as connection:  # the others used another database
            connection.execute("TRUNCATE invocation_counters, peer_counters, coverage, interval_reads")
        async with house_of(embedded_database.dsn) as house:
            outcome = await collect(house, SINCE, UNTIL)
            assert (outcome.read, outcome.failures) == (2, [])


async def test_counters_of_meters_are_kept_and_titles_learnt(embedded_database: Any) -> None:
    async with field_of(meters=1, security="hls5") as field:
        serial = field.meters[0].meter.serial
        title = field.meters[0].meter.system_title
        async with house_of(embedded_database.dsn) as house:
            await add(house, altered(field.csv(), serial, "system_title", ""))
            assert (await collect(house, SINCE, UNTIL)).read == 1
        with psycopg.connect(embedded_database.dsn) as connection:
            kept = connection.execute("SELECT system_title, last_value FROM peer_counters").fetchall()
            assert [bytes(row[0]) for row in kept] == [title]
            first = kept[0][1]
        async with house_of(embedded_database.dsn) as house:
            async with house.base.pool.connection() as connection:
                meter = await meters.by_asset(connection, serial)
            assert meter.system_title == title
            reach = await house.access.prepare_one(Target(meter))
            assert reach.peer_last == first
            assert not reach.is_new
            assert (await collect(house, SINCE, UNTIL + timedelta(hours=1))).read == 1
        with psycopg.connect(embedded_database.dsn) as connection:
            (last,) = connection.execute("SELECT last_value FROM peer_counters").fetchone() or (0,)
            assert last > first


async def test_a_replayed_counter_is_refused(embedded_database: Any) -> None:
    async with field_of(meters=1, security="hls5") as field, house_of(embedded_database.dsn) as house:
        await add(house, field.csv())
        assert (await collect(house, SINCE, UNTIL)).read == 1
        await house.access.flush()
        async with house.base.pool.connection() as connection:
            await connection.execute("UPDATE peer_counters SET last_value = 4000000000")
        outcome = await collect(house, SINCE, UNTIL + timedelta(hours=1))
        assert outcome.stages == {Stage.COUNTER: 1}


async def test_only_commissioned_meters_are_collected_and_only_those_named(embedded_database: Any) -> None:
    async with field_of(meters=3, security="none") as field, house_of(embedded_database.dsn) as house:
        await add(house, field.csv())
        async with house.base.pool.connection() as connection:
            one, two, three = await meters.page(connection, limit=3)
            await meters.change_state(connection, two.meter_id, MeterState.SUSPENDED, since=datetime.now(UTC))
        only = await collect(house, SINCE, UNTIL, meter_ids=[one.meter_id, two.meter_id])
        assert (only.due, only.read) == (1, 1)
        assert set(stored(embedded_database.dsn)) == {one.asset_id}
        assert (await collect(house, SINCE, UNTIL)).read == 1
        assert set(stored(embedded_database.dsn)) == {one.asset_id, three.asset_id}


async def test_meters_that_dial_in_are_waited_for(embedded_database: Any) -> None:
    async with field_of(meters=1, security="hls5") as field, house_of(embedded_database.dsn) as house:
        serial = field.meters[0].meter.serial
        await add(house, altered(field.csv(), serial, "address", "inbound:"))
        outcome = await collect(house, SINCE, UNTIL)
        assert (outcome.due, outcome.away, outcome.read, outcome.failed) == (1, 1, 0, 0)
        assert outcome.done == 1


async def test_a_cancelled_collection_ends_and_the_next_one_finishes_it(embedded_database: Any) -> None:
    async with field_of(meters=20, security="lls") as field, house_of(embedded_database.dsn) as house:
        await add(house, field.csv())
        begun = asyncio.Event()

        def on_progress(now: Outcome) -> None:
            if now.due == 20:
                begun.set()

        task = asyncio.create_task(collect(house, SINCE, UNTIL, on_progress=on_progress))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        outcome = await collect(house, SINCE, UNTIL)
        assert outcome.failures == []
        rows = stored(embedded_database.dsn)
        assert all(rows[item.meter.serial] == truth(field, n) for n, item in enumerate(field.meters))


async def test_without_a_master_key_meters_without_keys_are_read(embedded_database: Any) -> None:
    async with field_of(meters=1, security="none") as field:
        csv = "\n".join(line.removesuffix(",,,,,") for line in field.csv().splitlines())
        csv = csv.replace(csv[csv.index(",encryption_key_plain") : csv.index("\n")], "")
        settings = load_settings(database_url=embedded_database.dsn)
        async with open_base(settings) as base, open_house(base) as house:
            assert house.vault is None
            async with base.pool.connection() as connection:
                done = await import_meters(connection, csv.encode(), vault=None, since=SINCE, actor="test")
            assert not done.errors
            assert (await collect(house, SINCE, UNTIL)).read == 1


@pytest.mark.parametrize("security", ["none", "hls5"])
@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
async def test_meters_behind_one_port_are_told_apart_by_their_logical_device(
    embedded_database: Any, framing: str, security: str
) -> None:
    async with (
        field_of(meters=4, shared_port=True, framing=framing, security=security) as field,
        house_of(embedded_database.dsn) as house,
    ):
        addresses = [field.address(item) for item in field.meters]
        assert len({address.partition("?")[0] for address in addresses}) == 1
        await add(house, field.csv())
        outcome = await collect(house, SINCE, UNTIL)
        assert (outcome.read, outcome.failures) == (4, [])
        rows = stored(embedded_database.dsn)
        assert all(rows[item.meter.serial] == truth(field, n) for n, item in enumerate(field.meters))
