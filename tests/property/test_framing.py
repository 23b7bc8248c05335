"""Round trips, the invariant of every decoder, and the link over a line that loses, repeats and spoils."""

import itertools
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.dlms import mbus, wrapper
from protocols.dlms.framing import BadFrame, StreamReader
from protocols.dlms.hdlc import (
    PUBLIC_CLIENT,
    HdlcAddress,
    HdlcFrame,
    HdlcReader,
    encode_frame,
    server_address,
)
from protocols.dlms.hdlc_client import HdlcClientLink
from protocols.dlms.hdlc_parameters import FrameReject, LinkParameters
from protocols.dlms.hdlc_server import HdlcServerLink
from protocols.dlms.hdlc_states import Apdu, Connected, Disconnected, LinkRejected, State, Transmit
from protocols.dlms.mbus import MBusFrame, MBusReader
from protocols.dlms.scan import scan
from protocols.dlms.wrapper import WrapperReader
from protocols.errors import RemoteProtocolError

part = st.integers(0, 127)
wide = st.integers(0, 16383)
addresses = st.one_of(
    st.builds(HdlcAddress, part, st.none(), st.just(False)),
    st.builds(HdlcAddress, part, part, st.just(False)),
    st.builds(HdlcAddress, wide, wide, st.just(True)),
)
hdlc_frames = st.builds(
    HdlcFrame, addresses, addresses, st.integers(0, 255), st.binary(max_size=300), st.booleans(), st.just(0)
)
byte = st.integers(0, 255)
mbus_frames = st.one_of(
    st.builds(lambda c, a: MBusFrame(c, a), byte, byte),
    st.builds(MBusFrame, byte, byte, st.integers(0, 0x1F), byte, byte, st.binary(max_size=250), st.just(0)),
    st.builds(
        lambda c, a, ci, data: MBusFrame(c, a, ci, data=data),
        byte,
        byte,
        st.integers(0x20, 255),
        st.binary(max_size=252),
    ),
)
# Bytes that look like beginnings, so that readers get past their first look.
lures = st.sampled_from(
    [
        bytes.fromhex(text)
        for text in ("7e", "7ea008", "7ea7ff", "7ea8a4cf02", "68", "68fafa68", "6803036853ff00", "10", "16")
    ]
    + [
        bytes.fromhex(text)
        for text in (
            "0001",
            "000100100001",
            "0001000100010046db",
            "e6e700",
            "e6e6000f",
            "0f",
            "7ea00801020110378d7e",
        )
    ]
    + [
        mbus.encode_frame(MBusFrame(0x53, 0xFF, 0x10, 1, 2, b"\x0f")),
        encode_frame(PUBLIC_CLIENT, server_address(1, 17), 3, b"\x0f"),
    ]
)
dirty = st.lists(st.one_of(lures, st.binary(max_size=30)), max_size=25).map(b"".join)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[begin:end] for begin, end in itertools.pairwise(edges)]


def read(reader: StreamReader, pieces: list[bytes], bound: int) -> list:
    items = []
    for piece in pieces:
        reader.feed(piece)
        while (item := reader.next()) is not None:
            items.append(item)
        assert reader.pending <= bound
    reader.end()
    while (item := reader.next()) is not None:
        items.append(item)
    return items


@given(hdlc_frames)
def test_hdlc_round_trip(frame):
    data = encode_frame(
        frame.destination, frame.source, frame.control, frame.information, segmented=frame.segmented
    )
    assert read(HdlcReader(), [data], 5000) == [frame]


@given(mbus_frames)
def test_mbus_round_trip(frame):
    assert read(MBusReader(), [mbus.encode_frame(frame)], 600) == [frame]


@given(st.integers(0, 65535), st.integers(0, 65535), st.binary(min_size=1, max_size=300))
def test_wrapper_round_trip(source, destination, apdu):
    (frame,) = read(WrapperReader(), [wrapper.encode(source, destination, apdu)], 70_000)
    assert frame == (source, destination, apdu, 0)


@given(dirty, st.lists(st.integers(0, 1000), max_size=8))
def test_hdlc_any_bytes(data, places):
    whole = read(HdlcReader(), [data], 4200)
    assert read(HdlcReader(), cut(data, places), 4200) == whole
    for item in whole:
        if isinstance(item, BadFrame):
            assert data[item.offset : item.offset + len(item.data)] == item.data


@given(dirty, st.lists(st.integers(0, 1000), max_size=8))
def test_mbus_any_bytes(data, places):
    whole = read(MBusReader(), [data], 600)
    assert read(MBusReader(), cut(data, places), 600) == whole
    told = sum(
        len(item.data) if isinstance(item, BadFrame) else len(mbus.encode_frame(item)) for item in whole
    )
    assert told == len(data)


