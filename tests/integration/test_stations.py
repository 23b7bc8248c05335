"""Rounds of simulated concentrators over real sockets into a real database."""

import asyncio
import csv
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from io import StringIO
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from concentrator_sim.concentrator import Concentrator, Member
from concentrator_sim.field import CSV_COLUMNS
from concentrator_sim.forwarder import Forwarder
from concentrator_sim.generator import moment_of, quarter_of
from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.security import MODES
from concentrator_sim.store_forward import MISSES, StoreForward
from headend.foundation import open_base
from headend.house import House, open_house
from headend.ingest.acceptance import accept
from headend.ingest.meter_import import import_meters
from headend.ingest.network_import import import_network
from headend.jobs.by_hand import Outcome
from headend.jobs.shelves import missing_range
from headend.jobs.station_outcome import StationOutcome
from headend.links.failures import stage_of
from headend.listen.push import PushListener
from headend.store import announcements, meters, network
from headend.store.errors import UnknownError
from headend.store.settlement import Settlement
from headend.store.writer import Written
from protocols.errors import GatewayRefused
from schemas.address import GatewayAddress
from schemas.config import load_settings
from schemas.failure import Stage
from schemas.reading import ReadingBatch
from tests.integration.reading import registers_of

MASTER_KEY = "42" * 32
ROWS = 96
NOW = datetime.now(UTC).replace(minute=7, second=0, microsecond=0)
NEWEST = NOW.replace(minute=0)
QUARTER = timedelta(minutes=15)


