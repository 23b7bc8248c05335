"""Boundaries are sampled in time, dead meters come last, and what is missed is known to be lost."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace

import numpy as np
import pytest

from headend.collect import sampler as module
from headend.collect.sampler import Sampler
from headend.drivers.contract import Curve, Recall, Target
from headend.drivers.registry import Reachable
from headend.links.links import Links
from headend.store.coverage import Due
from headend.store.writer import Written
from protocols.errors import LinkTimeout
from schemas.address import LinkAddress
from schemas.reading import Channel, ChannelLayout, ReadingBatch, RegisterRead, registers_only

START = datetime(2026, 3, 10, 11, 50, tzinfo=UTC)
BOUNDARY = datetime(2026, 3, 10, 12, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
CURVE = Curve(1, 900, Recall.SAMPLED, tolerance_s=30)
LAYOUT = ChannelLayout((Channel("active_import", "1-0:1.8.0*255", 0, "Wh"), None, None, None))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def us(moment):
    return (moment - _EPOCH) // timedelta(microseconds=1)


def row(meter_id, start, end):
    one = registers_only((), source="test")
    return replace(
        one,
        meter_id=np.array([meter_id], np.int32),
        profile=np.array([1], np.int16),
        start_us=np.array([us(start)], np.int64),
        period_s=np.array([900], np.int32),
        stamp_us=np.array([us(end)], np.int64),
        amr_status=np.array([-1], np.int64),
        clock_status=np.array([0], np.int16),
        quality=np.array([0], np.int16),
        fragment=np.array([0], np.int8),
        layout=np.array([0], np.int16),
        values=np.zeros((1, 4), np.int64),
        valid=np.array([[True, False, False, False]]),
        layouts=(LAYOUT,),
        covered_us=((meter_id, 1, us(start), us(end)),),
    )


class Field:
    """Meters on lines, each of which takes ``took`` seconds to answer; None: never does."""

    names = ("fake",)

    def __init__(self, monkeypatch, took, lines=None):
        self.took = took
        self.lines = lines or {}
        self.odd = None  # a defect that reading meets
        self.late = ()  # what a reading beyond the tolerance is kept as
        self.asked = []  # (meter, seconds from the boundary)
        self.stored: list[ReadingBatch] = []
        self.gaps: list[Due] = []
        self.covered = set()
        monkeypatch.setattr(module.coverage, "models_in_use", self.models_in_use)
        monkeypatch.setattr(module.coverage, "due", self.due)
        monkeypatch.setattr(module, "targets_of", self.targets_of)

    def now(self):
        return START + timedelta(seconds=asyncio.get_running_loop().time() - 1000)

    @asynccontextmanager
    async def connect(self):
        yield None

    async def models_in_use(self, connection):
        return ["fake"]

    async def due(self, connection, wanted, meter_ids=None):
        (one,) = wanted
        if one.until - one.since > QUARTER:
            return self.gaps
        keys = [(number, one.since) for number in self.took if (number, one.since) not in self.covered]
        return [Due(number, 1, one.since, one.until) for number, _ in keys]

    async def targets_of(self, connection, ids):
        return [Target(SimpleNamespace(meter_id=n, asset_id=f"M{n}", model="fake")) for n in ids]

    def of(self, model):
        return self

    def curves(self, model):
        return (CURVE,)

    async def prepare(self, targets):
        return {
            one.meter.meter_id: Reachable(
                self,
                SimpleNamespace(
                    target=one,
                    address=LinkAddress.parse(
                        "tcp://192.0.2.1"
                        if (line := self.lines.get(one.meter.meter_id, 0)) is None
                        else f"modbus+rtu:///dev/tty{line}?unit=1"
                    ),
                ),
            )
            for one in targets
        }

    @asynccontextmanager
    async def open(self, way, *, answer_s=None):
        yield Talk(self, way.target.meter.meter_id)

    async def submit(self, batch, _settlement):
        self.stored.append(batch)
        self.covered |= {
            (meter, _EPOCH + timedelta(microseconds=low)) for meter, _, low, _ in batch.covered_us
        }
        done = asyncio.get_running_loop().create_future()
        done.set_result(Written(1))
        return done


class Talk:
    def __init__(self, field, number):
        self.field, self.number = field, number
        self.answers_s = []

    async def read_load_curve(self, number, start, end):
        field = self.field
        field.asked.append((self.number, round((field.now() - BOUNDARY).total_seconds(), 3)))
        took = field.took[self.number]
        if took is None:
            await asyncio.sleep(3)
            raise LinkTimeout("silent")
        await asyncio.sleep(took)
        if isinstance(field.odd, Exception):
            raise field.odd
        if abs((field.now() - end).total_seconds()) > CURVE.tolerance_s:
            return registers_only(field.late, source="test")
        return row(self.number, start, end)


def sampled(run_virtual, field, until):
    rounds = []

    async def main():
        sampler = Sampler(field.connect, field, Links(), field, now=field.now, on_round=rounds.append)
        task = asyncio.create_task(sampler.run())
        await asyncio.sleep((until - START).total_seconds())
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    run_virtual(main())
    return rounds


def test_each_meter_is_read_at_its_boundary(run_virtual, monkeypatch):
    field = Field(monkeypatch, {1: 0.5, 2: 0.5}, lines={1: 1, 2: 2})
    (first, second) = sampled(run_virtual, field, BOUNDARY + QUARTER + timedelta(minutes=1))
    assert (first.boundary, first.due, first.sampled, first.missed) == (BOUNDARY, 2, 2, 0)
    assert second.boundary == BOUNDARY + QUARTER
    assert [offset for _, offset in field.asked[:2]] == [0, 0]  # lines at once
    assert sorted(int(batch.meter_id[0]) for batch in field.stored[:2]) == [1, 2]


def test_a_line_is_read_around_the_boundary_once_it_is_known_how_long_it_takes(run_virtual, monkeypatch):
    field = Field(monkeypatch, dict.fromkeys(range(10), 2.0))
    sampled(run_virtual, field, BOUNDARY + QUARTER + timedelta(minutes=1))
    later = [offset - 900 for _, offset in field.asked[10:]]
    assert [offset for _, offset in field.asked[:10]] == [2.0 * n for n in range(10)]
    assert later == [2.0 * n - 10 for n in range(10)]


def test_a_silent_meter_is_asked_once_more(run_virtual, monkeypatch):
    field = Field(monkeypatch, {1: None, 2: 0.5}, lines={1: None, 2: None})
    first, _ = sampled(run_virtual, field, BOUNDARY + QUARTER + timedelta(minutes=1))
    assert [number for number, _ in field.asked][:3] == [1, 2, 1]
    assert (first.sampled, first.missed, first.failures) == (1, 1, {"M1": "timeout: silent"})


def test_a_dead_slave_is_timed_out_once_and_then_costs_its_line_nothing(run_virtual, monkeypatch):
    field = Field(monkeypatch, {1: None, 2: 0.5, 3: 0.5})
    first, second = sampled(run_virtual, field, BOUNDARY + QUARTER + timedelta(minutes=1))
    assert [number for number, _ in field.asked] == [1, 2, 3, 2, 3]
    assert (first.sampled, first.missed, first.failures) == (2, 1, {"M1": "timeout: silent"})
    assert (second.boundary, second.sampled, second.missed) == (BOUNDARY + QUARTER, 2, 1)
    assert "silent" in second.failures["M1"]


def test_a_round_that_ends_before_its_boundary_is_not_held_again(run_virtual, monkeypatch):
    """All that is due is refused at once: the next boundary is waited for, and not this one over and over."""
    field = Field(monkeypatch, {1: None})
    rounds = sampled(run_virtual, field, BOUNDARY + 3 * QUARTER + timedelta(minutes=1))
    assert [one.boundary for one in rounds] == [BOUNDARY + n * QUARTER for n in range(4)]


def test_what_is_missed_is_claimed_as_covered_without_a_row(run_virtual, monkeypatch):
    field = Field(monkeypatch, {1: None})
    sampled(run_virtual, field, BOUNDARY + timedelta(minutes=1))
    (only,) = field.stored
    assert len(only) == 0
    assert only.covered_us == ((1, 1, us(BOUNDARY - QUARTER), us(BOUNDARY)),)


def test_an_answer_beyond_the_tolerance_does_not_count(run_virtual, monkeypatch):
    field = Field(monkeypatch, {1: 31.0})
    (done,) = sampled(run_virtual, field, BOUNDARY + timedelta(minutes=1))
    assert (done.sampled, done.missed) == (0, 1)
    assert "too late" in done.failures["M1"]
    assert [number for number, _ in field.asked] == [1]


def test_what_was_read_too_late_to_count_is_kept_as_registers(run_virtual, monkeypatch):
    field = Field(monkeypatch, {1: 31.0})
    field.late = (RegisterRead(1, "1-0:1.8.0*255", 2, us(BOUNDARY), None, Decimal(5), None, "Wh"),)
    (done,) = sampled(run_virtual, field, BOUNDARY + timedelta(minutes=1))
    assert (done.sampled, done.missed) == (0, 1)
    assert [batch.registers for batch in field.stored if batch.registers] == [field.late]


def test_a_defect_met_at_one_meter_ends_nobody_elses_sampling(run_virtual, monkeypatch, caplog):
    field = Field(monkeypatch, {1: 0.5})
    field.odd = ZeroDivisionError("a defect")
    first, second = sampled(run_virtual, field, BOUNDARY + QUARTER + timedelta(minutes=1))
    assert (first.missed, second.boundary) == (1, BOUNDARY + QUARTER)
    assert "a defect" in first.failures["M1"]
    assert "ZeroDivisionError" in caplog.text


def test_a_line_too_slow_for_all_its_meters_says_so(run_virtual, monkeypatch):
    field = Field(monkeypatch, dict.fromkeys(range(4), 14.0))
    (done,) = sampled(run_virtual, field, BOUNDARY + timedelta(minutes=2))
    assert (done.sampled, done.missed) == (2, 2)
    assert any("no time" in why for why in done.failures.values())


def test_boundaries_that_passed_while_we_were_away_are_known_to_be_lost(run_virtual, monkeypatch):
    field = Field(monkeypatch, {1: 0.5})
    window = BOUNDARY - module.BACK
    field.gaps = [
        Due(1, 1, window, window + QUARTER),  # before the first sample
        Due(1, 1, BOUNDARY - 3 * QUARTER, BOUNDARY - QUARTER),
    ]
    sampled(run_virtual, field, BOUNDARY + timedelta(minutes=1))
    assert field.stored[0].covered_us == ((1, 1, us(BOUNDARY - 3 * QUARTER), us(BOUNDARY - QUARTER)),)


def test_without_sampled_meters_it_looks_again_later(run_virtual, monkeypatch):
    field = Field(monkeypatch, {1: 0.5})
    looks = []

    async def none(connection):
        looks.append(field.now())
        return []

    monkeypatch.setattr(module.coverage, "models_in_use", none)
    assert sampled(run_virtual, field, START + timedelta(minutes=5, seconds=1)) == []
    assert len(looks) == 6


@pytest.mark.parametrize("late", [0, 10])
def test_a_start_within_the_tolerance_waits_for_the_next_boundary(run_virtual, monkeypatch, late):
    field = Field(monkeypatch, {1: 0.1})
    monkeypatch.setattr(
        field, "now", lambda: BOUNDARY + timedelta(seconds=late + asyncio.get_running_loop().time() - 1000)
    )
    rounds = sampled(run_virtual, field, START + QUARTER + timedelta(minutes=1))
    assert [one.boundary for one in rounds] == [BOUNDARY + QUARTER]
