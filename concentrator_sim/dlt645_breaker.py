"""The breaker of a DL/T 645 meter: told by control code 1C, seen in status word 3."""

import datetime as dt
from typing import Final

from concentrator_sim.breaker import Breaker
from concentrator_sim.dlt645_clock import CHINA, PASSWORD
from concentrator_sim.event_log import REMOTE_CONNECTION, REMOTE_DISCONNECTION
from concentrator_sim.line_meters import LineMeter
from protocols.dlms.cosem.disconnect_control import ControlState
from protocols.dlt645.control import ErrorWord, SwitchCommand
from protocols.dlt645.identifiers import DataId

STATUS_3: Final = DataId.parse("04-00-05-03")
_OPEN, _TOLD_TO_OPEN = 1 << 4, 1 << 6
_LENGTH: Final = 16
_STATES: Final = {
    SwitchCommand.TRIP: ControlState.DISCONNECTED,
    SwitchCommand.ALLOW_CLOSING: ControlState.READY,
    SwitchCommand.CLOSE: ControlState.CONNECTED,
}


def status(one: LineMeter) -> bytes:
    """Status word 3, low byte first."""
    breaker = one.meter.part(Breaker)
    word = 0 if breaker.output else _OPEN
    word |= _TOLD_TO_OPEN if breaker.state is ControlState.DISCONNECTED else 0
    return word.to_bytes(2, "little")


def switch(one: LineMeter, data: bytes) -> ErrorWord:
    """What is wrong with a command behind password and operator code; 0: it is done."""
    if len(data) != _LENGTH:
        return ErrorWord.OTHER
    if data[:4] != PASSWORD:
        return ErrorWord.NOT_AUTHORISED
    try:
        state = _STATES[SwitchCommand(data[8])]
        until = dt.datetime.strptime(bytes(reversed(data[10:])).hex(), "%y%m%d%H%M%S").replace(tzinfo=CHINA)
    except (KeyError, ValueError):
        return ErrorWord.OTHER
    if until.timestamp() < one.shown_s:
        return ErrorWord.OTHER
    closes = state is ControlState.CONNECTED
    one.meter.part(Breaker).tell(state, one.now, REMOTE_CONNECTION if closes else REMOTE_DISCONNECTION)
    return ErrorWord(0)
