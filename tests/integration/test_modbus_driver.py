"""Every Modbus model, and SunSpec by discovery, read from pymodbus' server: exact values, few requests."""

import asyncio
import struct
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import SimDevice

from headend.drivers.commands.firmware import ImageStatus, Upgradable
from headend.drivers.contract import Conversation, Feature, Recall
from headend.drivers.modbus.driver import ModbusDriver, Timing
from protocols.errors import (
    GatewayRefused,
    LinkTimeout,
    LocalProtocolError,
    ModbusRefused,
    RemoteProtocolError,
)
from protocols.modbus import sunspec
from schemas.model import ModelError
from schemas.reading import Quality, ReadingBatch
from schemas.register_model import Sampling, load_register_model, register_model_names
from tests.contract.subjects import meter
from tests.integration.modbus_peers import Rogue, image, port_of, serving_tcp, slave

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
MODELS = [name for name in register_model_names() if name != "sunspec"]


@asynccontextmanager
async def talking(
    port: int, model: str, *, unit: int = 1, driver: ModbusDriver | None = None, answer_s: float = 10.0
) -> AsyncIterator[Conversation]:
    own = ModbusDriver(now=lambda: NOON) if driver is None else driver
    target = meter(unit, model, f"modbus+tcp://127.0.0.1:{port}?unit={unit}")
    try:
        way = (await own.prepare([target]))[unit]
        assert not isinstance(way, Exception), way
        async with own.open(way, answer_s=answer_s) as conversation:
            yield conversation
    finally:
        if driver is None:
            own.close()


@asynccontextmanager
async def watching(server: ModbusTcpServer) -> AsyncIterator[list[tuple[int, int]]]:
    """Address and count of each read that the server gets, on connections made inside."""
    found: list[tuple[int, int]] = []
    inner = server.trace_packet
    assert inner is not None

    def trace(is_sent: bool, data: bytes) -> bytes:
        if not is_sent:
            found.append(struct.unpack(">HH", data[8:12]))
        return inner(is_sent, data)

    server.trace_packet = trace
    yield found


def told(batch: ReadingBatch) -> dict[str, Decimal | None]:
    return {one.obis: one.value for one in batch.registers}


# ---- tables of registers ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
async def test_every_model_tells_exact_values_over_the_wire(name: str) -> None:
    model = load_register_model(name)
    measured = [key for key, one in model.registers.items() if one.group in ("energy", "live")]
    # halves are exact in a float; negative ones where the type allows
    raw = {
        key: Decimal(place) + (Decimal("0.5") if model.registers[key].type.is_float else 7)
        for place, key in enumerate(measured, 1)
    }
    raw |= {
        key: -raw[key] for key in measured[::3] if model.registers[key].type in ("f32", "s16", "s32", "s64")
    }
    held = {key: raw[key].scaleb(model.registers[key].scaler) for key in measured}
    async with (
        serving_tcp(slave(1, image(model, held))) as server,
        watching(server) as asked,
        talking(port_of(server), name) as conversation,
    ):
        batch, refusals = await conversation.read_registers()
    coded = {model.registers[key].obis: held[key] for key in measured if model.registers[key].obis}
    assert told(batch) == coded
    assert refusals == ()
    units = {one.obis: one.unit for one in model.registers.values() if one.obis}
    assert all(one.unit == units[one.obis] for one in batch.registers)
    floats = {one.obis: one.type.is_float for one in model.registers.values() if one.obis}
    assert all(one.from_float == floats[one.obis] for one in batch.registers)
    assert len(asked) <= 8
    assert all(count <= model.reads.max_words for _, count in asked)


