"""Gurux' client behind the gateway prefix: the foreign truth for ours, both ways."""

import asyncio
import threading
import time

import pytest
from gurux_dlms.enums import Authentication, Security
from gurux_dlms.GXDLMSGateway import GXDLMSGateway
from gurux_dlms.objects import GXDLMSData, GXDLMSProfileGeneric

from concentrator_sim.concentrator import Concentrator, Member
from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.security import MODES
from concentrator_sim.station import bus_of
from headend.session.deadlines import Deadlines
from headend.session.dial import channel_over
from headend.session.plan import plan_session
from headend.transport.memory import memory_pair
from protocols.dlms import gateway, hdlc, wrapper
from protocols.dlms.gateway import Header
from protocols.dlms.hdlc_server import HdlcServerLink
from protocols.dlms.hdlc_states import Transmit
from schemas.address import GatewayAddress, LinkAddress
from schemas.model import MeterModel
from tests.interop.gurux_client import make_client, talking

pytestmark = pytest.mark.interop

MODEL = MeterModel.model_validate({"name": "test", "title": "Test"})
ADDRESSES = [
    GatewayAddress(0, b"\x0a\x0b\x0c\x0d"),
    GatewayAddress(7, b"12345678"),
    GatewayAddress(255, b"\x00"),
]


def gurux(address, **settings):
    client = make_client(**settings)
    client.gateway = GXDLMSGateway()
    client.gateway.networkId = address.network
    client.gateway.physicalDeviceAddress = address.physical
    return client


@pytest.fixture
def field():
    """Two meters behind a concentrator on a loop of its own, since Gurux' client blocks."""
    meters = [SimulatedMeter(1, n, MODES[mode]) for n, mode in enumerate(("none", "lls", "none"), 1)]
    found = Concentrator(
        bus_of([SimulatedMeter(1, 999, MODES["none"])]),
        [Member(meter, address) for meter, address in zip(meters, ADDRESSES, strict=True)],
        lambda: int(time.time()),
    )
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    port = asyncio.run_coroutine_threadsafe(found.listen(), loop).result(10)
    yield meters, port
    asyncio.run_coroutine_threadsafe(found.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.mark.parametrize("place", [0, 2])
def test_gurux_reads_a_meter_through_our_concentrator(field, place):
    meters, port = field
    with talking(gurux(ADDRESSES[place]), port) as connection:
        assert bytes(connection.read(GXDLMSData("0.0.96.1.0.255"), 2)).decode() == meters[place].serial
        profile = GXDLMSProfileGeneric("1.0.99.1.0.255")
        assert connection.read(profile, 4) == 900


def test_gurux_proves_itself_to_a_meter_through_our_concentrator(field):
    meters, port = field
    secret = meters[1].keys.lls.reveal()
    client = gurux(ADDRESSES[1], authentication=Authentication.LOW, secret=secret, security=Security.NONE)
    with talking(client, port) as connection:
        assert bytes(connection.read(GXDLMSData("0.0.96.1.0.255"), 2)).decode() == meters[1].serial


@pytest.mark.parametrize("address", ADDRESSES)
def test_guruxs_requests_are_what_our_decoder_says(address):
    for frame in gurux(address).aarqRequest():
        reader = wrapper.WrapperReader()
        reader.feed(bytes(frame))
        found = reader.next()
        message = gateway.decode(found.apdu)
        assert message.header is Header.REQUEST
        assert message.address == address
        assert message.apdu[0] == 0x60
        assert gateway.encode(*message) == found.apdu


def test_over_hdlc_the_prefix_stands_behind_the_llc():
    address = ADDRESSES[0]
    client = gurux(address, hdlc=128)
    client.snrmRequest()
    (frame,) = client.aarqRequest()
    found = hdlc.parse(bytes(frame))
    llc, apdu = found.frame.information[:3], found.frame.information[3:]
    assert llc == hdlc.LLC_COMMAND
    message = gateway.decode(apdu)
    assert (message.address, message.apdu[0]) == (address, 0x60)


def test_our_session_over_hdlc_says_what_gurux_says(run_session):
    """The same AARQ behind the same prefix, of our channel and of Gurux' client."""
    address = ADDRESSES[0]
    sent = run_session(f"hdlc+tcp://dc:4001?gateway={address}")
    assert sent[:3] == hdlc.LLC_COMMAND
    assert gateway.decode(sent[3:]).address == address


@pytest.fixture
def run_session():
    """The information field of the first I frame that our session sends over HDLC."""

    def run(text):
        async def main():
            ours, theirs = memory_pair()
            plan = plan_session(MODEL, LinkAddress.parse(text), {})
            channel = channel_over(ours, plan, Deadlines())
            loop = asyncio.get_running_loop()
            link = HdlcServerLink(
                hdlc.server_address(plan.server_sap, 17, 4), hdlc.HdlcAddress(plan.client_sap)
            )
            opening = asyncio.ensure_future(channel.open(loop.time() + 5))
            for event in link.receive(await theirs.read_some(loop.time() + 5)):
                if isinstance(event, Transmit):
                    theirs.write(event.data)
            await opening
            await channel.send(bytes.fromhex("601d"), loop.time() + 5)
            found = hdlc.parse(await theirs.read_some(loop.time() + 5))
            return found.frame.information

        return asyncio.run(main())

    return run
