import pytest

from protocols.dlms import mbus, wrapper
from protocols.dlms.framing import Framing
from protocols.dlms.hdlc import PUBLIC_CLIENT, encode_frame, fcs16, i_control, server_address
from protocols.dlms.mbus import MBusFrame
from protocols.dlms.scan import MAX_BAD_IN_A_ROW, scan

METER = server_address(1, 17)
APDU = bytes.fromhex("0f000000010002020600000001")
HDLC = encode_frame(PUBLIC_CLIENT, METER, 0x03, b"\xe6\xe7\x00" + APDU)
MBUS = mbus.encode_apdu(APDU, stsap=1, dtsap=0x67)[0]
WRAPPER = wrapper.encode(1, 16, APDU)


def brief(data: bytes) -> list[tuple]:
    return [(item.offset, item.framing, item.payload if item.ok else item.reason) for item in scan(data)]


@pytest.mark.parametrize(
    ("data", "framing"),
    [
        (HDLC, Framing.HDLC),
        (MBUS, Framing.MBUS),
        (WRAPPER, Framing.WRAPPER),
        (b"\xe6\xe7\x00" + APDU, Framing.LLC),
        (b"\xe6\xe6\x00" + APDU, Framing.LLC),
        (APDU, Framing.APDU),
    ],
)
def test_each_framing(data, framing):
    assert brief(data) == [(0, framing, APDU)]


def test_nothing():
    assert scan(b"") == scan(b"\x7e") == scan(b"\x7e\x7e\x7e") == []


def test_mixed_and_with_garbage():
    noise = b"\x0d\x0a?"
    data = HDLC + noise + MBUS + noise + WRAPPER + MBUS + HDLC[:-1] + HDLC + WRAPPER + noise
    items = scan(data)
    assert [item.framing for item in items if item.ok] == [
        "hdlc",
        "mbus",
        "wrapper",
        "mbus",
        "hdlc",
        "hdlc",
        "wrapper",
    ]
    assert all(item.payload == APDU for item in items if item.ok)
    assert [item.data for item in items if not item.ok] == [noise] * 3
    assert all(data[item.offset : item.offset + len(item.data)] == item.data for item in items if not item.ok)


@pytest.mark.parametrize(
    ("good", "index", "reason"),
    [
        (HDLC, 8, "header check sequence (HCS) is wrong"),
        (HDLC, 15, "frame check sequence (FCS) is wrong"),
        (MBUS, 12, "M-Bus checksum is wrong"),
    ],
)
@pytest.mark.parametrize("follower", [HDLC, MBUS, WRAPPER])
def test_wrong_check_is_told_and_the_rest_goes_on(good, index, reason, follower):
    data = bytearray(good)
    data[index] ^= 1
    bad, after = scan(bytes(data) + follower)
    assert (bad.offset, bad.reason, after.payload) == (0, reason, APDU)
    assert bad.data.strip(b"\x7e") == bytes(data).strip(b"\x7e")


@pytest.mark.parametrize("frame", [HDLC, MBUS, WRAPPER], ids=["hdlc", "mbus", "wrapper"])
@pytest.mark.parametrize("follower", [HDLC, MBUS], ids=["hdlc", "mbus"])
def test_cut_short_in_the_middle(frame, follower):
    items = scan(frame[:-4] + follower)
    assert [item.payload for item in items if item.ok] == [APDU]
    assert b"".join(item.data for item in items if not item.ok).strip(b"\x7e") == frame[:-4].strip(b"\x7e")


@pytest.mark.parametrize("frame", [HDLC, MBUS, WRAPPER], ids=["hdlc", "mbus", "wrapper"])
def test_cut_short_at_the_end(frame):
    (item,) = scan(frame[:-2])
    assert item.reason == f"cut short: {len(frame) - 2} of {len(frame)} bytes"


def test_false_header_hides_nothing():
    false = bytes.fromhex("7ea7ff21022303")
    items = scan(false + HDLC + HDLC)
    assert [item.payload for item in items if item.ok] == [APDU, APDU]


def test_bare_apdu_ends_where_a_frame_verifies():
    assert brief(APDU + HDLC) == [(0, Framing.APDU, APDU), (len(APDU), Framing.HDLC, APDU)]
    assert brief(b"\xe6\xe7\x00" + APDU + MBUS)[1] == (3 + len(APDU), Framing.MBUS, APDU)
    # 10 01 02 03 16 would be a short M-Bus frame: too easily met inside an APDU
    assert brief(APDU + b"\x10\x01\x02\x03\x16") == [(0, Framing.APDU, APDU + b"\x10\x01\x02\x03\x16")]


