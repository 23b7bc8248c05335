"""A meter's breaker: its states and modes, the customer's button, and a drive that may be stuck.

While it is open nothing flows: registers stand still, and intervals of the time are zero. Each time that it
opens or closes is in the control log.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from concentrator_sim.event_log import (
    CONTROL,
    LOCAL_CONNECTION,
    LOCAL_DISCONNECTION,
    MANUAL_CONNECTION,
    MANUAL_DISCONNECTION,
    REMOTE_CONNECTION,
    REMOTE_DISCONNECTION,
)
from concentrator_sim.object_model import Asked, CosemObject, Meter
from protocols.dlms import axdr
from protocols.dlms.cosem import ClassId
from protocols.dlms.cosem import disconnect_control as dc
from protocols.dlms.cosem.disconnect_control import ControlState, Transition
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.obis import Obis
from protocols.errors import RemoteProtocolError

BREAKER: Final = Obis.parse("0-0:96.3.10*255")
#: Remote disconnection; remote reconnection at once; manual buttons.
_MODE: Final = 2


class Breaker:
    """The breaker of one meter. ``sticks`` says whether its drive moves at a moment. Moments are Unix seconds
    of the meter's crystal."""

    __slots__ = ("_meter", "mode", "moves", "output", "state", "sticks")

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self.state = ControlState.CONNECTED
        self.output = True
        self.mode = _MODE
        #: how often it was told to move: commands that came twice are seen here
        self.moves = 0
        self.sticks: Callable[[float], bool] = lambda now: False

    def push_button(self, now_s: int) -> bool:
        """The customer pushes the button: on where it is ready, off where the mode lets him; whether that
        did anything."""
        self._meter.live_until(now_s)
        return self._take(Transition.MANUAL_RECONNECT, now_s) or self._take(
            Transition.MANUAL_DISCONNECT, now_s
        )

    def disconnect(self, now_s: int) -> bool:
        """The meter itself disconnects; whether the mode has a transition for it from here."""
        return self._take(Transition.LOCAL_DISCONNECT, now_s)

    def reconnect(self, now_s: int) -> bool:
        """The meter itself reconnects; as `disconnect`."""
        return self._take(Transition.LOCAL_RECONNECT, now_s)

    def invoke(self, method: int, now_s: int) -> bool:
        """A remote method; whether the mode has a transition for it from here."""
        state = dc.invoked(self.mode, self.state, method)
        if state is None:
            return False
        self.tell(state, now_s, REMOTE_CONNECTION if method == dc.REMOTE_RECONNECT else REMOTE_DISCONNECTION)
        return True

    def tell(self, state: ControlState, now_s: int, event: int) -> None:
        """It is told to go there, whatever its mode says; ``event`` is logged where its contacts move."""
        self.moves += 1
        self.state = state
        output = state is ControlState.CONNECTED
        if self.sticks(now_s) or output is self.output:
            return
        self.output = output
        consumption = self._meter.consumption
        (consumption.connect if output else consumption.cut_off)(now_s)
        self._meter.events.add(CONTROL, now_s, event)

    def _take(self, way: Transition, now_s: int) -> bool:
        state = dc.after(self.mode, self.state, way)
        if state is None:
            return False
        self.tell(state, now_s, _LOGGED[way])
        return True


_LOGGED: Final = {
    Transition.MANUAL_RECONNECT: MANUAL_CONNECTION,
    Transition.MANUAL_DISCONNECT: MANUAL_DISCONNECTION,
    Transition.LOCAL_DISCONNECT: LOCAL_DISCONNECTION,
    Transition.LOCAL_RECONNECT: LOCAL_CONNECTION,
}


def _of(asked: Asked) -> Breaker:
    return asked.device.meter.part(Breaker)


def _invoke(method: int, asked: Asked, parameter: bytes | None) -> ActionResult:
    if parameter is None or axdr.decode_exact(parameter) != dc.PARAMETER:
        return ActionResult.TYPE_UNMATCHED
    if _of(asked).invoke(method, asked.now_s):
        return ActionResult.SUCCESS
    return ActionResult.OTHER_REASON


def _set_mode(asked: Asked, raw: bytes) -> DataAccessResult:
    try:
        _of(asked).mode = dc.control_mode(axdr.decode_exact(raw))
    except RemoteProtocolError:
        return DataAccessResult.TYPE_UNMATCHED
    return DataAccessResult.SUCCESS


#: Disconnect Control, as the management client sees it.
BREAKERS: Final = (
    CosemObject(
        ClassId.DISCONNECT_CONTROL,
        0,
        BREAKER,
        {
            dc.OUTPUT_STATE: lambda asked: axdr.encode(axdr.boolean(_of(asked).output)),
            dc.CONTROL_STATE: lambda asked: axdr.encode(axdr.enum(_of(asked).state)),
            dc.CONTROL_MODE: lambda asked: axdr.encode(axdr.enum(_of(asked).mode)),
        },
        writes={dc.CONTROL_MODE: _set_mode},
        methods={one: partial(_invoke, one) for one in (dc.REMOTE_DISCONNECT, dc.REMOTE_RECONNECT)},
    ),
)
