"""Stations of a scenario as the head-end's own sessions meet them, on real sockets."""

import csv
import io
import time

import pytest

from concentrator_sim.field import Field
from concentrator_sim.generator import quarter_of
from concentrator_sim.network_file import network_csv
from concentrator_sim.profile import window
from concentrator_sim.scenario import ScenarioError, find_scenario, load_scenario, make_scenario
from concentrator_sim.stations import Unserved
from headend.ingest.meter_rows import ImportRules, read_meters
from headend.ingest.network_rows import read_network
from headend.session.client import MeterSession
from headend.session.deadlines import Deadlines
from headend.session.plan import plan_session
from protocols.dlms import axdr, store_forward
from protocols.dlms.cosem import Attribute, ClassId
from protocols.dlms.obis import Obis
from protocols.errors import CommunicationError, GatewayRefused
from schemas.address import LinkAddress
from schemas.model import load_model
from schemas.models import load_any

SERIAL = Attribute(ClassId.DATA, Obis.parse("0-0:96.1.0*255"), 2)
DEADLINES = Deadlines(response_s=20.0, associate_s=20.0, release_s=20.0)


def field(kind, *faults, **plan):
    told = {"kind": kind, "meters": 6, "models": ["none"], **plan}
    return Field(make_scenario({"meters": 0, "base_port": 0, "stations": [told], "faults": list(faults)}))


def through(field, gateway):
    """A session with a meter behind the field's only station; None: with the station itself."""
    station = LinkAddress.parse(field.stations[0].address)
    text = f"tcp://{station.host}:{station.port}" + (f"?gateway={gateway}" if gateway else "")
    return MeterSession(
        plan_session(load_model("headend-sim"), LinkAddress.parse(text), {}), deadlines=DEADLINES
    )


async def serial(field, row):
    async with through(field, LinkAddress.parse(row["address"]).gateway) as opened:
        return axdr.decode_exact(await opened.get(SERIAL)).value.decode()


def rows(field):
    return list(csv.DictReader(io.StringIO(field.csv())))


async def test_meters_of_a_concentrator_are_reached_through_it():
    async with field("pass_through", spread_m=100) as one:
        for row in rows(one):
            assert await serial(one, row) == row["asset_id"]
        assert one.stations[0].concentrator.exchanges > 6


async def test_a_dead_meter_is_told_by_its_concentrator():
    async with field("pass_through", spread_m=100, dead_every=6) as one:
        *living, dead = rows(one)
        assert await serial(one, living[0]) == living[0]["asset_id"]
        with pytest.raises(GatewayRefused):
            await serial(one, dead)


async def test_a_struck_meter_is_not_reached_and_its_neighbours_are():
    lost = {"kind": "loss", "targets": "SIM000011000002"}
    async with field("pass_through", lost, spread_m=100) as one:
        first, second, *_ = rows(one)
        assert await serial(one, first) == first["asset_id"]
        with pytest.raises(GatewayRefused):
            await serial(one, second)


async def test_a_restarting_concentrator_cuts_off():
    restart = {"kind": "reboot", "targets": "DC-0001", "for_s": 3600}
    async with field("pass_through", restart) as one:
        with pytest.raises(CommunicationError):
            await serial(one, rows(one)[0])


async def test_a_store_and_forward_concentrator_lists_its_meters():
    async with field("store_and_forward") as one:
        station = one.stations[0]
        assert station.model == "headend-dc"
        async with through(one, None) as opened:
            directory = store_forward.decode_directory(await opened.get(store_forward.DIRECTORY))
        assert [entry.identity for entry in directory] == [row["asset_id"] for row in rows(one)]
        assert [(entry.hops, entry.quality) for entry in directory] == [
            (leaf.hops, leaf.quality) for leaf in station.station.leaves
        ]
        kept = directory[0].kept[0]
        assert kept.rows > 900
        assert kept.newest.timestamp() <= time.time()


