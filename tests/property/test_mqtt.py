"""Any payload under any topic gives values or a refusal of the error tree; decimals keep every digit."""

import json
from decimal import Decimal
from fractions import Fraction
from zoneinfo import ZoneInfo

from hypothesis import assume, given
from hypothesis import strategies as st

from protocols.errors import CommunicationError
from protocols.mqtt.decode import decode
from protocols.mqtt.reading import Format, Readings
from protocols.zigbee import metering, zcl
from protocols.zigbee.metering import Scaling, exact

TOPICS = st.sampled_from(
    ["tele/m/SENSOR", "tele/m/LWT", "s/status/em:0", "s/status/emdata:0", "s/status/switch:1", "s/events/rpc",
     "s/online", "zigbee2mqtt/m", "zigbee2mqtt/m/availability", "g/00124b0014d9a2f1/0702", "x/y", ""]
)  # fmt: skip
KEYS = st.sampled_from(
    ["ENERGY", "StatusSNS", "Time", "Total", "TotalTariff", "Power", "Voltage", "Phase1", "src", "method",
     "params", "ts", "em:0", "emdata:0", "switch:0", "a_voltage", "a_freq", "a_errors", "total_act",
     "a_total_act_energy",
     "b_total_act_energy", "c_total_act_energy", "aenergy", "total", "n_current", "energy", "power_a",
     "energy_flow_a", "power_factor", "voltage_phase_b", "last_seen", "linkquality", "format"]
)  # fmt: skip
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["NotifyStatus", "producing", "2026-10-25T02:30:00", "headend.batch.1", "", "online"])
    | st.sampled_from([10**18, 1e300, -1e-300, 0.1])
)  # fmt: skip
DOCUMENTS = st.dictionaries(
    KEYS,
    st.recursive(
        LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=8)
    ),
    max_size=8,
)
LANGUAGES = st.none() | st.sampled_from(Format)
ZONES = st.sampled_from([None, ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")])
SCALINGS = st.none() | st.builds(
    Scaling,
    st.none() | st.integers(0, 2**24),
    st.none() | st.integers(0, 2**24),
    st.none() | st.integers(0, 255),
)


def check(topic, payload, language, zone, scaling):
    try:
        found = decode(topic, payload, language=language, zone=zone, scaling=scaling)
    except CommunicationError:
        return
    if isinstance(found, Readings):
        assert found.time is None or found.time.utcoffset() is not None
        for one in found.readings:
            assert one.value is None or "E" not in str(one.value) or abs(one.value.adjusted()) > 6
            assert one.value is not None or (one.fraction is not None and one.doubt is not None)


@given(TOPICS, st.binary(max_size=80), LANGUAGES, ZONES, SCALINGS)
def test_any_bytes(topic, payload, language, zone, scaling):
    check(topic, payload, language, zone, scaling)


@given(TOPICS, DOCUMENTS, LANGUAGES, ZONES)
def test_any_document(topic, document, language, zone):
    check(topic, json.dumps(document).encode(), language, zone, None)


@given(st.text(max_size=30), st.binary(max_size=30))
def test_any_topic(topic, payload):
    check(topic, payload, None, None, None)


@given(st.decimals(min_value=-(10**9), max_value=10**9, places=6))
def test_every_digit_of_an_energy_arrives(value):
    payload = b'{"ENERGY":{"Total":' + format(value, "f").encode() + b"}}"
    (reading,) = decode("tele/m/SENSOR", payload).readings
    assert reading.value == value * 1000
    assert (reading.doubt is None) is (value >= 0)


@given(st.binary(max_size=60))
def test_any_zcl_frame(data):
    try:
        found = zcl.attributes(zcl.parse_frame(data))
    except CommunicationError:
        return
    metering.read(found)
    metering.read(found, Scaling(3, 7, 0x80))


@given(st.integers(0, 2**48 - 2), st.integers(1, 2**24 - 1), st.integers(1, 2**24 - 1))
def test_a_fraction_is_exact_or_has_no_decimal(raw, multiplier, divisor):
    found = exact(raw, multiplier, divisor)
    wanted = Fraction(raw * multiplier, divisor)
    if found is not None:
        assert Fraction(found) == wanted
    else:
        rest = wanted.denominator
        for prime in (2, 5):
            while rest % prime == 0:
                rest //= prime
        assert rest > 1


@given(st.integers(-(2**47) + 1, 2**47), st.integers(0, 0xFFFF))
def test_a_report_made_by_hand_reads_back(demand, summation):
    assume(demand != 2**47)
    frame = b"\x18\x01\x0a" + b"\0\0\x25" + summation.to_bytes(6, "little") + b"\0\4\x2d"
    found = metering.read(
        zcl.attributes(zcl.parse_frame(frame + demand.to_bytes(6, "little", signed=True))),
        Scaling(1, 1000, 0),
    )
    assert [one.value for one in found.values] == [Decimal(summation), Decimal(demand)]
