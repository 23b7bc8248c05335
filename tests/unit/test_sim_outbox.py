"""Batches of a simulated concentrator: numbered, kept until acknowledged, asked for again, declared lost."""

import pytest

from concentrator_sim.generator import moment_of, quarter_of
from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.outbox import MISSES, Outbox
from concentrator_sim.tariff_talk import ProgramBook
from protocols.mqtt import batches
from schemas.batch import Batch, BatchAck, BatchLost, BatchRequest
from schemas.event import EventMeaning
from schemas.tariff.calendar import (
    Calendar,
    CalendarDay,
    CalendarSeason,
    CalendarSwitch,
    CalendarWeek,
    Compiled,
)

NOW = 1_800_000_123
NEWEST = quarter_of(NOW)
METERS = [SimulatedMeter(1, number) for number in (1_000_001, 1_000_002)]
SERIALS = [meter.serial for meter in METERS]


def outbox(*, quarters=8, at_most=4, capacity=100):
    first = NEWEST + 1 - quarters
    return Outbox("DC-1", "r1", METERS, first=first, at_most=at_most, capacity=capacity)


def ack(first, last, run="r1"):
    return BatchAck(format="headend.batch-ack.1", concentrator="DC-1", run=run, first=first, last=last)


def ask(first, last, run="r1"):
    kind = "headend.batch-request.1"
    return BatchRequest(format=kind, concentrator="DC-1", run=run, first=first, last=last)


def spans(messages):
    return [(one.first, one.last) for one in messages if isinstance(one, BatchLost)]


def numbers(messages):
    return [one.sequence for one in messages if isinstance(one, Batch)]


def rows(messages, serial):
    return [
        (stamp, *values)
        for batch in messages
        for series in batch.series
        if series.meter == serial
        for stamp, *values in zip(series.stamps, *series.values, strict=True)
    ]


def truth(meter, first, last):
    return [
        (moment_of(quarter), *(meter.consumption.at(n, moment_of(quarter)) for n in range(4)))
        for quarter in range(first, last + 1)
    ]


def test_a_meter_that_was_given_a_program_tells_its_tariff_registers():
    meter = SimulatedMeter(1, 1_000_003)
    box = Outbox("DC-1", "r1", [meter], first=NEWEST - 3, at_most=4, capacity=9)
    book = meter.part(ProgramBook)
    at = moment_of(NEWEST - 1)
    week, day = CalendarWeek("w", (7,) * 7), CalendarDay(7, (CalendarSwitch(0, 3),))
    book.write(Compiled(Calendar("x", (CalendarSeason("s", 1, 1, "w"),), (week,), (day,)), ()))
    book.activate(at, at)
    (batch,) = box.round([meter.serial], NOW)
    told = {one.obis: int(one.value) for one in batch.registers}
    assert {one.time for one in batch.registers} == {moment_of(NEWEST)}
    since = meter.consumption.at(0, moment_of(NEWEST)) - meter.consumption.at(0, at)
    assert told["1-0:1.8.3*255"] == since > 0
    assert sum(told.values()) == meter.consumption.at(0, moment_of(NEWEST))
    assert not any(one.registers for one in outbox().round(SERIALS, NOW))


def test_batches_hold_every_row_once():
    told = outbox().round(SERIALS, NOW)
    assert numbers(told) == [0, 1]
    for meter in METERS:
        assert rows(told, meter.serial) == truth(meter, NEWEST - 7, NEWEST)
    assert {code.obis for code in told[0].layouts[0]} == {f"1-0:{n}.8.0*255" for n in (1, 2, 3, 4)}


def test_nothing_new_is_no_batch():
    box = outbox()
    box.round(SERIALS, NOW)
    assert box.round(SERIALS, NOW) == []
    assert numbers(box.round(SERIALS, NOW + 900)) == [2]


def test_a_meter_that_was_missed_comes_late_and_complete():
    box = outbox()
    told = box.round(SERIALS[:1], NOW)
    assert rows(told, SERIALS[1]) == []
    later = box.round(SERIALS, NOW + 900)
    assert rows(later, SERIALS[1]) == truth(METERS[1], NEWEST - 7, NEWEST + 1)
    assert rows(later, SERIALS[0]) == truth(METERS[0], NEWEST + 1, NEWEST + 1)


def test_silence_is_reported_once():
    box = outbox()
    box.round(SERIALS, NOW)
    told = []
    for n in range(1, MISSES + 3):
        box.missed(SERIALS[1])
        told += box.round(SERIALS[:1], NOW + 900 * n)
    events = [event for batch in told for event in batch.events]
    assert [(event.meter, event.meaning) for event in events] == [(SERIALS[1], EventMeaning.METER_SILENT)]


@pytest.mark.parametrize("encode", [batches.encode, batches.encode_compact])
def test_both_forms_say_the_same(encode):
    for message in (*outbox().round(SERIALS, NOW), ack(0, 1), ask(2, 2)):
        assert batches.decode(encode(message)) == message


def test_what_is_acknowledged_is_forgotten():
    box = outbox()
    box.round(SERIALS, NOW)
    box.acknowledged(ack(0, 5, run="r0"))
    assert len(box) == 2
    box.acknowledged(ack(0, 0))
    assert numbers(box.waiting(NOW)) == [1]
    box.acknowledged(ack(0, 9))
    assert len(box) == 0


def test_what_is_asked_for_comes_again_or_is_lost():
    box = outbox(quarters=20)
    first = box.round(SERIALS, NOW)
    assert numbers(first) == [0, 1, 2, 3, 4]
    again = box.asked(ask(1, 2))
    assert again == first[1:3]
    box.acknowledged(ack(0, 0))
    box.acknowledged(ack(2, 3))
    told = box.asked(ask(0, 9))
    assert numbers(told) == [1, 4]
    assert spans(told) == [(0, 0), (2, 3)]
    assert box.asked(ask(5, 9)) == []
    assert box.asked(ask(0, 9, run="r0")) == []


def test_what_the_buffer_cannot_hold_is_lost():
    box = outbox(quarters=20, capacity=2)
    told = box.round(SERIALS, NOW)
    assert numbers(told) == [0, 1, 2, 3, 4]
    assert spans(told) == [(0, 0), (1, 1), (2, 2)]
    assert spans(box.drop_all()) == [(3, 4)]
    assert box.sequence == 5


def test_what_nobody_acknowledges_is_sent_again_after_a_while():
    box = outbox()
    box.round(SERIALS, NOW)
    assert box.waiting(NOW + 119, 120) == []
    assert numbers(box.waiting(NOW + 120, 120)) == [0, 1]
    assert box.waiting(NOW + 121, 120) == []


def test_a_batch_is_not_larger_than_a_payload_may_be():
    meters = [SimulatedMeter(1, number) for number in range(1, 201)]
    box = Outbox("DC-1", "r1", meters, first=NEWEST - 200, at_most=960, capacity=100)
    told = box.round([meter.serial for meter in meters], NOW)
    assert max(len(batches.encode(one)) for one in told) < 1 << 20
    assert sum(len(one.series[0].stamps) for one in told) == 201
