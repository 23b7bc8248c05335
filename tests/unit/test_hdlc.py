import pytest

from protocols.dlms import hdlc
from protocols.dlms.framing import BadFrame
from protocols.dlms.hdlc import (
    ALL_STATION,
    NO_STATION,
    PUBLIC_CLIENT,
    FrameType,
    HdlcAddress,
    HdlcFrame,
    HdlcReader,
    encode_frame,
    i_control,
    s_control,
    server_address,
    u_control,
)
from protocols.dlms.hdlc_parameters import FrameReject, LinkParameters, describe
from protocols.dlms.hdlc_segments import HdlcAssembler
from protocols.errors import LocalProtocolError, RemoteProtocolError

METER = server_address(1, 17)
UI = u_control(FrameType.UI, poll=False)


def read(data: bytes, *, end: bool = True) -> list:
    reader = HdlcReader()
    reader.feed(data)
    if end:
        reader.end()
    items = []
    while (item := reader.next()) is not None:
        items.append(item)
    return items


def frame(information: bytes, *, control: int = UI, segmented: bool = False) -> bytes:
    return encode_frame(PUBLIC_CLIENT, METER, control, information, segmented=segmented)


def test_check_value_of_crc_16_x25():
    # the check value that catalogues of CRCs list for X.25: 0x906E over "123456789"
    assert hdlc.fcs16(b"123456789") == b"\x6e\x90"
    assert hdlc.check_ok(b"123456789\x6e\x90")
    assert not hdlc.check_ok(b"123456789\x6e\x91")


@pytest.mark.parametrize(
    ("address", "wire"),
    [
        (HdlcAddress(0), "01"),
        (HdlcAddress(16), "21"),
        (HdlcAddress(0x7F), "ff"),
        (HdlcAddress(1, 17), "0223"),
        (HdlcAddress(0x67, 0x7F), "ceff"),
        (HdlcAddress(1, 0), "0201"),
        (HdlcAddress(1, 0x3FFF, wide=True), "0002feff"),
        (HdlcAddress(0x1234, 0x0123, wide=True), "48680447"),
    ],
)
def test_addresses(address, wire):
    assert address.to_bytes().hex() == wire
    (found,) = read(encode_frame(address, PUBLIC_CLIENT, UI, b"x"))
    assert found.destination == address
    (found,) = read(encode_frame(PUBLIC_CLIENT, address, UI))
    assert found.source == address


@pytest.mark.parametrize(
    "address",
    [
        HdlcAddress(-1),
        HdlcAddress(128),
        HdlcAddress(1, 128),
        HdlcAddress(1, 16384, wide=True),
        HdlcAddress(1, wide=True),
    ],
)
def test_addresses_that_cannot_be_written(address):
    with pytest.raises(LocalProtocolError, match="cannot be written"):
        address.to_bytes()


def test_server_address():
    assert server_address(1) == HdlcAddress(1)
    assert server_address(1, 0) == HdlcAddress(1, 0)
    assert server_address(1, 200) == HdlcAddress(1, 200, wide=True)
    assert server_address(1, 17, size=4).to_bytes() == bytes.fromhex("00020023")
    assert server_address(200) == HdlcAddress(200, 0, wide=True)
    for logical, physical, size in ((1, 17, 1), (1, 17, 3), (200, 1, 2), (1, 20000, 4)):
        with pytest.raises(LocalProtocolError):
            server_address(logical, physical, size)


def test_all_station_and_no_station():
    assert ALL_STATION.is_all_station
    assert HdlcAddress(0x7F, 0x7F).is_all_station
    assert HdlcAddress(0x3FFF, 0x3FFF, wide=True).is_all_station
    assert not HdlcAddress(0x7F, 1).is_all_station
    assert not HdlcAddress(0x7F, 0x7F, wide=True).is_all_station
    assert NO_STATION.is_no_station
    assert HdlcAddress(0, 0).is_no_station
    assert not HdlcAddress(0, 1).is_no_station
    assert HdlcAddress(1, 17, wide=True).station == METER.station


