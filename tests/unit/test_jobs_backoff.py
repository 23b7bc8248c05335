"""What becomes of a request after a failure."""

from datetime import UTC, datetime, timedelta

import pytest

from headend.jobs.backoff import SPREAD_S, after_failure, after_ours, away
from headend.keys.seal import SealError
from headend.links.opened import BreakerOpen, Kind, Opened, Subject
from headend.store.requests import Waiting
from protocols.dlms.enums import DataAccessResult
from protocols.errors import DataAccessRefused, LinkError, LinkTimeout, RemoteProtocolError
from schemas.failure import Stage
from schemas.job import RequestState, Retry

NOW = datetime(2026, 3, 1, 1, tzinfo=UTC)
RETRY = Retry(attempts=4, first_s=10, longest_s=25)


def waiting(attempts: int = 0, hours: float = 5) -> Waiting:
    return Waiting(7, 1, 42, 20, NOW, NOW + timedelta(hours=hours), attempts, None)


def longest(bound: float) -> float:
    return bound


@pytest.mark.parametrize(("attempts", "wait_s"), [(0, 10), (1, 20), (2, 25)])
def test_waits_double_up_to_the_longest(attempts: int, wait_s: float) -> None:
    settled = after_failure(waiting(attempts), LinkTimeout("silent"), RETRY, NOW, longest)
    assert settled.state is RequestState.OPEN
    assert settled.counts
    assert settled.next_at == NOW + timedelta(seconds=wait_s)
    assert (settled.stage, settled.reason) == (Stage.TIMEOUT, "silent")


def test_the_last_attempt_fails() -> None:
    settled = after_failure(waiting(3), LinkTimeout("silent"), RETRY, NOW, longest)
    assert (settled.state, settled.counts, settled.next_at) == (RequestState.FAILED, True, None)


def test_no_attempt_is_promised_behind_the_drop_dead_time() -> None:
    one = waiting(hours=5 / 3600)
    assert after_failure(one, LinkTimeout("silent"), RETRY, NOW, longest).state is RequestState.FAILED
    assert after_failure(one, LinkTimeout("silent"), RETRY, NOW, lambda _: 1).state is RequestState.OPEN


@pytest.mark.parametrize(
    ("error", "stage"),
    [
        (RemoteProtocolError("no APDU"), Stage.DECODE),
        (DataAccessRefused("denied", result=DataAccessResult.READ_WRITE_DENIED), Stage.ACCESS),
        (SealError("no master key opens it"), Stage.CIPHER),
    ],
)
def test_what_would_fail_again_is_not_tried_again(error: Exception, stage: Stage) -> None:
    settled = after_failure(waiting(), error, RETRY, NOW, longest)
    assert (settled.state, settled.stage) == (RequestState.FAILED, stage)


def test_a_breaker_is_waited_for_and_counts_as_no_attempt() -> None:
    until = NOW + timedelta(minutes=7)
    opened = Opened(NOW, until, 3, Stage.CONNECT, "refused")
    error = BreakerOpen(Subject(Kind.STATION, "5"), opened)
    settled = after_failure(waiting(3), error, RETRY, NOW, longest)
    assert (settled.state, settled.counts, settled.stage) == (RequestState.OPEN, False, Stage.CONNECT)
    assert settled.next_at == until + timedelta(seconds=SPREAD_S)
    # a breaker whose time has come while somebody else probes: soon, not at once and not in the past
    settled = after_failure(waiting(3), error, RETRY, until + timedelta(seconds=5), lambda _: 2)
    assert settled.next_at == until + timedelta(seconds=7)


def test_errors_of_our_own_and_meters_that_are_away_cost_no_attempt() -> None:
    for settled in (after_ours(waiting(), LinkError("x"), NOW, longest), away(waiting(), NOW, longest)):
        assert (settled.state, settled.counts, settled.stage) == (RequestState.OPEN, False, None)
        assert settled.next_at is not None
        assert settled.next_at > NOW
