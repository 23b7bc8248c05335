"""DL/T 645, IEC 62056-21 and P1: round trips, and what any bytes give."""

import itertools
import json
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocols.decode import decode_stream, split
from protocols.dlms.framing import BadFrame, StreamReader
from protocols.dlt645.control import AbnormalAnswer, Control
from protocols.dlt645.conversation import Conversation, read
from protocols.dlt645.frame import Dlt645Frame, Dlt645Reader, encode_frame
from protocols.dlt645.identifiers import DataId, meaning, parts
from protocols.dlt645.load_record import decode_records
from protocols.dlt645.values import decode, number
from protocols.errors import CommunicationError, RemoteProtocolError
from protocols.iec62056_21 import data_sets, p1_objects
from protocols.iec62056_21.client import ReadoutClient, Want
from protocols.iec62056_21.messages import IecReader, block_check
from protocols.iec62056_21.p1 import P1Reader, P1Telegram, crc16

_FOLDER = Path(__file__).parents[1] / "vectors"
_TELEGRAMS = [
    entry["telegram"].encode("latin-1")
    for entry in json.loads((_FOLDER / "p1/telegrams.json").read_text())["entries"]
]
_FRAMES = [
    bytes.fromhex(entry["hex"])
    for entry in json.loads((_FOLDER / "dlt645/frames.json").read_text())["entries"]
]
_BLOCK = b"1.8.0(1*kWh)\r\n!\r\n\x03"

READERS = {Dlt645Reader: 1000, IecReader: 140_000, P1Reader: 40_000}
addresses = st.text("0123456789", min_size=12, max_size=12)
frames = st.builds(
    Dlt645Frame,
    addresses,
    st.builds(Control, st.integers(0, 255)),
    st.binary(max_size=255),
    st.integers(0, 16),
    st.just(0),
)
identifiers = st.builds(DataId, *[st.integers(0, 7)] * 2, *[st.sampled_from([0, 1, 2, 3, 9, 16, 255])] * 2)
#: Captures, their beginnings and bytes that look like beginnings, so that readers get past their first look.
pieces = st.one_of(
    st.sampled_from(
        [*_FRAMES, *_TELEGRAMS, b"\x02" + _BLOCK + bytes((block_check(_BLOCK),)), b"/LGZ5\\2X\r\n"]
    ),
    st.builds(
        lambda data, cut: data[: cut % len(data)], st.sampled_from([*_FRAMES, *_TELEGRAMS]), st.integers(0)
    ),
    st.sampled_from(
        [b"/?!\r\n", b"\x02", b"\x01P1\x02(1", b"\x06050\r\n", b"\xfe\xfe", b"1.8.0(", b"!", b"\x68"]
    ),
    st.binary(max_size=20),
    st.text("/!()*&.:-\r\n01ABC\x02\x03", max_size=40).map(str.encode),
)
streams = st.lists(pieces, max_size=6).map(b"".join)


def drain(reader: StreamReader, bound: int) -> list:
    found = []
    while (item := reader.next()) is not None:
        found.append(item)
    assert reader.pending <= bound
    return found


@pytest.mark.parametrize("kind", READERS)
@settings(max_examples=60, deadline=None)
@given(data=streams, size=st.integers(1, 40))
def test_readers_answer_alike_however_the_stream_is_cut(kind, data, size):
    whole, cut = kind(), kind()
    whole.feed(data)
    whole.end()
    expected = drain(whole, READERS[kind])
    found = []
    for at in range(0, len(data), size):
        cut.feed(data[at : at + size])
        found += drain(cut, READERS[kind])
    cut.end()
    found += drain(cut, READERS[kind])
    assert found == expected
    assert whole.pending == 0
    for item in found:
        if isinstance(item, BadFrame):
            assert item.reason


@given(frame=frames)
def test_dlt645_frames_round_trip(frame):
    reader = Dlt645Reader()
    reader.feed(encode_frame(frame))
    assert reader.next() == frame
    assert reader.pending == 0


@given(value=st.integers(0, 10**8 - 1), decimals=st.integers(0, 4), negative=st.booleans())
@example(0, 2, True)
def test_dlt645_numbers_are_exact(value, decimals, negative):
    if negative:
        value %= 8 * 10**7
    raw = bytearray.fromhex(f"{value:08d}")
    if negative:
        raw[0] |= 0x80
    expected = Decimal(value).scaleb(-decimals)
    assert number(bytes(raw), decimals, signed=negative) == (-expected if negative else expected)


@given(di=identifiers, data=st.binary(max_size=80))
def test_any_answer_gives_values_or_an_error_of_the_tree(di, data):
    known = meaning(di)
    assert known is None or known.length > 0
    assert parts(di, len(data)) is None or parts(di, len(data))
    for decoder in (lambda: decode(di, data), lambda: decode_records(data)):
        error = None
        try:
            decoder()
        except RemoteProtocolError as exc:
            error = exc
        assert error is None or 0 <= error.offset <= len(data)


@settings(deadline=None)
@given(data=streams)
def test_conversations_take_anything(data):
    conversation = Conversation(read("1", DataId(0, 1, 0, 0)))
    conversation.start()
    found = conversation.receive(data)
    assert not isinstance(found, AbnormalAnswer) or found.reason
    for want in Want:
        client = ReadoutClient(want=want)
        client.start()
        try:
            client.receive(data)
            client.receive(data)
        except CommunicationError:
            pass


@given(text=st.text("01.*&():-kWh \r\n!/FC", max_size=80))
def test_data_sets_lose_nothing(text):
    sets, malformed = data_sets.parse(text)
    for bad in malformed:
        assert text[bad.offset :].startswith(bad.text)
        assert bad.text
    for one in sets:
        assert one.groups
        data_sets.obis_of(one.address, data_sets.medium_of(sets))


@given(lines=st.lists(st.text("01.*&():-SWm3", max_size=30), max_size=5))
def test_objects_of_any_telegram(lines):
    body = ("/ABC5X\r\n\r\n" + "".join(f"{line}\r\n" for line in lines) + "!").encode()
    reader = P1Reader()
    reader.feed(body + f"{crc16(body):04X}\r\n".encode())
    telegram = reader.next()
    assert isinstance(telegram, P1Telegram)
    p1_objects.read(telegram)


@settings(max_examples=60, deadline=None)
@given(data=streams)
def test_everything_is_told_once(data):
    parts_ = split(data)
    assert all(before.end <= after.begin for before, after in itertools.pairwise(parts_))
    for message in decode_stream(data):
        assert 0 <= message.offset <= len(data)
        assert (str(message.status) == "bad") == bool(message.problems)
        json.dumps(message.to_json())


@settings(max_examples=40, deadline=None)
@given(
    before=st.binary(max_size=12), which=st.sampled_from(_FRAMES), at=st.integers(0), bit=st.integers(0, 7)
)
def test_a_spoilt_frame_is_never_taken_and_the_next_is(before, which, at, bit):
    spoilt = bytearray(which)
    spoilt[at % len(spoilt)] ^= 1 << bit
    reader = Dlt645Reader()
    reader.feed(before + bytes(spoilt) + bytes(300) + which)
    found = [item for item in drain(reader, 1000) if isinstance(item, Dlt645Frame)]
    assert found
    assert found[-1].offset + found[-1].preamble >= len(before) + len(spoilt) + 300 - found[-1].preamble
