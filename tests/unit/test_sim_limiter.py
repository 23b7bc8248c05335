"""A simulated limiter opens the breaker of who draws too much for too long, whoever asks when."""

import datetime as dt
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from concentrator_sim import event_log
from concentrator_sim.breaker import Breaker
from concentrator_sim.event_log import Entry
from concentrator_sim.generator import Consumption, moment_of, quarter_of
from concentrator_sim.limiter import LIMITER, MONITORED
from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.objects import MANAGEMENT
from concentrator_sim.profile import REGISTERS
from concentrator_sim.push import notifications
from concentrator_sim.store_forward import Shelf
from protocols.dlms import axdr
from protocols.dlms.apdu.fields import AttributeItem
from protocols.dlms.cosem import Attribute
from protocols.dlms.cosem import limiter as lim
from protocols.dlms.cosem.disconnect_control import ControlState
from protocols.dlms.cosem.limiter import EmergencyProfile
from protocols.dlms.cosem_time import CosemDateTime
from protocols.dlms.enums import DataAccessResult

NOW = 1_800_000_123
BEGIN = moment_of(quarter_of(NOW))
HOURS = 5 * 3600
#: What its customer draws, quarter by quarter, in W.
_DRAWN = [Consumption(1, 1).demand(BEGIN + n * 900) for n in range(20)]

_INDEX = {
    "normal": lim.THRESHOLD_NORMAL,
    "emergency": lim.THRESHOLD_EMERGENCY,
    "profile": lim.EMERGENCY_PROFILE,
    "over_s": lim.MIN_OVER_DURATION,
    "under_s": lim.MIN_UNDER_DURATION,
}


def put(meter: SimulatedMeter, now_s: int, **limits: int | EmergencyProfile) -> None:
    for name, value in limits.items():
        data = axdr.u32(value) if isinstance(value, int) else value.encode()
        attribute = Attribute(71, LIMITER, _INDEX[name])
        done = MANAGEMENT.write(attribute, axdr.encode(data), meter.management, 1, now_s)
        assert done is DataAccessResult.SUCCESS


def shown(meter: SimulatedMeter, attribute: Attribute, now_s: int) -> int:
    raw = MANAGEMENT.read(AttributeItem(attribute), meter.management, 1, now_s)
    assert isinstance(raw, bytes)
    return int(axdr.decode_exact(raw).value)


def log(meter: SimulatedMeter, now_s: int) -> list[Entry]:
    meter.live_until(now_s)
    return meter.events.entries(event_log.CONTROL, now_s)


