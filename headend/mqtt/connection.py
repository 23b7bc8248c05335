"""The connection to a broker: the only module that knows aiomqtt and paho, and what is below their surface.

aiomqtt connects, subscribes and publishes. It acknowledges what it receives at once and drops what does not
fit its queue; so messages go past it: paho is told to leave acknowledging to us, its callback is ours, and so
is the reader of its socket, which is taken off the event loop while too much waits. Private names are used
for that: the version is pinned, and a test holds them.

MQTT 3.1.1, session kept by the broker: what is not acknowledged comes again, in the next connection with the
same client id. An acknowledgement is only sent on the connection that delivered.
"""

import asyncio
import logging
import socket
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple, TypeVar

import aiomqtt
from paho.mqtt.client import MQTT_ERR_SUCCESS, MQTTMessage
from paho.mqtt.client import Client as PahoClient

from headend.mqtt.broker import Broker, BrokerRefused
from headend.mqtt.watch import Watch
from protocols.errors import LinkClosed, LinkError, LinkTimeout

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Messages and bytes that wait for us at most; beyond them the broker is not read.
MOST_WAITING: Final = 20_000
MOST_BYTES: Final = 64 << 20
#: Packets that are read in one go, before others on the event loop have their turn.
_PACKETS: Final = 200
_QOS: Final = 1
#: An acknowledgement and what follows it are not held back for the broker's own.
_SOCKET: Final = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)
#: Return code of a subscription that the broker refuses (MQTT 3.1.1, 3.9.3).
_REFUSED: Final = 0x80


class Message(NamedTuple):
    """One message as it came; ``received_us`` is our time, microseconds since 1970-01-01 UTC. ``mid`` is for
    its acknowledgement, and ``qos``: 0 needs none."""

    topic: str
    payload: bytes
    retained: bool
    received_us: int
    mid: int
    qos: int


