"""The prefix of the DLMS gateway protocol, the channel that speaks it, and addresses that need it."""

import asyncio

import pytest

from headend.session.channel import WrapperChannel
from headend.session.client import MeterSession
from headend.session.deadlines import Deadlines
from headend.session.dial import channel_over
from headend.session.gateway import GatewayChannel, link_to
from headend.session.plan import plan_session
from headend.transport.memory import memory_pair
from protocols.dlms import axdr, gateway, wrapper
from protocols.dlms.apdu.exceptions import ExceptionResponseApdu
from protocols.dlms.apdu.fields import INVOKE, Raw
from protocols.dlms.apdu.get import GetRequestNormal, GetResponseNormal
from protocols.dlms.association import ServerSettings
from protocols.dlms.cosem import Attribute, ClassId
from protocols.dlms.decode import Status, decode_stream
from protocols.dlms.gateway import Header
from protocols.dlms.obis import Obis
from protocols.errors import (
    DataAccessRefused,
    Fault,
    GatewayRefused,
    LinkTimeout,
    LocalProtocolError,
    RemoteProtocolError,
)
from schemas.address import AddressError, GatewayAddress, LinkAddress
from schemas.model import MeterModel
from schemas.network import NOWHERE, Place

APDU = bytes.fromhex("c401c1000600bc614e")
OURS = GatewayAddress(0, bytes.fromhex("0a0b0c0d"))
OTHER = GatewayAddress(0, bytes.fromhex("0a0b0c0e"))
MODEL = MeterModel.model_validate({"name": "test", "title": "Test"})


def in_s(seconds):
    return asyncio.get_running_loop().time() + seconds


# ---- the prefix -----------------------------------------------------------------------------------------


def test_a_prefix_is_header_network_length_address():
    assert gateway.encode(Header.REQUEST, OURS, APDU) == bytes.fromhex("e600040a0b0c0d") + APDU
    assert gateway.encode(Header.ANSWER, GatewayAddress(255, b"\0"), APDU) == bytes.fromhex("e7ff0100") + APDU


def test_a_prefix_comes_back_apart():
    message = gateway.decode(bytes.fromhex("e705010b") + APDU)
    assert message == (Header.ANSWER, GatewayAddress(5, b"\x0b"), APDU)


@pytest.mark.parametrize(
    ("data", "reason", "offset"),
    [
        ("", "begins with 0xE6 or 0xE7, not nothing", 0),
        ("c401", "begins with 0xE6 or 0xE7, not 0xC4", 0),
        ("e8000100c4", "begins with 0xE6 or 0xE7, not 0xE8", 0),
        ("e6", "cut short", 1),
        ("e600", "cut short", 2),
        ("e60000c4", "names no physical device address", 2),
        ("e600030a0b", "cut short: 5 of 6 bytes", 5),
        ("e600020a0b", "without an APDU", 5),
    ],
)
def test_bytes_that_are_no_prefix_are_refused_with_the_place(data, reason, offset):
    with pytest.raises(RemoteProtocolError, match=reason) as caught:
        gateway.decode(bytes.fromhex(data))
    assert caught.value.offset == offset


@pytest.mark.parametrize(
    ("address", "apdu"),
    [
        (GatewayAddress(256, b"\0"), APDU),
        (GatewayAddress(-1, b"\0"), APDU),
        (GatewayAddress(0, b""), APDU),
        (GatewayAddress(0, bytes(256)), APDU),
        (OURS, b""),
    ],
)
def test_what_does_not_fit_a_prefix_is_our_fault(address, apdu):
    with pytest.raises(LocalProtocolError):
        gateway.encode(Header.REQUEST, address, apdu)


def test_the_longest_address_fits():
    address = GatewayAddress(0, bytes(255))
    assert gateway.decode(gateway.encode(Header.REQUEST, address, APDU)).address == address


def test_only_an_exception_without_a_prefix_is_a_refusal():
    assert gateway.refusal(gateway.UNREACHED) == ExceptionResponseApdu(1, 3)
    assert gateway.refusal(APDU) is None
    assert gateway.refusal(b"") is None
    assert gateway.refusal(b"\xd8\x01") is None


# ---- the channel ----------------------------------------------------------------------------------------


def channel(address=OURS):
    ours, theirs = memory_pair()
    framing = WrapperChannel(ours, client=1, server=17, deadlines=Deadlines())
    return GatewayChannel(framing, address), theirs


def answer(data):
    return wrapper.encode(17, 1, data)