def test_llc_alone():
    assert brief(b"\xe6\xe7\x00") == [(0, Framing.LLC, "an LLC header and nothing behind it")]


def test_not_dlms():
    assert brief(b"/KFM5 hello") == [(0, Framing.UNKNOWN, "neither a known framing nor an APDU")]


def test_frames_without_an_apdu_are_items_too():
    snrm = encode_frame(METER, PUBLIC_CLIENT, 0x93)
    items = scan(snrm + mbus.encode_frame(MBusFrame(0x40, 0xF0)) + MBUS)
    assert [(item.framing, item.payload, item.ok) for item in items] == [
        ("hdlc", None, True),
        ("mbus", None, True),
        ("mbus", APDU, True),
    ]
    (item,) = scan(encode_frame(METER, PUBLIC_CLIENT, 0x19))
    assert item.reason == "unknown control field 0x19"


def segment(part: bytes, *, last: bool = False, control: int = 0x03) -> bytes:
    return encode_frame(PUBLIC_CLIENT, METER, control, part, segmented=not last)


def test_hdlc_segments_are_joined_across_other_frames():
    other = encode_frame(PUBLIC_CLIENT, server_address(2, 17), 0x03, b"\xe6\xe7\x00" + APDU)
    items = scan(segment(b"\xe6\xe7\x00" + APDU[:5]) + other + segment(APDU[5:], last=True))
    assert [item.payload for item in items] == [APDU, APDU]
    assert [item.offset for item in items] == [20, 0]
    assert [len(item.frames) for item in items] == [1, 2]


def test_bad_segment_ends_the_apdu():
    middle = bytearray(segment(APDU[5:7]))
    middle[-2] ^= 1
    bad, lost, rest = scan(
        segment(b"\xe6\xe7\x00" + APDU[:5]) + bytes(middle) + segment(b"\xff" + APDU[7:], last=True)
    )
    assert (bad.offset, bad.reason) == (20, "frame check sequence (FCS) is wrong")
    assert (lost.offset, lost.reason) == (0, "a segment in between is bad")
    assert "a first segment seems to be missing" in rest.reason


def test_numbered_segment_sent_again_after_a_bad_one():
    first = segment(b"\xe6\xe7\x00" + APDU[:5], control=i_control(0, 0, poll=True))
    second = segment(APDU[5:], last=True, control=i_control(1, 0, poll=True))
    spoilt = second[:-3] + b"\x00\x00\x7e"
    bad, joined = scan(first + spoilt + second)
    assert not bad.ok
    assert joined.payload == APDU


def test_last_segment_missing():
    assert brief(segment(b"\xe6\xe7\x00" + APDU)) == [(0, Framing.HDLC, "the last segment is missing")]
    first = mbus.encode_apdu(b"\xdb" + bytes(300), stsap=1, dtsap=1)[0]
    assert brief(first) == [(0, Framing.MBUS, "the last segment is missing")]


def test_frame_with_llc_only():
    assert brief(encode_frame(PUBLIC_CLIENT, METER, 0x03, b"\xe6\xe7\x00"))[0][2] == "frame without an APDU"


def test_a_wrong_length_that_ends_at_the_flag_of_a_good_frame_does_not_swallow_it():
    head = bytes([0xA0, 8 + len(HDLC) - 1]) + bytes.fromhex("21022303")
    bad, good = scan(b"\x7e" + head + fcs16(head) + HDLC)
    assert bad.reason == "frame check sequence (FCS) is wrong"
    assert (good.offset, good.payload) == (9, APDU)


def test_a_flood_of_broken_headers_is_told_in_a_few_items() -> None:
    flood = bytes.fromhex("68ffff68") * 1000
    items = scan(flood)
    assert len(items) == MAX_BAD_IN_A_ROW + 1
    assert "".join(item.data.hex() for item in items) == flood.hex()
    assert items[-1].reason == f"{1000 - MAX_BAD_IN_A_ROW} more bad stretches follow on one another"


def test_a_frame_behind_a_flood_is_found_and_the_next_row_is_told_anew() -> None:
    good = mbus.encode_apdu(bytes.fromhex("0f40000000000600000001"), stsap=1, dtsap=1)[0]
    broken = bytes.fromhex("68ffff68") * 40
    items = scan(broken + good + broken)
    places = [index for index, item in enumerate(items) if item.ok]
    assert len(places) == 1
    assert items[places[0]].offset == len(broken)
    assert len(items) == 2 * (MAX_BAD_IN_A_ROW + 1) + 1
