"""Meters that dialled in and have proven who they are: one open link each, lent to one user at a time."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from headend.listen.directory import Known
from headend.listen.handler import PushHandler
from headend.listen.limits import Limits
from headend.listen.quiet import QuietStream
from headend.listen.recognise import Context
from headend.listen.sender import Nuisance, Sender
from headend.transport.stream import Stream
from protocols.errors import LinkClosed, LinkError

log = logging.getLogger(__name__)


class _Line:
    """One meter's link. While nobody has it, a sender handles what the meter says on its own."""

    def __init__(self, known: Known, stream: Stream, handler: PushHandler, limits: Limits) -> None:
        self.known = known
        self.stream = stream
        self.lock: Final = asyncio.Lock()
        self.ended: Final[asyncio.Future[str]] = asyncio.get_running_loop().create_future()
        self._handler = handler
        self._limits = limits
        self._context = Context()
        self._sender: Sender | None = None
        self._task: asyncio.Task[None] | None = None

    def end(self, reason: str) -> None:
        """Close; whoever holds the line open is told."""
        self.stream.close()
        if not self.ended.done():
            self.ended.set_result(reason)

    def watch(self) -> None:
        """Handle heartbeats and pushes until `pause`."""
        if not self.stream.is_open:
            self.end("closed")
            return
        heartbeat = self.known.model.heartbeat
        self._sender = Sender(
            self.stream,
            self._handler,
            self._limits,
            f"inbound {self.known.meter.asset_id}",
            () if heartbeat is None else (heartbeat,),
            self._context,
        )
        name = f"inbound {self.known.meter.asset_id}"
        self._task = asyncio.create_task(self._watching(self._sender), name=name)

    async def pause(self) -> None:
        """Stop listening; what has come is handled by then, and the next byte is the user's."""
        sender, task = self._sender, self._task
        self._sender = self._task = None
        if sender is not None and task is not None:
            sender.stop()
            await asyncio.wait([task])

    async def cancel(self) -> None:
        """Stop at once, at the end of the service."""
        sender, task = self._sender, self._task
        self._sender = self._task = None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        if sender is not None:
            await sender.cancel()

    async def _watching(self, sender: Sender) -> None:
        try:
            reason = await sender.receive()
        except Nuisance as error:
            reason = str(error)
        except Exception:
            # The boundary of one line: a defect that it meets must not end the others'.
            log.exception("inbound %s: a defect of ours", self.known.meter.asset_id)
            reason = "a defect of ours"
        if reason != "stopped":
            self.end(reason)


class InboundMeters:
    """The lines by meter. A newer authenticated connection of a meter replaces the older one."""

    def __init__(self, handler: PushHandler, limits: Limits) -> None:
        self._handler = handler
        self._limits = limits
        self._lines: dict[int, _Line] = {}
        #: called with a meter that has come, come again, or gone
        self.on_change: Callable[[int], object] | None = None

    def __len__(self) -> int:
        return len(self._lines)

    def __contains__(self, meter_id: object) -> bool:
        return meter_id in self._lines

    @property
    def connected(self) -> list[int]:
        """The meters that have a line here."""
        return list(self._lines)

    def end(self, meter_id: int, reason: str) -> bool:
        """End the line of a meter; False where it has none."""
        line = self._lines.get(meter_id)
        if line is not None:
            line.end(reason)
        return line is not None

    async def hold(self, known: Known, stream: Stream) -> str:
        """Keep the line of a meter that has proven who it is, until it ends; why it did."""
        meter_id = known.meter.meter_id
        line = _Line(known, stream, self._handler, self._limits)
        older, self._lines[meter_id] = self._lines.get(meter_id), line
        if older is not None:
            older.end("replaced by a newer connection")
        line.watch()
        self._tell(meter_id)
        try:
            return await line.ended
        finally:
            if self._lines.get(meter_id) is line:
                del self._lines[meter_id]
                self._tell(meter_id)
            line.end("ended")
            await line.cancel()

    def _tell(self, meter_id: int) -> None:
        if self.on_change is not None:
            self.on_change(meter_id)

    @asynccontextmanager
    async def lease(self, meter_id: int) -> AsyncIterator[Stream]:
        """The meter's line, for the caller alone. Left open, it goes on listening behind.

        Raises LinkError where the meter is not connected: nobody can dial it.
        """
        line = self._lines.get(meter_id)
        if line is None:
            raise LinkError(f"meter number {meter_id} is not connected: it dials in")
        async with line.lock:
            if line.ended.done() or not line.stream.is_open:
                raise LinkClosed(f"meter {line.known.meter.asset_id} has just hung up")
            await line.pause()
            heartbeat = line.known.model.heartbeat
            try:
                yield line.stream if heartbeat is None else QuietStream(line.stream, heartbeat)
            finally:
                if not line.ended.done():
                    line.watch()
