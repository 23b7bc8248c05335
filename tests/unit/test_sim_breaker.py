"""While a simulated breaker is open its meter stands still, and its log tells of it."""

import datetime as dt
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from concentrator_sim import billing, calendar, dlt645_breaker, event_log
from concentrator_sim.breaker import BREAKER, Breaker
from concentrator_sim.dlt645_clock import CHINA, PASSWORD
from concentrator_sim.event_log import Entry
from concentrator_sim.generator import MODULUS, Consumption, moment_of, quarter_of
from concentrator_sim.instant import Instant
from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.objects import MANAGEMENT
from concentrator_sim.profile import PROFILE
from concentrator_sim.shapes import QUARTER_S
from protocols.dlms import axdr
from protocols.dlms.apdu.fields import AttributeItem, Selection
from protocols.dlms.cosem import BY_ENTRY, Attribute, EntryDescriptor, Method
from protocols.dlms.cosem import disconnect_control as dc
from protocols.dlms.cosem.disconnect_control import ControlState
from protocols.dlms.enums import ActionResult
from protocols.dlt645.control import ErrorWord, SwitchCommand

NOW = 1_800_000_123
BEGIN = moment_of(quarter_of(NOW))
_SWITCH = axdr.encode(dc.PARAMETER)
_PAST = st.lists(st.integers(0, 12 * QUARTER_S), min_size=1, max_size=7, unique=True).map(sorted)


def switched(meter: SimulatedMeter, method: int, now_s: int) -> ActionResult:
    done = MANAGEMENT.invoke(Method(70, BREAKER, method), _SWITCH, meter.management, 1, now_s)
    assert isinstance(done.result, ActionResult)
    return done.result


def rows(meter: SimulatedMeter, now_s: int, count: int) -> list[list[int]]:
    """Registers of the newest rows of its load profile."""
    entries = meter.entries
    newest = EntryDescriptor(entries - count + 1, entries, 3, 6)
    item = AttributeItem(Attribute(7, PROFILE, 2), Selection(BY_ENTRY, axdr.encode(newest.encode())))
    raw = MANAGEMENT.read(item, meter.management, 1, now_s)
    assert isinstance(raw, bytes)
    return [[cell.value for cell in row.value] for row in axdr.decode_exact(raw).value]


def log(meter: SimulatedMeter, now_s: int) -> list[Entry]:
    return meter.events.entries(event_log.CONTROL, now_s)


@given(st.integers(1, 500), _PAST, st.booleans())
@settings(max_examples=40, deadline=None)
def test_what_flows_while_it_is_open_is_missing_and_nothing_else(number, moves, reset):
    """Against sums over the seconds between moves, at every form in which registers are asked for."""
    free, cut = Consumption(1, number), Consumption(1, number)
    for n, at in enumerate(moves):
        (cut.connect if n % 2 else cut.cut_off)(BEGIN + at)
    moments = np.unique([BEGIN, *(BEGIN + at + off for at in moves for off in (0, 77)), BEGIN + 13 * 900])
    expected = free.at(0, BEGIN)
    for before, after in pairwise(moments):
        for n, at in enumerate([BEGIN - 1, *(BEGIN + one for one in moves)]):
            end = BEGIN + moves[n] if n < len(moves) else int(moments[-1])
            low, high = max(int(before), at), min(int(after), end)
            if n % 2 == 0 and low < high:
                expected += free.at(0, high) - free.at(0, low)
        assert cut.at(0, int(after)) == expected % MODULUS
    assert cut.registers_at(moments).tolist() == [
        [cut.at(n, moment) for moment in moments.tolist()] for n in range(4)
    ]
    if reset:
        cut.reset_at(BEGIN + 700)
    first = quarter_of(BEGIN) - 3
    assert cut.registers(first, 20).tolist() == [
        [cut.at(n, moment_of(first + k)) for k in range(20)] for n in range(4)
    ]


