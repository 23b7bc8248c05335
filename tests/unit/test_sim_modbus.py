"""Simulated Modbus meters, read by the head-end's register maps, and by pymodbus as a foreign client."""

import asyncio
import contextlib
import csv
import io
from decimal import Decimal

import pytest
from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.framer import FramerType

from concentrator_sim.faults import Faults
from concentrator_sim.field import Field
from concentrator_sim.generator import Consumption
from concentrator_sim.instant import Instant
from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.modbus_bus import Bus, RtuLine, Slave, TcpLine
from concentrator_sim.registers import ModelMap, SunSpecMap, encode
from concentrator_sim.scenario import ScenarioError, make_scenario
from protocols.errors import RemoteProtocolError
from protocols.modbus import sunspec
from protocols.modbus.frames import crc16
from protocols.modbus.readout import Readout
from schemas.address import LinkAddress
from schemas.register_model import MapRegister, load_register_model, register_model_names

NOW = 1_800_000_123
SERIAL = "SIM000011000001"
MODELS = [name for name in register_model_names() if name != "sunspec"]


def shows(number=1_000_001, now=NOW):
    return Instant(Consumption(1, number), number, now)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_reads_what_the_meter_shows(name):
    model, now = load_register_model(name), shows()
    map_ = ModelMap(model, SERIAL)
    readout = Readout(model)
    answers = {block: map_.read(block.space, block.address, block.count, now) for block in readout.blocks}
    assert None not in answers.values()
    told, checked = readout.decode(answers), 0
    for one in told:
        register = model.registers[one.name]
        truth = None if register.obis is None else now.value(register.obis)
        if truth is None or one.value is None:
            continue
        resolution = Decimal(1).scaleb(register.scaler)
        if register.type.is_float:
            resolution = max(abs(truth) * Decimal("1.2e-7"), Decimal("1e-6"))
        assert abs(one.value - truth) < resolution, one.name
        checked += register.quantity is not None
    assert checked >= 1 or name == "orno-we-514"


def test_a_sunspec_meter_tells_its_map():
    map_, now = SunSpecMap(SERIAL), shows()

    def run(reads):
        sent = None
        while True:
            try:
                span = reads.send(sent)
            except StopIteration as done:
                return done.value
            sent = map_.read(span.space, span.address, span.count, now)

    device = run(sunspec.discover())
    assert (device.text("SN"), [model.number for model in device.models]) == (SERIAL, [1, 203])
    assert device.notes == ()
    values = {one.name: one for one in run(sunspec.poll(device.meters[0]))}
    assert values["TotWhImp"].value == now.energy(0)
    assert values["TotWhExp"].value == (now.energy(1) or 0)
    assert values["W"].value == now.power
    assert values["PhVphA"].value == now.voltage
    assert values["Evt"].reason == "not implemented by the meter"


def test_phases_sum_up_to_the_total():
    now = shows()
    for total, phases in (("1.8", ("21.8", "41.8", "61.8")), ("16.7", ("36.7", "56.7", "76.7"))):
        thirds = [now.value(f"1-0:{code}.0*255") for code in phases]
        assert sum(thirds) == now.value(f"1-0:{total}.0*255")
    assert now.value("1-0:99.8.0*255") is None
    assert now.value("0-0:96.1.0*255") is None
    assert now.value("1-0:1.8.1*255") is None


@pytest.mark.parametrize(
    ("kind", "scaler", "value", "raw"),
    [
        ("u16", 0, "65537", "0001"),
        ("s16", 0, "-1.5", "fffe"),
        ("s16", 0, "40000", "7fff"),
        ("u32", 1, "123456", "00003039"),
        ("s64", 0, "-1", "ffffffffffffffff"),
        ("f32", 3, "1500", "3fc00000"),
        ("bcd16", 0, "1234", "1234"),
    ],
)
def test_values_into_bytes(kind, scaler, value, raw):
    register = MapRegister(at=0, type=kind, space="input", scaler=scaler)
    assert encode(register, Decimal(value)).hex() == raw


def bus(*, dead=False):
    meter = SimulatedMeter(1, 1_000_001)
    map_ = ModelMap(load_register_model("eastron-sdm630"), meter.serial)
    slave = Slave(meter, map_, Faults(meter.serial, [], seed=1, started=NOW), dead)
    return Bus({1: slave}, lambda: NOW)


def rtu(text):
    data = bytes.fromhex(text)
    return data + crc16(data).to_bytes(2, "little")


ASK = rtu("01 04 0048 0002")


def test_rtu_in_pieces_and_in_noise():
    line = RtuLine(bus())
    whole = line.receive(ASK)
    assert len(whole) == 9
    assert b"".join(line.receive(bytes((byte,))) for byte in ASK) == whole
    assert line.receive(b"\xff\x00" * 300) == b""
    assert line.receive(ASK) == whole
    assert line.receive(ASK + ASK) == 2 * whole
    assert line.receive(ASK[:-1] + b"\0") == b""


