"""Pushes by UDP: each datagram stands alone, who sends too fast is not heard."""

import asyncio
import logging
from dataclasses import dataclass
from types import TracebackType
from typing import Final, NamedTuple, Self

from headend.ingest.pipeline import PipelineClosed
from headend.listen.handler import Pending, PushHandler
from headend.listen.heartbeat import Beat
from headend.listen.limits import Bucket, Limits
from headend.listen.push_stream import Item, Payload, PushStream, answer_to
from protocols.dlms.framing import BadFrame
from schemas.model import Heartbeat

log = logging.getLogger(__name__)

#: Senders whose unfinished messages and rates are remembered; the longest silent is forgotten first.
_MOST_SENDERS: Final = 4_096
_WORKERS: Final = 8

_Address = tuple[str, int]


@dataclass(slots=True)
class DatagramTotals:
    """Datagrams since the start. ``refused`` came too fast, ``dropped`` while too many waited."""

    received: int = 0
    refused: int = 0
    dropped: int = 0


class _Work(NamedTuple):
    item: Item
    address: _Address


class DatagramListener(asyncio.DatagramProtocol):
    """``async with DatagramListener(...)`` listens inside. Raises OSError where the address cannot be had.

    The network may write any sender's address: a datagram's values are tied to a meter by what stands inside
    only, and nothing is remembered of an address but segments that wait for the rest of their message.
    """

    def __init__(
        self, host: str, port: int, handler: PushHandler, limits: Limits, heartbeats: tuple[Heartbeat, ...]
    ) -> None:
        self._host = host
        self._wanted_port = port
        self._handler = handler
        self._limits = limits
        self._heartbeats = heartbeats
        self._transport: asyncio.DatagramTransport | None = None
        self._queue: asyncio.Queue[_Work] = asyncio.Queue(limits.waiting)
        self._streams: dict[_Address, PushStream] = {}
        self._buckets: dict[str, Bucket] = {}
        self._workers: list[asyncio.Task[None]] = []
        self._settling: set[asyncio.Task[None]] = set()
        self._room = asyncio.Semaphore(limits.waiting)
        self.totals: Final = DatagramTotals()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(lambda: self, local_addr=(self._host, self._wanted_port))
        self._workers = [
            asyncio.create_task(self._work(), name=f"udp push {number}") for number in range(_WORKERS)
        ]
        log.info("udp push: listening on %s port %d", self._host, self.port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._transport is not None:
            self._transport.close()
        tasks = {*self._workers, *self._settling}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    @property
    def port(self) -> int:
        """The port that is listened on. Raises RuntimeError before the start."""
        if self._transport is None:
            raise RuntimeError("the listener is not started")
        port: int = self._transport.get_extra_info("sockname")[1]
        return port

    # ---- asyncio.DatagramProtocol ------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop's call: the socket is there."""
        self._transport = transport  # type: ignore[assignment]

    def datagram_received(self, data: bytes, addr: tuple[str, int] | tuple[str, int, int, int]) -> None:
        """The loop's call: one datagram. Segments are joined here, so that they keep their order."""
        self.totals.received += 1
        address = (addr[0], addr[1])
        if not self._bucket(addr[0]).take():
            self.totals.refused += 1
            return
        self._enqueue(self._stream(address).feed(data), address)

    def error_received(self, exc: Exception) -> None:
        """The loop's call: somebody does not take our confirms."""
        log.debug("udp push: %s", exc)

    # ---- underneath ---------------------------------------------------------------------------------

    def _stream(self, address: _Address) -> PushStream:
        stream = self._streams.pop(address, None)
        if stream is None:
            stream = PushStream(max_apdu=self._limits.max_apdu, heartbeats=self._heartbeats, datagrams=True)
        self._streams[address] = stream
        if len(self._streams) > _MOST_SENDERS:
            oldest = next(iter(self._streams))
            self._enqueue(self._streams.pop(oldest).end(), oldest)  # segments whose message never ended
        return stream

    def _enqueue(self, items: list[Item], address: _Address) -> None:
        for item in items:
            try:
                self._queue.put_nowait(_Work(item, address))
            except asyncio.QueueFull:
                self.totals.dropped += 1

    def _bucket(self, host: str) -> Bucket:
        bucket = self._buckets.pop(host, None) or Bucket(self._limits.frames_per_s, self._limits.burst)
        self._buckets[host] = bucket
        if len(self._buckets) > _MOST_SENDERS:
            del self._buckets[next(iter(self._buckets))]
        return bucket

    async def _work(self) -> None:
        while True:
            work = await self._queue.get()
            try:
                await self._handle(work)
            except PipelineClosed as closed:
                log.warning("udp push of %s: not stored: %s", work.address[0], closed)
            except Exception:
                # The boundary of one datagram: a defect that it meets must not end the worker.
                log.exception("udp push of %s: a defect of ours", work.address[0])

    async def _handle(self, work: _Work) -> None:
        source = f"push udp {work.address[0]}"
        match work.item:
            case Beat(answer=answer):
                self._send(answer, work.address)
            case BadFrame(data=data, reason=reason):
                await self._handler.keep_bad(data, source, reason)
            case Payload() as payload:
                await self._room.acquire()
                pending: Pending | None = None
                try:
                    pending = await self._handler.begin(payload, source, None)
                finally:
                    if pending is None:
                        self._room.release()
                if pending is not None:
                    task = asyncio.create_task(self._settle(pending, work.address), name=f"push of {source}")
                    self._settling.add(task)
                    task.add_done_callback(self._settling.discard)

    async def _settle(self, pending: Pending, address: _Address) -> None:
        try:
            confirm = await self._handler.finish(pending)
            framed = None if confirm is None else answer_to(pending.payload, confirm)
            self._send(framed or b"", address)
        except PipelineClosed as closed:
            log.warning("%s: a push is not stored: %s", pending.source, closed)
        finally:
            self._room.release()

    def _send(self, data: bytes, address: _Address) -> None:
        if data and self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(data, address)
