"""Named tasks of a process, none of which may end by itself."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from headend.processes.signals import Stop

#: A task that was asked to end is asked again after so many seconds.
_ASK_AGAIN_S: Final = 15.0


class ServiceError(Exception):
    """A process of the service cannot start or go on; the message says why."""


class Tasks:
    """What runs in a process: the first that ends by itself ends the process, and it is said which."""

    def __init__(self) -> None:
        self._all: list[asyncio.Task[None]] = []

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Start and watch."""
        task = asyncio.create_task(work, name=name)
        self._all.append(task)
        return task

    def add(self, task: "asyncio.Task[None]") -> None:
        """Watch what somebody else started and ends."""
        self._all.append(task)

    async def first_end(self, stop: Stop) -> None:
        """Wait for ``stop``. Raises ServiceError, caused by its error, where a task ends before."""
        stop.is_awaited = True
        asked = asyncio.create_task(stop.wait(), name="stop")
        try:
            done, _ = await asyncio.wait([asked, *self._all], return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
        for task in done - {asked}:
            error = None if task.cancelled() else task.exception()
            if error is not None:
                raise ServiceError(f"the {task.get_name()} failed: {error}") from error
            raise ServiceError(f"the {task.get_name()} ended by itself")


async def cancelled(task: "asyncio.Task[None]") -> None:
    """End a task. Asked again while it goes on: `asyncio.wait_for`, which libraries wait with, may lose a
    cancellation that comes together with what it waits for (before Python 3.12)."""
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_ASK_AGAIN_S)
