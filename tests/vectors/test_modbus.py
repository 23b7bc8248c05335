"""Every register of the captured tables is in its model's TOML file with its address, type, word count and
scale; the captured frames read as they say; the SunSpec data file is the captured one."""

import itertools
import json
import struct
from decimal import Decimal
from pathlib import Path

import pytest

from protocols.modbus import sunspec
from protocols.modbus.frames import Kind, parse_rtu
from protocols.modbus.readout import decode_register
from protocols.modbus.values import join
from schemas.register_model import RegisterType, Space, WordOrder, load_register_model

FOLDER = Path(__file__).parent / "modbus"


def load(name):
    return json.loads((FOLDER / f"{name}.json").read_text("utf-8"))


TABLES = load("eastron_carlogavazzi_registers")["meters"]
OPCODES = load("mbmd_opcodes")["meters"]
SUNSPEC = load("sunspec_meter_models")["models"]
FRAMES = {entry["id"]: entry for entry in load("rtu_frames")["entries"]}

MODEL_OF = {
    "SDM72V2": "eastron-sdm72-v2", "SDM72": "eastron-sdm72", "SDM120": "eastron-sdm120",
    "SDM230": "eastron-sdm230", "SDM630": "eastron-sdm630", "EM24": "carlogavazzi-em24",
    "GNM3D": "garo-gnm3d", "schneider_iem3000": "schneider-iem3000",
    "carlogavazzi_ex3x0": "carlogavazzi-ex3x0", "orno_1p": "orno-we-514", "janitza": "janitza-b23",
}  # fmt: skip
TYPES = {"float32": "f32", "int32": "s32", "int16": "s16", "uint16": "u16", "uint32": "u32"}
#: The sources' units in ours, and the power of ten between them.
UNITS = {
    "V": ("V", 0), "A": ("A", 0), "W": ("W", 0), "VA": ("VA", 0), "VAr": ("var", 0), "Hz": ("Hz", 0),
    "kWh": ("Wh", 3), "kVArh": ("varh", 3), "Kvarh": ("varh", 3), "kVAh": ("VAh", 3), "°": ("deg", 0),
    "%": ("%", 0), "ms": ("s", -3), "s": ("s", 0), "h": ("h", 0), "": (None, 0),
}  # fmt: skip


@pytest.mark.parametrize("meter", TABLES)
def test_a_model_is_its_table(meter):
    model, table = load_register_model(MODEL_OF[meter]), TABLES[meter]
    ours = {(one.space, one.at): one for one in model.registers.values()}
    assert set(ours) == {(Space(row["space"]), row["address"]) for row in table.values()}
    assert len(ours) == len(model.registers)
    for name, row in table.items():
        register = ours[Space(row["space"]), row["address"]]
        assert register.type == TYPES[row["type"]], name
        if name != "reset_history":  # an int16 said to have two registers; never read
            assert register.width == row["registers"], name
        unit = row["unit_or_enum"]
        symbol, power = UNITS[unit] if isinstance(unit, str) else (None, 0)
        assert register.unit == symbol, name
        assert Decimal(1).scaleb(register.scaler - power) == Decimal(str(row["source_scale"])), name
        low_first = meter in ("EM24", "GNM3D")
        assert register.order is (WordOrder.LITTLE if low_first else WordOrder.BIG), name


#: What the source's description says of the types: "iEM3000 float32 holding registers, EX3x0 int32 with low
#: word first, ORNO 16/32-bit integers, Janitza float32". The source's own code reads iEM3000's energies as
#: 64-bit integers, and their addresses lie four apart.
FAMILIES = {
    "schneider_iem3000": (Space.HOLDING, WordOrder.BIG, {"f32", "s64"}),
    "carlogavazzi_ex3x0": (Space.INPUT, WordOrder.LITTLE, {"s32", "s16"}),
    "orno_1p": (Space.HOLDING, WordOrder.BIG, {"u16", "u32"}),
    "janitza": (Space.HOLDING, WordOrder.BIG, {"f32"}),
}
WORDS_OF = {"Voltage": "V", "Current": "A", "Power": "W", "Import": "Wh", "Export": "Wh", "Frequency": "Hz"}


@pytest.mark.parametrize("meter", OPCODES)
def test_a_model_has_every_opcode(meter):
    model, table = load_register_model(MODEL_OF[meter]), OPCODES[meter]
    ours = {one.at: one for one in model.registers.values()}
    assert set(ours) == set(table.values())
    space, order, types = FAMILIES[meter]
    for name, address in table.items():
        register = ours[address]
        assert (register.space, register.order) == (space, order), name
        assert register.type in types, name
        for word, unit in WORDS_OF.items():
            if name.startswith(word):
                assert register.unit == unit, name
    spans = sorted((one.at, one.width) for one in ours.values())
    assert all(a + width <= b for (a, width), (b, _) in itertools.pairwise(spans))


