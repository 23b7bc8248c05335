import pytest

from protocols.dlms import mbus
from protocols.dlms.framing import BadFrame
from protocols.dlms.mbus import MBusApdu, MBusAssembler, MBusFrame, MBusReader
from protocols.errors import LocalProtocolError

FRAME = MBusFrame(0x53, 0xFF, 0x10, 1, 0x67, b"\x0f\x80\x01")


def read(data: bytes, *, end: bool = True) -> list:
    reader = MBusReader()
    reader.feed(data)
    if end:
        reader.end()
    items = []
    while (item := reader.next()) is not None:
        items.append(item)
    return items


def test_bytes_of_a_frame():
    data = mbus.encode_frame(FRAME)
    assert data.hex() == "6808086853ff1001670f80015a16"
    assert sum(bytes.fromhex("53ff1001670f8001")) & 0xFF == 0x5A
    assert read(data) == [FRAME]


@pytest.mark.parametrize(
    "frame",
    [
        MBusFrame(0x40, 0xF0),  # SND_NKE, a short frame
        MBusFrame(0x53, 0x00, 0x00, 0, 0),
        MBusFrame(0x08, 0x01, 0x72, data=b"\x01\x02"),  # ordinary M-Bus data, not DLMS
        MBusFrame(0x08, 0x01, 0x20),
        MBusFrame(0x53, 0xFF, 0x1F, 1, 2, bytes(250)),
    ],
)
def test_round_trip(frame):
    assert read(mbus.encode_frame(frame)) == [frame]


def test_frame_too_long():
    with pytest.raises(LocalProtocolError, match="256"):
        mbus.encode_frame(FRAME._replace(data=bytes(251)))


@pytest.mark.parametrize("length", [1, 245, 246, 490, 491, mbus.MAX_APDU])
def test_segments(length):
    apdu = bytes(index & 0xFF for index in range(length))
    frames = mbus.encode_apdu(apdu, stsap=1, dtsap=0)
    assembler = MBusAssembler()
    results = [result for frame in read(b"".join(frames)) for result in assembler.add(frame)]
    assert [(result.stsap, result.dtsap, result.apdu) for result in results] == [(1, 0, apdu)]
    assert len(results[0].frames) == len(frames) == -(-length // 245)


@pytest.mark.parametrize("length", [0, mbus.MAX_APDU + 1])
def test_apdu_that_cannot_be_sent(length):
    with pytest.raises(LocalProtocolError):
        mbus.encode_apdu(bytes(length), stsap=1, dtsap=1)


@pytest.mark.parametrize(
    ("index", "value", "reason"),
    [(9, 0x00, "checksum is wrong"), (12, 0x00, "checksum is wrong"), (13, 0x00, "no M-Bus stop byte")],
)
def test_bad_frame_is_told_and_the_next_is_read(index, value, reason):
    data = bytearray(mbus.encode_frame(FRAME))
    data[index] = value
    bad, good = read(b"\xe5" * 3 + bytes(data) + mbus.encode_frame(FRAME))[1:]
    assert (bad.offset, bad.data) == (3, bytes(data))
    assert reason in bad.reason
    assert good == FRAME._replace(offset=17)


@pytest.mark.parametrize("header", ["6802026853ff", "6808096853ff", "6808086753ff", "10ffff0016"])
def test_false_starts(header):
    noise = bytes.fromhex(header)
    bad, good = read(noise + mbus.encode_frame(FRAME))
    assert isinstance(bad, BadFrame)
    assert bad.data == noise
    assert good == FRAME._replace(offset=len(noise))


def test_transport_header_cut_short():
    (bad,) = read(bytes.fromhex("680303685300005316"))
    assert "transport header" in bad.reason


@pytest.mark.parametrize("cut", range(1, 14))
def test_cut_short(cut):
    data = mbus.encode_frame(FRAME)[:cut]
    assert read(data, end=False) == []
    items = read(data)
    assert b"".join(item.data for item in items) == data
    assert items[0].reason.startswith("cut short")


def test_lost_and_repeated_segments():
    first, second, third = (MBusFrame(0x53, 0xFF, ci, 1, 2, bytes([ci])) for ci in (0x00, 0x01, 0x12))
    assembler = MBusAssembler()
    assert assembler.add(first) == []
    assert assembler.add(first._replace(offset=9)) == []  # the same again
    assert assembler.add(second) == []
    (apdu,) = assembler.add(third)
    assert apdu == MBusApdu(1, 2, b"\x00\x01\x12", (first, second, third))
    assembler.add(first)
    lost, orphan = assembler.add(third)
    assert lost.reason == "segment lost: 0 is followed by 2"
    assert orphan.reason == "segment 2 without those before it"
    assembler.add(first)
    (lost,) = assembler.abandon("end")
    assert (lost.data, lost.reason) == (b"\x00", "end")
    assert assembler.abandon("end") == []


def test_a_new_apdu_ends_the_old_one():
    first = MBusFrame(0x53, 0xFF, 0x00, 1, 2, b"a")
    only = MBusFrame(0x53, 0xFF, 0x10, 1, 2, b"b")
    assembler = MBusAssembler()
    assembler.add(first)
    lost, apdu = assembler.add(only)
    assert isinstance(lost, BadFrame)
    assert apdu.apdu == b"b"


def test_senders_are_apart_and_bounded():
    assembler = MBusAssembler()
    for address in range(250):
        assert assembler.add(MBusFrame(0x53, address, 0x00, 1, 2, b"a")) == []
    for dtsap in range(6):
        assert assembler.add(MBusFrame(0x53, 0, 0x00, 9, dtsap, b"a")) == []
    (dropped,) = assembler.add(MBusFrame(0x53, 0, 0x00, 8, 8, b"a"))
    assert "too many" in dropped.reason
    (apdu,) = assembler.add(MBusFrame(0x53, 249, 0x11, 1, 2, b"b"))
    assert apdu.apdu == b"ab"


def test_frames_of_ordinary_mbus_are_not_segments():
    assert MBusAssembler().add(MBusFrame(0x08, 1, 0x72, data=b"x")) == []
    assert str(MBusFrame(0x40, 0xF0)) == "M-Bus C 0x40 A 240 short, 0 bytes"
    assert not MBusFrame(0x40, 0xF0).is_transport