@given(dirty, st.lists(st.integers(0, 1000), max_size=8))
def test_wrapper_any_bytes(data, places):
    whole = read(WrapperReader(max_apdu=256, resync=True), [data], 600)
    assert read(WrapperReader(max_apdu=256, resync=True), cut(data, places), 600) == whole
    assert sum(len(item.data) if isinstance(item, BadFrame) else len(item.apdu) + 8 for item in whole) == len(
        data
    )
    try:
        read(WrapperReader(max_apdu=256), cut(data, places), 300)
    except RemoteProtocolError:
        return


@given(dirty)
def test_scan_any_bytes(data):
    for item in scan(data):
        assert 0 <= item.offset < len(data)
        assert item.ok or item.reason


@given(st.binary(max_size=40))
def test_information_fields_any_bytes(information):
    for decode in (LinkParameters.from_bytes, FrameReject.from_bytes):
        try:
            decode(information)
        except RemoteProtocolError:
            continue


METER = server_address(1, 17)


@given(
    st.lists(
        st.one_of(
            dirty,
            st.builds(
                lambda control, info, seg, back: encode_frame(
                    *((PUBLIC_CLIENT, METER) if back else (METER, PUBLIC_CLIENT)),
                    control,
                    info,
                    segmented=seg,
                ),
                byte,
                st.binary(max_size=140),
                st.booleans(),
                st.booleans(),
            ),
        ),
        max_size=30,
    ),
    st.booleans(),
)
def test_link_any_frames(pieces, connected):
    """Whatever comes, a link gives events and never raises."""
    client, server = HdlcClientLink(PUBLIC_CLIENT, METER), HdlcServerLink(METER, PUBLIC_CLIENT)
    (snrm,) = client.connect()
    if connected:
        client.receive(
            b"".join(event.data for event in server.receive(snrm.data) if isinstance(event, Transmit))
        )
    for piece in pieces:
        client.receive(piece)
        server.receive(piece)
        client.on_timeout()
        if server.state is State.CONNECTED:
            server.send(b"\xc4")


class Line:
    """First in, first out, as a serial line: frames are lost, come twice, or come with a flipped bit."""

    def __init__(self, chance: random.Random, faults: float) -> None:
        self._chance = chance
        self._faults = faults

    def carry(self, events: list) -> bytes:
        arrived = b""
        for event in events:
            if not isinstance(event, Transmit):
                continue
            fault = self._chance.random() / self._faults if self._faults else 1.0
            if fault < 0.4:
                continue
            if fault < 0.7:
                spoilt = bytearray(event.data)
                spoilt[self._chance.randrange(len(spoilt))] ^= 1 << self._chance.randrange(8)
                arrived += spoilt
            elif fault < 1.0:
                arrived += event.data * 2
            else:
                arrived += event.data
        return arrived


@settings(max_examples=80)
@given(
    st.integers(0, 2**32),
    st.sampled_from([0.0, 0.05, 0.2, 0.5]),
    st.integers(8, 40),
    st.integers(1, 7),
    st.integers(1, 7),
    st.lists(st.tuples(st.integers(1, 300), st.integers(1, 300)), min_size=1, max_size=6),
)
def test_each_apdu_exactly_once_or_a_failure_told(seed, faults, size, window_client, window_server, lengths):
    chance = random.Random(seed)
    line = Line(chance, faults)
    client = HdlcClientLink(
        PUBLIC_CLIENT, METER, LinkParameters(size, size, window_client, window_server), max_retries=20
    )
    server = HdlcServerLink(
        METER, PUBLIC_CLIENT, LinkParameters(size, size + 3, window_server, window_client)
    )
    requests = [chance.randbytes(request) for request, _ in lengths]
    answers = [chance.randbytes(answer) for _, answer in lengths]
    heard: list[bytes] = []
    got: list[bytes] = []
    failed = False
    outgoing = client.connect()
    asked = 0
    for _ in range(20_000):
        back = []
        for event in server.receive(line.carry(outgoing)):
            back.append(event)
            if isinstance(event, Apdu):
                heard.append(event.data)
                back += server.send(answers[len(heard) - 1])
        outgoing = []
        for event in client.receive(line.carry(back)):
            outgoing.append(event)
            if isinstance(event, Apdu):
                got.append(event.data)
            if isinstance(event, Connected | Apdu) and asked < len(requests):
                outgoing += client.send(requests[asked])
                asked += 1
            failed = failed or isinstance(event, Disconnected | LinkRejected)
        if failed or len(got) == len(requests):
            break
        if not any(isinstance(event, Transmit) for event in outgoing):
            outgoing = client.on_timeout()
            failed = any(isinstance(event, Disconnected) for event in outgoing)
    assert failed or len(got) == len(requests), "the link hangs"
    assert heard == requests[: len(heard)]
    assert got == answers[: len(got)]
    if faults <= 0.05:
        assert not failed
