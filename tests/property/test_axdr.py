"""Round trips of every type, and the invariant: any bytes give a value or RemoteProtocolError."""

import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from protocols.dlms import axdr
from protocols.dlms.axdr import BitString, CompactArray, Data, DataType, Real, TypeDescription
from protocols.errors import RemoteProtocolError

T = DataType
_RANGES = {
    T.DOUBLE_LONG: (-(2**31), 2**31 - 1), T.DOUBLE_LONG_UNSIGNED: (0, 2**32 - 1), T.BCD: (0, 255),
    T.INTEGER: (-128, 127), T.LONG: (-(2**15), 2**15 - 1), T.UNSIGNED: (0, 255), T.LONG_UNSIGNED: (0, 65535),
    T.LONG64: (-(2**63), 2**63 - 1), T.LONG64_UNSIGNED: (0, 2**64 - 1), T.ENUM: (0, 255),
    T.DELTA_INTEGER: (-128, 127), T.DELTA_LONG: (-(2**15), 2**15 - 1),
    T.DELTA_DOUBLE_LONG: (-(2**31), 2**31 - 1), T.DELTA_UNSIGNED: (0, 255),
    T.DELTA_LONG_UNSIGNED: (0, 65535), T.DELTA_DOUBLE_LONG_UNSIGNED: (0, 2**32 - 1),
}  # fmt: skip


@st.composite
def bit_strings(draw):
    length = draw(st.integers(0, 40))
    return BitString(length, draw(st.binary(min_size=-(-length // 8), max_size=-(-length // 8))))


_VALUES = {
    T.NULL: st.none(), T.DONT_CARE: st.none(), T.BOOLEAN: st.booleans(), T.BIT_STRING: bit_strings(),
    T.OCTET_STRING: st.binary(max_size=20) | st.sampled_from([b"x" * n for n in (127, 128, 255, 256)]),
    T.VISIBLE_STRING: st.text(st.characters(max_codepoint=255), max_size=20),
    T.UTF8_STRING: st.text(st.characters(codec="utf-8"), max_size=20),
    T.FLOAT32: st.binary(min_size=4, max_size=4).map(Real),
    T.FLOAT64: st.binary(min_size=8, max_size=8).map(Real),
    T.DATE_TIME: st.binary(min_size=12, max_size=12), T.DATE: st.binary(min_size=5, max_size=5),
    T.TIME: st.binary(min_size=4, max_size=4),
    **{kind: st.integers(low, high) for kind, (low, high) in _RANGES.items()},
}  # fmt: skip


def values(kind):
    return st.builds(Data, st.just(kind), _VALUES[kind])


plain = st.sampled_from(sorted(_VALUES)).flatmap(values)
descriptions = st.recursive(
    st.sampled_from(sorted(_VALUES)).map(TypeDescription),
    lambda inner: st.one_of(
        st.builds(lambda n, part: TypeDescription(T.ARRAY, n, (part,)), st.integers(0, 3), inner),
        st.lists(inner, max_size=4).map(lambda parts: TypeDescription(T.STRUCTURE, 0, tuple(parts))),
    ),
    max_leaves=5,
)


def described(description):
    if description.type is T.ARRAY:
        n = description.length
        return st.lists(described(description.parts[0]), min_size=n, max_size=n).map(axdr.array)
    if description.type is T.STRUCTURE:
        return st.tuples(*(described(part) for part in description.parts)).map(
            lambda items: axdr.structure(*items)
        )
    return values(description.type)


@st.composite
def compact_arrays(draw):
    description = draw(descriptions)
    packed = CompactArray.of(description, draw(st.lists(described(description), max_size=4)))
    width = len(packed.contents)
    if width == 0 or any(
        _nodes(item) * len(packed.elements) > axdr.EXPANSION * width for item in packed.elements
    ):
        return axdr.NULL  # elements without width cannot be counted; mostly-null ones are refused on purpose
    one = CompactArray.of(description, packed.elements[:1])
    return Data(T.COMPACT_ARRAY, packed) if one.contents else axdr.NULL


def _nodes(data):
    nested = data.value if data.type in (T.ARRAY, T.STRUCTURE) else ()
    return 1 + sum(_nodes(item) for item in nested)


data = st.recursive(
    st.one_of(plain, compact_arrays()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4).map(axdr.array),
        st.lists(inner, max_size=4).map(lambda items: axdr.structure(*items)),
    ),
    max_leaves=8,
)


@given(data)
@settings(max_examples=300, deadline=None)
def test_round_trip(value):
    raw = axdr.encode(value)
    assert axdr.decode_exact(raw) == value
    assert axdr.skip(raw) == len(raw)
    assert axdr.decode(b"\x55" + raw + b"\xaa", 1) == (value, len(raw) + 1)


@given(data)
@settings(max_examples=100, deadline=None)
def test_a_compact_array_decodes_to_the_elements_that_went_in(value):
    decoded = axdr.decode_exact(axdr.encode(value))
    if value.type is T.COMPACT_ARRAY:
        assert decoded.value.elements == value.value.elements


@given(data, st.integers(0, 200))
@settings(max_examples=150, deadline=None)
def test_cut_short_is_an_error_within_the_bytes(value, cut):
    raw = axdr.encode(value)
    raw = raw[: cut % len(raw)]
    for decoder in (axdr.decode, axdr.skip):
        with pytest.raises(RemoteProtocolError) as caught:
            decoder(raw)
        assert 0 <= caught.value.offset <= len(raw)


@given(st.binary(max_size=64))
@example(b"\x13\x01\xff\xff\x01\xff\xff\x00\x01\x00")
@settings(max_examples=400, deadline=None)
def test_any_bytes(raw):
    _decodes_or_refuses(raw)


@given(data, st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=200, deadline=None)
def test_any_damage(value, damage):
    raw = bytearray(axdr.encode(value))
    for at, octet in damage:
        raw[at % len(raw)] = octet
    _decodes_or_refuses(bytes(raw))


def _decodes_or_refuses(raw):
    try:
        value, end = axdr.decode(raw)
    except RemoteProtocolError as exc:
        refused = exc
    else:
        refused = None
    if refused is not None:
        assert refused.offset is not None
        assert 0 <= refused.offset <= len(raw)
        return
    assert 0 < end <= len(raw)
    assert axdr.skip(raw) == end
    assert axdr.decode_exact(axdr.encode(value)) == value


@given(st.binary(min_size=4, max_size=4), st.binary(min_size=8, max_size=8))
def test_shortest_decimals_read_back_as_the_same_bits(single, double):
    for raw, layout in ((single, ">f"), (double, ">d")):
        number = Real(raw).decimal()
        if number.is_finite():
            assert struct.pack(layout, float(number)) == raw
