"""Any bytes give messages with problems, never an exception, within bounded work, and JSON of them."""

import json
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from headend.cli import hex_input
from protocols.dlms import push_values, tolerant
from protocols.dlms.decode import Keys, Message, Status, decode_stream
from protocols.dlms.security import Key
from schemas.model import load_model

VECTORS = Path(__file__).parents[1] / "vectors"
CAPTURES = [
    bytes.fromhex(
        "".join(entry.get("hdlc_frames_hex") or entry.get("mbus_frames_hex") or [entry["apdu_hex"]])
    )
    for entry in json.loads((VECTORS / "captures/push_dumps.json").read_text())["entries"]
] + [
    bytes.fromhex(entry["hex"]) for entry in json.loads((VECTORS / "dlms/apdus.json").read_text())["entries"]
]
KEYS = Keys(
    Key.from_hex("5C316162209EBB790B52EB0E7FC5B11C"), Key.from_hex("92705C5C97286064EABAE38D190F87A4")
)
MODELS = [None, *map(load_model, ("kaifa-ma304", "kaifa-ma309", "landisgyr-e450", "egd", "aidon"))]


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A captured message with some bytes changed, cut out or put in, or its end cut off."""
    data = bytearray(draw(st.sampled_from(CAPTURES)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(["change", "drop", "insert", "cut"])):
            case "change":
                data[at : at + 1] = draw(st.binary(min_size=1, max_size=1))
            case "drop":
                del data[at : at + draw(st.integers(1, 8))]
            case "insert":
                data[at:at] = draw(st.binary(min_size=1, max_size=8))
            case _:
                del data[at:]
    return bytes(data)


def check(messages: list[Message], data: bytes) -> None:
    json.dumps([message.to_json() for message in messages])
    assert [message.offset for message in messages] == sorted(message.offset for message in messages)
    for message in messages:
        assert (message.status is Status.BAD) == bool(message.problems)
        assert 0 <= message.offset < max(len(data), 1)
        assert all(0 <= problem.offset <= len(data) and problem.reason for problem in message.problems)


@given(
    st.one_of(st.binary(max_size=300), mutated()),
    st.sampled_from([None, KEYS]),
    st.sampled_from(MODELS),
)
@settings(max_examples=300, deadline=None)
def test_any_bytes_give_messages(data, keys, model):
    check(decode_stream(data, keys, model), data)


@given(st.lists(st.sampled_from(CAPTURES), min_size=2, max_size=4), st.binary(max_size=20))
@settings(max_examples=60, deadline=None)
def test_several_messages_with_dirt_between(captures, dirt):
    data = dirt.join(captures)
    check(decode_stream(data, KEYS), data)


@given(st.binary(max_size=80))
@settings(max_examples=300, deadline=None)
def test_tolerant_reader_never_raises(data):
    reading = tolerant.read(data)
    assert 0 <= reading.end <= len(data)
    assert reading.data is not None or reading.error is not None
    if reading.data is not None:
        push_values.find(reading.data)


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_input_is_read(raw):
    pieces, bad = hex_input.read(raw)
    assert all(piece.data for piece in pieces)
    assert all(line.reason for line in bad)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.sampled_from([" ", "", ", ", ":", " 0x"]))
@settings(max_examples=200, deadline=None)
def test_hex_in_any_dress_is_the_same_bytes(messages, between):
    text = "\n\n".join(between.join(f"{octet:02X}" for octet in message) for message in messages)
    pieces, bad = hex_input.read(text.encode())
    assert not bad
    assert b"".join(piece.data for piece in pieces) == b"".join(messages)