class Connection:
    """An open connection. Made by `connect`."""

    def __init__(self, client: aiomqtt.Client, now_us: Callable[[], int], room: int, bytes_: int) -> None:
        self._client = client
        self._paho: PahoClient = client._client  # noqa: SLF001 - see above
        if not log.isEnabledFor(logging.DEBUG):
            self._paho.disable_logger()  # it writes a line for each message, which nobody would see
        self._now_us = now_us
        self._last_us = 0
        self._room = room
        self._most_bytes = bytes_
        self._waiting: deque[Message] = deque()
        self._bytes = 0
        self._wake = asyncio.Event()
        self.received = 0
        self._paho.manual_ack_set(True)
        self._paho.on_message = self._on_message
        self._watch = Watch(self._paho, self._read, self._lost)

    @property
    def is_open(self) -> bool:
        """Whether the broker is still there, as far as is known."""
        return not self._client._disconnected.done()  # noqa: SLF001

    def started(self) -> None:
        """The broker has let us in."""
        self._client._disconnected.add_done_callback(self._ended)  # noqa: SLF001

    def close(self) -> None:
        """Leave nothing of the connection behind, however far it came."""
        self._watch.close()

    async def subscribe(self, filters: Sequence[str]) -> None:
        """Subscribe with QoS 1. Raises BrokerRefused where one is refused, LinkError."""
        if filters:
            with _link_errors():
                granted: Sequence[Any] = await self._while_open(
                    self._client.subscribe([(one, _QOS) for one in filters])
                )
            refused = [
                one
                for one, code in zip(filters, granted, strict=True)
                if getattr(code, "value", code) >= _REFUSED
            ]
            if refused:
                raise BrokerRefused(f"the broker does not let us subscribe to {', '.join(refused)}")

    async def unsubscribe(self, filters: Sequence[str]) -> None:
        """End subscriptions. Raises LinkError."""
        if filters:
            with _link_errors():
                await self._while_open(self._client.unsubscribe(list(filters)))

    async def publish(self, topic: str, payload: bytes) -> None:
        """Publish with QoS 1; done when the broker has it. Raises LinkError."""
        with _link_errors():
            await self._while_open(self._client.publish(topic, payload, qos=_QOS))

    async def take(self, most: int, most_bytes: int, timeout_s: float) -> list[Message]:
        """The next messages, in order: so many and so long at most (one at least), none after ``timeout_s``.

        Raises LinkClosed when the connection has ended and all that it brought was taken.
        """
        if not self._waiting:
            self._wake.clear()
            if not self.is_open:
                raise LinkClosed("the broker closed the connection")
            try:
                async with asyncio.timeout(timeout_s):
                    await self._wake.wait()
            except TimeoutError:
                return []
        taken: list[Message] = []
        size = 0
        while self._waiting and len(taken) < most:
            size += len(self._waiting[0].payload)
            if size > most_bytes and taken:
                break
            taken.append(self._waiting.popleft())
            self._bytes -= len(taken[-1].payload)
        if len(self._waiting) <= self._room // 2 and not self._is_full():
            self._watch.resume()
        return taken

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """Tell the broker that it may forget these, in the order in which they came. After the connection's
        end nothing is sent: they come again."""
        if self.is_open:
            for message in messages:
                if message.qos and self._paho.ack(message.mid, message.qos) != MQTT_ERR_SUCCESS:
                    return

    async def _while_open(self, call: Coroutine[Any, Any, T]) -> T:
        """The broker's answer to a call. aiomqtt would wait for it after the connection's end."""
        task = asyncio.create_task(call)
        try:
            either: list[asyncio.Future[Any]] = [task, self._client._disconnected]  # noqa: SLF001
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise LinkClosed("the broker closed the connection")
            return await task
        finally:
            task.cancel()

    def _on_message(self, _client: PahoClient, _userdata: Any, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = "(a topic that is not UTF-8)"
        # never the same twice: a register has one value per moment
        self._last_us = max(self._now_us(), self._last_us + 1)
        self._waiting.append(
            Message(topic, bytes(message.payload), message.retain, self._last_us, message.mid, message.qos)
        )
        self.received += 1
        self._bytes += len(message.payload)
        self._wake.set()

    def _ended(self, end: "asyncio.Future[None]") -> None:
        if not end.cancelled():
            end.exception()  # whoever takes or publishes is told
        self._wake.set()

    def _lost(self, error: Exception) -> None:
        """The socket gave an error; as aiomqtt does it."""
        if self.is_open:
            self._client._disconnected.set_exception(error)  # noqa: SLF001

    def _read(self) -> None:
        """What the socket has, in order, as long as there is room."""
        for _ in range(_PACKETS):
            before = self.received
            self._paho.loop_read()
            if self._is_full() or self.received == before:
                break
        if self._is_full():
            self._watch.pause()

    def _is_full(self) -> bool:
        return len(self._waiting) >= self._room or self._bytes >= self._most_bytes


def now_us() -> int:
    """Microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1000


@asynccontextmanager
async def connect(
    broker: Broker,
    client_id: str,
    *,
    keep_session: bool = True,
    clock: Callable[[], int] = now_us,
    room: int = MOST_WAITING,
    most_bytes: int = MOST_BYTES,
) -> AsyncIterator[Connection]:
    """A connection with the session of ``client_id``, which the broker keeps when it ends, or not.

    Raises LinkTimeout and LinkError where there is no broker, BrokerRefused where it will not have us.
    """
    host, port, _ = broker.place
    client = aiomqtt.Client(
        host,
        port,
        identifier=client_id,
        clean_session=not keep_session,
        username=broker.username,
        password=broker.password(),
        tls_context=broker.tls(),
        timeout=broker.timeout_s,
        keepalive=broker.keepalive_s,
        socket_options=_SOCKET,
        logger=log.getChild("paho"),
    )
    client.pending_calls_threshold = 1_000
    connection = Connection(client, clock, room, most_bytes)
    try:
        await _enter(client, broker)
        connection.started()
        try:
            yield connection
        finally:
            try:
                await client.__aexit__(None, None, None)
            except aiomqtt.MqttError as error:
                log.debug("the connection did not end politely: %s", error)
    finally:
        connection.close()


async def _enter(client: aiomqtt.Client, broker: Broker) -> None:
    host, port, _ = broker.place
    try:
        async with asyncio.timeout(3 * broker.timeout_s):
            await client.__aenter__()
    except TimeoutError as error:
        raise LinkTimeout(f"the broker {host}:{port} did not answer in time") from error
    except aiomqtt.MqttCodeError as error:
        raise BrokerRefused(f"the broker {host}:{port} does not let us in: {error}") from error
    except aiomqtt.MqttError as error:
        raise LinkError(f"the broker {host}:{port} cannot be reached: {error}") from error


class _link_errors:  # noqa: N801 - a context manager, used as a function
    """aiomqtt's errors as ours."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, aiomqtt.MqttError):
            raise LinkClosed(f"the broker: {error}") from error
