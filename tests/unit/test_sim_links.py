"""Lines of simulated meters, in memory: wrapper, HDLC with segments and windows, datagrams, dirty bytes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from concentrator_sim.links import MAX_LINKS, HdlcLine, WrapperLine, datagram
from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.push import ConfirmReader, framed, heartbeat, notifications
from concentrator_sim.scenario import Framing
from concentrator_sim.security import MODES
from concentrator_sim.station import Station, bus_of
from protocols.dlms import apdu as apdus
from protocols.dlms import axdr, ciphering, hdlc, push_values, wrapper
from protocols.dlms.apdu.fields import LongInvokeIdAndPriority
from protocols.dlms.apdu.notification import DataNotificationConfirm
from protocols.dlms.association import ClientAssociation, ClientSettings, GetResult
from protocols.dlms.cosem import Attribute
from protocols.dlms.hdlc import HdlcAddress, server_address
from protocols.dlms.hdlc_client import HdlcClientLink
from protocols.dlms.hdlc_parameters import LinkParameters
from protocols.dlms.hdlc_states import Apdu, Transmit
from protocols.dlms.obis import Obis
from protocols.errors import RemoteProtocolError
from schemas.model import load_model

NOW = 1_800_000_123
BUFFER = Attribute(7, Obis.parse("1-0:99.1.0"), 3)
SERIAL = Attribute(1, Obis.parse("0-0:96.1.0"), 2)


def station(*meters):
    return Station(bus_of(meters or [SimulatedMeter(1, 1)]), lambda: NOW)


def wrapped(apdu, client=1, server=1):
    return wrapper.encode(client, server, apdu)


def test_the_wrapper_swaps_the_ports_and_takes_bytes_one_by_one():
    aarq = wrapped(ClientAssociation(ClientSettings()).associate())
    whole = WrapperLine(station()).receive(aarq)
    assert whole[:6] == bytes.fromhex("000100010001")
    line = WrapperLine(station(SimulatedMeter(1, 1, sap=7)))
    out = b"".join(line.receive(bytes((octet,))) for octet in wrapped(aarq[8:], 1, 7))
    assert out[:6] == bytes.fromhex("000100070001")
    assert out[8:] == whole[8:]


def test_a_stream_without_the_wrapper_ends():
    with pytest.raises(RemoteProtocolError):
        WrapperLine(station()).receive(b"GET / HTTP/1.1\r\n\r\n")


def test_meters_behind_one_port_are_told_apart():
    meters = [SimulatedMeter(1, n, sap=n) for n in (1, 2, 3)]
    line = WrapperLine(station(*meters))
    for n in (3, 1, 2):
        client = ClientAssociation(ClientSettings())
        client.receive(line.receive(wrapped(client.associate(), 1, n))[8:])
        (done,) = client.receive(line.receive(wrapped(client.get(SERIAL), 1, n))[8:])
        assert axdr.decode_exact(done.results[0]).value == meters[n - 1].serial.encode()


def test_two_meters_with_one_sap_are_refused():
    with pytest.raises(ValueError, match="server SAP 2"):
        bus_of([SimulatedMeter(1, 1, further=1), SimulatedMeter(1, 2, sap=2)])


# ---- HDLC ------------------------------------------------------------------------------------------


def hdlc_line(info=128, window=1, physical=17, *meters):
    return HdlcLine(station(*meters), physical=physical, limits=LinkParameters(info, info, window, window))


def converse(line, link, events, client):
    """Carry frames to and fro until nobody has more to say; the client's events."""
    done = []
    while events:
        out = b"".join(e.data for e in events if isinstance(e, Transmit))
        done += [found for e in events if isinstance(e, Apdu) for found in client.receive(e.data)]
        events = link.receive(line.receive(out)) if out else []
    return done


