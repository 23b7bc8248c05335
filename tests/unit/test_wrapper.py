import pytest

from protocols.dlms import wrapper
from protocols.dlms.framing import BadFrame
from protocols.dlms.wrapper import WrapperFrame, WrapperReader
from protocols.errors import LocalProtocolError, RemoteProtocolError

GET = bytes.fromhex("c001c1000101000001000200ff0200")[:13]


def read(reader: WrapperReader, data: bytes) -> list:
    reader.feed(data)
    items = []
    while (item := reader.next()) is not None:
        items.append(item)
    return items


@pytest.mark.parametrize("length", [1, 127, 128, 255, 256, 65535])
def test_round_trip(length):
    apdu = b"\xc0" + bytes(length - 1)
    data = wrapper.encode(16, 1, apdu)
    assert len(data) == length + 8
    assert read(WrapperReader(), data) == [WrapperFrame(16, 1, apdu)]
    assert read(WrapperReader(resync=True), data) == [WrapperFrame(16, 1, apdu)]


@pytest.mark.parametrize(("source", "destination"), [(-1, 0), (0, -1), (65536, 0), (0, 65536)])
def test_wports_out_of_range(source, destination):
    with pytest.raises(LocalProtocolError, match="wPorts"):
        wrapper.encode(source, destination, b"\xc0")


def test_wport_zero_and_highest():
    assert wrapper.encode(0, 65535, b"\xc0") == bytes.fromhex("00010000ffff0001c0")


def test_apdu_too_long():
    with pytest.raises(LocalProtocolError, match="65536 bytes"):
        wrapper.encode(1, 1, bytes(65536))


def test_two_frames_and_offsets():
    data = wrapper.encode(16, 1, GET) + wrapper.encode(1, 16, b"\xc4\x01")
    assert read(WrapperReader(), data + b"\x00") == [
        WrapperFrame(16, 1, GET, 0),
        WrapperFrame(1, 16, b"\xc4\x01", 21),
    ]


@pytest.mark.parametrize(
    ("data", "reason", "offset"),
    [
        ("0002001000010001c0", "version is 2", 0),
        ("000100100001ffffc0", "65535 is more than the 1024", 6),
        ("0001001000010000", "length is 0", 6),
    ],
)
def test_strict_raises(data, reason, offset):
    reader = WrapperReader(max_apdu=1024)
    reader.feed(wrapper.encode(16, 1, GET) + bytes.fromhex(data))
    assert reader.next() == WrapperFrame(16, 1, GET)
    with pytest.raises(RemoteProtocolError, match=reason) as error:
        reader.next()
    assert error.value.offset == 21 + offset


@pytest.mark.parametrize("cut", [1, 7, 8, 12])
def test_strict_end_of_stream(cut):
    reader = WrapperReader()
    reader.feed(wrapper.encode(16, 1, GET)[:cut])
    assert reader.next() is None
    reader.end()
    with pytest.raises(RemoteProtocolError, match="cut short"):
        reader.next()


def test_end_of_stream_between_frames():
    reader = WrapperReader()
    reader.end()
    assert reader.next() is None


@pytest.mark.parametrize("garbage", ["ff", "0000", "00020001", "00010001000100020000", "000000"])
def test_resync(garbage):
    noise = bytes.fromhex(garbage)
    data = noise + wrapper.encode(16, 1, GET) + noise + wrapper.encode(1, 16, GET)
    expected = [
        noise,
        WrapperFrame(16, 1, GET, len(noise)),
        noise,
        WrapperFrame(1, 16, GET, 2 * len(noise) + 21),
    ]
    items = read(WrapperReader(resync=True), data)
    assert [item.data if isinstance(item, BadFrame) else item for item in items] == expected
    slow = WrapperReader(resync=True)
    assert [item for index in range(len(data)) for item in read(slow, data[index : index + 1])] == items


def test_resync_end_of_stream_tells_the_rest():
    reader = WrapperReader(resync=True)
    assert read(reader, wrapper.encode(16, 1, GET)[:12]) == []
    reader.end()
    (bad,) = read(reader, b"")
    assert (bad.offset, bad.reason) == (0, "cut short: 12 of 21 bytes")


def test_resync_buffer_is_bounded():
    reader = WrapperReader(max_apdu=64, resync=True)
    total = 0
    for _ in range(50):
        total += sum(len(bad.data) for bad in read(reader, b"\xff" * 40))
        assert reader.pending <= 72
    assert total + reader.pending == 2000


def test_resync_does_not_wait_for_a_length_that_is_not_allowed():
    false = bytes.fromhex("0001000100100100c0")  # 256 bytes, 64 are allowed
    bad, good = read(WrapperReader(max_apdu=64, resync=True), false + wrapper.encode(16, 1, GET))
    assert "256 is more than the 64" in bad.reason
    assert good.apdu == GET


def test_whole_takes_the_one_frame_that_is_awaited():
    reader = WrapperReader()
    assert reader.whole(wrapper.encode(1, 16, GET), 1, 16) == GET
    bad = wrapper.encode(1, 16, GET).replace(b"\x00\x01", b"\x00\x02", 1)
    reader.feed(bad)
    with pytest.raises(RemoteProtocolError) as caught:
        reader.next()
    assert caught.value.offset == 8 + len(GET)  # what was taken at once is counted


@pytest.mark.parametrize(
    "data",
    [
        b"",
        wrapper.encode(1, 16, GET)[:7],
        wrapper.encode(1, 16, GET)[:8],
        wrapper.encode(1, 16, GET)[:-1],
        wrapper.encode(1, 16, GET) + b"\x00",
        wrapper.encode(1, 16, GET) * 2,
        wrapper.encode(2, 16, GET),
        wrapper.encode(1, 17, GET),
        b"\x00\x02" + wrapper.encode(1, 16, GET)[2:],
        wrapper.encode(1, 16, bytes(101)),
    ],
    ids=["nothing", "cut header", "no apdu", "cut apdu", "one more byte", "two frames", "other source",
         "other destination", "other version", "too long"],
)  # fmt: skip
def test_whole_leaves_everything_else_to_the_reader(data):
    assert WrapperReader(max_apdu=100).whole(data, 1, 16) is None


def test_whole_never_overtakes_what_waits():
    reader = WrapperReader()
    frame = wrapper.encode(1, 16, GET)
    reader.feed(frame[:5])
    assert reader.whole(frame, 1, 16) is None
