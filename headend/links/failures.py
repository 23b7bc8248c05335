"""At which stage a conversation failed: one answer for breakers, logs, metrics, API and command line.

Whoever raises an error where only it knows the stage says so (``error.stage``); for all others the kind of
error tells it. What the kind alone leaves open is decided here once: a link that breaks in the middle of a
conversation is a ``timeout``, since the link was there and the answer did not come.
"""

import socket
from typing import Final

from headend.keys.counters import CounterExhausted, CounterJumpRefused
from headend.keys.seal import SealError
from protocols.dlms.enums import ServiceErrorCode
from protocols.dlms.security import ReplayedCounter
from protocols.errors import (
    AssociationRejected,
    CommunicationError,
    ExceptionResponse,
    GatewayRefused,
    LinkClosed,
    LinkError,
    LinkTimeout,
    LocalProtocolError,
    PeerRefused,
    RemoteProtocolError,
    SecurityError,
)
from schemas.address import AddressError
from schemas.failure import Stage
from schemas.model import ModelError

#: The first that fits: a class stands before its base.
_STAGES: Final[tuple[tuple[type[BaseException], Stage], ...]] = (
    (GatewayRefused, Stage.GATEWAY),
    (LinkTimeout, Stage.TIMEOUT),
    (LinkClosed, Stage.TIMEOUT),
    (LinkError, Stage.CONNECT),
    (AssociationRejected, Stage.ASSOCIATION),
    (PeerRefused, Stage.ACCESS),
    (ReplayedCounter, Stage.COUNTER),
    (SecurityError, Stage.CIPHER),
    (RemoteProtocolError, Stage.DECODE),
    (CounterExhausted, Stage.COUNTER),
    (CounterJumpRefused, Stage.COUNTER),
    (LocalProtocolError, Stage.SETTINGS),
    (CommunicationError, Stage.DECODE),
    (SealError, Stage.CIPHER),
    (AddressError, Stage.SETTINGS),
    (ModelError, Stage.SETTINGS),
    (socket.gaierror, Stage.DNS),
    (TimeoutError, Stage.TIMEOUT),
    (OSError, Stage.CONNECT),
)
#: What an Exception-Response complains of, where it is not the request.
_COMPLAINTS: Final = {
    ServiceErrorCode.INVOCATION_COUNTER_ERROR: Stage.COUNTER,
    ServiceErrorCode.DECIPHERING_ERROR: Stage.CIPHER,
}


def stage_of(error: BaseException) -> Stage | None:
    """The stage at which a conversation failed with ``error``.

    None where no conversation failed: the database is away, the pipeline is closed, or it is our defect.
    """
    if isinstance(error, CommunicationError) and error.stage is not None:
        return error.stage
    if isinstance(error, ExceptionResponse):
        return next(
            (stage for code, stage in _COMPLAINTS.items() if code == error.service_error), Stage.ACCESS
        )
    return next((stage for kind, stage in _STAGES if isinstance(error, kind)), None)
