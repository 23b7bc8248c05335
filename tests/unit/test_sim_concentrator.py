"""The simulated concentrator, read through by our own sessions over real sockets."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest

from concentrator_sim.concentrator import Concentrator, Member, Way
from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.security import MODES
from concentrator_sim.station import Station, bus_of
from headend.session.client import MeterSession
from headend.session.deadlines import Deadlines
from headend.session.plan import plan_session
from protocols.dlms import axdr, gateway, wrapper
from protocols.dlms.association import CipherSettings, ClientAssociation, ClientSettings, Transmit
from protocols.dlms.cosem import LOGICAL_DEVICE_NAME, Attribute, ClassId
from protocols.dlms.gateway import Header
from protocols.dlms.obis import Obis
from protocols.errors import GatewayRefused, LinkTimeout
from schemas.address import GatewayAddress, LinkAddress
from schemas.model import load_model

SERIAL = Attribute(ClassId.DATA, Obis.parse("0-0:96.1.0*255"), 2)
PROFILE = Attribute(ClassId.PROFILE_GENERIC, Obis.parse("1-0:99.1.0*255"), 2)
DEADLINES = Deadlines(response_s=1.0, associate_s=1.0, release_s=1.0)


def clock():
    return int(time.time())


def member(number, mode="none", **given):
    meter = SimulatedMeter(1, number, MODES[mode], further=1, entries=200)
    return Member(meter, GatewayAddress(0, number.to_bytes(4, "big")), **given)


@asynccontextmanager
async def concentrator(*members, **given):
    own = bus_of([SimulatedMeter(1, 999, MODES["none"])])
    found = Concentrator(own, members, clock, **given)
    port = await found.listen()
    try:
        yield found, port
    finally:
        await found.stop()


def session(port, address=None, more=""):
    tail = "" if address is None else f"gateway={address}"
    query = "&".join(part for part in (tail, more) if part)
    text = f"tcp://127.0.0.1:{port}" + (f"?{query}" if query else "")
    plan = plan_session(load_model("headend-sim"), LinkAddress.parse(text), {})
    return MeterSession(plan, deadlines=DEADLINES)


async def serial(port, address=None, more=""):
    async with session(port, address, more) as opened:
        return axdr.decode_exact(await opened.get(SERIAL)).value.decode()


async def test_each_meter_answers_under_its_own_address():
    one, two = member(1), member(2)
    async with concentrator(one, two) as (_, port):
        assert await serial(port, one.address) == one.meter.serial
        assert await serial(port, two.address) == two.meter.serial
        assert await serial(port) == "SIM000010000999"  # without an address: the concentrator itself


async def test_logical_devices_of_a_meter_are_reached_through_the_prefix():
    one = member(1)
    async with concentrator(one) as (_, port), session(port, one.address, "server=2") as opened:
        name = axdr.decode_exact(await opened.get(LOGICAL_DEVICE_NAME)).value
        assert name.decode() == one.meter.devices[1].name


async def test_a_dead_meter_is_the_gateways_word_and_costs_the_others_nothing():
    one, two = member(1), member(2, is_dead=True)
    async with concentrator(one, two, patience_s=0.05) as (_, port):
        with pytest.raises(GatewayRefused):
            await serial(port, two.address)
        assert await serial(port, one.address) == one.meter.serial


class Raw:
    """A connection to the concentrator on which meters are spoken to as one likes."""

    def __init__(self, reader, writer):
        self.reader, self.writer, self.frames = reader, writer, wrapper.WrapperReader()

    async def talk(self, member, client, apdu):
        """Send to a meter; what its answers, of as many blocks as it takes, lead to."""
        waiting = [apdu]
        while waiting:
            out = gateway.encode(Header.REQUEST, member.address, waiting.pop(0))
            self.writer.write(wrapper.encode(1, 1, out))
            while (frame := self.frames.next()) is None:
                self.frames.feed(await asyncio.wait_for(self.reader.read(4096), 20))
            message = gateway.decode(frame.apdu)
            assert (message.header, message.address) == (Header.ANSWER, member.address)
            events = client.receive(message.apdu)
            waiting += [event.apdu for event in events if isinstance(event, Transmit)]
        return events


def client_of(meter):
    cipher = CipherSettings(b"HEADEND1", meter.keys.encryption, meter.keys.authentication)
    told = ClientSettings(meter.mode.mechanism, None, cipher)
    return ClientAssociation(told, next_counter=iter(range(1, 999)).__next__)


async def test_meters_follow_one_another_on_one_connection():
    some = [member(n, mode="hls5") for n in (1, 2, 3)]
    async with concentrator(*some) as (found, port):
        raw = Raw(*await asyncio.open_connection("127.0.0.1", port))
        for one in [*some, some[0]]:
            client = client_of(one.meter)
            await raw.talk(one, client, client.associate())
            (done,) = await raw.talk(one, client, client.get(PROFILE))
            assert len(axdr.decode_exact(done.results[0]).value) == one.meter.entries
            await raw.talk(one, client, client.release())
            one.meter._peer.last = None  # as if our counter had gone on
        (connection,) = found._connections
        assert not connection._ways  # nothing is kept of meters that were released
        raw.writer.close()


async def test_meters_are_spoken_to_side_by_side_on_one_connection():
    some = [member(n, mode="hls5") for n in (1, 2)]
    async with concentrator(*some) as (_, port):
        raw = Raw(*await asyncio.open_connection("127.0.0.1", port))
        clients = [client_of(one.meter) for one in some]
        for one, client in zip(some, clients, strict=True):
            await raw.talk(one, client, client.associate())
        for one, client in zip(some, clients, strict=True):
            (done,) = await raw.talk(one, client, client.get(SERIAL))
            assert axdr.decode_exact(done.results[0]).value.decode() == one.meter.serial
        raw.writer.close()


async def test_an_address_that_no_meter_has_is_refused_at_once():
    async with concentrator(member(1), patience_s=60) as (_, port):
        with pytest.raises(GatewayRefused):
            await serial(port, GatewayAddress(0, b"\xff"))
        with pytest.raises(GatewayRefused):
            await serial(port, member(1).address._replace(network=3))


async def test_a_concentrator_that_tells_nothing_is_a_time_out():
    two = member(2, is_dead=True)
    async with concentrator(two, patience_s=0.01, tells=False) as (_, port):
        with pytest.raises(LinkTimeout):
            await serial(port, two.address)


async def test_two_meters_of_one_address_are_a_mistake():
    with pytest.raises(ValueError, match="same gateway address"):
        Concentrator({}, [member(1), member(1)], clock)


async def test_the_medium_carries_one_exchange_at_a_time():
    class Slow:
        def send(self, size, now):
            return 2.0

    one, two = member(1, route=Slow()), member(2, route=Slow())
    found = Concentrator({}, [one, two], clock)
    aarq = bytes.fromhex("601d")

    class Echo(Station):
        def receive(self, client, server, apdu):
            return [apdu]

    station = Echo({}, clock)
    waits = [found.carry(Way(each, station, b""), aarq, 1, 1, 100.0)[0] for each in (one, two)]
    assert waits == [4.0, 8.0]
    later = found.carry(Way(one, station, b""), aarq, 1, 1, 120.0)[0]
    assert later == 4.0  # free again, by the caller's clock
