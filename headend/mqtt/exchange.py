"""Asking devices of the broker: a connection for each conversation, without a session that stays behind."""

import secrets
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from headend.drivers.mqtt.driver import Answer
from headend.mqtt.broker import Broker, BrokerRefused
from headend.mqtt.connection import Connection, connect
from protocols.errors import PeerRefused

#: Messages and bytes that may wait: answers are few and short.
_ROOM: Final = 100
_BYTES: Final = 4 << 20
_POLL_S: Final = 60.0


class BrokerExchange:
    """The `headend.drivers.mqtt.driver.Exchange` of a broker."""

    def __init__(self, broker: Broker, client_id: str = "headend") -> None:
        self._broker = broker
        self._client_id = client_id

    @asynccontextmanager
    async def asking(self, *answers: str) -> AsyncIterator["BrokerAsking"]:
        """Subscribed to ``answers`` inside. Raises LinkError, and what the broker refuses as PeerRefused."""
        name = f"{self._client_id}-ask-{secrets.token_hex(6)}"
        try:
            async with connect(
                self._broker, name, keep_session=False, room=_ROOM, most_bytes=_BYTES
            ) as connection:
                await connection.subscribe(answers)
                yield BrokerAsking(connection)
        except BrokerRefused as error:
            raise PeerRefused(str(error)) from error


class BrokerAsking:
    """An open connection that is subscribed to where answers come."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._came: deque[Answer] = deque()

    async def publish(self, topic: str, payload: bytes) -> None:
        """Publish with QoS 1. Raises LinkError."""
        await self._connection.publish(topic, payload)

    async def next(self) -> Answer:
        """The next message, waited for without end. Raises LinkError."""
        while not self._came:
            messages = await self._connection.take(_ROOM, _BYTES, _POLL_S)
            self._connection.acknowledge(messages)
            self._came += [Answer(one.topic, one.payload, one.retained) for one in messages]
        return self._came.popleft()
