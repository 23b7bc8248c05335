"""Every captured MQTT payload gives its listed values, digit by digit, by its topic and by its content."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from protocols.mqtt.decode import decode, recognise
from protocols.mqtt.reading import Format

FILE = Path(__file__).parent / "mqtt/mqtt_payloads.json"
ENTRIES = {
    entry["id"]: entry for entry in json.loads(FILE.read_text("utf-8"), parse_float=Decimal)["entries"]
}
#: The same, to send on as it was written.
SENT = {entry["id"]: entry["payload"] for entry in json.loads(FILE.read_text("utf-8"))["entries"]}
NAMES = {"<prefix>": "shellypro3em-a0dd6c9ef2b4", "<device>": "meter", "<friendly_name>": "hall/plug 1"}
METERS = {
    "shelly_rpc_notify_em": "shellypro3em-1234567890ab",
    "shelly_rpc_notify_emdata": "shellypro3em-1234567890ab",
}

#: Listed name -> our quantity and the power of ten between their unit and ours.
LISTED = {
    "active_power_total_W": ("active_power", 0), "voltage_l1_V": ("voltage_l1", 0),
    "current_l3_A": ("current_l3", 0), "active_import_total_Wh": ("active_import", 0),
    "active_export_total_Wh": ("active_export", 0), "voltage_V": ("voltage", 0),
    "active_power_W": ("active_power", 0), "energy_total_kWh": ("active_import", 3),
    "reactive_power_var": ("reactive_power", 0), "power_W": ("active_power", 0),
    "energy_kWh": ("active_import", 3), "current_A": ("current", 0),
}  # fmt: skip
#: Listed name -> our quantities, in the list's order.
LISTS = {
    "energy_by_tariff_kWh": ("active_import_t1", "active_import_t2"),
    "energy_import_kWh_by_channel": ("active_import_c1", "active_import_c2"),
    "energy_export_kWh_by_channel": ("active_export_c1", "active_export_c2"),
}


def topic_of(entry):
    topic = entry["topic_hint"]
    for placeholder, name in NAMES.items():
        topic = topic.replace(placeholder, name)
    return topic


def told(key, **options):
    return decode(topic_of(ENTRIES[key]), json.dumps(SENT[key]).encode(), **options)


def values(key, **options):
    found = told(key, **options).readings
    assert len({one.quantity for one in found}) == len(found)
    assert len({one.obis for one in found if one.obis}) == len([one for one in found if one.obis])
    return {one.quantity: one for one in found}


@pytest.mark.parametrize("key", ENTRIES)
def test_the_listed_values(key):
    found, readings = values(key), told(key)
    for name, wanted in ENTRIES[key]["expected"].items():
        if name in LISTS:
            assert [found[one].value for one in LISTS[name]] == [one.scaleb(3) for one in wanted]
        elif name in LISTED:
            quantity, power = LISTED[name]
            if wanted is None:
                assert quantity not in found
                assert quantity in readings.missing
            else:
                assert found[quantity].value == Decimal(wanted).scaleb(power)
                assert found[quantity].doubt is None
        else:
            assert name in ("note", "check"), f"{key}: {name} is not looked at"


@pytest.mark.parametrize("key", ENTRIES)
def test_who_and_when(key):
    readings = told(key)
    default = {"shelly": NAMES["<prefix>"], "tasmota": "meter", "zigbee2mqtt": "hall/plug 1"}
    assert readings.meter == METERS.get(key, default[readings.format])
    times = {
        "shelly_rpc_notify_em": datetime(2025, 9, 5, 8, 10, 29, 80000, UTC),
        "shelly_rpc_notify_emdata": datetime(2025, 9, 5, 8, 18, 0, 210000, UTC),
        "z2m_ts011f_energy_null": datetime(2022, 11, 15, 19, 5, 39, tzinfo=UTC),
    }
    assert readings.time == times.get(key)


@pytest.mark.parametrize("key", ENTRIES)
def test_the_content_alone_tells_the_language_where_it_can(key):
    language = Format(told(key).format)
    found = recognise("some/other/topic", json.dumps(SENT[key]).encode())
    bare = ("status/em:0", "status/emdata:0", "status/switch:0")
    if ENTRIES[key]["topic_hint"].endswith(bare):
        assert found is None  # a component without its topic could be anything
    else:
        assert found is language
    assert told(key, language=language) == told(key)


@pytest.mark.parametrize("key", ENTRIES)
def test_no_digit_is_lost(key):
    """Each number of a reading stands in the payload, with the point moved by whole places."""
    sent = set()
    stack = [ENTRIES[key]["payload"]]
    while stack:
        one = stack.pop()
        if isinstance(one, dict):
            stack += one.values()
        elif isinstance(one, list):
            stack += one
        elif isinstance(one, int | Decimal):
            sent.add(Decimal(one))
    for reading in told(key).readings:
        assert {reading.value, reading.value.scaleb(-3), reading.value.scaleb(2)} & sent
        assert "E" not in str(reading.value)


def test_phases_that_are_not_connected_are_doubted():
    found = values("shelly_rpc_notify_em")
    for phase in ("l1", "l2"):
        assert found[f"frequency_{phase}"].doubt == "no voltage at this input"
        assert found[f"power_factor_{phase}"].doubt == "no voltage at this input"
        assert found[f"voltage_{phase}"].value == 0
        assert found[f"voltage_{phase}"].doubt is None
    assert found["frequency_l3"].doubt is None
    assert "neutral_current" in told("shelly_rpc_notify_em").missing


def test_a_phase_sum_that_holds_is_believed():
    for key in ("shelly_pro3em_status_emdata0", "shelly_rpc_notify_emdata"):
        assert all(one.doubt is None for one in told(key).readings)


def test_tasmotas_own_count_and_the_meter_behind_it_are_two_things():
    found = values("tasmota_sensor_sdm")
    assert (found["active_import"].value, found["active_import"].obis) == (Decimal(17), "1-0:1.8.0*255")
    assert (found["active_import_behind"].value, found["active_import_behind"].obis) == (Decimal(12580), None)


def test_tasmotas_local_time_needs_a_zone():
    assert told("tasmota_sensor_sdm").notes == ("local time 2020-09-25T12:47:15 of an unknown zone",)
    assert told("tasmota_sensor_sdm", zone=ZoneInfo("Europe/Paris")).time == datetime(
        2020, 9, 25, 10, 47, 15, tzinfo=UTC
    )


def test_a_list_is_by_channel_and_an_object_by_phase():
    found = values("tasmota_sensor_total_list")
    assert [found[f"active_import_c{n}"].value for n in (1, 2)] == [0, 17]
    assert [found[f"active_import_c{n}"].obis for n in (1, 2)] == ["1-1:1.8.0*255", "1-2:1.8.0*255"]
    found = values("tasmota_sensor_total_dict")
    assert [found[f"active_import_l{n}"].value for n in (1, 2)] == [17, 17]
    assert [found[f"active_import_l{n}"].obis for n in (1, 2)] == ["1-0:21.8.0*255", "1-0:41.8.0*255"]


def test_a_direction_beside_a_power_is_its_direction():
    found = values("z2m_two_channel_meter")
    assert found["active_power_c1"].obis == "1-1:16.7.0*255"  # energy_flow_a is null
    assert found["active_power_import_c2"].obis == "1-2:1.7.0*255"
    assert str(found["power_factor_c1"].value) == "1.00"  # sent as 100
