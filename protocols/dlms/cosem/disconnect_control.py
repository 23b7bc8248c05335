"""Disconnect Control (class 70, version 0): a breaker, what it may do in which mode, and where it stands.

::

                 b remote disconnect, d remote reconnect where the mode has no a
    connected ──────b──────▶ disconnected ──────d──────▶ ready for reconnection
        ▲ ▲                     │   ▲                            │  ▲
        │ └──────────a──────────┘   └─────────────c──────────────┤  │
        └──────────────e manual (the customer's button), h local ┘  │
        └──────────────f manual, g local ───────────────────────────┘

Attributes and transitions follow the Blue Book's class description as it is commonly cited; the clause was
not at hand. ``control_mode`` 7, of later editions, is refused by name.
"""

from collections.abc import Mapping
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Final

from protocols.dlms import axdr
from protocols.dlms.axdr import Data, DataType
from protocols.dlms.cosem.forms import integer_of
from protocols.errors import RemoteProtocolError

OUTPUT_STATE: Final = 2
CONTROL_STATE: Final = 3
CONTROL_MODE: Final = 4
REMOTE_DISCONNECT: Final = 1
REMOTE_RECONNECT: Final = 2
#: Both methods take integer(0).
PARAMETER: Final = axdr.i8(0)


class ControlState(IntEnum):
    """What the object asks of its breaker."""

    DISCONNECTED = 0
    CONNECTED = 1
    READY = 2  # ready for reconnection: disconnected, and the customer may push the button


class Transition(StrEnum):
    """From one state to another."""

    REMOTE_RECONNECT = "a"
    REMOTE_DISCONNECT = "b"
    REMOTE_DISARM = "c"
    REMOTE_ARM = "d"
    MANUAL_RECONNECT = "e"
    MANUAL_DISCONNECT = "f"
    LOCAL_DISCONNECT = "g"
    LOCAL_RECONNECT = "h"


_T = Transition
_S = ControlState
#: From where to where each goes.
WAYS: Final[Mapping[Transition, tuple[ControlState, ControlState]]] = MappingProxyType(
    {
        _T.REMOTE_RECONNECT: (_S.DISCONNECTED, _S.CONNECTED),
        _T.REMOTE_DISCONNECT: (_S.CONNECTED, _S.DISCONNECTED),
        _T.REMOTE_DISARM: (_S.READY, _S.DISCONNECTED),
        _T.REMOTE_ARM: (_S.DISCONNECTED, _S.READY),
        _T.MANUAL_RECONNECT: (_S.READY, _S.CONNECTED),
        _T.MANUAL_DISCONNECT: (_S.CONNECTED, _S.READY),
        _T.LOCAL_DISCONNECT: (_S.CONNECTED, _S.READY),
        _T.LOCAL_RECONNECT: (_S.READY, _S.CONNECTED),
    }
)
#: Which exist in each control mode. In mode 0 the breaker is never opened.
MODES: Final[Mapping[int, frozenset[Transition]]] = MappingProxyType(
    {mode: frozenset(_T(one) for one in ways) for mode, ways in enumerate(
        ("", "bcfgde", "bcfgae", "bcgde", "bcgae", "bcfgdeh", "bcgdeh")
    )}
)  # fmt: skip
_REMOTE: Final[Mapping[int, tuple[Transition, ...]]] = MappingProxyType(
    {
        REMOTE_DISCONNECT: (_T.REMOTE_DISCONNECT, _T.REMOTE_DISARM),
        REMOTE_RECONNECT: (_T.REMOTE_RECONNECT, _T.REMOTE_ARM),
    }
)


def after(mode: int, state: ControlState, transition: Transition) -> ControlState | None:
    """The state behind ``transition``; None where the mode has not got it, or it begins elsewhere."""
    begin, end = WAYS[transition]
    return end if transition in MODES[mode] and state is begin else None


def invoked(mode: int, state: ControlState, method: int) -> ControlState | None:
    """The state behind a remote method; None where the mode and state have no transition for it."""
    found = (after(mode, state, one) for one in _REMOTE[method])
    return next((one for one in found if one is not None), None)


def output_state(data: Data) -> bool:
    """Attribute output_state: whether the customer is physically connected."""
    if data.type is not DataType.BOOLEAN:
        raise RemoteProtocolError(f"output_state is {data.type.name}, not a boolean")
    return bool(data.value)


def control_state(data: Data) -> ControlState:
    """Attribute control_state."""
    value = integer_of(data, "control_state")
    if value not in frozenset(ControlState):
        raise RemoteProtocolError(f"control_state is 0 to 2, not {value}")
    return ControlState(value)


def control_mode(data: Data) -> int:
    """Attribute control_mode: 0 to 6."""
    value = integer_of(data, "control_mode")
    if value not in MODES:
        raise RemoteProtocolError(f"control_mode is 0 to 6, not {value}: its transitions are not known here")
    return value