@pytest.mark.parametrize(
    ("control", "frame_type", "poll"),
    [
        (0x93, FrameType.SNRM, True),
        (0x53, FrameType.DISC, True),
        (0x73, FrameType.UA, True),
        (0x1F, FrameType.DM, True),
        (0x97, FrameType.FRMR, True),
        (0x13, FrameType.UI, True),
        (0x03, FrameType.UI, False),
    ],
)
def test_unnumbered_control(control, frame_type, poll):
    found = HdlcFrame(METER, PUBLIC_CLIENT, control)
    assert (found.type, found.poll) == (frame_type, poll)
    assert u_control(frame_type, poll=poll) == control


def test_numbered_control():
    found = HdlcFrame(METER, PUBLIC_CLIENT, i_control(5, 3, poll=True))
    assert (found.control, found.type, found.ns, found.nr, found.poll) == (0x7A, FrameType.I, 5, 3, True)
    for frame_type, code in ((FrameType.RR, 0xE1), (FrameType.RNR, 0xE5)):
        found = HdlcFrame(METER, PUBLIC_CLIENT, s_control(frame_type, 7, poll=False))
        assert (found.control, found.type, found.nr, found.poll) == (code, frame_type, 7, False)
    assert HdlcFrame(METER, PUBLIC_CLIENT, 0x09).type is FrameType.UNKNOWN  # REJ is not of DLMS
    assert "N(S)=5 N(R)=3 P/F" in str(HdlcFrame(METER, PUBLIC_CLIENT, 0x7A))


@pytest.mark.parametrize("length", [0, 1, 127, 128, 255, 256, 2030])
def test_round_trip(length):
    information = b"\x7e" * length
    (found,) = read(frame(information, segmented=True))
    assert found == HdlcFrame(PUBLIC_CLIENT, METER, UI, information, segmented=True)


def test_longest_frame():
    assert len(frame(bytes(2037))) == 2049
    with pytest.raises(LocalProtocolError, match="2047"):
        frame(bytes(2038))


@pytest.mark.parametrize("position", range(1, 17))
def test_every_flipped_byte_is_noticed_and_the_next_frame_read(position):
    data = bytearray(frame(b"\xe6\xe7\x00\x0f\x01"))
    assert len(data) == 17
    data[position - 1] ^= 0x40
    items = read(bytes(data) + frame(b"next"))
    assert [item for item in items if isinstance(item, HdlcFrame)] == [
        HdlcFrame(PUBLIC_CLIENT, METER, UI, b"next", offset=17)
    ]
    bad = [item for item in items if isinstance(item, BadFrame)]
    assert b"".join(item.data for item in bad).strip(b"\x7e") == bytes(data).strip(b"\x7e")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ((6, 0x00), "HCS"),
        ((12, 0x00), "FCS"),
        ((2, 0x11), "no flag behind the 17 bytes"),
        ((2, 0x06), "shorter than any frame"),
        ((1, 0x90), "0x90 is not frame format type 3"),
    ],
)
def test_reasons(change, reason):
    data = bytearray(frame(b"\xe6\xe7\x00\x0f\x01"))
    data[change[0]] = change[1]
    if change[0] == 2 and reason.startswith("no flag"):  # a header that is right about a wrong length
        data[7:9] = hdlc.fcs16(data[1:7])
    bad = read(bytes(data) + frame(b"next"))[0]
    assert bad.offset == 0
    assert reason in bad.reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("a00a0202030121037e", "destination address"),  # three bytes
        ("a00c00000000000001", "destination address"),
        ("a00821020202020202", "source address"),
        ("a008210102020202", "does not fit its addresses"),
    ],
)
def test_addresses_that_do_not_end(body, reason):
    bad = read(b"\x7e" + bytes.fromhex(body) + frame(b"next"))[0]
    assert reason in bad.reason