@pytest.mark.parametrize("name", MODELS)
async def test_every_model_gives_a_sample(name: str) -> None:
    model = load_register_model(name)
    held = {
        key: Decimal(1234 + place).scaleb(one.scaler)
        for place, (key, one) in enumerate(model.registers.items())
        if one.quantity is not None
    }
    async with (
        serving_tcp(slave(1, image(model, held))) as server,
        watching(server) as asked,
        talking(port_of(server), name) as conversation,
    ):
        batch = await conversation.read_load_curve(1, NOON - HOUR, NOON)
    assert len(batch) == 1
    assert batch.registers == ()
    (layout,) = batch.layouts
    found = {
        channel.quantity: channel.exact(int(batch.values[0, column]))
        for column, channel in enumerate(layout.channels)
        if channel is not None and batch.valid[0, column]
    }
    quantities = {one.quantity: held[key] for key, one in model.registers.items() if one.quantity}
    assert found == quantities
    assert len(asked) <= 2


async def test_what_the_meter_has_not_is_missing_and_not_zero() -> None:
    model = load_register_model("schneider-iem3000")
    registers = image(model, {"import_energy_active": Decimal(5)})
    voltage = model.registers["l2_voltage"].at
    registers |= {voltage: 0x7FC0, voltage + 1: 0}
    async with (
        serving_tcp(slave(1, registers)) as server,
        talking(port_of(server), model.name) as conversation,
    ):
        batch, refusals = await conversation.read_registers(
            ["1-0:32.7.0*255", "1-0:52.7.0*255", "1-0:1.8.0*255"]
        )
    assert told(batch) == {"1-0:32.7.0*255": Decimal(0), "1-0:1.8.0*255": Decimal(5)}
    assert [(one.obis, one.reason) for one in refusals] == [("1-0:52.7.0*255", "not a number")]


async def test_a_value_that_no_column_holds_is_kept_beside_it() -> None:
    model = load_register_model("eastron-sdm120")
    # 0.0000000001 kWh: a column in microwatt-hours cannot hold it
    registers = image(model, {"export_energy_active": Decimal(2000)})
    at = model.registers["import_energy_active"].at
    tiny = struct.unpack(">HH", struct.pack(">f", 1e-10))
    registers |= {at: tiny[0], at + 1: tiny[1]}
    async with (
        serving_tcp(slave(1, registers)) as server,
        talking(port_of(server), model.name) as conversation,
    ):
        batch = await conversation.read_load_curve(1, NOON - HOUR, NOON)
    assert batch.valid[0].tolist() == [False, True, True, True]
    (kept,) = batch.registers
    assert (kept.obis, kept.value, kept.quality, kept.from_float) == (
        "1-0:1.8.0*255", Decimal("1E-7"), Quality.SAMPLED, True,
    )  # fmt: skip


async def test_a_meter_that_refuses_to_be_read_across_holes_is_read_without_them() -> None:
    model = load_register_model("eastron-sdm120")
    driver = ModbusDriver()
    registers = image(model, {"voltage": Decimal(230)})
    del registers[model.registers["phase_angle"].at]  # a register that this one has not
    async with serving_tcp(slave(1, registers, holes=True)) as server, watching(server) as asked:
        for turn in range(2):
            async with talking(port_of(server), model.name, driver=driver) as conversation:
                batch, refusals = await conversation.read_registers()
            assert told(batch)["1-0:32.7.0*255"] == 230
            assert refusals == ()
            if turn == 0:
                learning = len(asked)
        assert 0 < len(asked) - learning < learning  # remembered
        driver.close()


async def test_registers_that_are_refused_are_told_by_their_codes() -> None:
    model = load_register_model("eastron-sdm120")
    registers = image(model, {"voltage": Decimal(230)})
    del registers[model.registers["frequency"].at]
    async with (
        serving_tcp(slave(1, registers, holes=True)) as server,
        talking(port_of(server), model.name) as conversation,
    ):
        batch, refusals = await conversation.read_registers(["1-0:32.7.0*255", "1-0:14.7.0*255"])
    assert told(batch) == {"1-0:32.7.0*255": Decimal(230)}
    assert [one.obis for one in refusals] == ["1-0:14.7.0*255"]
    assert refusals[0].reason.endswith("illegal data address")


