"""Simulated DL/T 645, IEC 62056-21 and P1 meters, read by the head-end's own drivers over real sockets."""

import csv
import io
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace

import pytest

from concentrator_sim.dlt645_meter import Dlt645Line, number
from concentrator_sim.field import Field
from concentrator_sim.generator import Consumption
from concentrator_sim.line_meters import line_meters
from concentrator_sim.scenario import ScenarioError, make_scenario
from concentrator_sim.text_meters import ReadoutLine
from headend.drivers.contract import Target
from headend.drivers.dlt645.driver import Dlt645Driver
from headend.drivers.iec62056_21.driver import Iec62056Driver
from headend.drivers.line_driver import LineTiming
from headend.drivers.p1.driver import P1Driver
from protocols.dlt645.identifiers import DataId, meaning
from protocols.errors import LinkTimeout
from schemas.address import LinkAddress
from schemas.reading import Quality

#: Seven seconds after a boundary.
NOW = 1_800_000_907 - 1_800_000_000 % 900
AT = datetime.fromtimestamp(NOW, UTC)
BOUNDARY = AT - timedelta(seconds=7)
QUICK = LineTiming(connect_s=5, answer_s=3, quiet_s=0.01)
DRIVERS = {"dlt645_tcp": Dlt645Driver, "iec62056_tcp": Iec62056Driver, "p1_tcp": P1Driver}
KINDS = list(DRIVERS)


def field(kind, *faults, **plan):
    table = {"meters": 0, "base_port": 0, "stations": [{"kind": kind, **plan}], "faults": list(faults)}
    return Field(make_scenario(table), clock=lambda: NOW)


@asynccontextmanager
async def conversation(field, row, timing=QUICK):
    driver = DRIVERS[field.stations[0].station.plan.kind](timing=timing, now=lambda: AT)
    meter = SimpleNamespace(meter_id=7, asset_id="M7", model=row["model"], address=row["address"])
    ways = await driver.prepare([Target(meter)])
    async with driver.open(ways[7]) as talk:
        yield talk


def rows(field):
    return list(csv.DictReader(io.StringIO(field.csv())))


def truth(serial):
    return Consumption(1, int(serial[-7:]))


@pytest.mark.parametrize("kind", KINDS)
async def test_registers_of_each_meter(kind):
    async with field(kind) as one:
        for row in rows(one):
            assert str(LinkAddress.parse(row["address"])) == row["address"]
            async with conversation(one, row) as talk:
                readout = await talk.read_registers(["1-0:1.8.0*255", "1-0:2.8.0*255", "1-0:32.7.0*255"])
            told = {read.obis: read.value for read in readout.batch.registers}
            energy = truth(row["asset_id"]).at(0, NOW)
            assert told["1-0:1.8.0*255"] == (energy // 10 * 10 if kind == "dlt645_tcp" else energy)
            assert 225 < told["1-0:32.7.0*255"] < 235
            assert readout.refusals == ()


@pytest.mark.parametrize("kind", ["iec62056_tcp", "p1_tcp"])
async def test_a_sample_at_the_boundary(kind):
    async with field(kind) as one:
        row = rows(one)[0]
        async with conversation(one, row) as talk:
            start, end = BOUNDARY - timedelta(minutes=15), BOUNDARY + timedelta(minutes=15)
            batch = await talk.read_load_curve(1, start, end)
        assert batch.quality.tolist() == [Quality.SAMPLED]
        channel = batch.layouts[0].channels[0]
        assert channel.exact(int(batch.values[0, 0])) == truth(row["asset_id"]).at(0, NOW)


async def test_load_records_of_dlt645():
    async with field("dlt645_tcp") as one:
        row = rows(one)[1]
        start = BOUNDARY - timedelta(hours=6)
        async with conversation(one, row) as talk:
            batch = await talk.read_load_curve(2, start, BOUNDARY)
        stamps = [start + timedelta(minutes=15) * n for n in range(1, 25)]
        assert batch.stamp_us.tolist() == [int(stamp.timestamp()) * 1_000_000 for stamp in stamps]
        for column in (0, 1):
            channel = batch.layouts[0].channels[column]
            told = [channel.exact(value) for value in batch.values[:, column].tolist()]
            values = [truth(row["asset_id"]).at(column, int(stamp.timestamp())) for stamp in stamps]
            assert told == [value // 10 * 10 for value in values]


async def test_a_freeze_is_of_the_last_midnight_in_china():
    async with field("dlt645_tcp") as one:
        row = rows(one)[0]
        async with conversation(one, row) as talk:
            readout = await talk.read_registers(["dlt645:05-06-00-01", "dlt645:05-06-01-01"])
    told = {read.obis: read for read in readout.batch.registers}
    midnight = NOW - (NOW + 8 * 3600) % 86400
    frozen = truth(row["asset_id"]).at(0, midnight)
    assert told["dlt645:05-06-01-01"].value == frozen // 10 * 10


@pytest.mark.parametrize("kind", ["dlt645_tcp", "iec62056_tcp"])
async def test_dead_and_struck_meters_are_silent(kind):
    lost = {"kind": "loss", "targets": "SIM000011000001"}
    async with field(kind, lost, meters=3, dead_every=3) as one:
        struck, living, dead = rows(one)
        timing = LineTiming(connect_s=5, answer_s=0.3, quiet_s=0.01)
        for row in (struck, dead):
            async with conversation(one, row, timing) as talk:
                with pytest.raises(LinkTimeout):
                    await talk.read_registers(["1-0:1.8.0*255"])
        async with conversation(one, living) as talk:
            assert (await talk.read_registers(["1-0:1.8.0*255"])).batch.registers


async def test_a_p1_port_tells_again_and_again():
    async with field("p1_tcp") as one, conversation(one, rows(one)[0]) as talk:
        for _ in range(2):
            assert (await talk.read_registers(["1-0:1.8.0*255"])).batch.registers
    with pytest.raises(ScenarioError, match="one meter"):
        field("p1_tcp", meters=2)


@pytest.mark.parametrize("line", [Dlt645Line, ReadoutLine])
def test_lines_are_silent_on_noise(line):
    one = field("dlt645_tcp")
    found = line(line_meters(one.tree.stations[0], one))
    for noise in (b"", b"\xff" * 3000, bytes(range(256)) * 8, b"/?\r\n!", b"\x68" * 500):
        assert found.receive(noise) == b""


@pytest.mark.parametrize(
    ("identifier", "value", "raw"),
    [
        ("00-01-00-00", "1234567.89", "89674523"),
        ("02-03-00-00", "-1.5", "005081"),
        ("02-01-01-00", "230.15", "0123"),
        ("00-01-00-00", "101234567.89", "89674523"),
    ],
)
def test_numbers_of_dlt645(identifier, value, raw):
    (item,) = meaning(DataId.parse(identifier)).items
    assert number(item, Decimal(value)) == bytes.fromhex(raw)
