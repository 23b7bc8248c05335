import json
from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from protocols.errors import RemoteProtocolError
from protocols.mqtt import batches, documents
from protocols.mqtt.decode import decode, recognise
from protocols.mqtt.reading import DlmsFrames, Format, Fraction, Presence, Readings
from protocols.zigbee.metering import Scaling
from schemas.batch import Batch

SENSOR, DEVICE, EM, RPC = "tele/m/SENSOR", "zigbee2mqtt/m", "s/status/em:0", "s/events/rpc"


def send(topic, document, **options):
    payload = document if isinstance(document, bytes) else json.dumps(document).encode()
    return decode(topic, payload, **options)


def values(found):
    return {one.quantity: one.value for one in found.readings}


def energy(**more):
    return {"Time": "2026-11-22T08:00:00+01:00", "ENERGY": more}


@pytest.mark.parametrize(
    ("total", "told", "missing"),
    [
        (0, {"active_import": 0}, ()),
        (5.6, {"active_import": 5600}, ()),
        (None, {}, ("active_import",)),
        ([], {}, ()),
        ([1, None], {"active_import_c1": 1000}, ("active_import_c2",)),
        ({"Phase2": 0, "Phase3": None}, {"active_import_l2": 0}, ("active_import_l3",)),
    ],
)
def test_tasmota_in_every_shape(total, told, missing):
    found = send(SENSOR, energy(Total=total, Today=9))
    assert (values(found), found.missing) == (told, missing)
    assert found.time == datetime(2026, 11, 22, 7, tzinfo=UTC)
    assert found.meter == "m"


@pytest.mark.parametrize("total", ["5.6", True, [[1]], {"Phase4": 1}, {"Phase1": [1]}, [1] * 9, "", [True]])
def test_tasmota_in_no_shape(total):
    with pytest.raises(RemoteProtocolError):
        send(SENSOR, energy(Total=total))


def test_tasmota_without_a_meter_is_no_fault():
    found = send("tele/m/STATE", {"Uptime": 1}, language=Format.TASMOTA)
    assert (found.readings, found.notes) == ((), ("no ENERGY in it",))
    assert send(SENSOR, {"ENERGY": None}).notes == ("no ENERGY in it",)
    for wrong in ({"ENERGY": 1}, {"StatusSNS": []}, {"ENERGY": {}, "Time": 5}, {"ENERGY": {}, "Time": "x"}):
        with pytest.raises(RemoteProtocolError):
            send(SENSOR, wrong)


@pytest.mark.parametrize(
    ("topic", "device"),
    [("tele/m/SENSOR", "m"), ("m/tele/SENSOR", "m"), ("home/m/tele/SENSOR", "home/m"), ("m/SENSOR", "m")],
)
def test_tasmotas_topics_come_in_any_order(topic, device):
    assert send(topic, energy(Total=1)).meter == device


TWICE = "occurs twice or not at all"


@pytest.mark.parametrize(
    ("written", "zone", "time", "note"),
    [
        ("2026-10-25T01:30:00", "Europe/Berlin", datetime(2026, 10, 24, 23, 30, tzinfo=UTC), ()),
        ("2026-10-25T02:30:00", "Europe/Berlin", None, (f"local time 2026-10-25T02:30:00 {TWICE}",)),
        ("2026-03-29T02:30:00", "Europe/Berlin", None, (f"local time 2026-03-29T02:30:00 {TWICE}",)),
        ("1970-01-01T00:00:10", "UTC", None, ("1970-01-01T00:00:10+00:00: the device's clock is not set",)),
        ("0001-01-01T00:00:00+10:00", "UTC", None, ("0001-01-01 00:00:00 is no time of this century",)),
        ("2026-07-01T00:00:00Z", None, datetime(2026, 7, 1, tzinfo=UTC), ()),
    ],
)  # fmt: skip
def test_times(written, zone, time, note):
    found = send(SENSOR, {"Time": written, "ENERGY": {"Total": 1}}, zone=zone and ZoneInfo(zone))
    assert (found.time, found.notes) == (time, note)


@pytest.mark.parametrize(
    ("topic", "payload", "online"),
    [
        ("tele/m/LWT", b"Online", True), ("tele/m/LWT", b"Offline", False), ("s/online", b"true", True),
        ("s/online", b"false", False), ("zigbee2mqtt/a/b/availability", b"online", True),
        ("zigbee2mqtt/a/b/availability", b'{"state":"offline"}', False), ("tele/m/LWT", b"", None),
        ("s/online", b"1", None), ("zigbee2mqtt/m/availability", b'{"state":null}', None),
        ("zigbee2mqtt/m/availability", b"\xff", None),
    ],
)  # fmt: skip
def test_last_wills(topic, payload, online):
    if online is None:
        with pytest.raises(RemoteProtocolError):
            decode(topic, payload)
    else:
        found = decode(topic, payload)
        assert isinstance(found, Presence)
        assert found.online is online
        assert found.meter in ("m", "s", "a/b")