def test_requests_carry_the_meters_address_and_answers_lose_it(run_virtual):
    async def main():
        link, concentrator = channel()
        await link.open(in_s(1))
        await link.send(APDU, in_s(1))
        prefixed = gateway.encode(Header.REQUEST, OURS, APDU)
        assert await concentrator.read_some(in_s(1)) == wrapper.encode(1, 17, prefixed)
        concentrator.write(answer(gateway.encode(Header.ANSWER, OURS, APDU)))
        assert await link.receive(in_s(1)) == APDU
        assert link.ignored == 0
        assert link.peer == "memory:meter gateway 0:0A0B0C0D"
        await link.close(in_s(1))

    run_virtual(main())


def test_what_is_not_our_meters_is_never_its_answer(run_virtual):
    async def main():
        link, concentrator = channel()
        for stranger in (
            gateway.encode(Header.ANSWER, OTHER, APDU),
            gateway.encode(Header.ANSWER, OURS._replace(network=1), APDU),
            gateway.encode(Header.ANSWER, OURS._replace(physical=OURS.physical + b"\0"), APDU),
            gateway.encode(Header.REQUEST, OURS, APDU),
            APDU,  # the concentrator's own, or a meter whose gateway forgot the prefix: nobody can tell
        ):
            concentrator.write(answer(stranger))
        concentrator.write(wrapper.encode(18, 1, gateway.encode(Header.ANSWER, OURS, APDU)))
        with pytest.raises(LinkTimeout):
            await link.receive(in_s(5))
        assert link.ignored == 6
        concentrator.write(answer(gateway.encode(Header.ANSWER, OURS, b"\x0e\1\2\3")))
        assert await link.receive(in_s(5)) == b"\x0e\1\2\3"

    run_virtual(main())


def test_the_concentrators_refusal_is_the_ways_fault(run_virtual):
    async def main():
        link, concentrator = channel()
        concentrator.write(answer(gateway.UNREACHED))
        with pytest.raises(GatewayRefused, match="does not reach the meter") as caught:
            await link.receive(in_s(5))
        assert caught.value.fault is Fault.LINK
        assert "0:0A0B0C0D" in str(caught.value)

    run_virtual(main())


def test_the_same_exception_with_our_prefix_is_the_meters(run_virtual):
    async def main():
        link, concentrator = channel()
        concentrator.write(answer(gateway.encode(Header.ANSWER, OURS, gateway.UNREACHED)))
        assert await link.receive(in_s(5)) == gateway.UNREACHED

    run_virtual(main())


def test_a_prefix_that_is_cut_short_ends_the_conversation(run_virtual):
    async def main():
        link, concentrator = channel()
        concentrator.write(answer(bytes.fromhex("e700080a")))
        with pytest.raises(RemoteProtocolError, match="cut short"):
            await link.receive(in_s(5))

    run_virtual(main())


# ---- addresses ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["tcp://dc:4059?gateway=0:0A0B", "hdlc+tcp://dc:4001?gateway=0:0A0B"])
def test_a_gateway_in_the_address_is_spoken_on_any_framing(run_virtual, text):
    async def main():
        plan = plan_session(MODEL, LinkAddress.parse(text), {})
        assert isinstance(channel_over(memory_pair()[0], plan, Deadlines()), GatewayChannel)

    run_virtual(main())


def test_no_gateway_no_prefix(run_virtual):
    async def main():
        plan = plan_session(MODEL, LinkAddress.parse("tcp://dc:4059?server=17"), {})
        assert plan.server_sap == 17
        assert type(channel_over(memory_pair()[0], plan, Deadlines())) is WrapperChannel

    run_virtual(main())


@pytest.mark.parametrize(
    ("meter", "station", "opened"),
    [
        ("via:?gateway=0:0A0B", "tcp://dc:4059", "tcp://dc:4059?gateway=0:0A0B"),
        (
            "via:?server=2&gateway=1:0A",
            "tcp://dc:4059?server=1&client=1",
            "tcp://dc:4059?server=2&gateway=1:0A",
        ),
        (
            "via:?gateway=0:0A",
            "hdlc+tcp://dc:4001?physical=17",
            "hdlc+tcp://dc:4001?physical=17&gateway=0:0A",
        ),
    ],
)
def test_a_via_address_goes_through_its_station(meter, station, opened):
    found = LinkAddress.parse(meter).through(LinkAddress.parse(station))
    assert found == LinkAddress.parse(opened)


