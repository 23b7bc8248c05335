"""A parent keeps its children, and none outlives it."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from headend.processes import supervisor
from headend.processes.signals import Stop
from headend.processes.supervisor import Supervisor
from headend.processes.tasks import ServiceError

from .conftest import ROOT

GUARD_S = 30.0
#: Says that it is up and lives until its parent is gone or SIGTERM comes.
CHILD = """
import asyncio, signal
from headend.processes.lifeline import Lifeline
async def main():
    with Lifeline() as line:
        await line.up()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
        await line.cut()
asyncio.run(main())
"""
STUBBORN = CHILD.replace("asyncio.current_task().cancel", "str")
PARENT = """
import asyncio, sys
from headend.processes.signals import signals
from headend.processes.supervisor import Supervisor
async def main():
    with signals() as stop:
        tell = lambda number, pid: print(pid, flush=True)
        await Supervisor(sys.argv[1:], 2, stop_s=5, on_up=tell).run(stop)
asyncio.run(main())
"""


def command(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def is_alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


class Kept:
    """A supervisor that runs, and the children as they come up."""

    def __init__(self, code: str, *, count: int = 2, stop_s: float = 5.0) -> None:
        self.up: asyncio.Queue[tuple[int, int]] = asyncio.Queue()
        self.bounds: list[float] = []
        self.stop = Stop()
        self.supervisor = Supervisor(
            command(code), count, stop_s=stop_s, on_up=lambda *one: self.up.put_nowait(one), draw=self._draw
        )

    def _draw(self, bound: float) -> float:
        self.bounds.append(bound)
        return 0.0

    async def next_up(self) -> tuple[int, int]:
        async with asyncio.timeout(GUARD_S):
            return await self.up.get()


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@asynccontextmanager
async def running(kept: Kept) -> AsyncIterator[Kept]:
    task = asyncio.create_task(kept.supervisor.run(kept.stop))
    try:
        yield kept
    finally:
        kept.stop.set()
        async with asyncio.timeout(GUARD_S):
            await task


async def test_a_child_that_is_killed_is_started_again_and_waits_grow() -> None:
    async with running(Kept(CHILD)) as kept:
        children = dict([await kept.next_up(), await kept.next_up()])
        for _ in range(3):
            os.kill(children[1], signal.SIGKILL)
            number, pid = await kept.next_up()
            assert number == 1
            assert pid != children[1]
            children[1] = pid
        assert all(is_alive(pid) for pid in children.values())
    assert kept.bounds == [supervisor.FIRST_S * 2**n for n in range(3)]
    assert not any(is_alive(pid) for pid in children.values())


async def test_a_child_that_does_not_end_is_killed() -> None:
    async with running(Kept(STUBBORN, count=1, stop_s=0.2)) as kept:
        _, pid = await kept.next_up()
        # its parent's end of the line closes too: a child that heeds neither
        os.kill(pid, signal.SIGSTOP)
    assert not is_alive(pid)


async def test_where_no_child_comes_up_the_parent_ends_and_says_so() -> None:
    kept = Kept("raise SystemExit(7)", count=1)
    with pytest.raises(ServiceError, match="exit status 7 before it was up"):
        async with asyncio.timeout(GUARD_S):
            await kept.supervisor.run(kept.stop)
    assert kept.bounds == []


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_children_end_with_their_parent(how: signal.Signals) -> None:
    parent = subprocess.Popen(
        [*command(PARENT), *command(STUBBORN if how is signal.SIGKILL else CHILD)],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert parent.stdout is not None
    with parent.stdout as said:
        pids = [int(said.readline()) for _ in range(2)]
        assert all(is_alive(pid) for pid in pids)
        parent.send_signal(how)
        assert parent.wait(GUARD_S) == (-how if how is signal.SIGKILL else 0)
        deadline = time.monotonic() + GUARD_S
        while any(is_alive(pid) for pid in pids):  # nobody tells of a grandchild's end
            assert time.monotonic() < deadline
            time.sleep(0.02)