@pytest.mark.parametrize(
    ("ask", "answer"),
    [
        ("01 06 0000 0001", "01 86 01"),
        ("01 04 0048 0051", "01 84 02"),
        ("01 04 4000 0002", "01 84 02"),
        ("02 04 0048 0002", ""),
    ],
)
def test_refusals_and_silence(ask, answer):
    assert RtuLine(bus()).receive(rtu(ask)) == (rtu(answer) if answer else b"")
    assert RtuLine(bus(dead=True)).receive(ASK) == b""


def test_tcp_says_who_does_not_answer():
    line = TcpLine(bus())
    ask = bytes.fromhex("1234 0000 0006 02 04 0048 0002")
    assert line.receive(ask[:5]) == b""
    assert line.receive(ask[5:]).hex() == "12340000000302840b"
    with pytest.raises(RemoteProtocolError):
        line.receive(b"GET / HTTP/1.1\r\n")


def station(kind, **settings):
    faults = settings.pop("faults", [])
    plan = {
        "kind": kind,
        "models": ["eastron-sdm630", "schneider-iem3000", "sunspec"],
        "meters": 4,
        **settings,
    }
    table = {"meters": 0, "base_port": 0, "stations": [plan], "faults": faults}
    return make_scenario(table)


async def read(client, unit, model, now):
    readout = Readout(model, model.named("energy"))
    answers = {}
    for block in readout.blocks:
        ask = client.read_input_registers if block.space == "input" else client.read_holding_registers
        answers[block] = (await ask(block.address, count=block.count, device_id=unit)).registers
    told = {one.quantity: one.value for one in readout.decode(answers)}
    return told["active_import"], now.energy(0)


@pytest.mark.parametrize("kind", ["modbus_tcp", "modbus_rtu_tcp", "modbus_rtu"])
async def test_pymodbus_reads_a_bus(tmp_path, kind):
    scenario = station(kind).model_copy(update={"device_dir": tmp_path / "dev"})
    async with Field(scenario, clock=lambda: NOW) as field:
        rows = list(csv.DictReader(io.StringIO(field.csv())))
        addresses = [LinkAddress.parse(row["address"]) for row in rows]
        assert [address.unit for address in addresses] == [1, 2, 3, 4]
        assert {address.line for address in addresses} == {addresses[0].line}
        one = addresses[1]
        if kind == "modbus_rtu":
            assert one.device == str(tmp_path / "dev" / "GW-0001")
            client = AsyncModbusSerialClient(one.device, timeout=5, retries=0)
        else:
            framer = FramerType.SOCKET if kind == "modbus_tcp" else FramerType.RTU
            client = AsyncModbusTcpClient(one.host, port=one.port, framer=framer, timeout=5, retries=0)
        assert await client.connect()
        try:
            told, truth = await read(client, 2, load_register_model(rows[1]["model"]), shows(1_000_002))
            assert told == truth
        finally:
            client.close()
            await asyncio.sleep(0)
    if kind == "modbus_rtu":
        assert list((tmp_path / "dev").iterdir()) == []


async def test_a_dead_slave_and_a_struck_one_are_silent():
    faults = [{"kind": "loss", "targets": "SIM000011000003"}]
    scenario = station("modbus_tcp", dead_every=2, faults=faults)
    async with Field(scenario, clock=lambda: NOW) as field:
        address = LinkAddress.parse(field.stations[0].address)
        client = AsyncModbusTcpClient(address.host, port=address.port, timeout=5, retries=0)
        assert await client.connect()
        try:
            answers = [await client.read_input_registers(72, count=2, device_id=unit) for unit in (2, 3, 4)]
            assert [answer.exception_code for answer in answers] == [11, 11, 11]
            assert not (await client.read_input_registers(72, count=2, device_id=1)).isError()
        finally:
            client.close()
            await asyncio.sleep(0)


async def test_a_restarting_gateway_hangs_up():
    faults = [{"kind": "reboot", "targets": "GW-0001", "for_s": 10}]
    async with Field(station("modbus_rtu_tcp", faults=faults), clock=lambda: NOW) as field:
        address = LinkAddress.parse(field.stations[0].address)
        reader, writer = await asyncio.open_connection(address.host, address.port)
        try:
            writer.write(ASK)
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 20) == b""
        finally:
            await hung_up(writer)


async def hung_up(writer):
    writer.close()
    with contextlib.suppress(ConnectionResetError):
        await writer.wait_closed()


def test_models_are_checked():
    with pytest.raises(ScenarioError, match="models of modbus_tcp are"):
        station("modbus_tcp", models=["nonsense"])
