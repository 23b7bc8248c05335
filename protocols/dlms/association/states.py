"""The two state machines of an association, as tables: whatever changes a state is written here.

A machine has one state and takes *inputs*. An input that its state does not list is forbidden there: when it
was our own call the defect is ours (LocalProtocolError), when it was the peer's message the fault is the
peer's (RemoteProtocolError on the client's side, Exception-Response or silence from the server).

The client has at most one request outstanding. ``ABANDON`` is how a session says that it waits no longer: the
answer may still arrive, and is then reported as stale. Nothing leads out of ``FAILED``: the link must be
closed, since what comes next on it can no longer be told apart.
"""

from collections.abc import Mapping
from enum import StrEnum, auto
from typing import TypeVar


class ClientState(StrEnum):
    """Where the client side stands."""

    IDLE = auto()
    ASSOCIATING = auto()
    HLS_PENDING = auto()
    ASSOCIATED = auto()
    WAITING = auto()
    RELEASING = auto()
    FAILED = auto()


class ClientInput(StrEnum):
    """What moves the client: calls of ours, and what the peer's messages mean."""

    ASSOCIATE = auto()
    ACCEPTED = auto()
    CHALLENGED = auto()
    REJECTED = auto()
    PROVEN = auto()
    REQUEST = auto()
    ANSWERED = auto()
    ABANDON = auto()
    RELEASE = auto()
    RELEASED = auto()
    FAIL = auto()


CLIENT_TRANSITIONS: Mapping[ClientState, Mapping[ClientInput, ClientState]] = {
    ClientState.IDLE: {ClientInput.ASSOCIATE: ClientState.ASSOCIATING},
    ClientState.ASSOCIATING: {
        ClientInput.ACCEPTED: ClientState.ASSOCIATED,
        ClientInput.CHALLENGED: ClientState.HLS_PENDING,
        ClientInput.REJECTED: ClientState.IDLE,
        ClientInput.FAIL: ClientState.FAILED,
    },
    ClientState.HLS_PENDING: {
        ClientInput.PROVEN: ClientState.ASSOCIATED,
        ClientInput.FAIL: ClientState.FAILED,
    },
    ClientState.ASSOCIATED: {
        ClientInput.REQUEST: ClientState.WAITING,
        ClientInput.RELEASE: ClientState.RELEASING,
        ClientInput.RELEASED: ClientState.IDLE,
        ClientInput.FAIL: ClientState.FAILED,
    },
    ClientState.WAITING: {
        ClientInput.ANSWERED: ClientState.ASSOCIATED,
        ClientInput.ABANDON: ClientState.ASSOCIATED,
        ClientInput.RELEASED: ClientState.IDLE,
        ClientInput.FAIL: ClientState.FAILED,
    },
    ClientState.RELEASING: {
        ClientInput.RELEASED: ClientState.IDLE,
        ClientInput.FAIL: ClientState.FAILED,
    },
    ClientState.FAILED: {},
}


class ServerState(StrEnum):
    """Where the server side stands."""

    IDLE = auto()
    HLS_PENDING = auto()
    ASSOCIATED = auto()
    ANSWERING = auto()


class ServerInput(StrEnum):
    """What moves the server: the peer's messages as understood, and the application's answers."""

    ACCEPT = auto()
    CHALLENGE = auto()
    REJECT = auto()
    PROOF_ACCEPTED = auto()
    PROOF_REFUSED = auto()
    REQUEST = auto()
    RESPOND = auto()
    RELEASE = auto()
    RESET = auto()


# A new AARQ starts over from every state: the client may have lost the association without our knowing.
_ANEW = {
    ServerInput.ACCEPT: ServerState.ASSOCIATED,
    ServerInput.CHALLENGE: ServerState.HLS_PENDING,
    ServerInput.REJECT: ServerState.IDLE,
    ServerInput.RESET: ServerState.IDLE,
}

SERVER_TRANSITIONS: Mapping[ServerState, Mapping[ServerInput, ServerState]] = {
    ServerState.IDLE: _ANEW,
    ServerState.HLS_PENDING: {
        **_ANEW,
        ServerInput.PROOF_ACCEPTED: ServerState.ASSOCIATED,
        ServerInput.PROOF_REFUSED: ServerState.IDLE,
        ServerInput.RELEASE: ServerState.IDLE,
    },
    ServerState.ASSOCIATED: {
        **_ANEW,
        ServerInput.REQUEST: ServerState.ANSWERING,
        ServerInput.RELEASE: ServerState.IDLE,
    },
    ServerState.ANSWERING: {
        **_ANEW,
        ServerInput.RESPOND: ServerState.ASSOCIATED,
        ServerInput.RELEASE: ServerState.IDLE,
    },
}

_State = TypeVar("_State", bound=StrEnum)
_Input = TypeVar("_Input", bound=StrEnum)


def mermaid(table: Mapping[_State, Mapping[_Input, _State]]) -> str:
    """The table as a mermaid state diagram, as protocols/dlms/DESIGN.md shows it (a test compares them)."""
    lines = ["stateDiagram-v2", f"    [*] --> {next(iter(table)).name}"]
    for state, moves in table.items():
        lines += [f"    {state.name} --> {target.name}: {move.name}" for move, target in moves.items()]
    return "\n".join(lines)
