"""Messages of devices become rows, register readings and events; what is wrong says why."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from headend.drivers.mqtt.message import Decoder, load_decoder
from headend.drivers.mqtt.meters import Known
from headend.drivers.mqtt.told import (
    Announced,
    Frames,
    Ignored,
    Problem,
    Readings,
    StationBatch,
    Unknown,
    merge,
)
from headend.drivers.mqtt.topics import Role, Topics
from protocols.errors import RemoteProtocolError
from protocols.mqtt import batches
from schemas.batch import BATCH, BatchLost
from schemas.event import EventLog, EventMeaning
from schemas.mqtt_model import Form, MqttModel, load_mqtt_model, mqtt_model_names
from schemas.reading import Fragment, Kind, Quality

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def us(moment):
    return round((moment - EPOCH).total_seconds()) * 1_000_000


class Fleet:
    """A memory that knows what it is told."""

    def __init__(self, **models):
        self.known = {
            name.replace("__", "/"): Known(number, name, model and load_mqtt_model(model))
            for number, (name, model) in enumerate(models.items(), 1)
        }

        self.of = self.known.get

    def age(self):
        pass


def decoder(**models):
    return load_decoder(Fleet(**models))


def say(decoder, topic, document, *, at=NOON, retained=False):
    payload = document if isinstance(document, bytes) else json.dumps(document).encode()
    return decoder.decode(topic, payload, retained=retained, received_us=us(at))


def sensor(total, time="2026-11-22T12:00:00+00:00"):
    return json.dumps({"Time": time, "ENERGY": {"Total": total}}).encode()


# ---- who it is ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topic", "form", "role", "identity"),
    [
        ("tele/m/SENSOR", Form.TASMOTA, Role.READINGS, "m"),
        ("tele/house/cellar/SENSOR", Form.TASMOTA, Role.READINGS, "house/cellar"),
        ("m/tele/SENSOR", Form.TASMOTA, Role.READINGS, "m"),
        ("stat/m/STATUS10", Form.TASMOTA, Role.READINGS, "m"),
        ("tele/m/LWT", Form.TASMOTA, Role.PRESENCE, "m"),
        ("zigbee2mqtt/hall/plug 1", Form.ZIGBEE2MQTT, Role.READINGS, "hall/plug 1"),
        ("zigbee2mqtt/plug/availability", Form.ZIGBEE2MQTT, Role.PRESENCE, "plug"),
        ("zigbee2mqtt/bridge/info", Form.ZIGBEE2MQTT, Role.IGNORED, ""),
        ("zigbee2mqtt/bridge/state", Form.ZIGBEE2MQTT, Role.STATION, "zigbee2mqtt"),
        ("headend/presence/C-1", Form.BATCH, Role.STATION, "C-1"),
        ("zigbee2mqtt/bridge/request/device/remove", Form.ZIGBEE2MQTT, Role.IGNORED, ""),
        ("shellypro3em-a0/status/em:0", Form.SHELLY, Role.READINGS, "shellypro3em-a0"),
        ("shellypro3em-a0/events/rpc", Form.SHELLY, Role.READINGS, "shellypro3em-a0"),
        ("shellypro3em-a0/online", Form.SHELLY, Role.PRESENCE, "shellypro3em-a0"),
        ("shellypro3em-a0/status/wifi", None, None, None),
        ("zigbee/0x00124B0014D9A2F1/0702", Form.ZCL, Role.READINGS, "00124b0014d9a2f1"),
        ("headend/batch/C-0001", Form.BATCH, Role.READINGS, "C-0001"),
        ("dlms/gw-7", Form.DLMS, Role.READINGS, "gw-7"),
        ("tele//SENSOR", None, None, None),
        ("tele/a\nb/SENSOR", None, None, None),
        (f"tele/{'x' * 129}/SENSOR", None, None, None),
        ("", None, None, None),
    ],
)
def test_a_topic_tells_form_role_and_identity(topic, form, role, identity):
    topics = Topics(load_mqtt_model(name) for name in mqtt_model_names())
    for _ in range(2):  # found, and remembered
        route = topics.route(topic)
        if form is None:
            assert route is None
        else:
            assert (route.form, route.role, route.identity) == (form, role, identity)
    assert "zigbee2mqtt/#" in topics.filters()
    assert "zigbee2mqtt/+/availability" not in topics.filters()
    assert "tele/+/SENSOR" in topics.filters()


def test_a_device_that_nobody_knows_is_told_by_its_identity():
    told = say(decoder(), "tele/m/SENSOR", sensor(1))
    assert told == Unknown(("m",), Form.TASMOTA)


def test_a_topic_of_another_form_than_the_meters_model_is_a_problem():
    told = say(decoder(m="zigbee2mqtt"), "tele/m/SENSOR", sensor(1))
    assert told == Problem("the topic is of form tasmota, the model of m has form zigbee2mqtt")
    assert isinstance(say(decoder(m=None), "tele/m/SENSOR", sensor(1)), Problem)


def test_a_topic_of_no_model_is_not_ours():
    assert say(decoder(), "lights/hall", b"on") == Ignored("no meter model has this topic")


# ---- what counts for a boundary -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "counts"), [(0, True), (30, True), (31, False), (-30, True), (-31, False), (450, False)]
)
def test_a_reading_counts_for_the_boundary_within_the_tolerance(seconds, counts):
    time = datetime.fromtimestamp(NOON.timestamp() + seconds, UTC)
    told = say(decoder(m="tasmota"), "tele/m/SENSOR", sensor(1.25, time.isoformat()), at=time)
    assert isinstance(told, Readings)
    assert bool(told.intervals) is counts
    assert bool(told.registers) is not counts
    if counts:
        (row,) = told.intervals
        assert row[:5] == (1, 1, us(NOON) - 900_000_000, 900, us(time))
        assert row.values == (1_250_000, None, None, None)
        assert row.layout.channels[0].exact(row.values[0]) == 1250
    else:
        (read,) = told.registers
        assert (read.obis, read.value, read.unit) == ("1-0:1.8.0*255", Decimal(1250), "Wh")
        assert (read.read_us, read.meter_us, read.quality) == (us(time), us(time), Quality.PUSHED)


def test_the_devices_own_time_counts_not_ours():
    told = say(decoder(m="tasmota"), "tele/m/SENSOR", sensor(1), at=NOON.replace(hour=15, minute=7))
    assert told.intervals[0].stamp_us == us(NOON)


def test_without_a_time_of_its_own_ours_counts_and_that_can_be_seen():
    told = say(decoder(m="tasmota"), "tele/m/SENSOR", sensor(1, "2026-11-22T09:00:00"))
    assert told.intervals[0].stamp_us == us(NOON)
    assert told.notes == ("local time 2026-11-22T09:00:00 of an unknown zone",)
    late = say(
        decoder(m="tasmota"), "tele/m/SENSOR", sensor(1, "2026-11-22T09:00:00"), at=NOON.replace(minute=7)
    )
    assert late.registers[0].meter_us is None


def test_a_clock_ahead_of_ours_is_kept_and_not_believed():
    told = say(decoder(m="tasmota"), "tele/m/SENSOR", sensor(1, "2026-11-22T13:00:00+00:00"))
    assert not told.intervals
    assert told.registers[0].meter_us == us(NOON.replace(hour=13))
    assert "the device's clock is ahead of ours" in told.notes


def test_the_first_reading_near_a_boundary_stands_and_its_repetition_counts_again():
    told = decoder(m="tasmota")
    first = say(told, "tele/m/SENSOR", sensor(1, "2026-11-22T11:59:50+00:00"))
    second = say(told, "tele/m/SENSOR", sensor(1.001, "2026-11-22T12:00:00+00:00"))
    again = say(told, "tele/m/SENSOR", sensor(1, "2026-11-22T11:59:50+00:00"))
    later = say(told, "tele/m/SENSOR", sensor(1.002, "2026-11-22T12:15:00+00:00"), at=NOON.replace(minute=15))
    early = say(told, "tele/m/SENSOR", sensor(0.9, "2026-11-22T11:45:00+00:00"))
    assert first.intervals
    assert not second.intervals
    assert second.registers
    assert again == first
    assert later.intervals
    assert early.intervals


def test_what_a_column_cannot_hold_is_a_register_reading():
    payload = b'{"Time":"2026-11-22T12:00:00Z","ENERGY":{"Total":1.23456789}}'
    told = say(decoder(m="tasmota"), "tele/m/SENSOR", payload)
    assert not told.intervals
    assert told.registers[0].value == Decimal("1234.56789")


def test_zero_is_a_value():
    told = say(decoder(m="tasmota"), "tele/m/SENSOR", sensor(0))
    assert told.intervals[0].values == (0, None, None, None)
    assert merge([told], source="x").valid.tolist() == [[True, False, False, False]]


def test_a_retained_reading_without_a_time_of_its_own_is_not_stored():
    fleet = decoder(m="tasmota", plug="zigbee2mqtt")
    assert isinstance(say(fleet, "zigbee2mqtt/plug", {"energy": 1, "linkquality": 1}, retained=True), Ignored)
    assert isinstance(say(fleet, "tele/m/SENSOR", sensor(1), retained=True), Readings)


def test_nothing_is_stored_of_null():
    told = say(decoder(plug="zigbee2mqtt"), "zigbee2mqtt/plug", {"energy": None, "linkquality": 1})
    assert told == Ignored("active_import: null")


def test_what_is_doubted_is_told_and_not_stored():
    told = say(
        decoder(m="shelly-gen2"),
        "m/status/em:0",
        {"a_voltage": 0, "a_freq": 198, "c_voltage": 230.1, "c_freq": 50},
    )
    assert {read.obis for read in told.registers} == {"1-0:32.7.0*255", "1-0:72.7.0*255", "1-0:74.7.0*255"}
    assert told.notes == ("frequency_l1: no voltage at this input",)


@pytest.mark.parametrize(
    ("topic", "payload", "says"),
    [
        ("tele/m/SENSOR", b" " * (1 << 20) + b"{}", "more than 1048576"),
        ("headend/batch/C-1", b" " * (1 << 20) + b"{}", "more than 1048576"),
        ("headend/batch/C-1", b"\xa0" + b" " * (1 << 20), "more than 1048576"),
        ("dlms/gw", bytes(16_385), "1 to 16384"),
        ("tele/m/SENSOR", b'{"ENERGY":' * 100_000, "nested too deep"),
        ("headend/batch/C-1", b'{"run":' * 100_000, "recursion limit"),
        ("headend/batch/C-1", b"\xa1\x02" * 100_000, "nesting depth"),
        ("headend/batch/C-1", b"\xa1\x02\xd8\x1c\x81\xd8\x1d\x00", "not CBOR"),
        ("headend/batch/C-1", b"\xa2\x02\x61a\x02\x61b", "not CBOR"),
        ("tele/m/SENSOR", b'{"ENERGY":{"Total":' + b"9" * 5000 + b"}}", "too many digits"),
        ("headend/batch/C-1", b'{"sequence":' + b"9" * 5000 + b"}", "out of range"),
        ("tele/m/SENSOR", b'{"ENERGY":{"Total":1e999999999}}', "number"),
        ("tele/m/SENSOR", b'{"ENERGY":{"Total":NaN}}', "NaN"),
        ("headend/batch/C-1", b'{"sent":NaN}', "not JSON"),
        ("tele/m/SENSOR", b'{"ENERGY":{"Total":1,"Total":2}}', "twice"),
        ("tele/m/SENSOR", b'{"ENERGY":{"Total":"1"}}', "not a number"),
        ("tele/m/SENSOR", b'{"ENERGY":{"Total":true}}', "not a number"),
        ("tele/m/SENSOR", b"\xff\xfe", "UTF-8"),
        ("tele/m/SENSOR", b"[1]", "not an object"),
        ("tele/m/SENSOR", b"", "not JSON"),
    ],
)
def test_what_is_hostile_or_wrong_says_why(topic, payload, says):
    told = say(decoder(m="tasmota"), topic, payload)
    assert isinstance(told, Problem), told
    assert says in told.reason
    assert len(told.reason) < 300


# ---- presence -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "topic", "payload", "meaning"),
    [
        ("tasmota", "tele/m/LWT", b"Offline", EventMeaning.LINK_LOST),
        ("tasmota", "tele/m/LWT", b"Online", EventMeaning.LINK_RESTORED),
        ("zigbee2mqtt", "zigbee2mqtt/m/availability", b"offline", EventMeaning.LINK_LOST),
        (
            "zigbee2mqtt",
            "zigbee2mqtt/m/availability",
            b'{"state":"online"}',
            EventMeaning.LINK_RESTORED,
        ),
        ("shelly-gen2", "m/online", b"false", EventMeaning.LINK_LOST),
    ],
)
def test_a_last_will_is_an_event_of_the_link(model, topic, payload, meaning):
    told = say(decoder(m=model), topic, payload)
    (event,) = told.events
    assert (event.meter_id, event.log, event.meaning) == (1, EventLog.PRESENCE, meaning)
    assert (event.occurred_us, event.received_us, event.code) == (None, us(NOON), None)
    assert merge([told], source="x").events == (event,)
    assert isinstance(say(decoder(m=model), topic, payload, retained=True), Ignored)
    assert isinstance(say(decoder(m=model), topic, b"perhaps"), Problem)


@pytest.mark.parametrize(
    ("topic", "payload", "node", "meaning"),
    [
        ("zigbee2mqtt/bridge/state", b'{"state":"offline"}', "zigbee2mqtt", EventMeaning.LINK_LOST),
        ("GW-7/bridge/state", b"online", "GW-7", EventMeaning.LINK_RESTORED),
        ("headend/presence/C-1", b"offline", "C-1", EventMeaning.LINK_LOST),
        ("headend/presence/C-1", b"online", "C-1", EventMeaning.LINK_RESTORED),
    ],
)
def test_a_station_that_goes_is_an_event_of_its_node(topic, payload, node, meaning):
    told = say(decoder(), topic, payload)
    (event,) = told.events
    assert (event.meter_id, event.node, event.log, event.meaning) == (None, node, EventLog.PRESENCE, meaning)
    assert isinstance(say(decoder(), topic, payload, retained=True), Ignored)
    assert isinstance(say(decoder(), topic, b"perhaps"), Problem)


# ---- batches --------------------------------------------------------------------------------------

BATCH_SENT = {
    "format": "headend.batch.1",
    "concentrator": "C-1",
    "run": "r",
    "sequence": 7,
    "sent": 1_800_000_000,
    "layouts": [
        [
            {"obis": "1-0:2.8.0*255", "unit": "Wh", "scaler": 1},
            {"obis": "1-0:32.7.0*255", "unit": "V", "scaler": -1},
            {"obis": "1-0:1.29.0*255", "unit": "Wh"},
        ]
    ],
    "series": [
        {
            "meter": "a",
            "period_s": 900,
            "stamps": [1_799_999_100, 1_800_000_000, 1_800_000_007],
            "status": [None, 0, 8],
            "values": [[1, None, 3], [2301, 2302, None], [0, 5, 6]],
        },
        {"meter": "b", "profile": 2, "period_s": 900, "stamps": [1_800_000_000], "values": [[9], [1], [0]]},
    ],
    "registers": [
        {"meter": "b", "obis": "1-0:1.8.0*255", "value": "1.50", "unit": "Wh", "time": 1_800_000_000}
    ],
    "events": [
        {"meter": "a", "time": 1_800_000_000, "code": 3, "text": "cover"},
        {"time": 1_800_000_000, "log": "station", "meaning": "power_up"},
        {"meter": "b", "time": 1_800_000_000, "log": "station", "meaning": "meter_silent"},
    ],
}


def sent(document, *, compact):
    message = BATCH.validate_json(json.dumps(document))
    return batches.encode_compact(message) if compact else batches.encode(message)


@pytest.mark.parametrize("compact", [False, True])
def test_a_batch_becomes_columns(compact):
    told = say(decoder(a=None, b=None), "headend/batch/C-1", sent(BATCH_SENT, compact=compact))
    assert isinstance(told, StationBatch)
    assert told[:4] == ("C-1", "r", 7, 1_800_000_000_000_000)
    assert told.unknown == ()
    batch = merge([told], source="mqtt")
    assert batch.meter_id.tolist() == [1, 1, 1, 2]
    assert batch.profile.tolist() == [1, 1, 1, 2]
    assert (batch.start_us // 1_000_000).tolist() == [
        1_799_998_200,
        1_799_999_100,
        1_800_000_000,
        1_799_999_100,
    ]
    assert (batch.stamp_us // 1_000_000).tolist() == [
        1_799_999_100,
        1_800_000_000,
        1_800_000_007,
        1_800_000_000,
    ]
    assert batch.fragment.tolist() == [Fragment.NONE, Fragment.NONE, Fragment.OFF_GRID, Fragment.NONE]
    assert batch.amr_status.tolist() == [-1, 0, 8, -1]
    assert batch.values.tolist() == [[0, 1, 0, 0], [5, 0, 0, 0], [6, 3, 0, 0], [0, 9, 0, 0]]
    assert batch.valid.tolist() == [
        [True, True, False, False],
        [True, False, False, False],
        [True, True, False, False],
        [True, True, False, False],
    ]
    imported, exported, *_ = batch.layouts[0].channels
    assert (imported.kind, exported.kind, exported.scaler) == (Kind.INTERVAL, Kind.CUMULATIVE, 1)
    assert set(batch.quality.tolist()) == {Quality.PUSHED}
    assert [(read.meter_id, read.obis, str(read.value)) for read in batch.registers] == [
        (2, "1-0:1.8.0*255", "1.50"),
        (1, "1-0:32.7.0*255", "230.1"),
        (1, "1-0:32.7.0*255", "230.2"),
        (2, "1-0:32.7.0*255", "0.1"),
    ]
    assert [(e.meter_id, e.node, e.log, e.meaning, e.code) for e in batch.events] == [
        (1, None, EventLog.STANDARD, EventMeaning.OTHER, 3),
        (None, "C-1", EventLog.STATION, EventMeaning.POWER_UP, None),
        (2, None, EventLog.STATION, EventMeaning.METER_SILENT, None),
    ]
    assert batch.covered_us == ()
    assert {event.source for event in batch.events} == {"mqtt:C-1/r/7"}


def test_known_meters_of_a_batch_are_stored_and_the_others_named():
    told = say(decoder(b=None), "headend/batch/C-1", BATCH_SENT)
    assert told.unknown == ("a",)
    assert merge([told], source="mqtt").meter_id.tolist() == [1]
    assert {event.meter_id for event in told.events} == {None, 1}
    # its number counts, though nobody knows its meters
    told = say(decoder(), "headend/batch/C-1", BATCH_SENT)
    assert (told.sequence, told.unknown, told.rows) == (7, ("a", "b"), ())


def test_a_batch_of_no_meter_has_its_number_all_the_same():
    empty = {**BATCH_SENT, "series": [], "registers": [], "events": []}
    told = say(decoder(), "headend/batch/C-1", empty)
    assert (told.sequence, told.rows) == (7, ())


def test_a_concentrator_speaks_for_itself_alone():
    assert say(decoder(), "headend/batch/C-2", BATCH_SENT) == Problem(
        "a message of C-1 under the topic of C-2"
    )


def test_what_is_lost_announced_and_ours():
    span = {"concentrator": "C-1", "run": "r", "first": 3, "last": 9}
    lost = say(decoder(), "headend/batch/C-1", {**span, "format": "headend.batch-lost.1"})
    assert isinstance(lost, BatchLost)
    ours = say(decoder(), "headend/batch/C-1", {**span, "format": "headend.batch-ack.1"})
    assert isinstance(ours, Ignored)
    told = say(
        decoder(),
        "headend/batch/C-1",
        {
            "format": "headend.batch-announce.1",
            "concentrator": "C-1",
            "sent": 5,
            "meters": [{"meter": "a", "link": "plc_narrowband", "hops": 2, "parent": "b", "quality": 80}],
        },
    )
    assert isinstance(told, Announced)
    assert (told.station, told.sent_us, told.meters[0].hops) == ("C-1", 5_000_000, 2)


def test_frames_are_handed_on_without_their_dress():
    assert say(decoder(), "dlms/gw", b"7E A0 7e") == Frames("gw", b"\x7e\xa0\x7e")
    assert isinstance(say(decoder(), "dlms/gw", b""), Problem)


# ---- models ---------------------------------------------------------------------------------------


def model(**table):
    base = {
        "name": "x",
        "title": "x",
        "driver": "mqtt",
        "form": "json",
        "topics": {"readings": ["meters/{identity}"], "presence": ["meters/{identity}/state"]},
        "values": {
            "data.1.8.0": {"quantity": "active_import", "obis": "1-0:1.8.0*255", "unit": "Wh", "scaler": 3}
        },
    }
    return MqttModel.model_validate({**base, **table})


def json_decoder(made):
    fleet = Fleet()
    fleet.known["m"] = Known(1, "m", made)
    return Decoder([made], fleet)


def test_a_device_with_json_of_its_own_needs_no_code():
    made = model(
        time={"path": "at", "kind": "milliseconds"},
        presence={"online": "1", "offline": "0"},
        curves=[{"columns": {"active_import": {"value": "active_import"}}}],
    )
    device = json_decoder(made)
    payload = b'{"at": 1800000000500, "data": {"1.8.0": 12.345678}}'
    told = device.decode("meters/m", payload, retained=True, received_us=us(NOON) + 10**14)
    (row,) = told.intervals
    assert (row.stamp_us, row.values[0]) == (1_800_000_000_500_000, 12_345_678)
    told = device.decode("meters/m/state", b"0", retained=False, received_us=5)
    assert told.events[0].meaning is EventMeaning.LINK_LOST


@pytest.mark.parametrize(
    ("path", "found"),
    [("a", 1), ("b.0.c", 2), ("b.1", None), ("1.8.0", 3), ("d.1.8.0.e", 4), ("a.b", None), ("b.x", None)],
)
def test_a_path_leads_through_objects_lists_and_names_with_points(path, found):
    made = model(values={path: {"quantity": "active_power", "obis": "1-0:16.7.0*255", "unit": "W"}})
    told = say(
        json_decoder(made), "meters/m", {"a": 1, "b": [{"c": 2}], "1.8.0": 3, "d": {"1.8.0": {"e": 4}}}
    )
    if found is None:
        assert told == Ignored("no reading in it")
    else:
        assert told.registers[0].value == found


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"topics": {"readings": ["meters/x"]}}, "must name the device"),
        ({"topics": {"readings": ["meters/{identity}/#"]}}, r"no \+, no #"),
        ({"topics": {"readings": ["{identity}/{identity}"]}}, "once at most"),
        ({"values": {}}, "needs values"),
        ({"form": "batch"}, "for JSON objects"),
        ({"zcl": {"multiplier": 1}}, "zcl is for"),
        ({"curves": [{"columns": {}}]}, "at least 1"),
        ({"curves": [{"columns": {"voltage": {"value": "x"}}}]}, "a column is one of"),
        ({"curves": [{"period_s": 60, "columns": {"active_import": {"value": "x"}}}]}, "less than half"),
        ({"curves": [{"period_s": 7000, "columns": {"active_import": {"value": "x"}}}]}, "divide a day"),
        ({"surprise": 1}, "Extra inputs"),
    ],
)
def test_a_wrong_model_is_refused(table, says):
    with pytest.raises(ValueError, match=says):
        model(**table)


# ---- series: at the edges of the schema's rules ----------------------------------------------------

EDGES = [
    ("meter", ["a", "", "x" * 64, "x" * 65, "with blank", "\u00e9", 1, None]),
    ("period_s", [0, 1, 366 * 86400, 366 * 86400 + 1, -900, None, True, 900.0, "900", 2**64]),
    ("profile", [0, 1, 32767, 32768, -1, None, True, 1.0]),
    ("layout", [0, 1, -1, 255, 256, None, False, 0.0]),
    ("stamps", [[], [0], [2**32 - 1], [2**32], [-1], [None], [True], [1.0], None, 900, {}, ["900"], [2**70]]),
    ("status", [None, [], [0], [None], [2**31 - 1], [2**31], [-1], [True], [0, 0], 0, {}]),
    ("values", [[], [[]], [[0]], [[2**63 - 1]], [[2**63]], [[-(2**63)]], [[-(2**63) - 1]], [[None]], [[True]],
                [[1.0]], [["1"]], [[1, 2]], [[1], [2]], [1], None, {}, [{}], [None]]),
    ("surprise", [None, 0]),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in EDGES for value in values])
def test_a_series_is_taken_or_refused_as_the_schema_says(name, value):
    good = {"meter": "a", "period_s": 900, "stamps": [900], "values": [[7]]}
    head = {
        **BATCH_SENT,
        "layouts": [[{"obis": "1-0:1.8.0*255", "unit": "Wh"}]],
        "registers": [],
        "events": [],
    }
    for series in ([{**good, name: value}], [good, {**good, name: value}]):
        payload = json.dumps({**head, "series": series}).encode()
        told = say(decoder(a=None), "headend/batch/C-1", payload)
        try:
            batches.decode(payload)
        except RemoteProtocolError as error:
            refused = str(error)
        else:
            refused = None
        assert told == Problem(refused) if refused else isinstance(told, StationBatch), told


@pytest.mark.parametrize("name", ["meter", "period_s", "stamps", "values"])
def test_a_series_without_a_part_is_refused(name):
    series = {"meter": "a", "period_s": 900, "stamps": [900], "values": [[7]]}
    del series[name]
    told = say(decoder(a=None), "headend/batch/C-1", {**BATCH_SENT, "series": [series]})
    assert isinstance(told, Problem)
    assert name in told.reason


@pytest.mark.parametrize(
    ("name", "value"),
    [("sequence", True), ("sequence", 2**63), ("sequence", -1), ("sequence", 1.0), ("sent", 2**32),
     ("sent", "1"), ("run", ""), ("run", 1),
     ("layouts", [[{"obis": "1-0:1.8.0*255", "scaler": True, "unit": "Wh"}]]),
     ("layouts", 1), ("format", "headend.batch.2")],
)  # fmt: skip
def test_what_is_remembered_of_a_concentrator_hides_nothing_wrong(name, value):
    told = decoder(a=None)
    layouts = [[{"obis": "1-0:1.8.0*255", "scaler": 1, "unit": "Wh"}]]
    head = {"format": "headend.batch.1", "concentrator": "C-1", "run": "r", "sequence": 1, "sent": 1}
    head = {**head, "layouts": layouts}
    assert say(told, "headend/batch/C-1", head).sequence == 1
    assert say(told, "headend/batch/C-1", {**head, "sequence": 2, "sent": 5})[:4] == (
        "C-1",
        "r",
        2,
        5_000_000,
    )
    assert isinstance(say(told, "headend/batch/C-1", {**head, name: value}), Problem)
    assert say(told, "headend/batch/C-1", {**head, "run": "s"}).run == "s"


def test_the_example_of_the_design_works(tmp_path):
    text = (Path(__file__).parents[2] / "headend/drivers/mqtt/DESIGN.md").read_text("utf-8")
    example = text.partition("```toml\n")[2].partition("```")[0]
    payload = text.partition("publishes `")[2].partition("`")[0].encode()
    (tmp_path / "mqtt").mkdir()
    (tmp_path / "mqtt/acme-m1.toml").write_text(example, "utf-8")
    device = json_decoder(load_mqtt_model("acme-m1", (tmp_path,)))
    told = device.decode("acme/m/data", payload, retained=False, received_us=1_772_366_403_000_000)
    assert told.intervals[0].values[0] == 12_345_000
    assert [(read.obis, str(read.value)) for read in told.registers] == [("1-0:32.7.0*255", "230.1")]
    told = device.decode("acme/m/state", b"down", retained=False, received_us=0)
    assert told.events[0].meaning is EventMeaning.LINK_LOST