@pytest.mark.parametrize("cut", range(2, 17))
def test_cut_short(cut):
    data = frame(b"\xe6\xe7\x00\x0f\x01")[:cut]
    assert read(data, end=False) == []
    bad = read(data)
    assert b"".join(item.data for item in bad) == data
    assert bad[0].reason.startswith("cut short")


def test_a_wrong_length_swallows_nothing():
    """A header that claims more than there is must not hide the frames behind it."""
    false = bytes.fromhex("7ea7ff21022303")
    items = read(false + frame(b"one") + frame(b"two"))
    assert [item.information for item in items if isinstance(item, HdlcFrame)] == [b"one", b"two"]


def test_idle_flags_are_nothing():
    assert read(b"\x7e" * 50) == []
    reader = HdlcReader()
    for _ in range(10_000):
        reader.feed(b"\x7e" * 7)
        assert reader.next() is None
        assert reader.pending < 2100


def test_garbage_is_bounded():
    reader = HdlcReader()
    total = 0
    for _ in range(100):
        reader.feed(b"\x55" * 100)
        while (item := reader.next()) is not None:
            total += len(item.data)
        assert reader.pending < hdlc.MAX_FRAME + 2
    assert total + reader.pending == 10_000


# parameters and FRMR


@pytest.mark.parametrize(
    "parameters",
    [LinkParameters(), LinkParameters(255, 256, 7, 1), LinkParameters(2030, 8, 1, 7)],
)
def test_parameters_round_trip(parameters):
    assert LinkParameters.from_bytes(parameters.check().to_bytes()) == parameters


def test_parameters_default_and_unknown():
    assert LinkParameters.from_bytes(b"") == LinkParameters(128, 128, 1, 1)
    assert LinkParameters.from_bytes(bytes.fromhex("818000")) == LinkParameters()
    assert LinkParameters.from_bytes(bytes.fromhex("818006090155060140")) == LinkParameters(max_receive=64)
    assert LinkParameters.from_bytes(bytes.fromhex("81800405020fff")) == LinkParameters(max_transmit=2030)
    assert LinkParameters.from_bytes(bytes.fromhex("818003070120")) == LinkParameters(window_transmit=7)


@pytest.mark.parametrize(
    "information",
    [
        "81",
        "8180",
        "828000",
        "818105",
        "81800105",
        "818003050264",
        "8180020502",
        "8180030501",
        "818003050107",
        "818003070100",
    ],
)
def test_parameters_malformed(information):
    with pytest.raises(RemoteProtocolError):
        LinkParameters.from_bytes(bytes.fromhex(information))


@pytest.mark.parametrize(
    "parameters",
    [
        LinkParameters(7),
        LinkParameters(2031),
        LinkParameters(128, 0),
        LinkParameters(window_transmit=0),
        LinkParameters(window_receive=8),
    ],
)
def test_parameters_out_of_range(parameters):
    with pytest.raises(LocalProtocolError):
        parameters.check()


def test_negotiation_crosses_over():
    ours, theirs = LinkParameters(2000, 500, 7, 3), LinkParameters(600, 1000, 2, 5)
    assert ours.negotiate(theirs) == LinkParameters(1000, 500, 5, 2)
    assert theirs.negotiate(ours) == LinkParameters(500, 1000, 2, 5)


def test_frmr():
    report = FrameReject(0x54, 3, 5, invalid_nr=True)
    assert report.to_bytes().hex() == "54a608"
    assert FrameReject.from_bytes(report.to_bytes()) == report
    assert str(report) == "frame with control 0x54 rejected: invalid N(R)"
    every = FrameReject(0xFF, 7, 7, True, True, True, True, True)
    assert every.to_bytes().hex() == "fffe0f"
    assert FrameReject.from_bytes(every.to_bytes()) == every
    with pytest.raises(RemoteProtocolError, match="3 bytes"):
        FrameReject.from_bytes(b"\x00\x00")


