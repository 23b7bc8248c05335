"""A parent and its children: as many processes of one kind as it is told, each started again when it ends.

::

    spawn ──> up ──> ended ──> again after a random wait, whose bound doubles while children do not last
      │                          └ asked to stop: SIGTERM to all, patience, SIGKILL
      └ ended before any child was ever up: the parent ends too, since a wrong setting gets no better
"""

import asyncio
import logging
import random
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from headend.processes.lifeline import told_up
from headend.processes.signals import Stop
from headend.processes.tasks import ServiceError

log = logging.getLogger(__name__)

#: Bounds of the wait before a child is started again, in seconds; each is drawn below it.
FIRST_S: Final = 0.5
LONGEST_S: Final = 30.0
#: A child that lived so long has lasted: the next wait is short again.
_LASTED_S: Final = 60.0


class Supervisor:
    """``await Supervisor(command, count, ...).run(stop)`` keeps ``count`` children until ``stop``.

    Args:
        command: of a child, which tells by its lifeline that it is up.
        stop_s: how long children may take to end, from SIGTERM on, before they are killed.
        on_up: called with the number of a child that is up, and its process id.
        draw: of waits, from [0, bound].
    """

    def __init__(
        self,
        command: Sequence[str],
        count: int,
        *,
        stop_s: float,
        on_up: Callable[[int, int], None] = lambda number, pid: None,
        draw: Callable[[float], float] = lambda bound: random.uniform(0, bound),  # noqa: S311 - jitter
    ) -> None:
        self._command = command
        self._count = count
        self._stop_s = stop_s
        self._on_up = on_up
        self._draw = draw
        self._children: dict[int, asyncio.subprocess.Process] = {}
        self._ever_up = False

    async def run(self, stop: Stop) -> None:
        """Until ``stop``; then no child is left. Raises ServiceError where none ever came up."""
        keeping = [
            asyncio.create_task(self._keep(number), name=f"child {number}")
            for number in range(1, self._count + 1)
        ]
        asked = asyncio.create_task(stop.wait(), name="stop")
        stop.is_awaited = True
        try:
            done, _ = await asyncio.wait([asked, *keeping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (asked, *keeping):
                task.cancel()
            await asyncio.wait([asked, *keeping])
            await self._end()
        for task in done - {asked}:
            task.result()

    async def _keep(self, number: int) -> None:
        """One child after another. Raises ServiceError where the first ends before any child was up."""
        loop, bound = asyncio.get_running_loop(), FIRST_S
        while True:
            began = loop.time()
            status = await self._live(number)
            if not self._ever_up:
                raise ServiceError(f"child {number} ended with exit status {status} before it was up")
            if loop.time() - began >= _LASTED_S:
                bound = FIRST_S
            wait = self._draw(bound)
            bound = min(2 * bound, LONGEST_S)
            log.error("child %d ended with exit status %d; again in %.1f s", number, status, wait)
            await asyncio.sleep(wait)

    async def _live(self, number: int) -> int:
        """Start a child and wait for its end; its exit status."""
        ours, its = socket.socketpair()
        with ours:
            ours.setblocking(False)
            with its:
                child = await asyncio.create_subprocess_exec(
                    *self._command,
                    stdin=its.fileno(),
                    start_new_session=True,  # Ctrl-C is for us first; we hand it on
                )
            self._children[number] = child
            with suppress(ConnectionError):
                await told_up(ours)
                self._ever_up = True
                self._on_up(number, child.pid)
            status = await child.wait()
            del self._children[number]
            return status

    async def _end(self) -> None:
        """End all children: politely, and at once where they take too long or somebody is impatient."""
        try:
            if await self._signalled(signal.SIGTERM):
                log.error("children do not end within %.0f s: they are killed", self._stop_s)
        finally:
            await self._signalled(signal.SIGKILL)

    async def _signalled(self, number: signal.Signals) -> int:
        """Send a signal to all children and wait; how many live on."""
        ending = []
        for child in self._children.values():
            if child.returncode is None:
                with suppress(ProcessLookupError):
                    child.send_signal(number)
                ending.append(asyncio.ensure_future(child.wait()))
        if not ending:
            return 0
        _, late = await asyncio.wait(ending, timeout=self._stop_s)
        return len(late)
