"""kill -9 of the head-end again and again while a concentrator pushes and is asked: each interval once."""

import asyncio
import os
import random
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from concentrator_sim.forwarder import Forwarder
from concentrator_sim.generator import moment_of, quarter_of
from headend.house import House
from headend.store.embedded import EmbeddedPostgres
from headend.store.errors import UnavailableError
from headend.store.migrate import migrate
from tests.conftest import server_folder
from tests.integration.test_stations import (
    MASTER_KEY,
    NEWEST,
    QUARTER,
    ROWS,
    Station,
    hang_below,
    house_with,
    pushed_to,
    rounds,
    stored,
)

WORKER = Path(__file__).with_name("station_worker.py")
KILLS = 20


@asynccontextmanager
async def worker(dsn: str, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """A head-end in a process of its own, listening; killed at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(WORKER), dsn, MASTER_KEY, str(port),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        async with asyncio.timeout(120):
            assert (await process.stdout.readline()).strip() == b"ready"
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.timeout(600)
async def test_each_interval_is_stored_once_whenever_the_head_end_is_killed(embedded_database: Any) -> None:
    station = Station(mode="hls5")
    station.port = await station.concentrator.listen()
    data = station.meters_csv(with_station=True)
    async with house_with(embedded_database.dsn, station, meters_csv=data) as house:
        where = station.port
        async with house.base.pool.connection() as connection:
            await hang_below(connection, station)
    await station.concentrator.listen(port=where)
    port, chance = free_port(), random.Random(7)
    forwarder = Forwarder(station.store, station.head, "DC-1", f"127.0.0.1:{port}", station.clock)
    pushing = asyncio.create_task(forwarder.run(0.02))
    try:
        for _ in range(KILLS):
            async with worker(embedded_database.dsn, port) as process:
                for _ in range(3):
                    station.now += QUARTER
                    await asyncio.sleep(chance.uniform(0.0, 0.15))
                process.send_signal(signal.SIGKILL)
        async with worker(embedded_database.dsn, port), asyncio.timeout(120):
            while not all_is_forwarded(station):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    finally:
        pushing.cancel()
        await asyncio.wait([pushing])
        await station.concentrator.stop()
    assert forwarder.confirmed > 0
    assert forwarder.failed > 0  # or nothing was ever cut off
    check_each_once(embedded_database.dsn, station)


def all_is_forwarded(station: Station) -> bool:
    """Whether the concentrator has fetched all that there is by now, and kept nothing of it."""
    end = quarter_of(int(station.now.timestamp())) + 1
    return all(shelf.end == end and not shelf.rows for shelf in station.store.shelves.values())


def check_each_once(dsn: str, station: Station) -> None:
    """Every interval that the concentrator ever had is stored, as its meter had it."""
    first, last = quarter_of(int(NEWEST.timestamp())) - ROWS + 1, quarter_of(int(station.now.timestamp()))
    assert all(shelf.lost == 0 for shelf in station.store.shelves.values())
    rows = stored(dsn)
    for member in station.members:
        assert rows[member.meter.serial] == [
            (
                datetime.fromtimestamp(moment_of(quarter), UTC) - timedelta(minutes=15),
                *(int(member.meter.consumption.at(k, moment_of(quarter))) for k in range(4)),
            )
            for quarter in range(first, last + 1)
        ]


@pytest.fixture
def folder() -> Iterator[Path]:
    with server_folder() as made:
        yield made


async def rounds_of(house: House) -> None:
    while True:
        with suppress(UnavailableError):
            await rounds(house)
        await asyncio.sleep(0.05)


@pytest.mark.timeout(600)
async def test_each_interval_is_stored_once_when_the_database_is_killed_and_comes_back(folder: Path) -> None:
    server = EmbeddedPostgres(folder, port=free_port())
    dsn = await asyncio.to_thread(server.__enter__)
    try:
        await asyncio.to_thread(migrate, dsn)
        station = Station()
        station.port = await station.concentrator.listen()
        data = station.meters_csv(with_station=True)
        async with (
            house_with(dsn, station, meters_csv=data) as house,
            pushed_to(house, station) as forwarder,
            asyncio.TaskGroup() as tasks,
        ):
            busy = [tasks.create_task(forwarder.run(0.02)), tasks.create_task(rounds_of(house))]
            for _ in range(20):
                station.now += QUARTER
                await asyncio.sleep(0.05)
            pid = server.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            for _ in range(10):
                station.now += QUARTER
                await asyncio.sleep(0.3)
            assert any(shelf.rows for shelf in station.store.shelves.values())  # nothing was let go meanwhile
            await asyncio.to_thread(server.__exit__, None, None, None)
            assert await asyncio.to_thread(server.__enter__) == dsn
            async with asyncio.timeout(120):
                while not all_is_forwarded(station):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            for task in busy:
                task.cancel()
        await asyncio.to_thread(check_each_once, dsn, station)
    finally:
        await asyncio.to_thread(server.__exit__, None, None, None)
