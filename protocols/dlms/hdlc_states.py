"""States and events of an HDLC link, and which may follow which: one table for each side.

DISCONNECTED -- SNRM, UA --> CONNECTED -- DISC, UA --> DISCONNECTED is the plain way. Who has the turn, the
windows and the numbers live inside CONNECTED (`hdlc_link`). The diagrams in DESIGN.md are drawn from these
tables.
"""

from enum import StrEnum
from typing import NamedTuple

from protocols.dlms.hdlc_parameters import FrameReject, LinkParameters


class State(StrEnum):
    """Where a link is. REJECTED is the server's alone: it has sent FRMR and waits for SNRM or DISC."""

    DISCONNECTED = "disconnected"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    DISCONNECTING = "disconnecting"
    REJECTED = "rejected"


class ConnectRequested(NamedTuple):
    """The client sends SNRM. Of the tables only; never handed out."""


class DisconnectRequested(NamedTuple):
    """The client sends DISC. Of the tables only; never handed out."""


class Connected(NamedTuple):
    """SNRM was answered by UA. A server that was connected starts anew: the old association is gone."""

    parameters: LinkParameters


class Transmit(NamedTuple):
    """One frame to be written."""

    data: bytes


class Apdu(NamedTuple):
    """One whole APDU without its LLC header. ``unconfirmed``: it came in UI frames."""

    data: bytes
    unconfirmed: bool = False


class Disconnected(NamedTuple):
    """The link is down, and why."""

    reason: str


class LinkRejected(NamedTuple):
    """FRMR, received (client: the link is down) or sent (server: until SNRM or DISC)."""

    report: FrameReject


Event = Connected | Transmit | Apdu | Disconnected | LinkRejected
TableEvent = type[ConnectRequested | DisconnectRequested | Connected | Apdu | Disconnected | LinkRejected]
Transitions = dict[State, dict[TableEvent, State]]

CLIENT_TRANSITIONS: Transitions = {
    State.DISCONNECTED: {ConnectRequested: State.CONNECTING, Apdu: State.DISCONNECTED},
    State.CONNECTING: {
        Connected: State.CONNECTED,
        Apdu: State.CONNECTING,
        Disconnected: State.DISCONNECTED,
        LinkRejected: State.DISCONNECTED,
    },
    State.CONNECTED: {
        Apdu: State.CONNECTED,
        DisconnectRequested: State.DISCONNECTING,
        Disconnected: State.DISCONNECTED,
        LinkRejected: State.DISCONNECTED,
    },
    State.DISCONNECTING: {Apdu: State.DISCONNECTING, Disconnected: State.DISCONNECTED},
}

SERVER_TRANSITIONS: Transitions = {
    State.DISCONNECTED: {Connected: State.CONNECTED, Apdu: State.DISCONNECTED},
    State.CONNECTED: {
        Apdu: State.CONNECTED,
        Connected: State.CONNECTED,
        Disconnected: State.DISCONNECTED,
        LinkRejected: State.REJECTED,
    },
    State.REJECTED: {
        Apdu: State.REJECTED,
        Connected: State.CONNECTED,
        Disconnected: State.DISCONNECTED,
        LinkRejected: State.REJECTED,
    },
}


def state_diagram(transitions: Transitions) -> str:
    """A table as a mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.DISCONNECTED}"]
    for state, row in transitions.items():
        lines += [f"    {state} --> {after}: {event.__name__}" for event, after in row.items()]
    return "\n".join(lines)
