"""Breakers of DL/T 645 meters: trip, allow closing, close (control code 1C); status word 3 tells their state.

The frames are those of the standard's supplement for meters with a cost-control module, as makers' manuals
tell them; the clause itself is not at hand, and no recorded trace was. A command carries the time until which
the meter may take it: a late one does nothing.
"""

from abc import abstractmethod
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from headend.drivers.commands.switch import Breaker, Control, Remote
from protocols.dlt645 import conversation as dlt
from protocols.dlt645.control import SwitchCommand
from protocols.dlt645.identifiers import DataId
from protocols.errors import LocalProtocolError, RemoteProtocolError
from schemas.line_model import LineModel

STATUS_3: Final = DataId.parse("04-00-05-03")
#: Bits of status word 3: the relay is open; the last command was to open it.
OPEN: Final = 1 << 4
TOLD_TO_OPEN: Final = 1 << 6
#: So long a meter may take a command after it was made.
VALID: Final = timedelta(minutes=5)
_WORD: Final = 2
_COMMANDS: Final = {
    Remote.DISCONNECT: SwitchCommand.TRIP,
    Remote.ARM: SwitchCommand.ALLOW_CLOSING,
    Remote.RECONNECT: SwitchCommand.CLOSE,
}


class Dlt645Breakers:
    """`headend.drivers.commands.switch.Switchable` of DL/T 645."""

    _model: LineModel
    _address: str
    _now: Callable[[], datetime]

    async def read_breaker(self) -> Breaker:
        """Status word 3. Raises AbnormalAnswer, LinkError, RemoteProtocolError."""
        data = await self._exchange(dlt.read(self._address, STATUS_3))
        if len(data) != _WORD:
            raise RemoteProtocolError(f"status word 3 has {len(data)} bytes, not {_WORD}")
        word = int.from_bytes(data, "little")
        connected, told_to_open = not word & OPEN, bool(word & TOLD_TO_OPEN)
        if told_to_open:
            becomes = {Remote.RECONNECT: Control.CONNECTED, Remote.ARM: Control.READY}
            return Breaker(connected, Control.DISCONNECTED, None, becomes)
        becomes = {Remote.DISCONNECT: Control.DISCONNECTED}
        if connected:
            return Breaker(connected, Control.CONNECTED, None, becomes)
        return Breaker(connected, Control.READY, None, {**becomes, Remote.RECONNECT: Control.CONNECTED})

    async def switch(self, remote: Remote) -> None:
        """With the model's password. Raises AbnormalAnswer, LinkError; LocalProtocolError without one."""
        keys, zone = self._model.switch, self._model.tz
        if keys is None or zone is None:
            raise LocalProtocolError(f"model {self._model.name} has no [switch] and zone: no password for it")
        until = (self._now() + VALID).astimezone(zone).strftime("%y%m%d%H%M%S")
        request = dlt.switch(
            self._address,
            _COMMANDS[remote],
            until,
            password=bytes.fromhex(keys.password.get_secret_value()),
            operator=bytes.fromhex(keys.operator),
        )
        await self._exchange(request)

    @abstractmethod
    async def _exchange(self, request: dlt.Request) -> bytes:
        """One request and its answer."""
