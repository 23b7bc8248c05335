"""Devices at an MQTT broker: connected as long as they live, and what they publish struck by their faults."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from json import dumps
from typing import Any, Final, NamedTuple

import aiomqtt

from concentrator_sim.dice import Dice
from concentrator_sim.faults import Faults
from concentrator_sim.scenario import split_endpoint

#: Deadline of connecting, subscribing and of a publication's acknowledgement, in seconds.
TIMEOUT_S: Final = 10.0
#: Seconds between attempts to connect: doubled each time, drawn anew within half and whole of it.
FIRST_RETRY_S: Final = 0.5
LAST_RETRY_S: Final = 30.0
_KEEPALIVE_S: Final = 30
_LOOK_S: Final = 1.0
_QOS: Final = 1
#: An answer is not held back until the broker has acknowledged what came before it.
_SOCKET: Final = ((socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),)
#: Topics of one subscription.
_TOPICS: Final = 100


class Heard(NamedTuple):
    """A message that came to a device."""

    topic: str
    payload: bytes
    retained: bool = False


@dataclass(slots=True)
class Device:
    """A client of the broker. ``will`` is topic and payload of its last will, retained.

    ``speak`` is called with each connection and talks until that is lost; ``hear`` is called for each message
    of the ``topics``. ``clock`` gives Unix seconds.
    """

    identity: str
    speak: Callable[["Outlet"], Awaitable[None]]
    faults: Faults
    clock: Callable[[], int]
    will: tuple[str, str] | None = None
    topics: Sequence[str] = ()
    hear: Callable[["Outlet", Heard], Awaitable[None]] | None = None
    connects: int = 0
    _dice: Dice = field(init=False)

    def __post_init__(self) -> None:
        self._dice = Dice("device", self.identity)

    async def live(self, url: str) -> None:
        """Be at the broker of ``url`` until cancelled, whatever becomes of connections."""
        host, port = split_endpoint(url.partition("://")[2])
        wait_s = FIRST_RETRY_S
        while True:
            if not self.faults.is_down(self.clock()):
                before = self.connects
                try:
                    await self._connected(host, port)
                except* (aiomqtt.MqttError, OSError):
                    pass  # the broker is away, or we were cut off: again, after a while
                _heed_cancelling()
                if self.connects > before:
                    wait_s = FIRST_RETRY_S
            await asyncio.sleep(wait_s * self._dice.between(0.5, 1.0))
            wait_s = min(2 * wait_s, LAST_RETRY_S)

    async def _connected(self, host: str, port: int) -> None:
        will = None
        if self.will is not None:
            will = aiomqtt.Will(self.will[0], self.will[1], qos=_QOS, retain=True)
        client = aiomqtt.Client(
            host,
            port,
            identifier=self.identity,
            will=will,
            timeout=TIMEOUT_S,
            keepalive=_KEEPALIVE_S,
            socket_options=_SOCKET,
        )
        async with client:
            _heed_cancelling()
            self.connects += 1
            outlet = Outlet(client, self.faults, self.clock)
            for n in range(0, len(self.topics), _TOPICS):
                await client.subscribe([(topic, _QOS) for topic in self.topics[n : n + _TOPICS]])
                _heed_cancelling()
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._hear(client, outlet))
                    tasks.create_task(self._restart(client))
                    await self.speak(outlet)
            finally:
                outlet.close()

    async def _hear(self, client: aiomqtt.Client, outlet: "Outlet") -> None:
        async for message in client.messages:
            if self.hear is not None and isinstance(message.payload, bytes):
                await self.hear(outlet, Heard(str(message.topic), message.payload, message.retain))

    async def _restart(self, client: aiomqtt.Client) -> None:
        """A device that restarts says no goodbye, so that the broker publishes its last will. A connection
        that ended is left, whoever still waits at it."""
        while True:
            await asyncio.sleep(_LOOK_S)
            if self.faults.is_down(self.clock()):
                cut(client)
            if client._disconnected.done():  # noqa: SLF001 - who waits for an acknowledgement is not told
                raise aiomqtt.MqttError("the broker went away")


def _heed_cancelling() -> None:
    """Python 3.11 loses a cancellation that comes together with something else: `asyncio.wait_for`, below
    aiomqtt, with the answer; `asyncio.TaskGroup` with an error of the group, which takes its place."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def cut(client: aiomqtt.Client) -> None:
    """End the connection below the protocol, as a power failure does."""
    found = client._client.socket()  # noqa: SLF001 - nothing public cuts a connection without a goodbye
    if isinstance(found, socket.socket):
        with suppress(OSError):
            found.shutdown(socket.SHUT_RDWR)


class Outlet:
    """What a device publishes on one connection, QoS 1. ``published`` counts what reached the broker."""

    def __init__(self, client: aiomqtt.Client, faults: Faults, clock: Callable[[], int]) -> None:
        self._client = client
        self._faults = faults
        self._clock = clock
        self._late: set[asyncio.Task[None]] = set()
        self.published = 0

    async def publish(self, topic: str, payload: str | bytes, *, retain: bool = False) -> None:
        """Publish and wait for the broker's acknowledgement. Raises MqttError where none comes."""
        data = payload.encode() if isinstance(payload, str) else payload
        now = self._clock()
        if self._faults.is_half_open(now):
            return  # it goes nowhere
        for late_s, part in self._faults.deliveries(data, now):
            if late_s:
                task = asyncio.create_task(self._later(late_s, topic, part))
                self._late.add(task)
                task.add_done_callback(self._late.discard)
            else:
                await self._now(topic, part, retain=retain)

    async def _now(self, topic: str, data: bytes, *, retain: bool) -> None:
        await self._client.publish(topic, data, qos=_QOS, retain=retain, timeout=TIMEOUT_S)
        self.published += 1
        _heed_cancelling()

    async def _later(self, late_s: float, topic: str, data: bytes) -> None:
        await asyncio.sleep(late_s)
        with suppress(aiomqtt.MqttError):  # gone meanwhile: then it is lost
            await self._now(topic, data, retain=False)

    def close(self) -> None:
        """Forget what was still to come."""
        for task in self._late:
            task.cancel()


def to_json(value: Any) -> str:
    """JSON in which a Decimal has all its digits, and no others."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{dumps(name)}:{to_json(one)}" for name, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(to_json, value)) + "]"
    return f"{value:f}" if isinstance(value, Decimal) else dumps(value)
