"""Fetching goes on where the database was away, and ends when it is asked to, wherever the database is."""

import asyncio
from typing import Any

import pytest
from procrastinate.exceptions import ConnectorException

from headend.jobs import fetching as module
from headend.jobs.fetching import fetching

GUARD_S = 10.0


class Worker:
    """procrastinate's app at the edge: its worker ends as it is told, and says farewell to a database."""

    def __init__(self, *ends: Exception | None) -> None:
        self.ends = list(ends)
        self.started = asyncio.Event()
        self.runs = 0

    async def run_worker_async(self, **given: Any) -> None:
        self.runs += 1
        if self.ends:
            error = self.ends.pop(0)
            if error is not None:
                raise error
            return
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ConnectorException("no farewell") from None


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AGAIN_S", 0.0)


async def test_a_worker_that_stops_is_started_again_and_ends_when_asked() -> None:
    worker = Worker(ConnectorException("away"), None)
    task = asyncio.create_task(fetching(worker, "lanes", drain_s=1))  # type: ignore[arg-type]
    async with asyncio.timeout(GUARD_S):
        await worker.started.wait()
        assert worker.runs == 3
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert worker.runs == 3
