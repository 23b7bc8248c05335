"""Fields on real sockets and pseudo-terminals, spoken to by the sans-I/O client."""

import asyncio
import contextlib
import csv
import io
import os

import pytest

from concentrator_sim import field as fields
from concentrator_sim.field import CSV_COLUMNS, Field, find_meter
from concentrator_sim.generator import moment_of, quarter_of
from concentrator_sim.network_file import network_csv
from concentrator_sim.outbound import Pusher, split_endpoint
from concentrator_sim.push import ConfirmReader
from concentrator_sim.scenario import Framing, ScenarioError, find_scenario, load_scenario, make_scenario
from concentrator_sim.security import MODES
from protocols.dlms import apdu as apdus
from protocols.dlms import axdr, wrapper
from protocols.dlms.apdu.notification import DataNotificationConfirm
from protocols.dlms.association import CipherSettings, ClientAssociation, ClientSettings, Transmit
from protocols.dlms.cosem import Attribute
from protocols.dlms.hdlc import HdlcAddress, server_address
from protocols.dlms.hdlc_client import HdlcClientLink
from protocols.dlms.hdlc_states import Apdu
from protocols.dlms.hdlc_states import Transmit as LinkTransmit
from protocols.dlms.obis import Obis
from protocols.dlms.security import Key
from schemas.address import LinkAddress, Scheme
from schemas.model import load_model

NOW = 1_800_000_123
SERIAL = Attribute(1, Obis.parse("0-0:96.1.0"), 2)
ENERGY = Attribute(3, Obis.parse("1-0:1.8.0"), 2)
DEADLINE_S = 20


def scenario(**settings):
    return make_scenario({"meters": 1, "base_port": 0, "security": "none", **settings})


def client_for(meter):
    keys = meter.keys
    cipher = None
    if keys.encryption is not None:
        cipher = CipherSettings(b"HEADEND1", keys.encryption, keys.authentication, suite=meter.mode.suite)
    settings = ClientSettings(meter.mode.mechanism, keys.lls or keys.hls, cipher, system_title=b"HEADEND1")
    return ClientAssociation(settings, next_counter=iter(range(1, 999)).__next__)


async def wrapper_exchange(reader, writer, client, apdu, server=1):
    """One request and all it leads to; the last event."""
    frames = wrapper.WrapperReader()
    waiting = [apdu]
    while True:
        for out in waiting:
            writer.write(wrapper.encode(1, server, out))
        while (frame := frames.next()) is None:
            data = await asyncio.wait_for(reader.read(4096), DEADLINE_S)
            assert data, "the meter hung up"
            frames.feed(data)
        events = client.receive(frame.apdu)
        waiting = [e.apdu for e in events if isinstance(e, Transmit)]
        if not waiting:
            return events[-1]


async def read_energy(item, host="127.0.0.1"):
    reader, writer = await asyncio.open_connection(host, item.port)
    client, server = client_for(item.meter), item.meter.management.sap
    try:
        await wrapper_exchange(reader, writer, client, client.associate(), server)
        done = await wrapper_exchange(reader, writer, client, client.get(ENERGY), server)
        return axdr.decode_exact(done.results[0]).value
    finally:
        writer.close()
        await writer.wait_closed()


async def test_meters_listen_each_on_its_port():
    async with Field(scenario(meters=6, security="hls5"), clock=lambda: NOW) as field:
        assert len({item.port for item in field.meters}) == 6
        found = await asyncio.gather(*(read_energy(item) for item in field.meters))
        assert found == [item.meter.consumption.at(0, NOW) for item in field.meters]
    with pytest.raises(OSError, match=r"(?i)connect"):
        await asyncio.open_connection("127.0.0.1", field.meters[0].port)


async def test_ports_follow_the_base_port_and_a_taken_one_leaves_nothing_open():
    async with Field(scenario()) as probe:
        taken = probe.meters[0].port
        field = Field(scenario(meters=3, base_port=taken - 1))
        with pytest.raises(OSError, match="in use"):
            await field.start()
        with pytest.raises(OSError, match=r"(?i)connect"):
            await asyncio.open_connection("127.0.0.1", taken - 1)


