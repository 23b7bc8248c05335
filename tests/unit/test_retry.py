"""What is tried again, when, and how often."""

import asyncio
import random
from datetime import UTC, datetime, timedelta

import pytest

from headend.links.opened import BreakerOpen, Kind, Opened, Subject
from headend.session.deadlines import Deadlines
from headend.session.retry import RetryPolicy, Verdict, classify, retrying
from protocols.errors import (
    ActionRefused,
    AssociationRejected,
    DataAccessRefused,
    ExceptionResponse,
    LinkClosed,
    LinkError,
    LinkTimeout,
    LocalProtocolError,
    ModbusRefused,
    RemoteProtocolError,
    SecurityError,
    ServiceRefused,
)
from schemas.failure import Stage


def test_an_open_breaker_is_not_waited_for() -> None:
    now = datetime(2026, 3, 1, tzinfo=UTC)
    opened = Opened(now, now + timedelta(seconds=5), 3, Stage.TIMEOUT, "silent")
    assert classify(BreakerOpen(Subject(Kind.METER, "1"), opened)) is Verdict.FATAL


@pytest.mark.parametrize(
    "error",
    [
        LinkError("refused"),
        LinkTimeout("silent"),
        LinkClosed("gone"),
        AssociationRejected("later", result=2),
        DataAccessRefused("busy", result=2),
        DataAccessRefused("aborted", result=15),
        ModbusRefused("busy", code=6),
        ActionRefused("busy", result=2),
    ],
    ids=repr,
)
def test_transient(error):
    assert classify(error) is Verdict.TRANSIENT


@pytest.mark.parametrize(
    "error",
    [
        AssociationRejected("never", result=1, diagnostic=13),
        DataAccessRefused("undefined", result=4),
        ActionRefused("denied", result=3),
        ModbusRefused("no such register", code=2),
        ServiceRefused("no", service=1, error_group=0, value=0),
        ExceptionResponse("no", state_error=1, service_error=1),
        SecurityError("tag"),
        RemoteProtocolError("garbage"),
        LocalProtocolError("ours"),
        ValueError("ours"),
        asyncio.CancelledError(),
        TimeoutError(),
    ],
    ids=repr,
)
def test_fatal(error):
    assert classify(error) is Verdict.FATAL


class Call:
    def __init__(self, *errors):
        self.errors = list(errors)
        self.times = []

    async def __call__(self):
        self.times.append(asyncio.get_running_loop().time())
        if self.errors:
            raise self.errors.pop(0)
        return "read"


def test_success_needs_one_call(run_virtual):
    call = Call()
    assert run_virtual(retrying(call, RetryPolicy())) == "read"
    assert len(call.times) == 1


def test_any_callable_that_gives_an_awaitable_will_do(run_virtual):
    call = Call(LinkTimeout("a"))
    assert run_virtual(retrying(lambda: call(), RetryPolicy())) == "read"
    assert len(call.times) == 2


def test_transient_errors_are_tried_again_and_told(run_virtual):
    call, told = Call(LinkTimeout("a"), LinkClosed("b")), []
    result = run_virtual(retrying(call, RetryPolicy(), on_retry=lambda n, e: told.append((n, e.reason))))
    assert result == "read"
    assert told == [(1, "a"), (2, "b")]


def test_the_last_error_comes_out_as_it_is(run_virtual):
    call = Call(LinkTimeout("1"), LinkTimeout("2"), LinkTimeout("3"))
    with pytest.raises(LinkTimeout, match="3"):
        run_virtual(retrying(call, RetryPolicy(attempts=3)))
    assert len(call.times) == 3


def test_a_fatal_error_is_not_tried_again(run_virtual):
    call = Call(SecurityError("tag"), LinkTimeout("never seen"))
    with pytest.raises(SecurityError):
        run_virtual(retrying(call, RetryPolicy()))
    assert len(call.times) == 1


def test_cancelling_is_not_tried_again(run_virtual):
    call = Call(asyncio.CancelledError())
    with pytest.raises(asyncio.CancelledError):
        run_virtual(retrying(call, RetryPolicy()))
    assert len(call.times) == 1


def test_waits_are_drawn_from_zero_to_a_growing_bound_each_time(run_virtual):
    random.seed(5)
    policy = RetryPolicy(attempts=6, first_s=2, longest_s=10)
    waits = []
    for _ in range(50):
        call = Call(*[LinkTimeout("x")] * 5)
        run_virtual(retrying(call, policy))
        waits.append([b - a for a, b in zip(call.times, call.times[1:], strict=False)])
    for column, bound in zip(zip(*waits, strict=True), (2, 4, 8, 10, 10), strict=True):
        assert all(0 <= wait <= bound for wait in column)
        assert max(column) > bound * 0.8
        assert min(column) < bound * 0.2
        assert len(set(column)) == 50


def test_any_number_of_attempts_can_be_counted(run_virtual):
    call = Call(*[LinkTimeout("x")] * 1_100)  # 2.0 to the power of that is more than a float holds
    assert run_virtual(retrying(call, RetryPolicy(attempts=2_000, first_s=2.0, longest_s=1.0))) == "read"


def test_no_attempt_begins_after_the_deadline(run_virtual):
    async def main():
        call = Call(*[LinkTimeout("x")] * 1000)
        start = asyncio.get_running_loop().time()
        with pytest.raises(LinkTimeout):
            await retrying(call, RetryPolicy(attempts=1000, first_s=1, longest_s=5), deadline=start + 60)
        assert 5 < len(call.times) < 1000
        assert max(call.times) < start + 60

    run_virtual(main())


def test_deadlines_are_positive():
    with pytest.raises(ValueError, match="gap_s"):
        Deadlines(gap_s=0)