def second_by_second(
    mode: int, over_s: int, under_s: int, emergency: tuple[int, int], threshold: int
) -> Iterable[Entry]:
    """What a limiter does that looks at the load each second; the emergency's threshold is half of it."""
    connected, side, since, acted = True, False, BEGIN, True
    for now in range(BEGIN, BEGIN + HOURS):
        if not acted and now - since >= (over_s if side else under_s):
            acted = True
            if side:
                yield Entry(now, 65)
                if connected:
                    yield Entry(now, 64)
                connected = False
            elif not connected and mode == 5:
                connected = True
                yield Entry(now, 69)
        drawn = _DRAWN[(now - BEGIN) // 900] if connected else 0
        is_over = drawn > (threshold // 2 if emergency[0] <= now - BEGIN < emergency[1] else threshold)
        if is_over is not side:
            side, since, acted = is_over, now, False


@given(
    st.sampled_from([2, 5]),
    st.integers(1, 2500),
    st.integers(200, 2500),
    st.tuples(st.integers(0, HOURS), st.integers(0, HOURS)),
    st.sampled_from(sorted(_DRAWN)),
    st.lists(st.integers(0, HOURS - 1), max_size=5).map(sorted),
)
@settings(max_examples=40, deadline=None)
def test_it_does_what_looking_each_second_would_do(mode, over_s, under_s, emergency, threshold, asked):
    meter = SimulatedMeter(1, 1)
    meter.part(Breaker).mode = mode
    begins = CosemDateTime.from_utc(dt.datetime.fromtimestamp(BEGIN + emergency[0], dt.UTC), -60)
    lasts_s = max(0, emergency[1] - emergency[0])
    put(meter, BEGIN, normal=threshold, emergency=threshold // 2, over_s=over_s, under_s=under_s,
        profile=EmergencyProfile(1, begins, lasts_s))  # fmt: skip
    for moment in asked:
        meter.live_until(BEGIN + moment)
    expected = list(second_by_second(mode, over_s, under_s, emergency, threshold))
    assert log(meter, BEGIN + HOURS - 1) == sorted(expected)


def test_who_draws_too_much_is_disconnected_and_may_push_the_button():
    meter, free = SimulatedMeter(1, 1), Consumption(1, 1)
    put(meter, NOW, normal=0, over_s=30)
    energy, power = Attribute(3, REGISTERS[0], 2), Attribute(3, MONITORED.obis, 2)
    assert shown(meter, power, NOW + 29) == free.demand(NOW) > 0
    assert shown(meter, energy, NOW + 9000) == free.at(0, NOW + 30)
    assert shown(meter, power, NOW + 9000) == 0
    breaker = meter.part(Breaker)
    assert (breaker.state, breaker.output) == (ControlState.READY, False)
    assert log(meter, NOW + 9000) == [Entry(NOW + 30, 64), Entry(NOW + 30, 65)]
    assert breaker.push_button(NOW + 9000)
    assert shown(meter, power, NOW + 9020) == free.demand(NOW + 9020)
    assert breaker.output
    assert shown(meter, power, NOW + 9031) == 0  # he draws on, and is cut off again
    assert [entry.told for entry in log(meter, NOW + 9031)] == [64, 65, 61, 64, 65]


def test_an_emergency_limits_while_it_lasts():
    meter = SimulatedMeter(1, 1)
    begins = CosemDateTime.from_utc(dt.datetime.fromtimestamp(NOW + 600, dt.UTC), -60)
    put(meter, NOW, normal=1_000_000, emergency=0, over_s=60, profile=EmergencyProfile(1, begins, 300))
    assert log(meter, NOW + 659) == []
    assert [entry.at_s for entry in log(meter, NOW + 900)] == [NOW + 660, NOW + 660]
    short = SimulatedMeter(1, 1)
    put(short, NOW, normal=1_000_000, emergency=0, over_s=301, profile=EmergencyProfile(1, begins, 300))
    assert log(short, NOW + 9000) == []


@pytest.mark.parametrize("mode", [0, 2])
def test_a_mode_without_local_transitions_keeps_him_connected(mode):
    meter = SimulatedMeter(1, 1)
    meter.part(Breaker).mode = mode
    put(meter, NOW, normal=0)
    assert [entry.told for entry in log(meter, NOW + 900)] == ([65] if mode == 0 else [64, 65])
    assert meter.part(Breaker).output is (mode == 0)


def test_a_limiter_that_was_never_written_to_limits_nobody():
    meter = SimulatedMeter(1, 1)
    for index in range(2, 12):
        MANAGEMENT.read(AttributeItem(Attribute(71, LIMITER, index)), meter.management, 1, NOW)
    meter.live_until(NOW + 90_000)
    assert meter.part_if_any(Breaker) is None


def test_the_button_is_pushed_after_what_the_limiter_did():
    meter = SimulatedMeter(1, 1)
    put(meter, NOW, normal=0, over_s=30)
    assert meter.part(Breaker).push_button(NOW + 9000)
    assert meter.part(Breaker).output


def test_a_concentrator_keeps_what_a_limited_meter_has():
    meter = SimulatedMeter(1, 1)
    member: Any = SimpleNamespace(meter=meter, is_dead=False, route=SimpleNamespace(send=lambda *_: 0.0))
    put(meter, NOW, normal=0, over_s=30)
    Shelf(1, member, 10, NOW).poll(NOW + 9000)
    assert not meter.part(Breaker).output


def test_what_it_pushes_is_of_a_meter_that_was_cut_off_meanwhile():
    meter = SimulatedMeter(1, 1)
    put(meter, NOW, normal=0, over_s=30)
    notifications(meter, lambda: NOW + 9000)
    assert not meter.part(Breaker).output