@pytest.mark.parametrize(("code", "kind"), [(4, ModbusRefused), (6, ModbusRefused), (11, GatewayRefused)])
async def test_other_refusals_are_raised(code: int, kind: type[Exception]) -> None:
    rogue = Rogue(lambda request, send: send(request.refusal(code)), is_rtu=False)
    async with rogue.serving_tcp() as port, talking(port, "eastron-sdm120") as conversation:
        with pytest.raises(kind):
            await conversation.read_registers()
        with pytest.raises(kind):
            await conversation.read_load_curve(1, NOON - HOUR, NOON)


async def test_a_sample_that_came_too_late_does_not_count_and_is_not_lost() -> None:
    model = load_register_model("eastron-sdm120")
    moments = iter([NOON, *[NOON + timedelta(seconds=31)] * 9])
    driver = ModbusDriver(now=lambda: next(moments))
    async with (
        serving_tcp(slave(1, image(model, {"import_energy_active": Decimal(9000)}))) as server,
        talking(port_of(server), model.name, driver=driver) as conversation,
    ):
        batch = await conversation.read_load_curve(1, NOON - HOUR, NOON)
        driver.close()
    assert (len(batch), batch.covered_us) == (0, ())
    found = {one.obis: one for one in batch.registers}
    assert found["1-0:1.8.0*255"].value == 9000
    assert found["1-0:1.8.0*255"].read_us == (NOON + timedelta(seconds=31)).timestamp() * 1_000_000


async def test_a_load_curve_out_of_reach_asks_the_meter_nothing() -> None:
    rogue = Rogue(lambda request, send: None, is_rtu=False)
    async with rogue.serving_tcp() as port, talking(port, "eastron-sdm120") as conversation:
        assert len(await conversation.read_load_curve(1, NOON - 5 * HOUR, NOON - HOUR)) == 0
        assert rogue.requests == []


async def test_a_bus_that_nobody_uses_is_let_go_also_after_an_error() -> None:
    rogue = Rogue(lambda request, send: send(request.refusal(6)), is_rtu=False)
    driver = ModbusDriver(timing=Timing(idle_s=0.05))
    async with rogue.serving_tcp() as port:
        with pytest.raises(ModbusRefused):
            async with talking(port, "eastron-sdm120", driver=driver) as conversation:
                await conversation.read_registers()
        while rogue.connections:  # noqa: ASYNC110 - a timer of the bus ends it
            await asyncio.sleep(0.01)
        assert rogue.accepted == 1


# ---- sampling, by the model and by the settings -----------------------------------------------------


def test_the_model_goes_before_the_settings(tmp_path: Path) -> None:
    folder = tmp_path / "modbus"
    folder.mkdir()
    (folder / "own.toml").write_text(
        'inherit = "eastron-sdm120"\ntitle = "Own"\n[sampling]\ntolerance_s = 5\n'
    )
    driver = ModbusDriver(profile_folders=(tmp_path,), sampling=Sampling(period_s=300, tolerance_s=60))
    (own,), (packaged,) = driver.curves("own"), driver.curves("eastron-sdm120")
    assert (own.period_s, own.tolerance_s, own.recall) == (300, 5, Recall.SAMPLED)
    assert (packaged.period_s, packaged.tolerance_s) == (300, 60)
    (default,) = ModbusDriver().curves("eastron-sdm120")
    assert (default.number, default.period_s, default.tolerance_s) == (1, 900, 30)
    (folder / "odd.toml").write_text(
        'inherit = "eastron-sdm120"\ntitle = "Odd"\n[sampling]\ntolerance_s = 400\n'
    )
    with pytest.raises(ModelError, match="sampling, together with the settings"):
        driver.curves("odd")


# ---- SunSpec ----------------------------------------------------------------------------------------


def float_words(value: float) -> list[int]:
    return list(struct.unpack(">HH", struct.pack(">f", value)))


def text_words(text: str, size: int) -> list[int]:
    data = text.encode().ljust(2 * size, b"\0")
    return [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]