def test_the_model_and_the_other_source_of_carlo_gavazzi_agree():
    em24, ex = load_register_model("carlogavazzi-em24"), load_register_model("carlogavazzi-ex3x0")
    by_address = {one.at: one for one in em24.registers.values()}
    for register in ex.registers.values():
        other = by_address[register.at]
        assert (register.scaler, register.unit, register.width) == (other.scaler, other.unit, other.width)


@pytest.mark.parametrize("number", SUNSPEC)
def test_the_packaged_sunspec_models_are_the_captured_ones(number):
    model, captured = sunspec.definitions()[int(number)], SUNSPEC[number]
    assert model.registers == captured["total_registers"]
    assert [(p.name, p.offset, p.type, p.size, p.scale, p.mandatory) for p in model.points] == [
        (p["name"], p["offset"], p["type"], p["size"], p.get("sf"), p.get("mandatory", False))
        for p in captured["points"]
    ]


def test_sunspec_codes_follow_the_labels():
    seen = set()
    for number in sunspec.METERS:
        labels = {p["name"]: p.get("label", "") for p in SUNSPEC[str(number)]["points"]}
        for point in sunspec.definitions()[number].points:
            if point.obis is None:
                continue
            group = int(point.obis.split(":")[1].split(".")[0])
            phase = {0: "", 1: "", 2: "A", 3: "A", 4: "B", 5: "B", 6: "C", 7: "C"}[group // 10]
            label = labels[point.name].upper()
            named = next((p for p in "ABC" if f"PHASE {p}" in label or f"PHASE{p}" in label), "")
            if "VOLTAGE" in label:
                named = label[-2]
            assert phase == named, (number, point.name)
            if point.obis == "1-0:1.8.0*255":
                assert "IMPORTED" in label
            if point.obis == "1-0:2.8.0*255":
                assert "EXPORTED" in label
            seen.add(point.obis)
    assert {"1-0:1.8.0*255", "1-0:2.8.0*255", "1-0:21.8.0*255", "1-0:72.7.0*255", "1-0:14.7.0*255"} <= seen


def test_the_captured_frames():
    request, end = parse_rtu(bytes.fromhex(FRAMES["sdm_read_voltage_req"]["hex"]))
    assert (request.unit, request.function, request.kind, request.address, request.count, end) == (
        1, 4, Kind.REQUEST, 0, 2, 8
    )  # fmt: skip
    answer, end = parse_rtu(bytes.fromhex(FRAMES["sdm_read_voltage_resp"]["hex"]))
    assert (answer.kind, answer.registers, end) == (Kind.ANSWER, (17254, 13108), 9)
    refusal, end = parse_rtu(bytes.fromhex(FRAMES["modbus_exception"]["hex"]))
    assert (refusal.unit, refusal.function, refusal.kind, refusal.exception, end) == (
        1, 4, Kind.EXCEPTION, 2, 5
    )  # fmt: skip
    assert FRAMES["modbus_exception"]["expected"]["meaning"] in str(refusal)


def test_the_captured_voltage_is_told_by_the_bits_it_has():
    register = load_register_model("eastron-sdm120").registers["voltage"]
    value = decode_register("voltage", register, FRAMES["sdm_read_voltage_resp"]["expected"]["registers"])
    # The maker's example calls it 230.2; but 230.2 as a float32 ends in 3333, and these bits end in 3334.
    assert str(value.value) == "230.20001"
    assert struct.pack(">f", 230.2) != join([17254, 13108]) == struct.pack(">f", 230.20001)
    assert abs(value.value - Decimal("230.2")) < Decimal("0.00002")
    assert value.rounded
    assert (value.unit, value.obis) == ("V", "1-0:32.7.0*255")


@pytest.mark.parametrize("meter", MODEL_OF)
def test_every_register_of_every_model_tells_a_known_value(meter):
    """Raw 7 (or 7.5 as a float) in every register of every model gives that, scaled."""
    for name, register in load_register_model(MODEL_OF[meter]).registers.items():
        size = 2 * register.width
        if register.type is RegisterType.F32:
            data, raw = struct.pack(">f", 7.5), Decimal("7.5")
        else:
            data, raw = (7).to_bytes(size, "big"), Decimal(7)
        words = [int.from_bytes(data[at : at + 2], "big") for at in range(0, size, 2)]
        if register.order is WordOrder.LITTLE:
            words.reverse()
        assert decode_register(name, register, words).value == raw.scaleb(register.scaler), name