@pytest.mark.parametrize(("meter_rows", "shelf_rows"), [(96, 20), (10, 40)])
async def test_memories_end_where_the_scenario_says(meter_rows, shelf_rows):
    now = [1_800_000_000]
    station = {"kind": "store_and_forward", "meters": 2, "models": ["none"], "shelf_rows": shelf_rows}
    table = {"meters": 1, "base_port": 0, "profile_rows": meter_rows, "stations": [station]}
    one = Field(make_scenario(table), clock=lambda: now[0])
    store, newest = one.stations[0].store, quarter_of(now[0])
    now[0] += 30 * 900
    shelf = next(iter(store.shelves.values()))
    shelf.poll(now[0])
    assert shelf.end == newest + 31
    first, last = newest + 31 - min(shelf_rows, meter_rows), newest + 30
    if meter_rows < 30:  # what it had fetched before, and what the meter still had
        held = [quarter for quarter in range(shelf.first, shelf.end) if quarter not in shelf.holes]
        assert held == [*range(newest + 31 - shelf_rows, newest + 1), *range(first, last + 1)]
    else:
        assert (shelf.first, shelf.rows) == (first, shelf_rows)
    assert window(now[0], one.meters[0].meter.entries).length == meter_rows


async def test_a_full_buffer_loses_rows():
    full = {"kind": "full_buffer", "targets": "DC-0001"}
    async with field("store_and_forward", full, spread_m=100) as one:
        async with through(one, None) as opened:
            directory = store_forward.decode_directory(await opened.get(store_forward.DIRECTORY))
        told = [entry.kept[0] for entry in directory if entry.kept[0].lost]
        assert told
        assert all(kept.rows == 4 for kept in told)


async def test_the_files_are_what_the_head_end_imports():
    table = {
        "meters": 3,
        "base_port": 0,
        "mix": "demo",
        "stations": [{"kind": "pass_through"}, {"kind": "store_and_forward"}],
    }
    async with Field(make_scenario(table)) as one:
        lines, errors = read_meters(one.csv().encode(), ImportRules(allow_plain_keys=True))
        assert errors == []
        assert len(lines) == 3 + 20 + 20
        file = read_network(network_csv(one).encode())
        assert list(file.errors) == []
        stations = {line.code: line for line in file.lines if line.address is not None}
        assert {code: line.model for code, line in stations.items()} == {
            "DC-0001": None,
            "DC-0002": "headend-dc",
        }


async def test_every_meter_of_the_demonstration_has_a_model_and_an_address(tmp_path):
    settings = {"base_port": 0, "meters": 20, "device_dir": tmp_path, "mqtt_url": "mqtt://127.0.0.1:1"}
    one = Field(load_scenario(find_scenario("demo"), **settings))
    async with one:
        served = sum(len(item.station.leaves) for item in one.stations if not isinstance(item, Unserved))
        told = rows(one)
        assert len(told) == 20 + served
        for row in told:
            assert load_any(row["model"]).name == row["model"]
            assert str(LinkAddress.parse(row["address"])) == row["address"]
            assert row["transformer"]
        network = read_network(network_csv(one).encode())
        assert list(network.errors) == []
        assert {row["asset_id"] for row in told} <= network.codes


def test_ports_of_stations_last():
    one = make_scenario({"meters": 150, "base_port": 20_000, "stations": [{"kind": "wifi"}]})
    assert [one.station_port(n) for n in (0, 1)] == [21_000, 21_001]
    assert make_scenario({"meters": 1_500, "base_port": 20_000}).station_port(0) == 22_000
    assert make_scenario({"base_port": 0}).station_port(7) == 0
    assert make_scenario({"base_port": 0, "station_base_port": 400}).station_port(7) == 407
    with pytest.raises(ScenarioError, match="beyond 65535"):
        make_scenario({"base_port": 64_500, "stations": [{"kind": "wifi", "count": 37}]})