def sunspec_model(number: int, values: Mapping[str, Sequence[int]], length: int | None = None) -> list[int]:
    """A model with these points; all others are not implemented."""
    definition = sunspec.definitions()[number]
    words = [0] * definition.registers
    missing = {"int16": [0x8000], "sunssf": [0x8000], "uint16": [0xFFFF], "pad": [0x8000], "acc32": [0, 0],
               "bitfield32": [0xFFFF, 0xFFFF], "float32": [0x7FC0, 0]}  # fmt: skip
    places = {"ID": [number], "L": [definition.registers - 2 if length is None else length]}
    offsets = {one.name: one for one in definition.points}
    assert set(values) <= set(offsets)
    for point in definition.points:
        held = {**places, **values}.get(point.name, missing.get(point.type, [0] * point.size))
        words[point.offset : point.offset + point.size] = held
    return words


def sunspec_slave(unit: int, *models: Sequence[int], base: int = 40000) -> SimDevice:
    words = [0x5375, 0x6E53, *(word for one in models for word in one), 0xFFFF, 0]
    return slave(unit, {base + place: word for place, word in enumerate(words)}, holes=True)


COMMON = sunspec_model(
    1, {"Mn": text_words("Maker", 16), "Md": text_words("M1", 16), "SN": text_words("42", 16)}
)
INTEGERS = {
    "TotWhImp": [0x0001, 0x0002], "TotWhExp": [0, 7], "TotWh_SF": [2], "W": [0xFFFB], "W_SF": [1],
    "Hz": [4998], "Hz_SF": [0xFFFE], "PhVphA": [2301], "V_SF": [0xFFFF],
}  # fmt: skip
EXACT = {
    "1-0:1.8.0*255": Decimal(6553800), "1-0:2.8.0*255": Decimal(700), "1-0:16.7.0*255": Decimal(-50),
    "1-0:14.7.0*255": Decimal("49.98"), "1-0:32.7.0*255": Decimal("230.1"),
}  # fmt: skip


@pytest.mark.parametrize("number", [201, 202, 203, 204])
@pytest.mark.parametrize("base", sunspec.BASES)
async def test_sunspec_integers_by_discovery(number: int, base: int) -> None:
    device = sunspec_slave(1, COMMON, sunspec_model(number, INTEGERS), base=base)
    async with (
        serving_tcp(device) as server,
        watching(server) as asked,
        talking(port_of(server), "sunspec") as conversation,
    ):
        batch, refusals = await conversation.read_registers(list(EXACT))
        assert told(batch) == EXACT
        assert refusals == ()
        everything = (await conversation.read_registers()).batch
        assert EXACT.items() <= told(everything).items()
        asked.clear()
        sample = await conversation.read_load_curve(1, NOON - HOUR, NOON)
        assert len(asked) == 1  # the map is remembered
    (layout,) = sample.layouts
    assert sample.valid[0].tolist() == [True, True, False, False]
    assert layout.channels[0] is not None
    assert layout.channels[0].exact(int(sample.values[0, 0])) == 6553800
    assert "1-0:52.7.0*255" not in told(everything)


@pytest.mark.parametrize("number", [211, 212, 213, 214])
async def test_sunspec_floats_by_discovery(number: int) -> None:
    values = {"TotWhImp": float_words(1.5), "TotWhExp": float_words(0), "Hz": float_words(50.01)}
    device = sunspec_slave(1, COMMON, sunspec_model(number, values))
    async with serving_tcp(device) as server, talking(port_of(server), "sunspec") as conversation:
        batch, refusals = await conversation.read_registers(
            ["1-0:1.8.0*255", "1-0:2.8.0*255", "1-0:14.7.0*255", "1-0:16.7.0*255"]
        )
        sample = await conversation.read_load_curve(1, NOON - HOUR, NOON)
    assert told(batch) == {
        "1-0:1.8.0*255": Decimal("1.5"), "1-0:2.8.0*255": Decimal(0), "1-0:14.7.0*255": Decimal("50.01"),
    }  # fmt: skip
    assert all(one.from_float for one in batch.registers)
    assert [(one.obis, one.reason) for one in refusals] == [
        ("1-0:16.7.0*255", "not implemented by the meter")
    ]
    assert sample.values[0, 0] == 1_500_000