def read_over_hdlc(line, address, limits, attribute=BUFFER):
    link, client = HdlcClientLink(HdlcAddress(1), address, limits), ClientAssociation(ClientSettings())
    converse(line, link, link.connect(), client)
    converse(line, link, link.send(client.associate()), client)
    (done,) = converse(line, link, link.send(client.get(attribute)), client)
    assert isinstance(done, GetResult)
    converse(line, link, link.disconnect(), client)
    return done.results[0]


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize(("info", "window"), [(32, 1), (64, 3), (128, 1), (248, 7), (2030, 7)])
def test_hdlc_with_segments_and_windows(size, info, window):
    address = server_address(1, None if size == 1 else 17, size)
    limits = LinkParameters(info, info, window, window)
    expected = read_over_hdlc(hdlc_line(2030, 7), address, LinkParameters(2030, 2030, 7, 7))
    assert len(expected) > 100
    assert read_over_hdlc(hdlc_line(info, window), address, limits) == expected


def test_the_lesser_of_both_sides_is_agreed():
    address = server_address(1, 17, 4)
    line = hdlc_line(64, 2)
    link = HdlcClientLink(HdlcAddress(1), address, LinkParameters(512, 512, 7, 7))
    converse(line, link, link.connect(), None)
    assert link.parameters == LinkParameters(64, 64, 2, 2)


def test_others_addresses_are_left_to_others():
    line = hdlc_line()
    for address in (server_address(1, 18, 4), server_address(2, 17, 4), server_address(2)):
        link = HdlcClientLink(HdlcAddress(1), address)
        assert line.receive(b"".join(e.data for e in link.connect())) == b""


def test_a_new_connection_forgets_the_association_of_the_old_one():
    line = hdlc_line()
    address = server_address(1, 17, 4)
    link, client = HdlcClientLink(HdlcAddress(1), address), ClientAssociation(ClientSettings())
    converse(line, link, link.connect(), client)
    converse(line, link, link.send(client.associate()), client)
    again = HdlcClientLink(HdlcAddress(1), address)
    converse(line, again, again.connect(), client)
    with pytest.raises(Exception, match=r"(?i)exception"):
        converse(line, again, again.send(client.get(SERIAL)), client)


def test_lost_frames_come_again():
    line = hdlc_line()
    link, client = (
        HdlcClientLink(HdlcAddress(1), server_address(1, 17, 4)),
        ClientAssociation(ClientSettings()),
    )
    converse(line, link, link.connect(), client)
    converse(line, link, link.send(client.associate()), client)
    line.receive(b"".join(e.data for e in link.send(client.get(SERIAL))))  # the answer is lost
    (done,) = converse(line, link, link.on_timeout(), client)
    assert axdr.decode_exact(done.results[0]).value == b"SIM000010000001"


def test_clients_of_one_line_are_bounded():
    line = hdlc_line()
    for upper in range(1, MAX_LINKS + 20):
        link = HdlcClientLink(HdlcAddress(upper), server_address(1, 17, 4))
        line.receive(b"".join(e.data for e in link.connect()))
    assert len(line._links) == MAX_LINKS


def test_an_unconfirmed_frame_is_not_answered():
    line = hdlc_line()
    link = HdlcClientLink(HdlcAddress(1), server_address(1, 17, 4))
    aarq = ClientAssociation(ClientSettings()).associate()
    assert line.receive(b"".join(e.data for e in link.send_unconfirmed(aarq))) == b""
    converse(line, link, link.connect(), None)
    assert line.receive(b"".join(e.data for e in link.send_unconfirmed(aarq))) == b""


# ---- UDP, dirt -------------------------------------------------------------------------------------


def test_datagrams():
    here = station()
    client = ClientAssociation(ClientSettings())
    (out,) = datagram(here, wrapped(client.associate()))
    client.receive(out[8:])
    (out,) = datagram(here, wrapped(client.get(SERIAL)))
    assert isinstance(client.receive(out[8:])[0], GetResult)
    assert datagram(here, b"") == []
    assert datagram(here, wrapped(client.get(SERIAL))[:-1]) == []


@given(st.binary(max_size=400))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_survived(data):
    try:
        WrapperLine(station()).receive(data)
    except RemoteProtocolError:
        pass
    datagram(station(), data)
    hdlc_line().receive(data)
    Station(bus_of([SimulatedMeter(1, 1)]), lambda: NOW).receive(1, 1, data)


