"""Breakers: where one stands, and what it is told."""

from enum import StrEnum
from typing import NamedTuple, Protocol, runtime_checkable


class Control(StrEnum):
    """What the meter's control asks of the breaker."""

    DISCONNECTED = "disconnected"
    CONNECTED = "connected"
    READY = "ready"  # disconnected, and the customer may push the button


class Remote(StrEnum):
    """What can be sent."""

    DISCONNECT = "disconnect"
    RECONNECT = "reconnect"
    ARM = "arm"


class Breaker(NamedTuple):
    """``output``: whether the customer is connected. ``becomes``: where each thing that can be sent would
    lead from here; what is not in it, the meter's mode does not allow. ``mode``: None where its language has
    none."""

    output: bool
    control: Control
    mode: int | None
    becomes: dict[Remote, Control]


@runtime_checkable
class Switchable(Protocol):
    """A conversation with a meter that has a breaker."""

    async def read_breaker(self) -> Breaker:
        """Where it stands. Raises the tree of `protocols.errors`."""

    async def switch(self, remote: Remote) -> None:
        """Tell it. Raises the tree of `protocols.errors`."""