def test_describe():
    information = LinkParameters(200, 200, 2, 2).to_bytes()
    assert describe(HdlcFrame(METER, PUBLIC_CLIENT, 0x93, information)) == LinkParameters(200, 200, 2, 2)
    assert describe(HdlcFrame(METER, PUBLIC_CLIENT, 0x97, b"\x54\xa6\x08")) == FrameReject(
        0x54, 3, 5, invalid_nr=True
    )
    assert describe(HdlcFrame(METER, PUBLIC_CLIENT, 0x13, b"\x0f")) is None


# joining


def test_join_ui_segments():
    parts = read(
        frame(b"\xe6\xe7\x00\x0f\x01", segmented=True) + frame(b"\x02", segmented=True) + frame(b"\x03")
    )
    assembler = HdlcAssembler()
    assert assembler.add(parts[0]) == assembler.add(parts[1]) == []
    (apdu,) = assembler.add(parts[2])
    assert (apdu.llc, apdu.apdu, apdu.offset) == (b"\xe6\xe7\x00", b"\x0f\x01\x02\x03", 0)
    assert apdu.frames == tuple(parts)


def test_join_i_segments_needs_each_number():
    def part(ns: int, *, segmented: bool = True) -> HdlcFrame:
        return HdlcFrame(PUBLIC_CLIENT, METER, i_control(ns, 0, poll=True), bytes([ns]), segmented)

    assembler = HdlcAssembler()
    assert [assembler.add(part(ns)) for ns in (6, 7, 7, 0)] == [[]] * 4  # 7 was sent again
    (apdu,) = assembler.add(part(1, segmented=False))
    assert apdu.apdu == b"\x06\x07\x00\x01"
    assembler.add(part(2))
    lost, apdu = assembler.add(part(4, segmented=False))
    assert lost.reason == "segment lost: N(S) 2 is followed by 4"
    assert apdu.apdu == b"\x04"


def test_join_is_per_pair_and_bounded():
    assembler = HdlcAssembler(max_apdu=10)
    one = HdlcFrame(PUBLIC_CLIENT, METER, UI, b"\x0f", segmented=True)
    other = one._replace(source=server_address(2, 17))
    assembler.add(one)
    assembler.add(other)
    (apdu,) = assembler.add(other._replace(segmented=False, information=b"\x02"))
    assert apdu.apdu == b"\x0f\x02"
    (lost,) = assembler.add(one._replace(segmented=False, information=bytes(13)))
    assert "more than 10 bytes" in lost.reason
    for lower in range(32):
        assert assembler.add(one._replace(source=HdlcAddress(1, lower))) == []
    (lost,) = assembler.add(one._replace(source=HdlcAddress(2, 3)))
    assert "too many" in lost.reason


def test_join_bounds_the_number_of_segments():
    assembler = HdlcAssembler()
    one = HdlcFrame(PUBLIC_CLIENT, METER, UI, b"\x0f", segmented=True)
    for _ in range(2047):
        assert assembler.add(one) == []
    assert assembler.add(one) == []
    (lost,) = assembler.add(one)
    assert "2048 segments" in lost.reason


def test_join_new_apdu_ends_the_old_and_abandon():
    assembler = HdlcAssembler()
    assembler.add(HdlcFrame(PUBLIC_CLIENT, METER, UI, b"\xe6\xe7\x00\x0f", segmented=True))
    lost, apdu = assembler.add(HdlcFrame(PUBLIC_CLIENT, METER, UI, b"\xe6\xe7\x00\x10"))
    assert "new APDU begins" in lost.reason
    assert apdu.apdu == b"\x10"
    assembler.add(HdlcFrame(PUBLIC_CLIENT, METER, UI, b"u", segmented=True))
    assembler.add(HdlcFrame(PUBLIC_CLIENT, METER, 0x10, b"i", segmented=True))
    assert [bad.data for bad in assembler.abandon("x", unconfirmed_only=True)] == [b"u"]
    assert [bad.data for bad in assembler.abandon("x")] == [b"i"]
    assert assembler.add(HdlcFrame(PUBLIC_CLIENT, METER, 0x93, b"\x81\x80\x00")) == []
