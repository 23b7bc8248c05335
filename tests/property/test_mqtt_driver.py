"""Any message gives something told, never an error; series are read by the very rules of the schema."""

import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headend.drivers.mqtt.message import load_decoder
from headend.drivers.mqtt.meters import Known
from headend.drivers.mqtt.told import Problem, Readings, StationBatch, merge
from protocols.errors import RemoteProtocolError
from protocols.mqtt import batches
from schemas.batch import BATCH, Batch
from schemas.mqtt_model import load_mqtt_model, mqtt_model_names

NOW = 1_795_348_800_000_000
TOPICS = ["tele/tasmota/SENSOR", "tele/tasmota/LWT", "zigbee2mqtt/zigbee2mqtt", "shelly-gen2/events/rpc",
          "shelly-2pm/status/switch:1", "zigbee/00124b0014d9a2f1/0702", "dlms/x", "headend/batch/C-1",
          "stat/tasmota-two-channel/STATUS10", "tele/tasmota-sml/SENSOR", "tele/tasmota-meter/SENSOR",
          "zigbee2mqtt/zigbee2mqtt-two-channel", "shelly-gen2/online"]  # fmt: skip


class Fleet:
    """A meter of each model, by the model's name."""

    def __init__(self):
        known = {
            name: Known(number, name, load_mqtt_model(name))
            for number, name in enumerate(mqtt_model_names(), 1)
        }
        known["00124b0014d9a2f1"] = known["zigbee-zcl-wh"]
        known |= {"a": Known(100, "a", None), "b": Known(101, "b", None)}
        self.of = known.get

    def age(self):
        pass


DECODER = load_decoder(Fleet())
NUMBERS = st.integers() | st.floats(allow_nan=False) | st.sampled_from([0, 1, 0.0, 1e300, 2**63, -1, True])
LEAVES = st.none() | NUMBERS | st.sampled_from(["", "Online", "2026-11-22T12:00:00Z", "NotifyStatus", "m"])
KEYS = st.sampled_from(
    ["ENERGY", "StatusSNS", "Time", "Total", "TotalTariff", "ImportActive", "Power", "Phase1", "SML",
     "Total_in", "src", "method", "params", "ts", "em:0", "emdata:0", "switch:1", "aenergy", "total",
     "total_act", "energy", "energy_a", "energy_produced_b", "power", "last_seen", "linkquality", "state"]
)  # fmt: skip
DOCUMENTS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=20,
)


def check(told):
    if isinstance(told, Readings | StationBatch):
        batch = merge([told], source="x")
        assert ((batch.stamp_us > batch.start_us) | (batch.fragment != 0)).all()
        for read in batch.registers:
            assert (read.value is None) != (read.text is None)
            assert not isinstance(read.value, float)


@given(st.sampled_from(TOPICS), st.binary(max_size=100), st.booleans())
def test_any_bytes(topic, payload, retained):
    check(DECODER.decode(topic, payload, retained=retained, received_us=NOW))


@given(st.sampled_from(TOPICS), DOCUMENTS, st.booleans())
def test_any_document(topic, document, retained):
    check(DECODER.decode(topic, json.dumps(document).encode(), retained=retained, received_us=NOW))


@given(st.text(max_size=60), st.binary(max_size=20))
def test_any_topic(topic, payload):
    check(DECODER.decode(topic, payload, retained=False, received_us=NOW))


@given(st.decimals(0, 10**9, places=3), st.integers(-29, 29))
def test_an_energy_near_a_boundary_arrives_with_every_digit(kilowatt_hours, seconds):
    time = f"2026-11-22T{'12:00:' if seconds >= 0 else '11:59:'}{seconds % 60:02d}Z"
    payload = f'{{"Time":"{time}","ENERGY":{{"Total":{kilowatt_hours}}}}}'.encode()
    fresh = load_decoder(Fleet())
    told = fresh.decode("tele/tasmota/SENSOR", payload, retained=False, received_us=NOW)
    (row,) = told.intervals
    assert row.layout.channels[0].exact(row.values[0]) == kilowatt_hours * 1000
    assert row.start_us == NOW - 900_000_000


# ---- batches: the fast way and the schema's are one ------------------------------------------------

INTEGERS = st.integers(0, 3) | st.sampled_from(
    [2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, -1, -(2**63), 32767, 32768,
     366 * 86400, 366 * 86400 + 1]
)  # fmt: skip
ODD = INTEGERS | st.sampled_from([None, True, 1.0, 1.5, "1", [], {}])
FEW = st.lists(INTEGERS, min_size=1, max_size=3)


