"""Any framing out of one stream: whole, byte by byte, with dirt; blocks, heartbeats, bounds."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headend.listen.heartbeat import Beat, Claim, Partial, find
from headend.listen.limits import Bucket
from headend.listen.push_stream import Payload, PushStream, answer_to
from protocols.dlms import hdlc, mbus, wrapper
from protocols.dlms.apdu.block_transfer import GeneralBlockTransfer
from protocols.dlms.framing import BadFrame, Framing
from protocols.dlms.hdlc import HdlcAddress
from schemas.model import Heartbeat

VECTORS = Path(__file__).parents[1] / "vectors" / "framing"
ENTRIES = [
    pytest.param(entry, id=entry["id"])
    for name in ("push_dumps", "mbus_austria", "han_nordic")
    for entry in json.loads((VECTORS / f"{name}.json").read_text())["entries"]
    if entry.get("apdu_hex")
]
APDU = bytes.fromhex("0f40000000000600000118")
MAX = 4096


def whole(data, **options):
    stream = PushStream(max_apdu=MAX, **options)
    return stream.feed(data) + stream.end()


def bytewise(data, **options):
    stream = PushStream(max_apdu=MAX, **options)
    items = []
    for index in range(len(data)):
        items += stream.feed(data[index : index + 1])
    return items + stream.end()


def expected_apdu(entry):
    if "ciphered_apdu_hex" in entry:
        return bytes.fromhex(entry["ciphered_apdu_hex"])
    apdu = entry["apdu_hex"]
    return bytes.fromhex(apdu if isinstance(apdu, str) else apdu[0])


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("feed", [whole, bytewise])
def test_captures_come_out_whole(entry, feed):
    data = b"".join(map(bytes.fromhex, entry["frames_hex"]))
    for before, behind in ((b"", b""), (b"\xff\x02dirt", b""), (b"", b"\x7e\xa0more dirt")):
        payloads = [item for item in feed(before + data + behind) if isinstance(item, Payload)]
        assert [payload.apdu for payload in payloads] == [expected_apdu(entry)]
        assert payloads[0].line[0] == (Framing.MBUS if entry["framing"] == "mbus" else Framing.HDLC)


@pytest.mark.parametrize("feed", [whole, bytewise])
def test_wrapper_frames_with_dirt_between(feed):
    frame = wrapper.encode(1, 16, APDU)
    items = feed(frame + b"dirt" + frame)
    assert [type(item) for item in items] == [Payload, BadFrame, Payload]
    assert items[0] == Payload(APDU, (Framing.WRAPPER, 1, 16))
    assert items[1].data == b"dirt"


def test_a_wrapper_header_is_not_believed_once_frames_with_checks_came():
    ui = hdlc.encode_frame(HdlcAddress(16), HdlcAddress(1), 0x03, hdlc.LLC_RESPONSE + APDU)
    items = whole(ui + b"\xee" + wrapper.encode(1, 16, APDU)[:-2] + ui)
    assert [type(item) for item in items] == [Payload, BadFrame, Payload]


def test_answers_go_back_in_the_same_framing():
    confirm = b"\x10\x00\x00\x00\x00\x00"
    ui = hdlc.encode_frame(HdlcAddress(16), HdlcAddress(1), 0x03, hdlc.LLC_RESPONSE + APDU)
    (payload,) = whole(ui)
    (frame,) = [hdlc.parse(answer_to(payload, confirm)).frame]
    assert (frame.destination, frame.source) == (HdlcAddress(1), HdlcAddress(16))
    assert frame.information == hdlc.LLC_COMMAND + confirm
    (payload,) = whole(wrapper.encode(1, 16, APDU))
    assert answer_to(payload, confirm) == wrapper.encode(16, 1, confirm)
    (payload,) = whole(b"".join(mbus.encode_apdu(APDU, stsap=1, dtsap=103)))
    (item,) = whole(answer_to(payload, confirm), datagrams=True)
    assert item == Payload(confirm, (Framing.MBUS, 103, 1))


def block(number, data, *, last=False):
    gbt = GeneralBlockTransfer(last, not last, 0, number, 0, data)
    return wrapper.encode(1, 16, gbt.to_bytes())


def test_blocks_are_joined_and_lost_ones_told():
    first, second = APDU[:4], APDU[4:]
    items = whole(block(1, first) + block(2, second, last=True))
    assert items == [Payload(APDU, (Framing.WRAPPER, 1, 16))]
    items = whole(block(1, b"old") + block(1, first) + block(2, second, last=True))
    assert [type(item) for item in items] == [BadFrame, Payload]
    (item,) = whole(block(1, first))
    assert "last block is missing" in item.reason
    (item,) = whole(block(200, first))
    assert "far beyond" in item.reason


def test_unfinished_messages_are_bounded():
    frames = b"".join(
        wrapper.encode(sap, 16, GeneralBlockTransfer(False, True, 0, 1, 0, b"x").to_bytes())
        for sap in range(1, 100)
    )
    stream = PushStream(max_apdu=MAX)
    lost = [item for item in stream.feed(frames) if isinstance(item, BadFrame)]
    assert len(lost) == 99 - 16


def test_a_block_that_comes_again_and_again_is_bounded():
    block = wrapper.encode(1, 16, GeneralBlockTransfer(False, True, 0, 2, 0, bytes(MAX // 2)).to_bytes())
    stream = PushStream(max_apdu=MAX)
    lost = [item for _ in range(200) for item in stream.feed(block) if isinstance(item, BadFrame)]
    assert lost
    assert all(len(item.data) < 3 * 64 * 1024 for item in lost)
    assert "too many blocks" in lost[0].reason


def test_datagrams_stand_alone_and_may_be_bare():
    stream = PushStream(max_apdu=MAX, datagrams=True)
    assert stream.feed(APDU) == [Payload(APDU, (Framing.APDU,))]
    (bad,) = stream.feed(wrapper.encode(1, 16, APDU)[:-1])
    assert "cut short" in bad.reason
    assert stream.feed(wrapper.encode(1, 16, APDU)) == [Payload(APDU, (Framing.WRAPPER, 1, 16))]


NAMED = Heartbeat(prefix="23", suffix="0d0a", answer="06")
TITLED = Heartbeat(prefix="aa55", identity="system-title")


def test_heartbeats():
    assert find([NAMED], b"#MTR00001\r\nrest") == Beat(Claim(name="MTR00001"), b"\x06", 11)
    assert find([TITLED], b"\xaa\x55ABCDEFGH") == Beat(Claim(title=b"ABCDEFGH"), b"", 10)
    for cut in range(11):
        assert find([TITLED, NAMED], b"#MTR00001\r\n"[:cut]) == Partial()
    assert find([TITLED, NAMED], b"x") is None
    assert find([NAMED], b"#" + b"a" * 100) is None
    assert find([NAMED], b"#\x00\r\n") is None


@pytest.mark.parametrize("feed", [whole, bytewise])
def test_heartbeats_stand_before_and_between_frames(feed):
    frame = wrapper.encode(1, 16, APDU)
    items = feed(b"#MTR1\r\n" + frame + b"#MTR1\r\n", heartbeats=(NAMED,))
    assert [type(item) for item in items] == [Beat, Payload, Beat]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(
    st.binary(max_size=40),
    st.sampled_from([wrapper.encode(1, 16, APDU), block(1, b"abc"), block(2, b"x", last=True), b"\x7e\xa0",
                     b"\x68\x05\x05\x68", b"\x00\x01\x00\x01", b"#MTR1\r\n"]),
), max_size=12), st.booleans())  # fmt: skip
def test_any_bytes_give_the_same_items_however_they_are_cut(pieces, datagrams):
    data = b"".join(pieces)
    stream = PushStream(max_apdu=256, heartbeats=(NAMED,), datagrams=datagrams)
    for piece in pieces:
        stream.feed(piece)
        assert stream.pending < 4096
    stream.end()
    if not datagrams:
        assert whole(data) == bytewise(data)


def test_a_bucket_refills():
    now = [0.0]
    bucket = Bucket(2.0, 3, clock=lambda: now[0])
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    now[0] = 0.5
    assert bucket.take()
    assert not bucket.take()
    assert bucket.borrow() == 0.5
    assert bucket.borrow() == 1.0
    now[0] = 100.0
    assert bucket.borrow() == 0.0
