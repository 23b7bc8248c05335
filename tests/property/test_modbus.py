"""Any words and bytes give values or a refusal; plans read what is wanted and nothing forbidden."""

import struct
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.dlms import units
from protocols.dlms.axdr import Real
from protocols.errors import CommunicationError, RemoteProtocolError
from protocols.modbus import requests, sunspec
from protocols.modbus.answers import Awaited, find_rtu, find_tcp
from protocols.modbus.frames import crc16, parse_rtu, parse_tcp
from protocols.modbus.plan import Span, plan
from protocols.modbus.readout import Readout, decode_register
from protocols.modbus.values import column_integer, float_decimal, scaled
from schemas.reading import Channel
from schemas.register_model import (
    Forbidden,
    MapRegister,
    Reads,
    RegisterType,
    Space,
    load_register_model,
    register_model_names,
)

WORD = st.integers(0, 0xFFFF)
MODELS = [load_register_model(name) for name in register_model_names() if name != "sunspec"]


@settings(deadline=None)  # many models, many cuts
@given(st.sampled_from(MODELS), st.data())
def test_any_answers_give_values(model, data):
    readout = Readout(model)
    answers = {
        block: data.draw(st.none() | st.lists(WORD, min_size=block.count, max_size=block.count))
        for block in readout.blocks
    }
    values = readout.decode(answers)
    assert len(values) == len([one for one in model.registers.values() if one.group in ("energy", "live")])
    for value in values:
        told = (value.value is not None) or (value.text is not None)
        assert told is (value.reason is None)


@settings(deadline=None)  # many models, many cuts
@given(st.sampled_from(MODELS), st.data())
def test_the_short_way_of_floats_is_the_long_one(model, data):
    names = [name for name, one in model.registers.items() if one.type is RegisterType.F32]
    names = [name for name in names if model.registers[name].group != "command"]
    if not names:
        return
    readout = Readout(model, names)
    answers = {
        block: data.draw(st.lists(WORD, min_size=block.count, max_size=block.count))
        for block in readout.blocks
    }
    for name, value in zip(names, readout.decode(answers), strict=True):
        register = model.registers[name]
        (block,) = (
            one
            for one in readout.blocks
            if one.space is register.space and one.address <= register.at < one.end
        )
        at = register.at - block.address
        words = answers[block][at : at + register.width]
        assert value == decode_register(name, register, words, model.missing.get(register.type, ()))