class Station:
    """A concentrator DC-1 and its meters, on a clock of its own."""

    def __init__(self, modes: Sequence[str] = ("none", "hls5", "lls"), *, mode: str = "none") -> None:
        self.now = NOW
        self.members = [
            Member(SimulatedMeter(1, n, MODES[name]), GatewayAddress(0, bytes((n,))), quality=80, hops=1)
            for n, name in enumerate(modes, 1)
        ]
        self.head = SimulatedMeter(1, 999, MODES[mode], max_pdu=0xFFFF)
        self.store = StoreForward(self.members, self.clock, shelf_rows=2 * ROWS)
        for shelf in self.store.shelves.values():
            shelf.first = shelf.end - ROWS
        self.concentrator = Concentrator(self.store.own(self.head), self.members, self.clock, patience_s=0.02)
        self.model = "headend-dc" if mode == "none" else "headend-dc-hls5"
        self.port = 0

    def clock(self) -> int:
        return int(self.now.timestamp())

    def meters_csv(self, *, among: Sequence[Member] | None = None, with_station: bool = False) -> bytes:
        text = StringIO()
        writer = csv.DictWriter(text, CSV_COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        for member in self.members if among is None else among:
            writer.writerow(row_of(member.meter, member.meter.mode.model, f"via:?gateway={member.address}"))
        if with_station:
            row = row_of(self.head, self.model, f"tcp://127.0.0.1:{self.port}")
            writer.writerow(row | {"asset_id": "DC-1"})
        return text.getvalue().encode()

    def network_csv(self) -> bytes:
        lines = [
            "node,kind,parent,link,hops,quality,address,model,title",
            f"DC-1,concentrator,,,,,tcp://127.0.0.1:{self.port},{self.model},",
        ]
        return "\n".join(lines).encode()

    def truth(self, n: int) -> list[tuple[Any, ...]]:
        """What meter ``n`` had at the ends of all intervals that were on its shelf at first."""
        last = quarter_of(int(NEWEST.timestamp()))
        consumption = self.members[n].meter.consumption
        return [
            (
                datetime.fromtimestamp(moment_of(quarter) - 900, UTC),
                *(int(consumption.at(k, moment_of(quarter))) for k in range(4)),
            )
            for quarter in range(last - ROWS + 1, last + 1)
        ]


def row_of(meter: SimulatedMeter, model: str, address: str) -> dict[str, str]:
    keys = meter.keys
    row = {
        "asset_id": meter.serial,
        "model": model,
        "address": address,
        "system_title": meter.system_title.hex().upper(),
        "state": "commissioned",
    }
    if keys.encryption is not None and keys.authentication is not None:
        row["encryption_key_plain"] = keys.encryption.reveal().hex()
        row["authentication_key_plain"] = keys.authentication.reveal().hex()
    if keys.master is not None:
        row["master_key_plain"] = keys.master.reveal().hex()
    if keys.lls is not None:
        row["lls_secret_plain"] = keys.lls.reveal().decode()
    return row


@asynccontextmanager
async def house_with(
    dsn: str, station: Station, *, meters_csv: bytes | None = None, network: bool = True, **given: Any
) -> AsyncIterator[House]:
    station.port = station.port or await station.concentrator.listen()
    settings = load_settings(database_url=dsn, master_key=MASTER_KEY, response_timeout_s=2.0, **given)
    try:
        async with open_base(settings) as base, open_house(base) as house:
            data = station.meters_csv() if meters_csv is None else meters_csv
            async with base.pool.connection() as connection:
                done = await import_meters(
                    connection,
                    data,
                    vault=await base.vault(),
                    since=NOW - timedelta(days=20),
                    actor="test",
                    allow_plain_keys=True,
                )
                assert not done.errors, done.errors
                if network:
                    hung = await import_network(
                        connection, station.network_csv(), since=NOW - timedelta(days=20), actor="test"
                    )
                    assert not hung.errors, hung.errors
            yield house
    finally:
        await station.concentrator.stop()
        station.port = 0


async def collect(house: House, since: datetime, until: datetime) -> Outcome:
    async with house.by_hand("test") as hand:
        return await hand.collect(since, until)


async def hang_below(connection: Any, station: Station) -> None:
    """The network of the file, and the meters in it below the concentrator."""
    lines = [f"{one.meter.serial},meter,DC-1,plc_narrowband,1,80,,," for one in station.members]
    data = station.network_csv() + b"\n" + "\n".join(lines).encode()
    hung = await import_network(connection, data, since=NOW - timedelta(days=20), actor="test")
    assert not hung.errors, hung.errors


async def rounds(house: House, *codes: str) -> list[Any]:
    """Rounds of concentrators: their figures as attributes."""
    async with house.by_hand("test") as hand:
        found = await hand.stations(codes)
    none = asdict(StationOutcome())
    return [
        SimpleNamespace(station=one.station, failure=one.failure, **(none | one.figures)) for one in found
    ]


async def one_round(house: House) -> Any:
    """A round of the one concentrator."""
    (found,) = await rounds(house)
    return found


def stored(dsn: str) -> dict[str, list[tuple[Any, ...]]]:
    found: dict[str, list[tuple[Any, ...]]] = {}
    with psycopg.connect(dsn) as connection:
        for asset_id, *row in connection.execute(
            """SELECT asset_id, start, active_import, active_export, reactive_import, reactive_export
               FROM interval_reads JOIN meters USING (meter_id) ORDER BY asset_id, start"""
        ):
            found.setdefault(asset_id, []).append(tuple(row))
    return found


def everything(station: Station) -> dict[str, list[tuple[Any, ...]]]:
    return {member.meter.serial: station.truth(n) for n, member in enumerate(station.members)}


async def test_a_round_stores_what_is_kept_once_and_releases_it(database: Any) -> None:
    station = Station()
    async with house_with(database.dsn, station) as house:
        outcome = await one_round(house)
        assert (outcome.failure, outcome.bad) == (None, {})
        assert (outcome.meters, outcome.unknown, outcome.fetched, outcome.released) == (3, 0, 3 * ROWS, 3)
        assert stored(database.dsn) == everything(station)
        assert [shelf.rows for shelf in station.store.shelves.values()] == [0, 0, 0]
        again = await one_round(house)
        assert (again.fetched, again.released, again.failure) == (0, 0, None)
        # and what comes later is all that is fetched then
        station.now += 2 * QUARTER
        later = await one_round(house)
        assert (later.fetched, later.released) == (6, 3)
        # the meters now hang below their concentrator
        async with house.base.pool.connection() as connection:
            found = await meters.find(connection, asset_ids=[one.meter.serial for one in station.members])
            places = await network.places(connection, [one.meter_id for one in found])
        assert {(place.station, place.quality) for place in places.values()} == {("DC-1", 80)}


async def test_a_concentrator_with_keys_is_a_device_of_its_name(embedded_database: Any) -> None:
    station = Station(mode="hls5")
    station.port = await station.concentrator.listen()
    data = station.meters_csv(with_station=True)
    async with house_with(embedded_database.dsn, station, meters_csv=data) as house:
        outcome = await one_round(house)
        assert (outcome.failure, outcome.fetched, outcome.released) == (None, 3 * ROWS, 3)
        assert stored(embedded_database.dsn) == everything(station)


async def test_without_its_keys_a_ciphered_concentrator_is_not_talked_to(embedded_database: Any) -> None:
    station = Station(mode="hls5")
    async with house_with(embedded_database.dsn, station) as house:
        outcome = await one_round(house)
        assert "key is not stored" in str(outcome.failure)
        assert [shelf.rows for shelf in station.store.shelves.values()] == [ROWS] * 3


async def test_nothing_is_released_that_is_not_committed(embedded_database: Any) -> None:
    station = Station()
    async with house_with(embedded_database.dsn, station) as house:
        committed = house.pipeline._write

        async def refuses(batch: ReadingBatch, settlement: Settlement) -> Written:
            if len(batch):
                raise ValueError("the store will not have it")
            return await committed(batch, settlement)

        house.pipeline._write = refuses
        outcome = await one_round(house)
        assert len(outcome.bad) == 3
        assert (outcome.fetched, outcome.released) == (3 * ROWS, 0)
        assert [shelf.rows for shelf in station.store.shelves.values()] == [ROWS] * 3
        # delivered again, stored once
        house.pipeline._write = committed
        assert (await one_round(house)).released == 3
        assert stored(embedded_database.dsn) == everything(station)


async def test_a_round_cut_off_before_the_commit_releases_nothing(embedded_database: Any) -> None:
    station = Station()
    async with house_with(embedded_database.dsn, station, shutdown_timeout_s=0.1) as house:
        begun, never = asyncio.Event(), asyncio.Event()

        async def hangs(batch: ReadingBatch, _: Settlement) -> Written:
            begun.set()
            await never.wait()
            raise AssertionError

        house.pipeline._write = hangs
        task = asyncio.create_task(one_round(house))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert station.store.releases == 0
    async with house_with(embedded_database.dsn, station) as house:
        assert (await one_round(house)).released == 3
        assert stored(embedded_database.dsn) == everything(station)


async def test_a_round_cut_off_after_the_commit_is_finished_by_the_next(embedded_database: Any) -> None:
    station = Station()
    async with house_with(embedded_database.dsn, station, read_attempts=1) as house:
        committed = house.pipeline._write

        async def commits_and_hangs_up(batch: ReadingBatch, settlement: Settlement) -> Written:
            written = await committed(batch, settlement)
            if len(batch):
                station.concentrator.hang_up()
                await asyncio.sleep(0)
            return written

        house.pipeline._write = commits_and_hangs_up
        async with house.by_hand("test") as hand:
            (outcome,) = await hand.stations()
        assert outcome.failure is not None
        assert station.store.releases == 0
        assert stored(embedded_database.dsn) == everything(station)
    # after a restart nothing is fetched again: the database says that it has it all
    async with house_with(embedded_database.dsn, station) as house:
        again = await one_round(house)
        assert (again.failure, again.fetched, again.released) == (None, 0, 3)
        assert stored(embedded_database.dsn) == everything(station)


async def test_unknown_meters_stay_in_the_concentrator_and_go_to_the_inbox(embedded_database: Any) -> None:
    station = Station()
    station.port = await station.concentrator.listen()
    data = station.meters_csv(among=station.members[:1])
    async with house_with(embedded_database.dsn, station, meters_csv=data) as house:
        outcome = await one_round(house)
        assert (outcome.unknown, outcome.fetched, outcome.released) == (2, ROWS, 1)
        assert [shelf.rows for shelf in station.store.shelves.values()] == [0, ROWS, ROWS]
        with psycopg.connect(embedded_database.dsn) as connection:
            rows = connection.execute(
                "SELECT identity, model, address FROM announcements ORDER BY 1"
            ).fetchall()
        assert rows == [
            (one.meter.serial, one.meter.mode.model, f"via:?gateway={one.address}")
            for one in station.members[1:]
        ]


async def test_an_announced_meter_that_is_accepted_is_fetched_from_the_beginning(
    embedded_database: Any,
) -> None:
    station = Station(("none", "none"))
    station.port = await station.concentrator.listen()
    data = station.meters_csv(among=station.members[:1])
    async with house_with(embedded_database.dsn, station, meters_csv=data) as house:
        assert (await one_round(house)).unknown == 1
        async with house.base.pool.connection() as connection:
            (device,) = await announcements.page(connection, limit=10)
            meter = await accept(connection, device.number, actor="test", now=NOW)
        assert (meter.asset_id, meter.model) == (station.members[1].meter.serial, "headend-sim")
        outcome = await one_round(house)
        assert (outcome.unknown, outcome.fetched, outcome.bad) == (0, ROWS, {})
        assert stored(embedded_database.dsn) == everything(station)
        # and it is reached through its concentrator, as it was announced
        assert len(await registers_of(house, meter)) == 4


async def test_a_gap_of_the_concentrator_is_read_through_it(embedded_database: Any) -> None:
    station = Station()
    last = quarter_of(int(NEWEST.timestamp()))
    station.store.shelves[2].holes |= {last - 40, last - 41}
    async with house_with(embedded_database.dsn, station, forwarded_within_s=3600) as house:
        assert (await one_round(house)).fetched == 3 * ROWS - 2
        outcome = await collect(house, NEWEST - ROWS * QUARTER, NEWEST)
        assert (outcome.due, outcome.read, outcome.intervals) == (1, 1, 2)
        assert stored(embedded_database.dsn) == everything(station)


async def test_a_meter_is_not_asked_for_what_its_concentrator_will_hand_on(embedded_database: Any) -> None:
    station = Station()
    async with house_with(embedded_database.dsn, station, forwarded_within_s=24 * 3600) as house:
        async with house.base.pool.connection() as connection:
            await hang_below(connection, station)
        outcome = await collect(house, NEWEST - 8 * QUARTER, NEWEST)
        assert (outcome.due, outcome.read, station.concentrator.exchanges) == (0, 0, 0)
        # of what is older than that each is asked itself: the 8 quarters before
        outcome = await collect(house, NEWEST - 104 * QUARTER, NEWEST)
        assert (outcome.due, outcome.read, outcome.failures) == (3, 3, [])
        assert 3 * 8 <= outcome.intervals <= 3 * 12  # NEWEST is up to an hour ago
        # and a concentrator without a word of its own about curves keeps nothing back
        with psycopg.connect(embedded_database.dsn) as changed:
            changed.execute("UPDATE network_nodes SET model = NULL WHERE code = 'DC-1'")
        outcome = await collect(house, NEWEST - 8 * QUARTER, NEWEST)
        assert (outcome.due, outcome.read, outcome.failures) == (3, 3, [])


async def test_a_single_meter_is_read_through_its_concentrator_now(embedded_database: Any) -> None:
    station = Station()
    async with house_with(embedded_database.dsn, station) as house:
        await one_round(house)
        async with house.base.pool.connection() as connection:
            meter = await meters.by_asset(connection, station.members[1].meter.serial)
        assert len(await registers_of(house, meter)) == 4
        station.members[1].is_dead = True
        with pytest.raises(GatewayRefused) as caught:
            await registers_of(house, meter)
        assert stage_of(caught.value) is Stage.GATEWAY


async def test_silent_meters_become_events_once(embedded_database: Any) -> None:
    station = Station()
    station.members[2].is_dead = True
    async with house_with(embedded_database.dsn, station) as house:
        for _ in range(MISSES + 2):
            outcome = await one_round(house)
        assert (outcome.silent, outcome.failure) == (1, None)
        with psycopg.connect(embedded_database.dsn) as connection:
            rows = connection.execute(
                "SELECT asset_id, log, meaning, occurred_at FROM events JOIN meters USING (meter_id)"
            ).fetchall()
        assert rows == [(station.members[2].meter.serial, "station", "meter_silent", NOW)]


async def test_a_concentrator_that_is_away_costs_the_others_nothing(embedded_database: Any) -> None:
    station = Station()
    async with house_with(embedded_database.dsn, station) as house:
        async with house.base.pool.connection() as connection:
            more = f"\nDC-2,concentrator,,,,,tcp://127.0.0.1:1,{station.model},".encode()
            hung = await import_network(connection, station.network_csv() + more, since=NOW, actor="test")
            assert not hung.errors
        one, two = await rounds(house)
        assert (one.station, one.failure, one.fetched) == ("DC-1", None, 3 * ROWS)
        assert (two.station, two.fetched) == ("DC-2", 0)
        assert two.failure is not None


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110 - counters have no event
            await asyncio.sleep(0.01)


# ---- what concentrators push ------------------------------------------------------------------------------


@asynccontextmanager
async def pushed_to(house: House, station: Station) -> AsyncIterator[Forwarder]:
    """A listener of the house, and the concentrator that pushes to it."""
    settings = load_settings(database_url="postgresql://unused", listen_push_tcp="127.0.0.1:0")
    listener = PushListener(
        settings,
        house.base.pool.connection,
        house.vault,
        house.pipeline,
        directory=house.directory,
        handler=house.handler,
    )
    async with listener, house.base.pool.connection() as connection:
        await hang_below(connection, station)
        yield Forwarder(station.store, station.head, "DC-1", f"127.0.0.1:{listener.tcp.port}", station.clock)


@pytest.mark.parametrize("mode", ["none", "hls5"])
async def test_what_a_concentrator_pushes_is_stored_confirmed_and_let_go(
    embedded_database: Any, mode: str
) -> None:
    station = Station(mode=mode)
    station.port = await station.concentrator.listen()
    data = station.meters_csv(with_station=True)
    async with (
        house_with(embedded_database.dsn, station, meters_csv=data) as house,
        pushed_to(house, station) as forwarder,
    ):
        assert await forwarder.push_all()
        assert stored(embedded_database.dsn) == everything(station)
        assert [shelf.rows for shelf in station.store.shelves.values()] == [0, 0, 0]
        # what was pushed is covered: neither a round nor a collection asks for it again
        assert (await one_round(house)).fetched == 0
        assert (await collect(house, NEWEST - ROWS * QUARTER, NEWEST)).due == 0
        # and the same once more has no effect
        for shelf in station.store.shelves.values():
            shelf.first = shelf.end - ROWS
        assert await forwarder.push_all()
        assert stored(embedded_database.dsn) == everything(station)


async def test_a_push_that_is_not_committed_is_not_confirmed(embedded_database: Any) -> None:
    station = Station()
    station.port = await station.concentrator.listen()
    data = station.meters_csv(with_station=True)
    async with house_with(embedded_database.dsn, station, meters_csv=data) as house:

        async def refuses(batch: ReadingBatch, _: Settlement) -> Written:
            raise ValueError("the store will not have it")

        async with pushed_to(house, station) as forwarder:
            write_, house.pipeline._write = house.pipeline._write, refuses
            push = asyncio.create_task(forwarder.push_all())
            await until(lambda: house.handler.totals.everything.kept > 0)
            assert house.handler.totals.everything.confirmed == 0
            assert [shelf.rows for shelf in station.store.shelves.values()] == [ROWS] * 3
            house.pipeline._write = write_
            push.cancel()
            with pytest.raises(asyncio.CancelledError):
                await push
            assert await forwarder.push_all()
        assert stored(embedded_database.dsn) == everything(station)


@pytest.mark.parametrize("strange", ["unknown", "elsewhere"])
async def test_rows_of_meters_that_are_not_below_it_are_not_believed_nor_confirmed(
    embedded_database: Any, strange: str
) -> None:
    station = Station()
    station.port = await station.concentrator.listen()
    among = station.members[:2] if strange == "unknown" else station.members
    data = station.meters_csv(among=among, with_station=True)
    async with house_with(embedded_database.dsn, station, meters_csv=data) as house:
        members, station.members = station.members, station.members[:2]  # only these hang below it
        async with pushed_to(house, station) as forwarder:
            push = asyncio.create_task(forwarder.push_all())
            await until(lambda: house.handler.totals.everything.stored > 0)
            push.cancel()
            with pytest.raises(asyncio.CancelledError):
                await push
        assert stored(embedded_database.dsn) == everything(station)
        assert house.handler.totals.everything.confirmed == 0
        with psycopg.connect(embedded_database.dsn) as connection:
            (reason,) = connection.execute("SELECT reason FROM inbox").fetchone() or ("",)
        assert f"{members[2].meter.serial} is no meter of ours below DC-1" in reason


async def test_a_plain_push_in_the_name_of_a_ciphered_concentrator_is_refused(embedded_database: Any) -> None:
    station = Station(mode="hls5")
    station.port = await station.concentrator.listen()
    data = station.meters_csv(with_station=True)
    async with house_with(embedded_database.dsn, station, meters_csv=data) as house:
        station.head = SimulatedMeter(1, 999, MODES["none"], max_pdu=0xFFFF)
        async with pushed_to(house, station) as forwarder:
            push = asyncio.create_task(forwarder.push_all())
            await until(lambda: house.handler.totals.everything.kept > 0)
            push.cancel()
            with pytest.raises(asyncio.CancelledError):
                await push
        assert stored(embedded_database.dsn) == {}
        with psycopg.connect(embedded_database.dsn) as connection:
            (reason,) = connection.execute("SELECT reason FROM inbox").fetchone() or ("",)
        assert "allows no push without ciphering" in reason


async def test_a_hostile_concentrator_costs_the_others_nothing(embedded_database: Any) -> None:
    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(64)
        writer.write(b"\x00\x01\x00\x01\x00\x01\xff\xff" + bytes(range(256)) * 300)
        await writer.drain()
        writer.close()

    hostile = await asyncio.start_server(garbage, "127.0.0.1", 0)
    station = Station()
    async with hostile, house_with(embedded_database.dsn, station) as house:
        port = hostile.sockets[0].getsockname()[1]
        async with house.base.pool.connection() as connection:
            more = f"\nDC-2,concentrator,,,,,tcp://127.0.0.1:{port},{station.model},".encode()
            hung = await import_network(connection, station.network_csv() + more, since=NOW, actor="test")
            assert not hung.errors
        one, two = await rounds(house)
        assert (one.station, one.failure, one.fetched) == ("DC-1", None, 3 * ROWS)
        assert "unknown APDU" in two.failure
        assert two.fetched == 0


async def test_a_round_of_named_concentrators_only(embedded_database: Any) -> None:
    station = Station()
    async with house_with(embedded_database.dsn, station) as house:
        with pytest.raises(UnknownError, match="DC-7"):
            await rounds(house, "DC-1", "DC-7")
        (outcome,) = await rounds(house, "DC-1")
        assert outcome.fetched == 3 * ROWS


def at(hour: int) -> datetime:
    return NEWEST + timedelta(hours=hour)


@pytest.mark.parametrize(
    ("covered", "missing"),
    [
        ([], (0, 10)),
        ([(0, 10)], None),
        ([(-5, 20)], None),
        ([(0, 4), (4, 10)], None),
        ([(0, 4)], (4, 10)),
        ([(6, 10)], (0, 6)),
        ([(-2, 1), (3, 4), (9, 12)], (1, 9)),
        ([(2, 3)], (0, 10)),
        ([(-9, -1), (11, 12)], (0, 10)),
        ([(-9, 0), (10, 12)], (0, 10)),
    ],
)
def test_what_is_missing_is_one_range(
    covered: list[tuple[int, int]], missing: tuple[int, int] | None
) -> None:
    found = missing_range((at(0), at(10)), [(at(a), at(b)) for a, b in covered])
    assert found == (None if missing is None else (at(missing[0]), at(missing[1])))
