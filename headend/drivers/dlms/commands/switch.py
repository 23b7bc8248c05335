"""The breaker of a DLMS meter: Disconnect Control (class 70)."""

from typing import Final

from headend.drivers.commands.switch import Breaker, Control, Remote
from headend.drivers.dlms.commands.base import Commands
from protocols.dlms import axdr
from protocols.dlms.cosem import Attribute, ClassId, Method
from protocols.dlms.cosem import disconnect_control as dc
from protocols.dlms.enums import DataAccessResult
from protocols.dlms.obis import Obis
from protocols.errors import DataAccessRefused, LocalProtocolError

_CONTROLS: Final = {
    dc.ControlState.DISCONNECTED: Control.DISCONNECTED,
    dc.ControlState.CONNECTED: Control.CONNECTED,
    dc.ControlState.READY: Control.READY,
}
_READ: Final = (dc.OUTPUT_STATE, dc.CONTROL_STATE, dc.CONTROL_MODE)


class SwitchCommands(Commands):
    """`headend.drivers.commands.switch.Switchable`."""

    async def read_breaker(self) -> Breaker:
        """Output state, control state and mode. Raises DataAccessRefused, and as `MeterSession.get`."""
        obis = self._breaker
        raws = await self._session.get_many(
            [Attribute(ClassId.DISCONNECT_CONTROL, obis, index) for index in _READ]
        )
        for index, raw in zip(_READ, raws, strict=True):
            if isinstance(raw, DataAccessResult):
                raise DataAccessRefused(
                    f"breaker {obis}, attribute {index}: {raw.name.lower()}", result=int(raw)
                )
        output, state, mode = (axdr.decode_exact(raw) for raw in raws if isinstance(raw, bytes))
        where, number = dc.control_state(state), dc.control_mode(mode)
        becomes: dict[Remote, Control] = {}
        off, on = (dc.invoked(number, where, one) for one in (dc.REMOTE_DISCONNECT, dc.REMOTE_RECONNECT))
        if off is not None:
            becomes[Remote.DISCONNECT] = _CONTROLS[off]
        if on is not None:
            becomes[Remote.ARM if on is dc.ControlState.READY else Remote.RECONNECT] = _CONTROLS[on]
        return Breaker(dc.output_state(output), _CONTROLS[where], number, becomes)

    async def switch(self, remote: Remote) -> None:
        """Invoke remote_disconnect, or remote_reconnect: the meter's mode decides which transition that is.
        Raises ActionRefused, and as `MeterSession.action`."""
        index = dc.REMOTE_DISCONNECT if remote is Remote.DISCONNECT else dc.REMOTE_RECONNECT
        method = Method(ClassId.DISCONNECT_CONTROL, self._breaker, index)
        await self._session.action(method, axdr.encode(dc.PARAMETER))

    @property
    def _breaker(self) -> Obis:
        if self._model.switch is None:
            raise LocalProtocolError(f"model {self._model.name} has no [switch]: its breaker is not known")
        return Obis.parse(self._model.switch.obis)