async def test_all_behind_one_port():
    async with Field(scenario(meters=4, shared_port=True, further_devices=1), clock=lambda: NOW) as field:
        assert len({item.port for item in field.meters}) == 1
        assert [item.meter.management.sap for item in field.meters] == [1, 3, 5, 7]
        for item in field.meters:
            assert await read_energy(item) == item.meter.consumption.at(0, NOW)
        assert [field.address(item).partition("?")[2] for item in field.meters] == [
            "",
            "server=3",
            "server=5",
            "server=7",
        ]


async def test_stopping_closes_connections():
    field = Field(scenario())
    await field.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", field.meters[0].port)
    client = client_for(field.meters[0].meter)
    await wrapper_exchange(reader, writer, client, client.associate())
    assert field.connections == 1
    await field.stop()
    assert await asyncio.wait_for(reader.read(), DEADLINE_S) == b""
    assert field.connections == 0
    writer.close()


async def test_garbage_ends_its_own_connection_only():
    async with Field(scenario(), clock=lambda: NOW) as field:
        reader, writer = await asyncio.open_connection("127.0.0.1", field.meters[0].port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        assert await asyncio.wait_for(reader.read(), DEADLINE_S) == b""
        writer.close()
        assert await read_energy(field.meters[0])


async def test_silent_meters_take_connections_and_say_nothing(monkeypatch):
    async with Field(scenario(meters=2, silent_every=2), clock=lambda: NOW) as field:
        dead = field.meters[1]
        assert dead.silent
        reader, writer = await asyncio.open_connection("127.0.0.1", dead.port)
        writer.write(wrapper.encode(1, 1, client_for(dead.meter).associate()))
        assert await read_energy(field.meters[0])  # meanwhile the dead one could have answered
        assert not reader._buffer
        writer.close()


async def test_delayed_answers_come_through_the_loops_clock():
    async with Field(scenario(delay_ms=40), clock=lambda: NOW) as field:
        loop = asyncio.get_running_loop()
        later = []
        real = loop.call_later
        loop.call_later = lambda delay, *rest, **more: (later.append(delay), real(delay, *rest, **more))[1]
        try:
            assert await read_energy(field.meters[0])
        finally:
            del loop.call_later
        assert later.count(0.04) == 2


async def test_udp():
    async with Field(scenario(framing="udp"), clock=lambda: NOW) as field:
        item = field.meters[0]
        client = client_for(item.meter)
        answers = asyncio.Queue()

        class Receiver(asyncio.DatagramProtocol):
            def datagram_received(self, data, addr):
                answers.put_nowait(data)

        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Receiver, remote_addr=("127.0.0.1", item.port))
        transport.sendto(b"\x00")  # no wrapper: nobody to tell
        transport.sendto(wrapper.encode(1, 1, client.associate()))
        client.receive((await asyncio.wait_for(answers.get(), DEADLINE_S))[8:])
        transport.sendto(wrapper.encode(1, 1, client.get(ENERGY)))
        (done,) = client.receive((await asyncio.wait_for(answers.get(), DEADLINE_S))[8:])
        assert axdr.decode_exact(done.results[0]).value == item.meter.consumption.at(0, NOW)
        transport.close()


async def hdlc_energy(send, receive):
    link, client = (
        HdlcClientLink(HdlcAddress(1), server_address(1, 17, 4)),
        ClientAssociation(ClientSettings()),
    )

    async def carry(events):
        found = []
        while events:
            for event in events:
                if isinstance(event, LinkTransmit):
                    await send(event.data)
                elif isinstance(event, Apdu):
                    found += client.receive(event.data)
            if not link._turn_given and link.state != "connecting":
                return found
            events = []
            while not events:
                events = link.receive(await asyncio.wait_for(receive(), DEADLINE_S))
        return found

    await carry(link.connect())
    await carry(link.send(client.associate()))
    (done,) = await carry(link.send(client.get(ENERGY)))
    return axdr.decode_exact(done.results[0]).value


async def test_hdlc_over_tcp():
    async with Field(scenario(framing="hdlc"), clock=lambda: NOW) as field:
        item = field.meters[0]
        reader, writer = await asyncio.open_connection("127.0.0.1", item.port)

        async def send(data):
            writer.write(data)

        found = await hdlc_energy(send, lambda: reader.read(4096))
        assert found == item.meter.consumption.at(0, NOW)
        writer.close()


