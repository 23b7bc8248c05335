"""Meters that call the head-end: they dial in and stay, or push and hang up."""

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from concentrator_sim.faults import Faults
from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.push import ConfirmReader, framed, last_gasp, notifications, set_up
from concentrator_sim.push_setup import Push
from concentrator_sim.scenario import Framing, split_endpoint
from concentrator_sim.server import MeterConnection
from protocols.errors import RemoteProtocolError

#: Seconds to wait for a connection, or for the confirmation of a push.
CONNECT_S: Final = 10.0
CONFIRM_S: Final = 30.0
#: Seconds between attempts to dial in: doubled each time, drawn anew within half and whole of it.
FIRST_RETRY_S: Final = 1.0
LAST_RETRY_S: Final = 60.0
#: Pushes under way at once.
MAX_PUSHES: Final = 64
_READ: Final = 4096


async def stay_dialled_in(endpoint: str, connect: Callable[[Callable[[], None]], MeterConnection]) -> None:
    """Dial in and, whenever the connection is lost, dial in again, until cancelled.

    ``connect`` makes the protocol of a connection, given what to call when it is closed.
    """
    host, port = split_endpoint(endpoint)
    loop = asyncio.get_running_loop()
    wait_s = FIRST_RETRY_S
    while True:
        closed = asyncio.Event()
        try:
            async with asyncio.timeout(CONNECT_S):
                _, connection = await loop.create_connection(partial(connect, closed.set), host, port)
        except OSError:  # TimeoutError is one
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads calls, no secret
            wait_s = min(2 * wait_s, LAST_RETRY_S)
            continue
        try:
            await closed.wait()
        finally:
            connection.close()
        wait_s = FIRST_RETRY_S
        await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311


class Pusher:
    """Pushes of many meters, spread evenly over ``every_s`` seconds. ``sent`` and ``failed`` count."""

    def __init__(
        self,
        target: str,
        meters: Sequence[tuple[SimulatedMeter, Framing]],
        clock: Callable[[], int],
        *,
        every_s: float,
        confirm: bool = False,
        physical: int = 17,
    ) -> None:
        self._scheme, _, endpoint = target.partition("://")
        self._host, self._port = split_endpoint(endpoint)
        self._meters = meters
        self._clock = clock
        self._every_s = every_s
        self._confirm = confirm and self._scheme == "tcp"
        self._physical = physical
        self._free = asyncio.Semaphore(MAX_PUSHES)
        self.sent = 0
        self.failed = 0

    async def run(self) -> None:
        """Push until cancelled."""
        loop = asyncio.get_running_loop()
        gap_s = self._every_s / len(self._meters)
        begin, n = loop.time(), 0
        async with asyncio.TaskGroup() as tasks:
            while True:
                await asyncio.sleep(max(0.0, begin + n * gap_s - loop.time()))
                await self._free.acquire()
                tasks.create_task(self._freely(self.push(*self._meters[n % len(self._meters)])))
                n += 1

    async def _freely(self, push: Coroutine[Any, Any, None]) -> None:
        try:
            await push
            self.sent += 1
        except (OSError, RemoteProtocolError):
            self.failed += 1  # unconfirmed pushes are best effort: the next one tells
        finally:
            self._free.release()

    async def push(self, meter: SimulatedMeter, framing: Framing) -> None:
        """One push now. Raises OSError (TimeoutError too) where nobody takes it or confirms
        it, RemoteProtocolError where the answer is none."""
        apdus = notifications(meter, self._clock, confirmed=self._confirm)
        await self._send(meter, framing, apdus, confirm=self._confirm)

    async def gasp(self, meter: SimulatedMeter, framing: Framing) -> None:
        """Its last gasp. Raises OSError where nobody takes it."""
        await self._send(meter, framing, last_gasp(meter, self._clock), confirm=False)

    async def gasps(self, struck: Sequence[tuple[SimulatedMeter, Framing, Faults]]) -> None:
        """A last gasp of each meter whenever its power goes, until cancelled."""
        told = {meter.number: faults.restarts(self._clock()) for meter, _, faults in struck}
        async with asyncio.TaskGroup() as tasks:
            while True:
                await asyncio.sleep(1.0)
                for meter, framing, faults in struck:
                    restarts = faults.restarts(self._clock())
                    if restarts > told[meter.number]:
                        told[meter.number] = restarts
                        await self._free.acquire()
                        tasks.create_task(self._freely(self.gasp(meter, framing)))

    async def _send(
        self, meter: SimulatedMeter, framing: Framing, apdus: Sequence[bytes], *, confirm: bool
    ) -> None:
        frames = [framed(apdu, framing, meter.management.sap, self._physical) for apdu in apdus]
        reader = ConfirmReader(framing) if confirm else None
        await _tell(self._scheme, self._host, self._port, frames, reader)


class SetUpPushes:
    """Pushes that meters were set up for. ``sent`` and ``failed`` count."""

    def __init__(self, clock: Callable[[], int], physical: int) -> None:
        self._clock = clock
        self._physical = physical
        self._tasks: set[asyncio.Task[None]] = set()
        self.sent = 0
        self.failed = 0

    def take(self, framing: Framing, meter: SimulatedMeter, push: Push) -> bool:
        """Send it in its time; False where too many are under way."""
        if len(self._tasks) >= MAX_PUSHES:
            return False
        work = self._sent(framing, meter, push)
        task = asyncio.get_running_loop().create_task(work, name=f"push of {meter.serial}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def stop(self) -> None:
        """Give up what was not sent yet. Raises what one of them ended with."""
        await cancel_all(tuple(self._tasks))

    async def _sent(self, framing: Framing, meter: SimulatedMeter, push: Push) -> None:
        await asyncio.sleep(random.uniform(0, push.within_s))  # noqa: S311 - spreads pushes, no secret
        for attempt in range(1 + push.retries):
            await asyncio.sleep(push.again_s if attempt else 0)
            apdus = set_up(meter, self._clock, push)
            frames = [framed(apdu, framing, meter.management.sap, self._physical) for apdu in apdus]
            with suppress(OSError):  # TimeoutError is one; it is tried again
                await _tell(push.scheme, push.host, push.port, frames)
                self.sent += 1
                return
        self.failed += 1


async def _tell(
    scheme: str, host: str, port: int, frames: Sequence[bytes], confirm: ConfirmReader | None = None
) -> None:
    """Raises OSError (TimeoutError too) where nobody takes them or confirms, RemoteProtocolError where the
    answer is none."""
    if scheme == "udp":
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=(host, port))
        for frame in frames:
            transport.sendto(frame)
        transport.close()
        return
    async with asyncio.timeout(CONNECT_S):
        reader, writer = await asyncio.open_connection(host, port)
    try:
        async with asyncio.timeout(CONFIRM_S):
            writer.writelines(frames)
            await writer.drain()
            if confirm is not None:
                await _confirmed(reader, confirm)
            writer.close()
            await writer.wait_closed()
    finally:
        writer.close()


async def _confirmed(reader: asyncio.StreamReader, confirm: ConfirmReader) -> None:
    while data := await reader.read(_READ):
        if confirm.feed(data):
            return
    raise ConnectionAbortedError("hung up without confirming the push")


async def cancel_all(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel, and wait for the end of each. An error that one of them had is raised."""
    for task in tasks:
        task.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended
