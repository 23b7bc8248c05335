"""One sender on one connection: its bytes in, its messages handled, its confirms sent."""

import asyncio
import logging
from typing import Final

from headend.ingest.pipeline import PipelineClosed
from headend.listen.handler import Pending, PushHandler
from headend.listen.heartbeat import Beat
from headend.listen.limits import Bucket, Limits
from headend.listen.push_stream import Item, Payload, PushStream, answer_to
from headend.listen.recognise import Context
from headend.transport.stream import Stream
from protocols.dlms.framing import BadFrame
from protocols.errors import LinkClosed, LinkError, LinkTimeout
from schemas.model import Heartbeat

log = logging.getLogger(__name__)

#: How long a confirm may take to leave.
_ANSWER_S: Final = 30.0


class Nuisance(Exception):
    """The sender sends nothing but dirt: hang up."""


class Sender:
    """Serves one connection until it ends. ``source`` names it in the inbox, without its port."""

    def __init__(
        self,
        stream: Stream,
        handler: PushHandler,
        limits: Limits,
        source: str,
        heartbeats: tuple[Heartbeat, ...],
        context: Context | None = None,
    ) -> None:
        self._stream = stream
        self._handler = handler
        self._limits = limits
        self._source = source
        self._context = Context() if context is None else context
        self._bytes = PushStream(max_apdu=limits.max_apdu, heartbeats=heartbeats)
        self._bucket = Bucket(limits.frames_per_s, limits.burst)
        self._settling: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(limits.unsettled)
        self._writing = asyncio.Lock()
        self._bad = 0
        self._stop = asyncio.Event()
        self._waiting: asyncio.Task[object] | None = None
        self._loop = asyncio.get_running_loop()

    async def serve(self) -> str:
        """Until the end of the connection; why it ended. What was taken in is settled by then."""
        try:
            reason = await self.receive()
            await self._take(self._bytes.end())
        except (Nuisance, PipelineClosed) as error:
            reason = str(error)
        finally:
            self._stream.close()
        if self._settling:
            await asyncio.wait(self._settling)
        return reason

    async def receive(self) -> str:
        """Handle what comes until the connection ends or `stop` is called; why it ended."""
        begun: float | None = None
        while not self._stop.is_set():
            deadline = self._loop.time() + self._limits.idle_s
            if begun is not None:
                deadline = min(deadline, begun + self._limits.frame_s)
            self._waiting = asyncio.current_task()
            try:
                data = await self._stream.read_some(deadline)
            except LinkTimeout:
                return "silent" if begun is None else "a frame that began did not end"
            except LinkClosed as closed:
                return closed.reason
            except asyncio.CancelledError:
                if not self._stop.is_set():
                    raise
                break
            finally:
                self._waiting = None
            items = self._bytes.feed(data)
            if items or not self._bytes.pending:
                begun = None
            if self._bytes.pending and begun is None:
                begun = self._loop.time()
            await self._take(items)
        self._stream.unread(self._bytes.take_back())
        return "stopped"

    def stop(self) -> None:
        """Let `receive` end as soon as it has nothing in hand; bytes of an unfinished frame go back."""
        self._stop.set()
        if self._waiting is not None:
            self._waiting.cancel()

    async def _take(self, items: list[Item]) -> None:
        for item in items:
            wait = self._bucket.borrow()
            if wait > 0:
                await asyncio.sleep(wait)  # not reading is what slows a TCP sender down
            match item:
                case Beat(claim=claim, answer=answer):
                    self._context.claim = claim
                    await self._send(answer)
                case BadFrame(data=data, reason=reason):
                    await self._handler.keep_bad(data, self._source, reason)
                    self._bad += 1
                    if self._bad >= self._limits.bad_in_a_row:
                        raise Nuisance(f"{self._bad} bad frames in a row")
                case Payload():
                    self._bad = 0
                    await self._handle(item)

    async def _handle(self, payload: Payload) -> None:
        await self._room.acquire()
        pending: Pending | None = None
        try:
            pending = await self._handler.begin(payload, self._source, self._context)
        finally:
            if pending is None:
                self._room.release()
        if pending is not None:
            task = asyncio.create_task(self._settle(pending), name=f"push of {self._source}")
            self._settling.add(task)
            task.add_done_callback(self._settling.discard)

    async def _settle(self, pending: Pending) -> None:
        try:
            confirm = await self._handler.finish(pending)
            framed = None if confirm is None else answer_to(pending.payload, confirm)
            if framed is not None:
                await self._send(framed)
        except PipelineClosed as closed:
            log.warning("%s: a push is not stored: %s", self._source, closed)
        finally:
            self._room.release()

    async def _send(self, data: bytes) -> None:
        if not data:
            return
        async with self._writing:
            try:
                self._stream.write(data)
                await self._stream.drain(self._loop.time() + _ANSWER_S)
            except LinkTimeout:
                self._stream.abort()  # it does not take our answers: no reason to keep them
            except LinkError as error:
                log.debug("%s: an answer cannot be sent: %s", self._source, error)

    async def cancel(self) -> None:
        """Stop waiting for commits, at the end of the service."""
        for task in self._settling:
            task.cancel()
        if self._settling:
            await asyncio.wait(self._settling)
