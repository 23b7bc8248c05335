"""Fetching goes on where the database was away, and ends when it is asked to, wherever the database is."""

import asyncio
from typing import Any

import pytest
from procrastinate.exceptions import ConnectorException

from headend.jobs import fetching as module
from headend.jobs.fetching import fetching

GUARD_S = 10.0
APP: Any = None


class Workers:
    """procrastinate's workers at the edge: each ends as it is told, or when it is asked to, and says farewell
    to a database that is away."""

    def __init__(self, *ends: Exception | None) -> None:
        self.ends = list(ends)
        self.started = asyncio.Event()
        self.registered = asyncio.Event()
        self.registered.set()
        self.runs = 0
        self.stopped = asyncio.Event()

    def __call__(self, *_: Any, **__: Any) -> "Workers":
        return self

    def stop(self) -> None:
        self.stopped.set()

    async def run(self) -> None:
        self.stopped.clear()
        self.runs += 1
        if self.ends:
            if (error := self.ends.pop(0)) is not None:
                raise error
            return
        self.started.set()
        while not self.registered.is_set():
            try:
                await self.registered.wait()
            except asyncio.CancelledError:
                continue  # lost on the way to the database
        await self.stopped.wait()
        raise ConnectorException("no farewell")


async def ended(task: "asyncio.Task[None]") -> None:
    done, _ = await asyncio.wait([task], timeout=GUARD_S)
    assert done
    assert task.cancelled()


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_AGAIN_S", 0.0)
    monkeypatch.setattr(module, "_TOLD_S", 0.01)


async def test_a_worker_that_stops_is_started_again_and_ends_when_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workers = Workers(ConnectorException("away"), None)
    monkeypatch.setattr(module, "Worker", workers)
    task = asyncio.create_task(fetching(APP, "lanes", drain_s=1))
    async with asyncio.timeout(GUARD_S):
        await workers.started.wait()
    assert workers.runs == 3
    task.cancel()
    await ended(task)
    assert workers.runs == 3


async def test_who_is_asked_to_end_as_his_worker_begins_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers()
    workers.registered.clear()
    monkeypatch.setattr(module, "Worker", workers)
    task = asyncio.create_task(fetching(APP, "lanes", drain_s=1))
    async with asyncio.timeout(GUARD_S):
        await workers.started.wait()
    task.cancel()
    await asyncio.sleep(0.05)
    workers.registered.set()
    await ended(task)


async def test_who_is_asked_to_end_before_his_worker_has_begun_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers()
    monkeypatch.setattr(module, "Worker", workers)
    task = asyncio.create_task(fetching(APP, "lanes", drain_s=1))
    await asyncio.sleep(0)  # its worker is a task that has not had its first turn
    task.cancel()
    await ended(task)


async def test_a_defect_of_the_worker_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "Worker", Workers(ValueError("a defect")))
    with pytest.raises(ValueError, match="a defect"):
        await fetching(APP, "lanes", drain_s=1)