@given(st.binary(max_size=60), st.sampled_from(["none", "hls5"]))
@settings(max_examples=100, deadline=None)
def test_any_apdu_of_an_associated_client_is_survived(tail, mode):
    here = station(SimulatedMeter(1, 1))
    client = ClientAssociation(ClientSettings())
    client.receive(here.receive(1, 1, client.associate())[0])
    for tag in (0xC0, 0xC1, 0xC3, 0xD9, 0xE0, 0xC8, 0x62):
        for answer in here.receive(1, 1, bytes((tag,)) + tail):
            apdus.decode(answer)


# ---- what meters say unasked -------------------------------------------------------------------------


def test_the_heartbeat_is_what_the_model_describes():
    pattern = load_model("headend-sim").heartbeat
    said = heartbeat(SimulatedMeter(1, 1))
    assert said == bytes.fromhex(pattern.prefix) + b"HES0000100000010" + bytes.fromhex(pattern.suffix)


def test_a_push_says_who_when_and_how_much():
    meter = SimulatedMeter(1, 9)
    (apdu,) = notifications(meter, lambda: NOW)
    message = apdus.decode(apdu)
    assert not message.long_invoke.confirmed
    found = push_values.find(axdr.decode_exact(message.body.data), load_model("headend-sim"))
    told = {str(v.obis): (v.value, v.unit) for v in found.values}
    assert told["0-0:42.0.0*255"][0] == meter.name
    assert told["0-0:96.1.0*255"][0] == meter.serial
    for n, unit in enumerate(("Wh", "Wh", "varh", "varh")):
        assert told[f"1-0:{n + 1}.8.0*255"] == (meter.consumption.at(n, NOW), unit)
    assert not found.unnamed


def test_a_ciphered_meter_pushes_ciphered_with_its_title_and_rising_counters():
    meter = SimulatedMeter(1, 9, MODES["hls5"])
    cipher = meter.keys
    counters = []
    for _ in range(2):
        (apdu,) = notifications(meter, lambda: NOW, confirmed=True)
        assert meter.name.encode() not in apdu
        assert apdus.decode(apdu).system_title == meter.system_title
        opened = ciphering.open_apdu(
            apdu,
            keys=ciphering_keys(cipher),
            system_title=meter.system_title,
        )
        assert apdus.decode(opened.plain).long_invoke.confirmed
        counters.append(opened.counter)
    assert counters[0] < counters[1]


def ciphering_keys(keys):
    from protocols.dlms.security import CipherKeys

    return CipherKeys(keys.encryption, keys.authentication)


def test_a_small_pdu_pushes_in_blocks():
    assert len(notifications(SimulatedMeter(1, 9, max_pdu=128), lambda: NOW)) > 1


def test_frames_of_a_push():
    (apdu,) = notifications(SimulatedMeter(1, 9), lambda: NOW)
    reader = wrapper.WrapperReader()
    reader.feed(framed(apdu, Framing.WRAPPER, 1, 17))
    frame = reader.next()
    assert (frame.source, frame.destination, frame.apdu) == (1, 1, apdu)
    reader = hdlc.HdlcReader()
    reader.feed(framed(apdu, Framing.HDLC, 1, 300))
    information, frames = b"", []
    while (frame := reader.next()) is not None:
        frames.append(frame)
        information += frame.information
    assert [f.segmented for f in frames] == [True] * (len(frames) - 1) + [False]
    assert {f.type for f in frames} == {hdlc.FrameType.UI}
    assert frames[0].source == HdlcAddress(1, 300, wide=True)
    assert hdlc.split_llc(information) == (hdlc.LLC_RESPONSE, apdu)


@pytest.mark.parametrize("framing", [Framing.WRAPPER, Framing.HDLC])
def test_the_confirmation_of_a_push_is_found(framing):
    confirm = DataNotificationConfirm(LongInvokeIdAndPriority(1)).to_bytes()
    sent = framed(confirm, framing, 1, 17)
    assert ConfirmReader(framing).feed(sent)
    reader = ConfirmReader(framing)
    assert [reader.feed(bytes((octet,))) for octet in sent].count(True) == 1
    assert not ConfirmReader(framing).feed(framed(b"\xc4\x01\xc1\x00\x00", framing, 1, 17))
