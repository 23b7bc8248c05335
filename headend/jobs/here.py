"""Lanes that are bound to a place: a meter that dials in is read where its connection is, a serial line where
its device is. No queue knows that place: all processes are rung for, and the one that can takes the lane."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from headend.store.queue import is_bound

#: Lanes that are worked at beside one another, beyond which they wait.
_AT_ONCE: Final = 64


def has_device(lane: str) -> bool:
    """Whether this host has the device of a serial line; lanes of other kinds need none."""
    kind, _, place = lane.partition(":")
    return kind != "line" or not is_bound(lane) or Path(urlsplit(place).path).exists()


class Here:
    """Works at the bound lanes that this process can serve.

    Args:
        is_connected: whether the meter of this number has a connection here.
        work: works at a lane, unless somebody else holds it.
    """

    def __init__(self, is_connected: Callable[[int], bool], work: Callable[[str], Awaitable[None]]) -> None:
        self._is_connected = is_connected
        self._work = work
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._is_closing = False

    def ring(self, lane: str) -> None:
        """Something is due in the lane: work at it, where it can be served here and is not worked at."""
        if self._is_closing or lane in self._tasks or not self.serves(lane):
            return
        task = asyncio.create_task(self._serve(lane), name=f"lane {lane}, here")
        self._tasks[lane] = task
        task.add_done_callback(lambda _: self._tasks.pop(lane, None))

    def serves(self, lane: str) -> bool:
        """Whether the lane is bound to where this process is."""
        if not is_bound(lane):
            return False
        kind, _, place = lane.partition(":")
        if kind == "inbound":
            return self._is_connected(int(place))
        return has_device(lane)

    async def close(self, drain_s: float) -> None:
        """Begin nothing more; what is under way may end within ``drain_s`` seconds."""
        self._is_closing = True
        tasks = list(self._tasks.values())
        if tasks:
            await asyncio.wait(tasks, timeout=drain_s)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _serve(self, lane: str) -> None:
        async with self._room:
            if self.serves(lane):  # the wait may have been long
                await self._work(lane)
