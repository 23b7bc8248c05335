"""The broker of the demonstration: a child process out of a wheel, on this machine alone.

It keeps sessions in memory, for as long as it runs: what is shown does not depend on more. In the field the
broker is one of the utility's own (`deploy/mosquitto.conf`).
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from iotcore import Broker

_HOST: Final = "127.0.0.1"
_START_S: Final = 20.0
_STOP_S: Final = 5.0
#: As much as a decoder takes, and messages that wait for our acknowledgement.
_MAX_PAYLOAD: Final = 1 << 20
_IN_FLIGHT: Final = 4_000


class DemoBrokerError(Exception):
    """The demonstration's broker does not start; the message says why."""


@asynccontextmanager
async def demo_broker(port: int = 0) -> AsyncIterator[str]:
    """A broker for as long as the context lasts; its URL. Port 0 is any that is free.

    Its process also ends when this one is killed. Raises DemoBrokerError.
    """
    if port == 0:
        with socket.create_server((_HOST, 0)) as free:
            port = free.getsockname()[1]
    broker = Broker(port=port, listen=_HOST, max_payload_size=_MAX_PAYLOAD, max_inflight_count=_IN_FLIGHT)
    try:
        await asyncio.to_thread(broker.start, _START_S)
    except (OSError, RuntimeError) as error:
        raise DemoBrokerError(f"no broker for the demonstration on {_HOST}:{port}: {error}") from error
    try:
        yield f"mqtt://{_HOST}:{port}"
    finally:
        await asyncio.to_thread(broker.stop, _STOP_S)
