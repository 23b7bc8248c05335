"""A line behind a transparent MQTT gateway: what is published to ``PREFIX/down`` goes out on the line, and
what the line says comes under ``PREFIX/up``. To whoever speaks on it, it is a stream as any other.

How the gateway cuts bytes into messages does not matter. What is retained was said at another time, and is
passed over.
"""

import asyncio
import secrets
from typing import Final

from headend.mqtt.broker import Broker, BrokerRefused
from headend.mqtt.connection import Connection, connect
from headend.transport.stream import BaseStream, Stream
from protocols.errors import CommunicationError, LinkClosed, LinkError, LinkTimeout
from schemas.address import LinkAddress

_ROOM: Final = 100
_BYTES: Final = 1 << 20
_POLL_S: Final = 60.0


class GatewayStream(BaseStream):
    """One conversation's stream. Its task owns the connection to the broker, and ends with it."""

    __slots__ = ("_outgoing", "_ready", "_task")

    def __init__(self, broker: Broker, client_id: str, address: LinkAddress) -> None:
        super().__init__(str(address))
        self._outgoing: asyncio.Queue[bytes | None] = asyncio.Queue(_ROOM)
        self._ready: asyncio.Future[None] = self._loop.create_future()
        prefix = (address.device or "").strip("/")
        self._task = asyncio.create_task(self._run(broker, client_id, prefix), name=self.peer)

    async def ready(self, connect_s: float) -> None:
        """Wait until the line can be spoken on. Raises LinkError; nothing is left open then."""
        try:
            async with asyncio.timeout(connect_s):
                await asyncio.shield(self._ready)
        except TimeoutError:
            raise LinkTimeout(f"{self.peer}: the broker did not answer within {connect_s:g} s") from None
        finally:
            if not self._ready.done() or self._ready.cancelled() or self._ready.exception() is not None:
                self.abort()

    def write(self, data: bytes) -> None:
        """Hand over bytes to be published. Raises LinkClosed when the link is closed, or takes no more."""
        if self._ended is not None:
            raise LinkClosed(f"{self.peer}: {self._ended}")
        try:
            self._outgoing.put_nowait(bytes(data))
        except asyncio.QueueFull:
            raise LinkClosed(f"{self.peer}: the broker does not take what is sent") from None

    def _pause_peer(self, pause: bool) -> None:
        """A broker is not paused: a line says little, and not before it is asked."""

    def _shut(self, *, at_once: bool) -> None:
        if at_once or self._outgoing.full():
            self._task.cancel()
        else:
            self._outgoing.put_nowait(None)  # behind what is still to be sent

    async def _run(self, broker: Broker, client_id: str, prefix: str) -> None:
        reason = "closed by us"
        try:
            async with connect(
                broker, client_id, keep_session=False, room=_ROOM, most_bytes=_BYTES
            ) as connection:
                await connection.subscribe([f"{prefix}/up"])
                self._ready.set_result(None)
                listening = asyncio.create_task(self._listen(connection), name=f"{self.peer} up")
                try:
                    while (data := await self._outgoing.get()) is not None and not listening.done():
                        await connection.publish(f"{prefix}/down", data)
                finally:
                    listening.cancel()
                    await asyncio.wait([listening])
        except (CommunicationError, BrokerRefused) as error:
            reason = str(error)
            if not self._ready.done():
                self._ready.set_exception(LinkError(f"{self.peer}: {reason}"))
        finally:
            self._lost(reason)

    async def _listen(self, connection: Connection) -> None:
        try:
            while True:
                messages = await connection.take(_ROOM, _BYTES, _POLL_S)
                connection.acknowledge(messages)
                for message in messages:
                    if not message.retained and message.payload:
                        self._arrived(message.payload)
        except LinkError as error:
            self._end(str(error))
            self._task.cancel()


class GatewayLines:
    """Opens lines behind gateways of a broker."""

    def __init__(self, broker: Broker, client_id: str = "headend") -> None:
        self._broker = broker
        self._client_id = client_id

    async def dial(self, address: LinkAddress, connect_s: float) -> Stream:
        """The line of ``address``, spoken on within ``connect_s``. Raises LinkError."""
        stream = GatewayStream(self._broker, f"{self._client_id}-line-{secrets.token_hex(6)}", address)
        await stream.ready(connect_s)
        return stream