@settings(deadline=None)
@given(st.sampled_from(MODELS), st.data())
def test_integers_of_columns_by_the_short_way_are_those_by_the_long_one(model, data):
    names = [name for name, one in model.registers.items() if one.quantity is not None]
    channels = [model.registers[name].channel() for name in names]
    readout = Readout(model, names)
    number = st.floats(width=32) | st.integers(0, 10**6).map(float)
    read = []
    for block in readout.blocks:
        floats = data.draw(st.lists(number, min_size=block.count // 2, max_size=block.count // 2))
        read.append(b"".join(struct.pack(">f", one) for one in floats).ljust(2 * block.count, b"\0"))
    short = readout.integers(read, [channel.scaler for channel in channels])
    long = [
        None if value.value is None else column_integer(value.value, channel)
        for value, channel in zip(readout.decode_blocks(read), channels, strict=True)
    ]
    assert short is None or short == long
    if all(model.registers[name].type is RegisterType.F32 for name in names) and None not in long:
        assert short == long


@given(st.sampled_from([t for t in RegisterType if t is not RegisterType.TEXT]), st.data())
def test_integers_and_floats_are_what_their_bytes_say(kind, data):
    words = data.draw(st.lists(WORD, min_size=kind.words, max_size=kind.words))
    raw = b"".join(word.to_bytes(2, "big") for word in words)
    register = MapRegister(at=0, type=kind, space=Space.INPUT, scaler=-3)
    found = decode_register("x", register, words)
    if kind.is_float:
        (value,) = struct.unpack(">f" if len(raw) == 4 else ">d", raw)
        if found.value is None:
            assert value != value or abs(value) == float("inf")
        else:
            assert struct.pack(">f" if len(raw) == 4 else ">d", float(found.value.scaleb(3)) + 0.0) == (
                raw if value else bytes(len(raw))
            )
    elif found.value is not None and not kind.value.startswith("bcd"):
        assert int(found.value.scaleb(3)) == int.from_bytes(raw, "big", signed=kind.value.startswith("s"))


FLOATS = st.binary(min_size=4, max_size=4) | st.binary(min_size=8, max_size=8)
ODD_FLOATS = st.sampled_from(
    ["00000001", "007fffff", "00800000", "00800001", "7f7fffff", "7f800000", "3f800000", "4b800000",
     "80000000", "15ae43fd", "0000000000000001", "7fefffffffffffff", "7ff0000000000001", "15ae43fe",
     "5f7ffff9", "a0000000"]
).map(bytes.fromhex)  # fmt: skip


@given(FLOATS | ODD_FLOATS)
def test_a_float_is_its_shortest_decimal(data):
    found, slow = float_decimal(data), Real(data).decimal()
    if not slow.is_finite():
        assert found is None
        return
    assert found == slow
    assert "E" not in str(found) or found.adjusted() < -6
    assert len(found.as_tuple().digits) <= max(len(slow.as_tuple().digits), found.adjusted() + 1)


@given(st.integers(-(2**63), 2**64 - 1), st.integers(-128, 127))
def test_scaling_rounds_nothing(raw, scaler):
    found = scaled(raw, scaler)
    assert found == units.scale(raw, scaler)
    assert "E" not in str(found) or found.adjusted() < -6 or raw == 0


SPANS = st.lists(st.builds(Span, st.sampled_from(Space), st.integers(0, 400), st.integers(1, 8)), max_size=40)
READS = st.builds(
    Reads,
    max_words=st.integers(8, 125),
    max_gap=st.integers(0, 40),
    forbidden=st.lists(
        st.builds(
            lambda space, first, more: Forbidden(space=space, first=first, last=first + more),
            st.sampled_from(Space), st.integers(0, 400), st.integers(0, 5),
        ),
        max_size=3,
    ).map(tuple),
)  # fmt: skip


@given(SPANS, READS)
def test_a_plan_reads_what_is_wanted_and_touches_nothing_forbidden(spans, reads):
    stretches = {(one.space, at) for one in reads.forbidden for at in range(one.first, one.last + 1)}
    cells = {(span.space, at) for span in spans for at in range(span.address, span.end)}
    if cells & stretches:
        with pytest.raises(CommunicationError):
            plan(spans, reads)
        return
    blocks = plan(spans, reads)
    for span in spans:
        assert any(
            block.space is span.space and block.address <= span.address and span.end <= block.end
            for block in blocks
        )
    read = {(block.space, at) for block in blocks for at in range(block.address, block.end)}
    assert not read & stretches
    assert all(block.count <= reads.max_words for block in blocks)
    assert len(blocks) <= len(set(spans))


@given(st.decimals(allow_nan=False, allow_infinity=False, places=None), st.integers(-10, 10))
def test_a_column_holds_a_value_exactly_or_not_at_all(value, scaler):
    channel = Channel("active_import", "1-0:1.8.0*255", scaler, "Wh")
    raw = column_integer(value, channel)
    if raw is not None:
        assert Decimal((raw < 0, tuple(map(int, str(abs(raw)))), scaler)) == value


@given(st.binary(max_size=300), st.integers(0, 20))
def test_any_bytes_are_frames_or_not(data, start):
    for whole in (data, data + crc16(data[start:]).to_bytes(2, "little")):
        found = parse_rtu(whole, start)
        if found is not None:
            assert start < found[1] <= len(whole)
            assert str(found[0])
            assert isinstance(found[0].registers, tuple)
    try:
        frame, end = parse_tcp(data, start)
    except RemoteProtocolError:
        return
    assert start < end <= len(data)
    assert str(frame)


@given(st.lists(WORD, max_size=140), st.integers(0, 2**16))
def test_any_meter_ends_discovery(words, salt):
    """A meter that answers anything: the mark, then what the words say, over and over."""
    generator = sunspec.discover()
    answer, ended = None, False
    for step in range(1000):
        try:
            span = generator.send(answer)
        except (StopIteration, CommunicationError):
            ended = True
            break
        if step == 0:
            answer = [0x5375, 0x6E53]
        elif not words or (step > 3 and (salt >> step % 16) & 1):
            answer = None
        else:
            answer = [words[(span.address + at) % len(words)] for at in range(span.count)]
    assert ended


@given(st.sampled_from(sorted(sunspec.definitions())), st.lists(st.integers(-1, 0x10000), max_size=130))
def test_any_words_of_a_sunspec_model(number, words):
    try:
        values = sunspec.decode_model(number, words)
    except CommunicationError:
        return
    for value in values:
        assert (value.value is not None or value.text is not None) is (value.reason is None)


REQUEST = st.one_of(
    st.builds(requests.read_registers, st.sampled_from([3, 4]), WORD, st.integers(1, 125)),
    st.builds(requests.read_file, st.integers(1, 0xFFFF), st.integers(0, 9000), st.integers(1, 121)),
    st.builds(
        requests.write_file, st.integers(1, 0xFFFF), st.integers(0, 9000),
        st.binary(min_size=1, max_size=122).map(lambda data: data * 2),
    ),
    st.builds(requests.write_registers, WORD, st.binary(min_size=1, max_size=123).map(lambda data: data * 2)),
)  # fmt: skip
READ = st.builds(
    lambda unit, request, transaction: Awaited(unit, request.head, request.length, transaction),
    st.integers(1, 247),
    REQUEST,
    st.integers(0, 0xFFFF),
)


def answers(read, words, code):
    """The answer and a refusal, as PDUs."""
    size = read.length - len(read.head)
    data = b"".join(words[place % len(words)].to_bytes(2, "big") for place in range(size // 2))
    return [read.head + data, bytes((read.head[0] | 0x80, code))]


@given(REQUEST)
def test_what_a_request_says_is_what_a_slave_gets(request):
    assert len(request.pdu) <= 253
    assert request.length <= 253
    frame, end = parse_rtu(rtu(7, request.pdu))
    assert (frame.unit, frame.function, end) == (7, request.pdu[0], len(request.pdu) + 3)
    if frame.function in (requests.READ_FILE, requests.WRITE_FILE):
        (part,) = requests.file_parts(frame.function, frame.data)
        again = (
            requests.write_file(part.file, part.record, part.data)
            if frame.function == requests.WRITE_FILE
            else requests.read_file(part.file, part.record, part.registers)
        )
        assert again == request


@given(st.sampled_from([requests.READ_FILE, requests.WRITE_FILE]), st.binary(max_size=60))
def test_any_bytes_are_groups_of_files_or_none(function, body):
    try:
        parts = requests.file_parts(function, body)
    except RemoteProtocolError:
        return
    assert sum(7 + len(part.data) for part in parts) == len(body)


def rtu(unit, pdu):
    body = bytes((unit,)) + pdu
    return body + crc16(body).to_bytes(2, "little")


@settings(deadline=None)  # many models, many cuts
@given(
    READ,
    st.lists(WORD, min_size=1, max_size=9),
    st.integers(0, 255),
    st.binary(max_size=30),
    st.binary(max_size=30),
)
def test_an_answer_is_found_behind_any_noise_and_nothing_else_is(read, words, code, before, behind):
    for pdu in answers(read, words, code):
        frame = rtu(read.unit, pdu)
        found = find_rtu(read, before + frame + behind)
        # noise may hold a whole frame of its own, but then it is one that verifies
        assert found is not None
        assert crc16(found[:-2]).to_bytes(2, "little") == found[-2:]
        assert read.is_answered_by(found[1:-2])
        assert found[0] == read.unit
        assert find_rtu(read, frame[:-1]) is None
        other = rtu(read.unit % 247 + 1, pdu)
        assert find_rtu(read, other) is None
        wrong = bytearray(frame)
        wrong[len(before) % len(frame)] ^= 0x10
        assert find_rtu(read, bytes(wrong)) is None


@given(READ, st.binary(max_size=600))
def test_any_bytes_hold_an_answer_or_none(read, data):
    found = find_rtu(read, data)
    assert found is None or (found in data and read.is_answered_by(found[1:-2]))
    try:
        frame, rest = find_tcp(read, data)
    except RemoteProtocolError:
        return
    assert data.endswith(rest)
    assert len(rest) < 260 or frame is not None
    assert frame is None or (frame in data and read.is_answered_by(frame[7:]))


@settings(deadline=None)  # many models, many cuts
@given(READ, st.lists(WORD, min_size=1, max_size=9), st.integers(0, 255), st.integers(1, 0xFFFF))
def test_a_stream_of_tcp_is_searched_at_every_length(read, words, code, other):
    def tcp(transaction, pdu):
        return (
            transaction.to_bytes(2, "big")
            + b"\0\0"
            + (len(pdu) + 1).to_bytes(2, "big")
            + bytes((read.unit,))
            + pdu
        )

    late = tcp((read.transaction + other) & 0xFFFF, b"\x2b\x0e\x01")  # of another request: whatever it is
    for pdu in answers(read, words, code):
        ours = tcp(read.transaction, pdu)
        stream = late + ours + late
        end = len(late + ours)
        for cut in range(len(stream) + 1):
            frame, rest = find_tcp(read, stream[:cut])
            assert frame == (ours if cut >= end else None)
            # cut anywhere, the next search finds it
            assert frame is not None or find_tcp(read, rest + stream[cut:]) == (ours, late)
        for wrong in (pdu + b"\0", pdu[:-1]):
            with pytest.raises(RemoteProtocolError):
                find_tcp(read, late + tcp(read.transaction, wrong))