@pytest.mark.parametrize(
    "station", ["mqtt:dc-7", "inbound:", "via:?gateway=0:0A", "udp://dc", "modbus+tcp://dc"]
)
def test_no_meter_is_reached_through_other_links(station):
    with pytest.raises(AddressError, match="no meter is reached through"):
        LinkAddress.parse("via:?gateway=0:0A0B").through(LinkAddress.parse(station))


def test_the_network_tells_the_concentrator_of_a_via_address():
    place = Place(station_id=7, station="DC-7", station_address="tcp://dc7:4059")
    assert str(link_to("via:?gateway=0:0A0B", place)) == "tcp://dc7:4059?gateway=0:0A0B"
    assert str(link_to("tcp://m:4059", place)) == "tcp://m:4059"


@pytest.mark.parametrize(
    ("place", "why"),
    [
        (NOWHERE, "does not tell the concentrator"),
        (Place(station_id=7, station="DC-7"), "DC-7 has no address"),
    ],
)
def test_a_via_address_without_its_concentrator_says_what_is_missing(place, why):
    with pytest.raises(AddressError, match=why):
        link_to("via:?gateway=0:0A0B", place)


# ---- decoded -------------------------------------------------------------------------------------------


def get(obis):
    return GetRequestNormal(INVOKE[1], Attribute(ClassId.REGISTER, Obis.parse(obis), 2), None).to_bytes()


def gives(value):
    return GetResponseNormal(INVOKE[1], Raw(axdr.encode(axdr.u32(value)))).to_bytes()


def test_decode_tells_meters_behind_a_gateway_apart():
    frames = [
        wrapper.encode(1, 1, gateway.encode(Header.REQUEST, OURS, get("1-0:1.8.0"))),
        wrapper.encode(1, 1, gateway.encode(Header.REQUEST, OTHER, get("1-0:2.8.0"))),
        wrapper.encode(1, 1, gateway.encode(Header.ANSWER, OTHER, gives(28))),
        wrapper.encode(1, 1, gateway.encode(Header.ANSWER, OURS, gives(18))),
    ]
    messages = decode_stream(b"".join(frames))
    assert [one.status for one in messages] == [Status.OK] * 4
    assert messages[0].layers == ("gateway-request", "get-request")
    assert messages[3].notes == ("meter behind a gateway: network and address 0:0A0B0C0D",)
    told = [(str(value.obis), value.value) for one in messages for value in one.values]
    assert told == [("1-0:2.8.0*255", 28), ("1-0:1.8.0*255", 18)]


def test_decode_tells_a_bare_prefix_and_one_that_is_cut_short():
    (message,) = decode_stream(gateway.encode(Header.ANSWER, OURS, gives(5)))
    assert message.layers == ("gateway-answer", "get-response")
    (message,) = decode_stream(wrapper.encode(1, 1, bytes.fromhex("e700080a0b")))
    assert message.status is Status.BAD
    assert "cut short" in message.problems[0].reason


def test_a_session_counts_what_others_sent(run_virtual, fake_meter):
    async def main():
        ours, theirs = memory_pair()
        address = f"tcp://dc:4059?server=1&client=16&gateway={OURS}"
        session = MeterSession(plan_session(MODEL, LinkAddress.parse(address), {}), stream=ours)
        meter = fake_meter(Behind(theirs), {16: ServerSettings()}, {})
        async with session:
            theirs.write(wrapper.encode(1, 16, gateway.encode(Header.ANSWER, OTHER, APDU)))
            with pytest.raises(DataAccessRefused):
                await session.get(Attribute(ClassId.REGISTER, Obis.parse("1-0:1.8.0"), 2))
        assert session.ignored == 1
        ours.close()
        await meter.serving

    run_virtual(main())


class Behind:
    """The end of a concentrator's link as the meter behind it has it: without prefixes."""

    def __init__(self, stream):
        self.stream = stream

    def __getattr__(self, name):
        return getattr(self.stream, name)

    async def read_some(self, deadline):
        data = await self.stream.read_some(deadline)
        source, destination = int.from_bytes(data[2:4]), int.from_bytes(data[4:6])
        return wrapper.encode(source, destination, gateway.decode(data[8:]).apdu)

    def write(self, data):
        source, destination = int.from_bytes(data[2:4]), int.from_bytes(data[4:6])
        self.stream.write(wrapper.encode(source, destination, gateway.encode(Header.ANSWER, OURS, data[8:])))