async def test_a_meter_has_the_last_rows_of_its_profile_by_the_clock_it_was_given(monkeypatch):
    clock = fields.clock_from(NOW)
    profile = Attribute(7, Obis.parse("1-0:99.1.0"), 2)
    async with Field(scenario(profile_rows=5), clock=clock) as field:
        item = field.meters[0]
        reader, writer = await asyncio.open_connection("127.0.0.1", item.port)
        client = client_for(item.meter)
        await wrapper_exchange(reader, writer, client, client.associate())
        done = await wrapper_exchange(reader, writer, client, client.get(profile))
        writer.close()
        newest = quarter_of(clock())
    rows = [[cell.value for cell in row.value] for row in axdr.decode_exact(done.results[0]).value]
    assert [row[2] for row in rows] == [
        item.meter.consumption.at(0, moment_of(quarter)) for quarter in range(newest - 4, newest + 1)
    ]
    monkeypatch.setattr(fields.time, "monotonic", lambda: 50.0)
    clock = fields.clock_from(NOW)
    monkeypatch.setattr(fields.time, "monotonic", lambda: 109.9)
    assert clock() == NOW + 59


async def test_a_serial_line():
    async with Field(scenario(framing="serial"), clock=lambda: NOW) as field:
        item = field.meters[0]
        address = LinkAddress.parse(field.address(item))
        assert address.scheme is Scheme.HDLC_SERIAL
        line = os.open(address.device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        loop = asyncio.get_running_loop()
        came = asyncio.Queue()
        loop.add_reader(line, lambda: came.put_nowait(os.read(line, 4096)))
        try:

            async def send(data):
                os.write(line, data)

            assert await hdlc_energy(send, came.get) == item.meter.consumption.at(0, NOW)
        finally:
            loop.remove_reader(line)
            os.close(line)


# ---- outbound ----------------------------------------------------------------------------------------


class Listener:
    """A head-end's port: each connection's streams land in a queue."""

    async def __aenter__(self):
        self.calls = asyncio.Queue()
        self.writers = []
        self.server = await asyncio.start_server(self.called, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def called(self, reader, writer):
        self.writers.append(writer)
        self.calls.put_nowait((reader, writer))

    async def __aexit__(self, *exc):
        self.server.close()
        for writer in self.writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def call(self):
        return await asyncio.wait_for(self.calls.get(), DEADLINE_S)


async def test_a_meter_dials_in_says_who_it_is_and_is_read(monkeypatch):
    monkeypatch.setattr("concentrator_sim.outbound.FIRST_RETRY_S", 0.0)
    async with Listener() as listener:
        settings = scenario(dial_in=f"127.0.0.1:{listener.port}", security="hls5")
        async with Field(settings, clock=lambda: NOW) as field:
            meter = field.meters[0].meter
            for _ in range(2):  # and again when it is hung up on
                reader, writer = await listener.call()
                beat = await asyncio.wait_for(reader.readuntil(b"\r\n"), DEADLINE_S)
                assert beat == b"SIM:" + meter.name.encode() + b"\r\n"
                client = client_for(meter)
                if _ == 0:
                    await wrapper_exchange(reader, writer, client, client.associate())
                    done = await wrapper_exchange(reader, writer, client, client.get(ENERGY))
                    assert axdr.decode_exact(done.results[0]).value == meter.consumption.at(0, NOW)
                writer.close()
            row = next(csv.DictReader(io.StringIO(field.csv())))
            assert row["address"] == "inbound:"


def test_meters_that_dial_in_over_hdlc_have_a_model_that_says_so():
    for mode in ("none", "hls5"):
        field = Field(scenario(dial_in="h:1", framing="hdlc", security=mode))
        model = load_model(next(csv.DictReader(io.StringIO(field.csv())))["model"])
        assert model.association.framing == "hdlc"
        assert (model.association.protection == "none") is (mode == "none")


async def test_a_push_over_tcp_is_confirmed():
    async with Listener() as listener:
        field = Field(scenario(), clock=lambda: NOW)
        meter = field.meters[0].meter
        pusher = Pusher(
            f"tcp://127.0.0.1:{listener.port}",
            [(meter, Framing.WRAPPER)],
            lambda: NOW,
            every_s=60,
            confirm=True,
        )
        push = asyncio.create_task(pusher.push(meter, Framing.WRAPPER))
        reader, writer = await listener.call()
        frames = wrapper.WrapperReader()
        while (frame := frames.next()) is None:
            frames.feed(await asyncio.wait_for(reader.read(4096), DEADLINE_S))
        message = apdus.decode(frame.apdu)
        assert message.long_invoke.confirmed
        assert not push.done()
        writer.write(wrapper.encode(1, 1, DataNotificationConfirm(message.long_invoke).to_bytes()))
        await asyncio.wait_for(push, DEADLINE_S)
        push = asyncio.create_task(pusher.push(meter, Framing.WRAPPER))
        reader, writer = await listener.call()
        writer.close()
        with pytest.raises(OSError):
            await asyncio.wait_for(push, DEADLINE_S)


async def test_pushes_of_a_field_over_udp():
    came = asyncio.Queue()

    class Receiver(asyncio.DatagramProtocol):
        def datagram_received(self, data, addr):
            came.put_nowait(data)

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(Receiver, local_addr=("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    settings = scenario(meters=3, push_to=f"udp://127.0.0.1:{port}", push_every_s=1)
    async with Field(settings, clock=lambda: NOW) as field:
        told = set()
        while len(told) < 3:
            data = await asyncio.wait_for(came.get(), DEADLINE_S)
            message = apdus.decode(data[8:])
            told.add(axdr.decode_exact(message.body.data).value[1].value[1].value.decode())
        assert told == {item.meter.serial for item in field.meters}
        assert field.pusher.failed == 0
    transport.close()


async def test_nobody_takes_the_push():
    field = Field(scenario())
    async with Listener() as listener:
        port = listener.port
    pusher = Pusher(f"tcp://127.0.0.1:{port}", [], lambda: NOW, every_s=1)
    await pusher._free.acquire()
    await pusher._freely(pusher.push(field.meters[0].meter, Framing.WRAPPER))
    assert (pusher.sent, pusher.failed) == (0, 1)


def test_confirm_readers_want_a_confirmation():
    assert not ConfirmReader(Framing.WRAPPER).feed(b"")


# ---- csv, scenarios ------------------------------------------------------------------------------------


def test_the_file_of_meters():
    field = Field(make_scenario({"meters": 120, "mix": "all"}))
    rows = list(csv.DictReader(io.StringIO(field.csv())))
    assert len(rows) == 120
    assert tuple(rows[0]) == CSV_COLUMNS
    for row, item in zip(rows, field.meters, strict=True):
        model, mode = load_model(row["model"]), item.meter.mode
        assert row["state"] == "commissioned"
        assert bytes.fromhex(row["system_title"]) == item.meter.system_title
        assert bool(row["encryption_key_plain"]) is (mode.suite > 0 or mode.ciphered)
        if row["encryption_key_plain"]:
            key = bytes.fromhex(row["encryption_key_plain"])
            assert len(key) == (32 if model.association.suite == 2 else 16)
            assert Key(key) == item.meter.keys.encryption
        assert bool(row["lls_secret_plain"]) is (mode is MODES["lls"])
        assert bool(row["hls_secret_plain"]) is (mode.name in ("hls3", "hls4", "hls6"))
    for column in ("asset_id", "system_title", "logical_device_name", "point"):
        assert len({row[column] for row in rows}) == 120
    assert [row["feeder"] for row in rows][::40] == ["F01"] * 3
    assert [row["transformer"] for row in rows][::40] == ["T001", "T002", "T003"]


def test_two_fields_of_one_seed_are_the_same():
    one, other, another = (Field(scenario(meters=5, seed=s, security="lls")) for s in (1, 1, 2))
    assert one.csv() == other.csv() != another.csv()


def test_a_scenario_file(tmp_path):
    path = tmp_path / "field.toml"
    path.write_text('meters = 7\nsecurity = "lls"\nframing = "hdlc"\nhdlc_physical = 33\n')
    found = load_scenario(path, meters=9, seed=None)
    assert (found.meters, found.security, found.framing, found.seed) == (9, "lls", Framing.HDLC, 1)
    assert Field(found).address(Field(found).meters[0]).endswith("?physical=33")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("meters = 0", "meters"),
        ("metres = 3", "metres"),
        ('security = "hls9"', "must be one of none, lls"),
        ('mix = "x"', "must be one of demo, all"),
        ("meters = 50000\nbase_port = 20000", "beyond 65535"),
        ('dial_in = "h"', "host:port"),
        ('push_to = "ftp://h:1"', "tcp://host:port"),
        ('dial_in = "h:1"\nframing = "udp"', "cannot dial in"),
        ('dial_in = "h:1"\nframing = "hdlc"\nsecurity = "lls"', "none or hls5"),
        ('shared_port = true\nmix = "demo"', "one framing"),
        ("meters", "field.toml"),
    ],
)
def test_scenarios_that_cannot_be_are_refused(tmp_path, text, says):
    path = tmp_path / "field.toml"
    path.write_text(text)
    with pytest.raises(ScenarioError, match=r"field\.toml") as caught:
        load_scenario(path)
    assert says in str(caught.value)


@pytest.mark.parametrize("name", ["direct", "mixed"])
@pytest.mark.parametrize("meters", [1_000, 10_000, 30_001, 154_000])
def test_a_county_in_any_size(name, meters):
    found = load_scenario(find_scenario(name), meters=meters)
    whole = load_scenario(find_scenario(name))
    assert found.meters + sum(plan.count * plan.meter_count for plan in found.stations) == meters
    assert [plan.kind for plan in found.stations] == [plan.kind for plan in whole.stations]
    if meters == 154_000:
        assert found.meters == whole.meters
        assert [(plan.count, plan.meter_count) for plan in found.stations] == [
            (plan.count, plan.meter_count) for plan in whole.stations
        ]
    direct = whole.meters / 154_000
    assert direct * 0.9 < found.meters / meters < direct * 2
    ports = {found.place_of(number) for number in range(1, found.meters + 1)}
    ports |= {(found.host, found.station_port(n)) for n in range(sum(plan.count for plan in found.stations))}
    assert len(ports) == found.meters + sum(plan.count for plan in found.stations)
    assert max(port for _, port in ports) < 32_768


def test_a_county_that_is_too_small_for_all_its_kinds_is_refused():
    with pytest.raises(ScenarioError, match="20 meters: meters"):
        load_scenario(find_scenario("mixed"), meters=20)


async def test_meters_go_on_at_the_next_address():
    async with Field(scenario(meters=3, ports_per_host=2), clock=lambda: NOW) as field:
        assert [item.host for item in field.meters] == ["127.0.0.1", "127.0.0.1", "127.0.0.2"]
        item = field.meters[2]
        assert LinkAddress.parse(field.address(item)).host == "127.0.0.2"
        assert await read_energy(item, item.host) == item.meter.consumption.at(0, NOW)


def test_direct_meters_hang_in_the_network_where_it_takes_them():
    table = {"meters": 3, "network": {"takes_direct": True}, "stations": [{"kind": "wifi", "meters": 1}]}
    field = Field(make_scenario(table))
    rows = {row["node"]: row["parent"] for row in csv.DictReader(io.StringIO(network_csv(field)))}
    assert [rows[item.meter.serial] for item in field.meters] == ["TR0001", "TR0002", "TR0003"]
    assert "SS00" not in rows
    assert [row["transformer"] for row in csv.DictReader(io.StringIO(field.csv()))][:2] == [
        "TR0001",
        "TR0002",
    ]


def test_endpoints():
    assert split_endpoint("127.0.0.1:4059") == ("127.0.0.1", 4059)
    assert split_endpoint("[::1]:4059") == ("::1", 4059)
    for wrong in ("h", ":1", "h:0", "h:65536", "h:x"):
        with pytest.raises(ValueError, match="host:port"):
            split_endpoint(wrong)


def test_meters_are_found_by_number_and_serial():
    field = Field(scenario(meters=3))
    assert find_meter(field.meters, "2").meter.number == 2
    assert find_meter(field.meters, field.meters[2].meter.serial).meter.number == 3
    with pytest.raises(KeyError):
        find_meter(field.meters, "4")


def test_the_file_limit_only_rises(monkeypatch):
    calls = []
    monkeypatch.setattr(fields.resource, "getrlimit", lambda which: (100, 1000))
    monkeypatch.setattr(fields.resource, "setrlimit", lambda which, limits: calls.append(limits))
    fields.raise_file_limit(50)
    assert calls == []
    fields.raise_file_limit(5000)
    assert calls == [(1000, 1000)]
