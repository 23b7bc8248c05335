"""Disconnect Control and Limiter: what is encoded is decoded, and any bytes are a value or a refusal by name.

No trace of a foreign meter with these classes was at hand: the vectors here are written by hand after the
class descriptions, and `tests/interop/test_gurux_switching.py` has a foreign peer.
"""

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.dlms import axdr
from protocols.dlms.cosem import Attribute
from protocols.dlms.cosem import disconnect_control as dc
from protocols.dlms.cosem import limiter as lim
from protocols.dlms.cosem.disconnect_control import MODES, WAYS, ControlState, Transition
from protocols.dlms.cosem_time import CosemDateTime
from protocols.dlms.obis import Obis
from protocols.errors import LocalProtocolError, RemoteProtocolError

_OBIS = st.binary(min_size=6, max_size=6).map(Obis.from_bytes)
_U16, _U32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFFFFFF)
_TIMES = st.integers(946_684_800, 3_786_912_000).map(
    lambda s: CosemDateTime.from_utc(dt.datetime.fromtimestamp(s, dt.UTC))
)


@given(st.sampled_from(sorted(MODES)), st.sampled_from(ControlState), st.sampled_from(Transition))
def test_a_transition_begins_where_it_begins_and_only_in_modes_that_have_it(
    mode: int, state: ControlState, transition: Transition
) -> None:
    found = dc.after(mode, state, transition)
    begin, end = WAYS[transition]
    assert (found is not None) == (transition in MODES[mode] and state is begin)
    assert found in (None, end)


def test_the_modes_are_those_of_the_class() -> None:
    """By hand: mode 0 has nothing; reconnecting at once is for 2 and 4; no button off in 3, 4, 6."""
    connected, off, ready = ControlState.CONNECTED, ControlState.DISCONNECTED, ControlState.READY
    assert dc.invoked(0, connected, dc.REMOTE_DISCONNECT) is None
    for mode in range(1, 7):
        assert dc.invoked(mode, connected, dc.REMOTE_DISCONNECT) is off
        assert dc.invoked(mode, ready, dc.REMOTE_DISCONNECT) is off
        assert dc.invoked(mode, off, dc.REMOTE_DISCONNECT) is None
        assert dc.invoked(mode, off, dc.REMOTE_RECONNECT) is (connected if mode in (2, 4) else ready)
        assert dc.invoked(mode, ready, dc.REMOTE_RECONNECT) is None
        by_hand = dc.after(mode, connected, Transition.MANUAL_DISCONNECT)
        assert (by_hand is ready) == (mode in (1, 2, 5))
        assert (dc.after(mode, ready, Transition.LOCAL_RECONNECT) is connected) == (mode in (5, 6))


@pytest.mark.parametrize(
    ("decode", "raw"),
    [
        (dc.output_state, "1600"),  # an enum is no boolean
        (dc.control_state, "1603"),
        (dc.control_mode, "1607"),  # of a later edition
        (lim.monitored_value, "0203"),
        (lim.groups, "0600000001"),
        (lim.is_active, "0101"),
        (lim.threshold, "0fff"),  # -1
    ],
)
def test_other_forms_are_refused(decode: Any, raw: str) -> None:
    with pytest.raises(RemoteProtocolError):
        decode(axdr.decode_exact(bytes.fromhex(raw)))


def test_vectors_by_hand() -> None:
    assert axdr.encode(dc.PARAMETER).hex() == "0f00"
    assert dc.output_state(axdr.decode_exact(bytes.fromhex("0301"))) is True
    assert dc.control_state(axdr.decode_exact(bytes.fromhex("1602"))) is ControlState.READY
    profile = lim.EmergencyProfile(1, CosemDateTime.from_utc(dt.datetime(2026, 3, 1, 8, tzinfo=dt.UTC)), 7200)
    assert axdr.encode(profile.encode()).hex() == "0203120001090c07ea030107080000000000000600001c20"
    raw = axdr.encode(lim.encode_monitored_value(Attribute(3, Obis.parse("1-0:1.7.0*255"), 2)))
    assert raw.hex() == "020312000309060100010700ff0f02"


@given(_U16, st.none() | _TIMES, _U32)
def test_an_emergency_profile_comes_back(number: int, begins: CosemDateTime | None, duration: int) -> None:
    profile = lim.EmergencyProfile(number, begins, duration)
    found = lim.EmergencyProfile.decode(axdr.decode_exact(axdr.encode(profile.encode())))
    assert (found.number, found.duration_s) == (number, duration)
    if begins is not None:
        assert found == profile
    else:  # written as a time with no part specified
        assert found.begins is not None
        assert found.begins.date.year is None


@given(_OBIS, _U16, _OBIS, _U16)
def test_actions_come_back(over: Obis, one: int, under: Obis, two: int) -> None:
    actions = lim.LimiterActions(lim.ActionItem(over, one), lim.ActionItem(under, two))
    assert lim.LimiterActions.decode(axdr.decode_exact(axdr.encode(actions.encode()))) == actions


@given(_U16, _OBIS, st.integers(1, 127), st.lists(_U16, max_size=8).map(tuple))
def test_monitored_values_and_groups_come_back(
    class_id: int, obis: Obis, index: int, numbers: tuple[int, ...]
) -> None:
    of = Attribute(class_id, obis, index)
    assert lim.monitored_value(axdr.decode_exact(axdr.encode(lim.encode_monitored_value(of)))) == of
    assert lim.groups(axdr.decode_exact(axdr.encode(lim.encode_groups(numbers)))) == numbers


@given(st.integers(0, 2**40))
def test_a_threshold_keeps_the_type_of_the_meter_or_is_refused(value: int) -> None:
    for like, most in ((axdr.u16(0), 0xFFFF), (axdr.u32(7), 0xFFFFFFFF), (axdr.i32(-1), 2**31 - 1)):
        if value <= most:
            assert lim.encode_threshold(value, like) == axdr.Data(like.type, value)
        else:
            with pytest.raises(LocalProtocolError):
                lim.encode_threshold(value, like)


_DECODERS = (
    dc.output_state, dc.control_state, dc.control_mode, lim.monitored_value, lim.threshold, lim.groups,
    lim.is_active, lim.EmergencyProfile.decode, lim.LimiterActions.decode,
)  # fmt: skip


@given(st.binary(max_size=64), st.sampled_from(_DECODERS))
def test_any_bytes_are_a_value_or_refused(raw: bytes, decode: Any) -> None:
    try:
        decode(axdr.decode_exact(raw))
    except RemoteProtocolError:
        pass