def test_registers_at_any_moment_are_those_of_the_grid_and_of_each_second():
    found = Consumption(1, 3)
    grid = moment_of(0) + (np.arange(20) + 90_000) * QUARTER_S
    assert found.registers_at(grid).tolist() == found.registers(90_000, 20).tolist()
    odd = BEGIN + np.arange(7) * 301
    assert found.registers_at(odd).tolist() == [[found.at(n, one) for one in odd.tolist()] for n in range(4)]
    assert found.registers_at(odd[:0]).shape == (4, 0)
    with pytest.raises(ValueError, match="2020 to 2069"):
        found.registers_at(np.array([0]))


def test_a_disconnected_meter_stands_still_and_its_interval_has_its_share():
    meter, free = SimulatedMeter(1, 1), Consumption(1, 1)
    off, on = BEGIN + 300, BEGIN + 4 * QUARTER_S + 600
    assert switched(meter, dc.REMOTE_DISCONNECT, off) is ActionResult.SUCCESS
    assert switched(meter, dc.REMOTE_DISCONNECT, off + 5) is ActionResult.OTHER_REASON
    still = rows(meter, on - 1, 5)
    assert still[0] == [free.at(n, BEGIN) for n in range(4)]
    assert still[1:] == [[free.at(n, off) for n in range(4)]] * 4
    assert 0 < still[1][0] - still[0][0] < free.at(0, BEGIN + QUARTER_S) - free.at(0, BEGIN)
    day, night, *_ = calendar.tariffs(meter, on)
    assert (day, night) == billing.tariffs(free, off, meter.deviation_min)
    assert Instant(meter.consumption, 1, off + 1).power == 0
    assert switched(meter, dc.REMOTE_RECONNECT, on) is ActionResult.SUCCESS
    later = BEGIN + 8 * QUARTER_S
    flowed = free.at(0, later) - free.at(0, on)
    assert rows(meter, later, 1)[0][0] == still[1][0] + flowed
    assert rows(meter, later, 9)[:5] == still  # what was, stays as it was
    assert Instant(meter.consumption, 1, later).power != 0
    assert log(meter, later) == [Entry(off, 62), Entry(on, 63)]


def test_a_meter_that_was_never_switched_keeps_nothing():
    meter = SimulatedMeter(1, 2)
    rows(meter, NOW, 3)
    assert meter.part_if_any(Breaker) is None
    assert meter.consumption._cuts is None


def test_the_button_is_logged_as_the_customers():
    meter = SimulatedMeter(1, 1)
    breaker = meter.part(Breaker)
    assert breaker.push_button(NOW)
    assert (breaker.state, breaker.output) == (ControlState.READY, False)
    assert breaker.push_button(NOW + 60)
    assert log(meter, NOW + 60) == [Entry(NOW, 60), Entry(NOW + 60, 61)]


def test_a_stuck_breaker_lets_the_current_flow():
    meter = SimulatedMeter(1, 1)
    meter.part(Breaker).sticks = lambda now: True
    assert switched(meter, dc.REMOTE_DISCONNECT, NOW) is ActionResult.SUCCESS
    assert meter.consumption.at(0, NOW + 9000) == Consumption(1, 1).at(0, NOW + 9000)
    assert log(meter, NOW + 9000) == []


@pytest.mark.parametrize("stuck", [False, True])
def test_a_dlt645_meter_stands_still_too(stuck):
    one: Any = SimpleNamespace(meter=SimulatedMeter(1, 1), now=NOW, shown_s=NOW)
    one.meter.part(Breaker).sticks = lambda now: stuck
    until = dt.datetime.fromtimestamp(NOW + 600, CHINA).strftime("%y%m%d%H%M%S")
    tail = b"\x00" + bytes(reversed(bytes.fromhex(until)))
    trip = PASSWORD + bytes(4) + bytes((SwitchCommand.TRIP,)) + tail
    assert dlt645_breaker.switch(one, trip) == ErrorWord(0)
    assert dlt645_breaker.status(one)[0] & 0x50 == (0x40 if stuck else 0x50)
    stands = one.meter.consumption.at(0, NOW + 9000) == one.meter.consumption.at(0, NOW)
    assert stands is not stuck
    assert log(one.meter, NOW) == ([] if stuck else [Entry(NOW, 62)])
