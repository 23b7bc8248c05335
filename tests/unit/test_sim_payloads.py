"""What simulated Zigbee and WiFi meters publish, understood by the head-end's decoders, to the last digit."""

import datetime as dt
import json
from decimal import Decimal

import pytest

from concentrator_sim.broker import Heard, to_json
from concentrator_sim.field import Field
from concentrator_sim.generator import Consumption
from concentrator_sim.publishing import Publisher
from concentrator_sim.scenario import ScenarioError, make_scenario
from concentrator_sim.wifi_meters import FIRMWARE
from concentrator_sim.zigbee_gateway import state
from protocols.mqtt import documents, shelly, tasmota, zigbee2mqtt

NOW = 1_800_000_123
SERIAL = "SIM000011000001"


def publisher(kind, model=None, **settings):
    plan = {"kind": kind, "meters": 8} | ({"models": [model]} if model else {})
    field = Field(make_scenario({"meters": 0, "stations": [plan], **settings}), clock=lambda: NOW)
    station = field.tree.stations[0]
    return Publisher(station, station.leaves[0], field)


def is_truth(found, now=NOW):
    told = {one.quantity: one.value for one in found.readings if one.doubt is None}
    truth = Consumption(1, 1_000_001)
    assert told["active_import"] == truth.at(0, now)
    assert told["active_export"] == truth.at(1, now)
    assert found.time == dt.datetime.fromtimestamp(now, dt.UTC)
    assert 225 < told["voltage"] < 235


def test_zigbee2mqtt():
    payload = to_json(state(publisher("zigbee"), NOW)).encode()
    is_truth(zigbee2mqtt.decode(f"zigbee2mqtt/{SERIAL}", documents.load(payload)))


def test_tasmota():
    topic, payload = FIRMWARE["tasmota"].reading(publisher("wifi", "tasmota"), NOW)
    found = tasmota.decode(topic, documents.load(payload.encode()))
    assert found.meter == SERIAL
    is_truth(found)


def test_shelly():
    topic, payload = FIRMWARE["shelly"].reading(publisher("wifi", "shelly"), NOW)
    assert topic == f"{SERIAL}/events/rpc"
    found = shelly.decode_rpc(documents.load(payload.encode()))
    assert found.meter == SERIAL
    is_truth(found)


@pytest.mark.parametrize("model", ["tasmota", "shelly"])
def test_last_wills(model):
    firmware = FIRMWARE[model]
    reader = {"tasmota": tasmota, "shelly": shelly}[model]
    assert firmware.will(SERIAL)[0] == firmware.online(SERIAL)[0]
    for (topic, payload), online in ((firmware.will(SERIAL), False), (firmware.online(SERIAL), True)):
        found = reader.presence(topic, payload.encode())
        assert (found.meter, found.online) == (SERIAL, online)


def test_questions():
    one = publisher("wifi", "tasmota")
    topic, payload = FIRMWARE["tasmota"].answer(one, Heard(f"cmnd/{SERIAL}/STATUS", b"10"), NOW)
    assert topic == f"stat/{SERIAL}/STATUS10"
    is_truth(tasmota.decode(topic, documents.load(payload.encode())))
    asked = {"id": 7, "src": "ask/x", "method": "Shelly.GetStatus"}
    topic, payload = FIRMWARE["shelly"].answer(one, Heard("x/rpc", json.dumps(asked).encode()), NOW)
    told = json.loads(payload, parse_float=Decimal)
    assert (topic, told["id"], told["dst"]) == ("ask/x/rpc", 7, "ask/x")
    assert told["result"]["switch:0"]["aenergy"]["total"] == Consumption(1, 1_000_001).at(0, NOW)
    for nonsense in (b"", b"[]", b'{"method":"Reboot"}', b"\xff"):
        assert FIRMWARE["shelly"].answer(one, Heard("x/rpc", nonsense), NOW) is None
        assert FIRMWARE["tasmota"].answer(one, Heard("x/STATUS", nonsense), NOW) is None


def test_a_drifting_clock_and_a_reset_are_published():
    faults = [{"kind": "clock_drift", "drift_ppm": 10_000}, {"kind": "counter_reset", "after_s": 10}]
    one = publisher("wifi", "tasmota", faults=faults)
    topic, payload = FIRMWARE["tasmota"].reading(one, NOW + 1000)
    found = tasmota.decode(topic, documents.load(payload.encode()))
    assert found.time == dt.datetime.fromtimestamp(NOW + 1010, dt.UTC)
    truth = Consumption(1, 1_000_001)
    (told,) = [reading.value for reading in found.readings if reading.quantity == "active_import"]
    assert told == truth.at(0, NOW + 1010) - truth.at(0, NOW + 10)


def test_json_has_all_digits():
    value = {"a": Decimal("12345678901234567.890"), "b": [Decimal(0), None, True, "é"], "c": {"d": 1}}
    text = to_json(value)
    assert text == '{"a":12345678901234567.890,"b":[0,null,true,"\\u00e9"],"c":{"d":1}}'
    assert json.loads(text, parse_float=Decimal) == value


@pytest.mark.parametrize("url", ["localhost:1883", "http://x:1", "mqtt://x", "mqtt://user:secret@"])
def test_brokers_are_named(url):
    with pytest.raises(ScenarioError, match="mqtt_url"):
        make_scenario({"mqtt_url": url})
