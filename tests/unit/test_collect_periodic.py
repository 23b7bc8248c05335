"""Rounds one after another, on virtual time."""

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from psycopg import OperationalError

from headend.collect.outcome import Outcome
from headend.collect.periodic import JITTER, periodically

STARTED = 1000.0  # where the fixture's clock begins
NOW = datetime(2026, 3, 10, 12, 7, tzinfo=UTC)


class Collector:
    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    async def collect(self, since, until, *, on_progress=None):
        self.asked.append((asyncio.get_running_loop().time(), since, until))
        if not self.answers:
            raise asyncio.CancelledError
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def rounds(run_virtual, collector):
    told = []
    with pytest.raises(asyncio.CancelledError):
        run_virtual(periodically(collector, days=2, period_s=900, on_round=told.append, now=lambda: NOW))
    return told


def test_rounds_follow_each_other_after_about_a_period(run_virtual):
    collector = Collector(Outcome(read=1), Outcome(read=2))
    assert [one.read for one in rounds(run_virtual, collector)] == [1, 2]
    times = [STARTED, *(time for time, _, _ in collector.asked)]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert all(900 * (1 - JITTER) - 0.1 <= pause <= 900 * (1 + JITTER) + 0.1 for pause in pauses)
    assert len(set(pauses)) == len(pauses)
    assert {(until - since, until) for _, since, until in collector.asked} == {(timedelta(days=2), NOW)}


def test_a_database_that_is_away_costs_one_round(run_virtual):
    collector = Collector(OperationalError("gone"), Outcome(read=2))
    assert [one.read for one in rounds(run_virtual, collector)] == [2]


def test_a_defect_ends_it(run_virtual):
    with pytest.raises(ZeroDivisionError):
        run_virtual(
            periodically(Collector(ZeroDivisionError()), days=1, period_s=1, on_round=print, now=lambda: NOW)
        )
