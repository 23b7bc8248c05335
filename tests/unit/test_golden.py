"""A golden case for every meter model that is a table: what a meter says in bytes, and what that means.

``tests/golden/<language>/<model>.json`` holds both, from a recording or from the maker's own table, so that a
slip in the model's TOML file is not in its test as well. A new model without one fails here.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from headend.drivers.contract import Target
from headend.drivers.iec62056_21.driver import told_of
from headend.drivers.line_driver import LineWay
from headend.drivers.mqtt.message import load_decoder
from headend.drivers.mqtt.meters import Known
from headend.drivers.mqtt.told import Readings, merge
from headend.drivers.p1.driver import told as told_by_telegram
from headend.drivers.samples import plain
from protocols.dlt645.identifiers import DataId
from protocols.dlt645.values import decode
from protocols.iec62056_21.messages import Block
from protocols.iec62056_21.p1 import P1Reader
from protocols.modbus.readout import decode_register
from schemas.address import LinkAddress
from schemas.line_model import FAMILIES, load_line_model
from schemas.model import model_names
from schemas.mqtt_model import load_mqtt_model
from schemas.register_model import load_register_model

GOLDEN = Path(__file__).parents[1] / "golden"
#: Far from any boundary, so that all values are told as registers.
NOW = datetime(2026, 3, 10, 12, 7, tzinfo=UTC)
#: Meters of these tell their own map, or what they carry is another language's.
WITHOUT = {"modbus": {"sunspec"}, "mqtt": {"dlms-over-mqtt", "headend-batch-meter", "headend-concentrator"}}
CASES = [
    (family, name)
    for family in ("modbus", "mqtt", *FAMILIES.values())
    for name in model_names((), family)
    if name not in WITHOUT.get(family, ())
]


def told(number, text, unit):
    return str(text if number is None else f"{number:f}") + (f" {unit}" if unit else "")


def of_values(values):
    return {one.name: told(one.number, one.text, one.unit) for one in values}


def line_way(family, name):
    language = next(key for key, folder in FAMILIES.items() if folder == family)
    model = load_line_model(name, language=language)
    target = Target(SimpleNamespace(meter_id=1, asset_id="M", model=name))
    return LineWay(target, LinkAddress.parse("p1+tcp://127.0.0.1:1"), model)


def of_modbus(name, case):
    found = {}
    for key, register in load_register_model(name).registers.items():
        held = case["words"].get(register.space, {})
        places = [str(register.at + n) for n in range(register.width)]
        if register.obis is not None and all(place in held for place in places):
            value = decode_register(key, register, [int(held[place], 16) for place in places])
            found[register.obis] = told(value.value, value.text, value.unit)
    return found


def of_dlt645(name, case):
    model = load_line_model(name, language="dlt645")
    found = {}
    for di, data in case["data"].items():
        for one in decode(DataId.parse(di), bytes.fromhex(data)):
            number, unit = plain(one.value, one.unit)
            found[model.codes.get(di) or str(one.obis)] = told(number, None, unit)
    return found


def of_p1(name, case):
    reader = P1Reader()
    reader.feed(case["text"].encode("latin-1"))
    return of_values(told_by_telegram(reader.next(), line_way("p1", name), NOW).values)


def of_iec62056_21(name, case):
    return of_values(told_of([Block(case["text"])], line_way("iec62056_21", name), NOW).values)


def of_mqtt(name, case):
    model = load_mqtt_model(name)
    fleet = SimpleNamespace(of=lambda identity: Known(1, identity, model), age=lambda: None)
    payload = bytes.fromhex(case["hex"]) if "hex" in case else json.dumps(case["payload"]).encode()
    found = load_decoder(fleet).decode(
        case["topic"], payload, retained=False, received_us=int(NOW.timestamp()) * 1_000_000
    )
    assert isinstance(found, Readings), found
    batch = merge([found], source="golden")
    return {one.obis: told(one.value, one.text, one.unit) for one in batch.registers}


@pytest.mark.parametrize(("family", "name"), CASES)
def test_a_model_says_what_its_golden_case_says(family, name):
    case = json.loads((GOLDEN / family / f"{name}.json").read_text("utf-8"))
    assert case["source"]
    found = globals()[f"of_{family}"](name, case)
    assert case["expected"]
    assert {code: found.get(code) for code in case["expected"]} == case["expected"]


def test_no_golden_case_is_left_of_a_model_that_is_gone():
    cases = {(path.parent.name, path.stem) for path in GOLDEN.glob("*/*.json")}
    assert cases == set(CASES)