async def test_a_sunspec_map_that_changed_is_discovered_anew() -> None:
    driver = ModbusDriver(now=lambda: NOON)
    for models in (
        [COMMON, sunspec_model(203, INTEGERS)],
        [COMMON, [99, 3, 1, 2, 3], sunspec_model(203, INTEGERS)],
    ):
        async with (
            serving_tcp(sunspec_slave(1, *models)) as server,
            talking(port_of(server), "sunspec", driver=driver) as conversation,
        ):
            assert told((await conversation.read_registers(list(EXACT))).batch) == EXACT
    driver.close()


async def test_no_sunspec_or_no_meter_in_it() -> None:
    async with serving_tcp(slave(1, {7: 1})) as server, talking(port_of(server), "sunspec") as conversation:
        with pytest.raises(RemoteProtocolError, match="no SunSpec mark"):
            await conversation.read_registers()
    async with (
        serving_tcp(sunspec_slave(1, COMMON)) as server,
        talking(port_of(server), "sunspec") as conversation,
    ):
        with pytest.raises(RemoteProtocolError, match="no SunSpec model of a meter; models: 1"):
            await conversation.read_load_curve(1, NOON - HOUR, NOON)


async def test_a_silent_slave_is_not_taken_for_one_without_sunspec() -> None:
    rogue = Rogue(lambda request, send: None, is_rtu=False)
    async with rogue.serving_tcp() as port, talking(port, "sunspec", answer_s=0.1) as conversation:
        with pytest.raises(LinkTimeout):
            await conversation.read_registers()
        assert len(rogue.requests) == 1


# ---- firmware ---------------------------------------------------------------------------------------


async def test_other_meters_of_the_bus_get_their_turns_between_two_blocks() -> None:
    """And what has no room in the model's registers and files is not begun."""
    units: list[int] = []
    other = slave(2, image(load_register_model("eastron-sdm120"), {}))
    async with serving_tcp(slave(1, {0: 0}), other) as server:

        def trace(is_sent: bool, pdu: Any) -> Any:
            if not is_sent:
                units.append(pdu.dev_id)
            return pdu

        server.trace_pdu = trace
        driver, port = ModbusDriver(now=lambda: NOON), port_of(server)
        async with (
            talking(port, "headend-sim-modbus", driver=driver) as upgraded,
            talking(port, "eastron-sdm120", unit=2, driver=driver) as read,
        ):
            assert isinstance(upgraded, Upgradable)
            assert not isinstance(read, Upgradable)

            async def send() -> None:
                for number in range(20):
                    await upgraded.send_block(number, bytes(128))

            await asyncio.gather(send(), read.read_registers())
            for identifier, size in [(b"x" * 65, 10), (b"x\0", 10), (b"x", 0), (b"x", 128 * 160_000 + 1)]:
                with pytest.raises(LocalProtocolError, match="model headend-sim-modbus takes"):
                    await upgraded.initiate_image(identifier, size, bytes(32))
            with pytest.raises(LocalProtocolError, match="no timer"):
                await upgraded.activate_image_at(NOON)
        driver.close()
    assert (units.count(1), units[-1]) == (20, 1)
    assert units.index(2) < 3
    assert driver.features("headend-sim-modbus") - driver.features("eastron-sdm120") == {Feature.FIRMWARE}


async def test_an_image_that_cannot_be_is_told_as_none_of_ours() -> None:
    """A meter that says that it takes 0 bytes, and one in a state that nobody knows."""
    said = load_register_model("headend-sim-modbus")
    state = said.registers["image_status"].at
    registers = dict.fromkeys(range(state, state + 36), 0)
    for status in (1, 99):
        held = slave(1, {**registers, state: status})
        async with serving_tcp(held) as server, talking(port_of(server), said.name) as meter_:
            assert isinstance(meter_, Upgradable)
            if status == 99:
                with pytest.raises(RemoteProtocolError, match="image_status tells 99"):
                    await meter_.read_image_state()
            else:
                found = await meter_.read_image_state()
                assert (found.status, found.count, found.missing) == (ImageStatus.INITIATED, 0, ())