def test_what_is_absurd_is_told_with_a_doubt():
    found = send(
        EM, {"a_freq": 198, "a_voltage": 230, "b_pf": 1.5, "total_act_power": 10**9, "a_errors": None}
    )
    assert {one.quantity: one.doubt for one in found.readings} == {
        "frequency_l1": "frequency 198 Hz is outside 40 to 70",
        "voltage_l1": None,
        "power_factor_l2": "power_factor 1.5 is outside -1 to 1",
        "active_power": "active_power 1000000000 W is outside -100000000 to 100000000",
    }
    found = send(EM, {"a_voltage": 230, "a_errors": ["out_of_range:voltage"], "b_voltage": 1})
    assert [one.doubt for one in found.readings] == ["the device reports out_of_range:voltage", None]
    (reading,) = send(DEVICE, {"energy": -1}).readings
    assert reading.doubt == "active_import -1000 Wh is outside 0 to 1000000000000000"


def test_a_total_that_is_not_the_sum_of_its_phases():
    phases = {f"{p}_total_act_energy": 10 for p in "abc"}
    for total, doubt in ((30, None), (30.02, None), (30.03, "the phases do not sum up to the total")):
        found = send("s/status/emdata:0", {**phases, "total_act": total})
        assert {one.quantity: one.doubt for one in found.readings}["active_import"] == doubt
    found = send("s/status/emdata:0", {"a_total_act_energy": 1, "b_total_act_energy": None, "total_act": 9})
    assert found.missing == ("active_import_l2",)
    assert all(one.doubt is None for one in found.readings)


def test_shelly_components_are_channels():
    two = {"src": "s", "method": "NotifyFullStatus", "params": {"ts": None}}
    two["params"]["switch:1"] = {"apower": 7, "aenergy": {"total": 0}}
    two["params"]["em1:2"] = {"act_power": -3, "voltage": 230.5}
    two["params"]["em1data:2"] = {"total_act_energy": 5.25}
    two["params"]["wifi"] = {"rssi": -50}
    found = send(RPC, two)
    assert {one.obis: one.value for one in found.readings} == {
        "1-1:16.7.0*255": 7, "1-1:1.8.0*255": 0, "1-2:16.7.0*255": -3, "1-2:32.7.0*255": Decimal("230.5"),
        "1-2:1.8.0*255": Decimal("5.25"),
    }  # fmt: skip
    assert found.time is None


def test_other_shelly_messages_have_no_readings():
    assert send(RPC, {"src": "s", "method": "NotifyEvent"}).notes == ("NotifyEvent carries no readings",)
    assert send("s/status/wifi", {}, language=Format.SHELLY).notes == ("wifi measures nothing",)


@pytest.mark.parametrize(
    "document",
    [
        {"src": None}, {"src": 1}, {"src": ""}, {"method": 5}, {"params": 1}, {"params": {"em:0": 1}},
        {"params": {"ts": "1"}}, {"params": {"ts": True}}, {"params": {"em:0": {"a_voltage": "x"}}},
        {"params": {"switch:0": {"aenergy": 5}}}, {"params": {"emdata:0": {"total_act": [1]}}},
    ],
)  # fmt: skip
def test_wrong_notifications(document):
    with pytest.raises(RemoteProtocolError):
        send(RPC, {"src": "s", "method": "NotifyStatus", **document})


def test_unix_times_beyond_bounds():
    for ts in (0, -1, 10**13, 1e300):
        found = send(RPC, {"src": "s", "method": "NotifyStatus", "params": {"ts": ts}})
        assert found.time is None
        assert found.notes


def test_zigbee2mqtt_phases_power_factors_and_last_seen():
    found = send(
        DEVICE,
        {"power": 1, "power_phase_b": 2, "voltage_phase_c": 3, "energy": 4, "last_seen": 1763800000123},
    )
    assert set(values(found)) == {"active_power_l1", "active_power_l2", "voltage_l3", "active_import"}
    assert found.time == datetime(2025, 11, 22, 8, 26, 40, 123000, UTC)
    for sent, value, doubt in (
        (0, 0, False),
        (0.98, "0.98", False),
        (98, "0.98", False),
        (1, 1, True),
        (101, 101, True),
    ):
        (reading,) = send(DEVICE, {"power_factor": sent}).readings
        assert reading.value == Decimal(value)
        assert (reading.doubt is not None) is doubt
    (reading,) = send(DEVICE, {"power_a": 5, "energy_flow_a": "producing"}).readings
    assert (reading.quantity, reading.obis) == ("active_power_export_c1", "1-1:2.7.0*255")
    (reading,) = send(DEVICE, {"power_a": -5, "energy_flow_a": "producing"}).readings
    assert reading.quantity == "active_power_c1"
    assert send(DEVICE, {"last_seen": 10**15}).time is None


