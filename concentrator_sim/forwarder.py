"""A concentrator that pushes what it keeps, and lets go of it when the head-end has confirmed."""

import asyncio
from collections.abc import Callable, Iterator
from typing import Final

from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.object_model import MANAGEMENT_CLIENT
from concentrator_sim.outbound import CONFIRM_S, CONNECT_S
from concentrator_sim.profile import Rows as Span
from concentrator_sim.push import ConfirmReader, framed
from concentrator_sim.scenario import Framing, split_endpoint
from concentrator_sim.shapes import QUARTER_S
from concentrator_sim.store_forward import LAYOUT, PROFILE, Shelf, StoreForward
from protocols.dlms.forwarded import Forwarded, Rows, encode_forwarded
from protocols.errors import LocalProtocolError, RemoteProtocolError

#: Bytes of rows in one push: a head-end takes APDUs of 16 kB.
_PUSH_BYTES: Final = 12_000
_MOST_ROWS: Final = 96
_READ: Final = 4096


class Forwarder:
    """Pushes of one concentrator, ``name`` in the network, secured as ``head``, to ``endpoint`` (host:port).

    ``confirmed`` and ``failed`` count pushes. What is not confirmed is pushed again, the same and whole.
    """

    def __init__(
        self, store: StoreForward, head: SimulatedMeter, name: str, endpoint: str, clock: Callable[[], int]
    ) -> None:
        self._store = store
        self._head = head
        self._name = name
        self._host, self._port = split_endpoint(endpoint)
        self._clock = clock
        self.confirmed = 0
        self.failed = 0

    async def run(self, every_s: float) -> None:
        """Push what there is every so many seconds, until cancelled."""
        while True:
            await self.push_all()
            await asyncio.sleep(every_s)

    async def push_all(self) -> bool:
        """Push all that is kept; whether all of it was confirmed."""
        now_s = self._clock()
        for shelf in self._store.shelves.values():
            shelf.poll(now_s)
        for push, ends in self._pushes():
            try:
                async with asyncio.timeout(CONNECT_S + CONFIRM_S):
                    await self._push(push)
            except (OSError, RemoteProtocolError):  # TimeoutError is an OSError
                self.failed += 1
                return False
            self.confirmed += 1
            for shelf, end in ends:
                shelf.release(end)
        return True

    def _pushes(self) -> Iterator[tuple[Forwarded, list[tuple[Shelf, int]]]]:
        """What is kept, in messages of bounded size, each with the shelves that it empties, and how far."""
        rows: list[Rows] = []
        ends: list[tuple[Shelf, int]] = []
        size = 0
        for shelf in self._store.shelves.values():
            for first in range(shelf.first, shelf.end, _MOST_ROWS):
                end = min(first + _MOST_ROWS, shelf.end)
                buffer = shelf.span(Span(first, end - first))
                if rows and size + len(buffer) > _PUSH_BYTES:
                    yield Forwarded(self._name, (LAYOUT,), tuple(rows)), ends
                    rows, ends, size = [], [], 0
                rows.append(Rows(shelf.member.meter.serial, PROFILE, 0, QUARTER_S, buffer))
                ends.append((shelf, end))
                size += len(buffer)
        if rows:
            yield Forwarded(self._name, (LAYOUT,), tuple(rows)), ends

    async def _push(self, push: Forwarded) -> None:
        association = self._head.associate(self._head.management, MANAGEMENT_CLIENT, self._clock)
        if association is None:
            raise LocalProtocolError("a concentrator always has a management client")
        apdus = association.notify(encode_forwarded(push), confirmed=True)
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            writer.writelines(framed(apdu, Framing.WRAPPER, 1, 17) for apdu in apdus)
            await writer.drain()
            confirm = ConfirmReader(Framing.WRAPPER)
            while data := await reader.read(_READ):
                if confirm.feed(data):
                    return
            raise ConnectionAbortedError("hung up without confirming the push")
        finally:
            writer.close()