@st.composite
def a_series(draw):
    rows = draw(st.integers(1, 3))

    def column(values):
        return st.lists(values, min_size=rows, max_size=rows)

    one = {
        "meter": draw(st.sampled_from(["a", "b", "c", "d-unknown"])),
        "period_s": draw(st.sampled_from([900, 3600, 86400])),
        "stamps": draw(column(st.integers(0, 2**32 - 1))),
        "values": draw(
            st.lists(column(st.none() | st.integers(-(2**63), 2**63 - 1)), min_size=2, max_size=2)
        ),
    }
    if draw(st.booleans()):
        one["status"] = draw(st.none() | column(st.none() | st.integers(0, 2**31 - 1)))
    if draw(st.booleans()):
        one["profile"] = draw(st.integers(1, 32767))
    if draw(st.booleans()):
        one["layout"] = draw(st.integers(0, 1))
    if draw(st.integers(0, 3)) == 0:  # one thing wrong, or perhaps right
        key = draw(st.sampled_from([*one, "surprise", "profile", "layout", "status"]))
        one[key] = draw(ODD | st.lists(ODD, max_size=3) | st.lists(FEW, max_size=3))
    return one


@st.composite
def a_batch(draw):
    layout = [{"obis": "1-0:1.8.0*255", "unit": "Wh"}, {"obis": "1-0:32.7.0*255", "unit": "V", "scaler": -1}]
    other = [{"obis": "1-0:2.8.0*255", "unit": "Wh"}, {"obis": "1-0:3.8.0*255", "unit": "varh"}]
    return {
        "format": "headend.batch.1",
        "concentrator": "C-1",
        "run": "r",
        "sequence": draw(st.integers(0, 2**63 - 1) | ODD),
        "sent": draw(st.integers(0, 2**32 - 1) | ODD),
        "layouts": draw(st.sampled_from([[layout, other], [other, layout], [layout], [[]]])),
        "series": draw(st.lists(a_series(), max_size=4) | ODD),
    }


def rows_of(batch: Batch):
    """What the schema's own reading says, row by row, of known meters."""
    numbers = {"a": 100, "b": 101}
    found = []
    for one in batch.series:
        if one.meter not in numbers:
            continue
        for at, stamp in enumerate(one.stamps):
            status = -1 if one.status is None or one.status[at] is None else one.status[at]
            values = {
                channel.obis: column[at]
                for channel, column in zip(batch.layouts[one.layout], one.values, strict=True)
                if column[at] is not None and ".8.0" in channel.obis
            }
            found.append((numbers[one.meter], one.profile, one.period_s, stamp, status, values))
    return sorted(found, key=repr)


def rows_told(told):
    batch = merge([told], source="x")
    assert np.issubdtype(batch.values.dtype, np.int64)
    found = []
    for at in range(len(batch)):
        channels = batch.layouts[batch.layout[at]].channels
        values = {
            channel.obis: int(batch.values[at, place])
            for place, channel in enumerate(channels)
            if batch.valid[at, place]
        }
        found.append((
            int(batch.meter_id[at]), int(batch.profile[at]), int(batch.period_s[at]),
            int(batch.stamp_us[at]) // 10**6, int(batch.amr_status[at]), values,
        ))  # fmt: skip
    return sorted(found, key=repr)


@given(a_batch(), a_batch())
def test_series_are_read_by_the_rules_of_the_schema(before, document):
    # the first leaves behind what is remembered of the concentrator
    for one in (before, document):
        payload = json.dumps(one).encode()
        told = DECODER.decode("headend/batch/C-1", payload, retained=False, received_us=NOW)
        try:
            judged = batches.decode(payload)
        except RemoteProtocolError:
            judged = None
        if judged is None:
            assert isinstance(told, Problem)
            continue
        assert isinstance(told, StationBatch)
        assert (told.sequence, told.sent_us) == (judged.sequence, judged.sent * 10**6)
        assert rows_told(told) == rows_of(judged)
        assert set(told.unknown) == {s.meter for s in judged.series} - {"a", "b"}
        volts = sum(
            v is not None
            for s in judged.series
            if s.meter in ("a", "b")
            for channel, column in zip(judged.layouts[s.layout], s.values, strict=True)
            if channel.obis == "1-0:32.7.0*255"
            for v in column
        )
        assert len(told.registers) == volts
        compact = batches.encode_compact(judged)
        assert batches.decode(compact) == judged
        again = DECODER.decode("headend/batch/C-1", compact, retained=False, received_us=NOW)
        assert rows_told(again) == rows_told(told)


@given(a_batch(), st.data())
def test_a_compact_message_with_wrong_bytes(document, data):
    try:
        message = BATCH.validate_python(document, strict=False)
    except ValueError:
        return
    payload = bytearray(batches.encode_compact(message))
    for _ in range(data.draw(st.integers(1, 4))):
        payload[data.draw(st.integers(0, len(payload) - 1))] = data.draw(st.integers(0, 255))
    check(DECODER.decode("headend/batch/C-1", bytes(payload), retained=False, received_us=NOW))