def test_what_the_gateway_says_of_itself():
    assert send("zigbee2mqtt/bridge/state", b"online").readings == ()
    assert send(DEVICE, {"contact": True}).notes == ("nothing in it that a meter measures",)


def test_raw_zcl_reports():
    topic = "gateway/0x00124B0014D9A2F1/1/0702"
    payload = b"18010a0000254e61bc000000"
    found = decode(topic, payload)
    assert (found.format, found.meter) == (Format.ZCL, "00124b0014d9a2f1")
    (reading,) = found.readings
    assert (reading.value, reading.unit, reading.fraction) == (None, None, Fraction(12345678, None, None))
    assert reading.doubt == "multiplier and divisor and unit not known"
    for dress in (
        payload,
        b"0x" + payload,
        payload.upper(),
        b" ".join([b"18 01", payload[4:]]),
        bytes.fromhex(payload.decode()),
    ):
        found = decode(topic, dress, scaling=Scaling(1, 1000, 0))
        (reading,) = found.readings
        assert (str(reading.value), reading.unit, reading.obis, reading.doubt) == (
            "12345678",
            "Wh",
            "1-0:1.8.0*255",
            None,
        )
    assert found.scaling == Scaling(1, 1000, 0)
    assert decode(topic, b"1c5f11010a00002005").notes == (
        "attributes of manufacturer 115f, whose meaning is its own",
    )
    with pytest.raises(RemoteProtocolError, match="no EUI-64"):
        decode("a/b", payload, language=Format.ZCL)
    with pytest.raises(RemoteProtocolError, match="no attributes"):
        decode(topic, b"18010a")


def test_raw_dlms_frames():
    apdu = "0f00000001" + "0c07ea0b160708000000800000" + "020206000000010600000002"
    for payload in (bytes.fromhex(apdu), apdu.encode()):
        found = decode("gateway/7", payload)
        assert isinstance(found, DlmsFrames)
        assert found.data == bytes.fromhex(apdu)
        assert [message.apdu for message in found.messages] == ["data-notification"]
    for payload in (b"", b"hello", b"\x7e" * 5, b"00" * 16385):
        with pytest.raises(RemoteProtocolError):
            decode("gateway/7", payload)


def test_batches_of_our_own():
    batch = Batch(format="headend.batch.1", concentrator="C1", run="1", sequence=7, sent=5)
    payload = batches.encode(batch)
    assert decode("headend/C1/batch", payload) == batch
    assert recognise("x", payload) is Format.BATCH
    with pytest.raises(RemoteProtocolError, match=r"run: .* and 1 more"):
        decode("x", payload.replace(b"7", b"-7").replace(b'"1"', b'""'))
    with pytest.raises(RemoteProtocolError) as refused:
        decode("x", b'{"format":"headend.batch.' + b"1" * 10_000 + b'"}')
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("payload", "complaint"),
    [
        (b"{", "not JSON"), (b'{"linkquality":NaN}', "NaN is no JSON number"), (b"{}", "no language"),
        (b'{"linkquality":1,"linkquality":1}', "occurs twice"), (b'{"power":"\xff"}', "not UTF-8"),
        (b'{"linkquality":1,"power":1e999}', "no number of a meter"),
        (b'{"linkquality":1,"power":1e-999}', "no number of a meter"),
        (b'{"linkquality":1,"power":1e9999999999999999999}', "beyond all bounds"),
        (b'{"linkquality":1,"power":' + b"1" * 5000 + b"}", "too many digits"),
        (b'{"linkquality":1,"power":1.' + b"1" * 50 + b"}", "no number of a meter"),
        (b'{"a":' + b"[" * 100_000, "nested too deep"),
        (b" " * (documents.MAX_PAYLOAD + 1), "bytes, more than"),
    ],
)  # fmt: skip
def test_hostile_payloads(payload, complaint):
    with pytest.raises(RemoteProtocolError, match=complaint):
        decode("some/topic", payload)


def test_a_named_language_is_believed_over_the_topic():
    assert isinstance(send("my/own", {"power": 1}, language=Format.ZIGBEE2MQTT), Readings)
    with pytest.raises(RemoteProtocolError, match="a JSON list, not an object"):
        send("my/own", [1], language=Format.ZIGBEE2MQTT)
    with pytest.raises(RemoteProtocolError, match="no status topic"):
        send("my/own", {"a": 1}, language=Format.SHELLY)
