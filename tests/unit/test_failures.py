"""One taxonomy: every error that a conversation can end with has its stage."""

import socket

import pytest

from headend.ingest.pipeline import PipelineClosed
from headend.keys.counters import CounterExhausted, CounterJumpRefused
from headend.keys.seal import SealError
from headend.links.failures import stage_of
from headend.store.errors import UnavailableError
from protocols import errors
from protocols.dlms.security import ReplayedCounter
from schemas.address import AddressError
from schemas.failure import Stage
from schemas.model import ModelError

CASES = [
    (errors.LinkTimeout("late"), Stage.TIMEOUT),
    (errors.LinkClosed("gone"), Stage.TIMEOUT),
    (errors.LinkError("no such device"), Stage.CONNECT),
    (errors.LinkError("no such host", stage=Stage.DNS), Stage.DNS),
    (errors.GatewayRefused("no"), Stage.GATEWAY),
    (errors.AssociationRejected("no", result=1), Stage.ASSOCIATION),
    (errors.DataAccessRefused("no", result=3), Stage.ACCESS),
    (errors.ActionRefused("no", result=3), Stage.ACCESS),
    (errors.ServiceRefused("no", service=1, error_group=0, value=0), Stage.ACCESS),
    (errors.ExceptionResponse("no", state_error=1, service_error=2), Stage.ACCESS),
    (errors.ExceptionResponse("key", state_error=1, service_error=5), Stage.CIPHER),
    (errors.ExceptionResponse("counter", state_error=1, service_error=6), Stage.COUNTER),
    (errors.ModbusRefused("no", code=2), Stage.ACCESS),
    (errors.PeerRefused("no"), Stage.ACCESS),
    (ReplayedCounter(1, 2), Stage.COUNTER),
    (errors.SecurityError("tag"), Stage.CIPHER),
    (errors.RemoteProtocolError("bytes"), Stage.DECODE),
    (errors.RemoteProtocolError("another meter", stage=Stage.ASSOCIATION), Stage.ASSOCIATION),
    (errors.LocalProtocolError("no address"), Stage.SETTINGS),
    (errors.CommunicationError("?"), Stage.DECODE),
    (CounterExhausted("used up"), Stage.COUNTER),
    (CounterJumpRefused("too far"), Stage.COUNTER),
    (SealError("no key"), Stage.CIPHER),
    (AddressError("?"), Stage.SETTINGS),
    (ModelError("?"), Stage.SETTINGS),
    (socket.gaierror(-2, "unknown"), Stage.DNS),
    (TimeoutError(), Stage.TIMEOUT),
    (ConnectionRefusedError(), Stage.CONNECT),
    (UnavailableError("database"), None),
    (PipelineClosed(), None),
    (ZeroDivisionError(), None),
]


@pytest.mark.parametrize(("error", "stage"), CASES, ids=lambda value: type(value).__name__)
def test_every_error_has_its_stage(error: BaseException, stage: Stage | None) -> None:
    assert stage_of(error) is stage


def test_no_class_of_the_tree_is_without_a_case() -> None:
    tree = {
        one
        for one in vars(errors).values()
        if isinstance(one, type) and issubclass(one, errors.CommunicationError)
    }
    assert tree <= {type(error) for error, _ in CASES}


def test_every_stage_is_told_by_some_error() -> None:
    assert {stage for _, stage in CASES} == {*Stage, None}
