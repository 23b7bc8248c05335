"""Meters that dial in are read by the process that has their connection, and by the next one after it."""

import asyncio
import signal
import socket
from typing import Any

import pytest

from concentrator_sim.field import Field
from concentrator_sim.scenario import make_scenario

from .conftest import Processes
from .test_workers_killed import Night, ask, import_field
from .test_workers_killed import processes as processes

pytestmark = pytest.mark.timeout(240)

METERS = 6


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


async def test_a_dialled_in_meter_is_read_where_its_connection_is(
    processes: Processes, embedded_database: Any
) -> None:
    dsn, port = embedded_database.dsn, free_port()
    scenario = make_scenario({"meters": METERS, "security": "hls5", "dial_in": f"127.0.0.1:{port}"})
    async with Field(scenario) as field:
        it = Night(processes, dsn, field)
        numbers = await import_field(dsn, field, METERS)
        # two more that nobody can dial: they take every lane that is queued
        others = [await it.hire() for _ in range(2)]
        first = await it.hire(listen_inbound=f"127.0.0.1:{port}")
        try:
            here = "SELECT FROM inbound_connections WHERE worker = %s HAVING count(*) = %s"
            await it.until(here, first, METERS)
            await ask(dsn, numbers[: METERS // 2])
            await it.through()
            it.workers[first].send(signal.SIGKILL)
            # nobody has their connections: what is asked now waits until they dial in again
            await ask(dsn, numbers[METERS // 2 :])
            second = await it.hire(listen_inbound=f"127.0.0.1:{port}")
            await it.until(here, second, METERS)
            await it.through()
            it.check()
            assert sorted(it.rows("SELECT worker, count(*) FROM attempts GROUP BY 1")) == sorted(
                [(first, METERS // 2), (second, METERS // 2)]
            )
            assert not any(it.held(name) for name in others)
            assert await asyncio.to_thread(it.workers[second].stop) == 0
            assert it.rows("SELECT count(*) FROM inbound_connections WHERE worker = %s", second) == [(0,)]
        finally:
            await asyncio.to_thread(processes.end)
