import struct
from decimal import Decimal

import pytest

from protocols.dlms import axdr
from protocols.dlms.axdr import BitString, CompactArray, Data, DataType, Real, TypeDescription
from protocols.errors import LocalProtocolError, RemoteProtocolError

T = DataType

#: Bytes written by hand from the standard's rules, not by our encoder.
KNOWN = [
    ("00", axdr.NULL),
    ("ff", Data(T.DONT_CARE, None)),
    ("0300", axdr.boolean(False)),
    ("0301", axdr.boolean(True)),
    ("0400", axdr.bits("")),
    ("0403a0", axdr.bits("101")),
    ("0408a5", axdr.bits("10100101")),
    ("0409a580", axdr.bits("101001011")),
    ("05fffffffe", axdr.i32(-2)),
    ("0600000000", axdr.u32(0)),
    ("06ffffffff", axdr.u32(2**32 - 1)),
    ("0900", axdr.octets(b"")),
    ("09060100010800ff", axdr.octets(bytes([1, 0, 1, 8, 0, 255]))),
    ("0a0341ff00", axdr.visible("A\xff\0")),
    ("0c03e282ac", axdr.utf8("€")),
    ("0d99", Data(T.BCD, 0x99)),
    ("0fff", axdr.i8(-1)),
    ("108000", axdr.i16(-32768)),
    ("11ff", axdr.u8(255)),
    ("12ffff", axdr.u16(65535)),
    ("14ffffffffffffffff", axdr.i64(-1)),
    ("15ffffffffffffffff", axdr.u64(2**64 - 1)),
    ("161e", axdr.enum(30)),
    ("173f800000", axdr.float32(1.0)),
    ("18bff0000000000000", axdr.float64(-1.0)),
    ("1907ea0301070c000000ffc400", Data(T.DATE_TIME, bytes.fromhex("07ea0301070c000000ffc400"))),
    ("1a07ea030107", Data(T.DATE, bytes.fromhex("07ea030107"))),
    ("1b0c0000ff", Data(T.TIME, bytes.fromhex("0c0000ff"))),
    ("1cff", Data(T.DELTA_INTEGER, -1)),
    ("1dffff", Data(T.DELTA_LONG, -1)),
    ("1effffffff", Data(T.DELTA_DOUBLE_LONG, -1)),
    ("1fff", Data(T.DELTA_UNSIGNED, 255)),
    ("20ffff", Data(T.DELTA_LONG_UNSIGNED, 65535)),
    ("21ffffffff", Data(T.DELTA_DOUBLE_LONG_UNSIGNED, 2**32 - 1)),
    ("0100", axdr.array([])),
    ("0200", axdr.structure()),
    ("0102110111 02".replace(" ", ""), axdr.array([axdr.u8(1), axdr.u8(2)])),
    ("02020f00161b", axdr.structure(axdr.i8(0), axdr.enum(27))),
]


@pytest.mark.parametrize(("text", "data"), KNOWN, ids=[text[:16] for text, _ in KNOWN])
def test_each_type_by_hand(text, data):
    raw = bytes.fromhex(text)
    assert axdr.decode_exact(raw) == data
    assert axdr.encode(data) == raw
    assert axdr.skip(raw) == len(raw)
    # within other bytes, from any kind of buffer
    for buf in (
        b"\xaa" + raw + b"\xbb",
        bytearray(b"\xaa" + raw + b"\xbb"),
        memoryview(b"\xaa" + raw + b"\xbb"),
    ):
        assert axdr.decode(buf, 1) == (data, 1 + len(raw))
        assert axdr.skip(buf, 1) == 1 + len(raw)


@pytest.mark.parametrize("text", [text for text, _ in KNOWN])
def test_cut_short_at_each_byte(text):
    raw = bytes.fromhex(text)
    for end in range(len(raw)):
        for decoder in (axdr.decode, axdr.skip):
            with pytest.raises(RemoteProtocolError) as caught:
                decoder(raw[:end])
            assert caught.value.offset is not None
            assert caught.value.offset <= end


def test_every_type_of_the_table_is_covered():
    assert {data.type for _, data in KNOWN} == set(DataType) - {T.COMPACT_ARRAY}


@pytest.mark.parametrize("n", [0, 1, 127, 128, 255, 256, 65535, 65536, 2**24, 2**32 - 1])
def test_lengths_at_their_edges(n):
    raw = axdr.encode_length(n)
    assert axdr.decode_length(raw) == (n, len(raw))
    assert len(raw) == 1 if n < 128 else len(raw) == 1 + (n.bit_length() + 7) // 8


@pytest.mark.parametrize("raw", ["8105", "820005", "83000005", "8400000005"])
def test_longer_lengths_than_needed_are_read(raw):
    assert axdr.decode_length(bytes.fromhex(raw)) == (5, len(raw) // 2)
    assert axdr.decode_exact(bytes.fromhex("09" + raw) + b"hello") == axdr.octets(b"hello")


@pytest.mark.parametrize("raw", ["", "80", "85", "850000000001", "ff", "81", "8200", "84000000"])
def test_bad_lengths(raw):
    with pytest.raises(RemoteProtocolError):
        axdr.decode_length(bytes.fromhex(raw))


@pytest.mark.parametrize("n", [-1, 2**32])
def test_lengths_that_cannot_be_written(n):
    with pytest.raises(LocalProtocolError):
        axdr.encode_length(n)


@pytest.mark.parametrize(
    "raw", ["0184ffffffff", "0284ffffffff00", "010500", "0984ffffffff41", "0484ffffffff00"]
)
def test_huge_claims_fail_at_once(raw):
    reason = "elements claimed" if raw[:2] in ("01", "02") else "cut short"
    for decoder in (axdr.decode, axdr.skip):
        with pytest.raises(RemoteProtocolError, match=reason) as caught:
            decoder(bytes.fromhex(raw))
        assert caught.value.offset <= 6  # where the claim is, not where the bytes end


def test_nesting_ends():
    deep = b"\x02\x01" * axdr.MAX_DEPTH + b"\x00"
    assert axdr.skip(deep) == axdr.decode(deep)[1] == len(deep)
    for raw in (b"\x02\x01" * (axdr.MAX_DEPTH + 1) + b"\x00", b"\x01\x01" * 100_000 + b"\x00",
                b"\x13" + b"\x02\x01" * 100 + b"\x11\x01\x00"):  # fmt: skip
        for decoder in (axdr.decode, axdr.skip):
            with pytest.raises(RemoteProtocolError, match="nested deeper"):
                decoder(raw)
    data = axdr.NULL
    for _ in range(axdr.MAX_DEPTH + 1):
        data = axdr.structure(data)
    with pytest.raises(LocalProtocolError, match="nested deeper"):
        axdr.encode(data)


def test_unknown_tags_and_trailing_bytes_tell_where():
    with pytest.raises(RemoteProtocolError, match="unknown data type 7") as caught:
        axdr.decode(bytes.fromhex("0202110107"))
    assert caught.value.offset == 4
    with pytest.raises(RemoteProtocolError, match="2 bytes after the value") as caught:
        axdr.decode_exact(bytes.fromhex("1101aabb"))
    assert caught.value.offset == 2


def test_utf8_that_is_not():
    with pytest.raises(RemoteProtocolError, match="not UTF-8") as caught:
        axdr.decode(b"\x0c\x02A\xff")
    assert caught.value.offset == 3


def test_pad_bits_of_a_bit_string_survive():
    raw = bytes.fromhex("0403bf")
    data = axdr.decode_exact(raw)
    assert str(data.value) == "101"
    assert axdr.encode(data) == raw


@pytest.mark.parametrize(
    "data",
    [axdr.u8(256), axdr.u8(-1), axdr.i8(128), axdr.i8(-129), axdr.u16(65536), axdr.u32(-1), axdr.u64(2**64),
     axdr.i64(2**63), axdr.enum(256), Data(T.BCD, 256), Data(T.DATE_TIME, b"\0" * 11), Data(T.DATE, b""),
     Data(T.TIME, b"\0" * 5), Data(T.NULL, 0), Data(T.FLOAT32, Real(b"\0" * 8)), Data(T.FLOAT64, 1.0),
     axdr.visible("€"), axdr.utf8("\ud800"), Data(T.BIT_STRING, BitString(9, b"\0")), axdr.u8("1")],
)  # fmt: skip
def test_what_a_type_cannot_hold_is_our_error(data):
    with pytest.raises(LocalProtocolError):
        axdr.encode(data)


def test_bit_string_of_other_text():
    with pytest.raises(LocalProtocolError):
        axdr.bits("102")


@pytest.mark.parametrize(
    "raw", ["177fc12345", "17ff800001", "1780000000", "187ff0000000000001", "17 7f800000"]
)
def test_floats_keep_their_bits(raw):
    raw = bytes.fromhex(raw)
    data = axdr.decode_exact(raw)
    assert axdr.encode(data) == raw
    assert data == axdr.decode_exact(raw)  # a NaN equals itself


def test_floats_differ_where_a_bit_does():
    assert axdr.float32(0.0) != axdr.float32(-0.0)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (axdr.float32(0.1), "0.1"),
        (axdr.float32(230.2), "230.2"),
        (axdr.float64(0.1), "0.1"),
        (axdr.float32(16777216.0), "16777216"),
        (axdr.float32(0.0), "0"),
        (axdr.float64(1e300), "1e300"),
        (axdr.float32(float("inf")), "Infinity"),
    ],
)
def test_shortest_decimal(data, text):
    assert data.value.decimal() == Decimal(text)


def test_shortest_decimal_of_the_odd_ones():
    assert axdr.float32(-0.0).value.decimal().is_signed()
    assert Real(bytes.fromhex("7fc12345")).decimal().is_nan()
    smallest = Real(b"\0\0\0\1")
    assert struct.pack(">f", float(smallest.decimal())) == smallest.raw
    assert str(smallest.decimal()) == "1E-45"
    with pytest.raises(ValueError, match="4 or 8"):
        Real(b"")
    with pytest.raises(LocalProtocolError):
        axdr.float32(1e39)


# compact-array: structure { long-unsigned, octet-string, array[2] of unsigned }, two elements
COMPACT = bytes.fromhex("13 02 03 12 09 01 0002 11 0e 0001 03 616263 0a0b 0002 01 7a 0c0d")


def test_compact_array_expands_and_encodes_again():
    data, end = axdr.decode(COMPACT + b"\xff")
    assert end == len(COMPACT) == axdr.skip(COMPACT)
    first = axdr.structure(axdr.u16(1), axdr.octets(b"abc"), axdr.array([axdr.u8(10), axdr.u8(11)]))
    second = axdr.structure(axdr.u16(2), axdr.octets(b"z"), axdr.array([axdr.u8(12), axdr.u8(13)]))
    assert data.value.elements == (first, second)
    assert axdr.encode(data) == COMPACT
    assert CompactArray.of(data.value.description, [first, second]) == data.value


def test_compact_array_cut_short_at_each_byte():
    for end in range(len(COMPACT)):
        for decoder in (axdr.decode, axdr.skip):
            with pytest.raises(RemoteProtocolError):
                decoder(COMPACT[:end])


def test_compact_array_contents_that_do_not_fit_the_description():
    with pytest.raises(RemoteProtocolError, match="cut short") as caught:
        axdr.decode(bytes.fromhex("131203000102"))  # long-unsigned, three bytes of contents
    assert caught.value.offset == 5


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("130001aa", "without width"),
        ("13020001aa", "without width"),
        ("1301ffff0001aa", "more than 16 elements a byte"),
        ("1301ffff01ffff01ffff1101aa", "cut short"),
        ("130202110 1ffff0001aa".replace(" ", ""), "more than 16 elements a byte"),
        ("131311001100", "within a compact-array"),
        ("1307", "unknown data type"),
    ],
)
def test_compact_arrays_that_would_grow_or_loop(raw, reason):
    with pytest.raises(RemoteProtocolError, match=reason):
        axdr.decode(bytes.fromhex(raw))


def test_compact_array_of_other_elements_is_our_error():
    description = TypeDescription(T.STRUCTURE, 0, (TypeDescription(T.UNSIGNED),))
    for element in (axdr.u8(1), axdr.structure(), axdr.structure(axdr.u16(1)), axdr.structure(axdr.u8(256))):
        with pytest.raises(LocalProtocolError):
            CompactArray.of(description, [element])
    with pytest.raises(LocalProtocolError):
        CompactArray.of(TypeDescription(T.ARRAY, 2, (TypeDescription(T.NULL),)), [axdr.array([axdr.NULL])])
    with pytest.raises(LocalProtocolError):
        axdr.encode(Data(T.COMPACT_ARRAY, CompactArray(TypeDescription(T.ARRAY, 65536), b"", ())))


def test_negative_offsets_are_ours():
    for decoder in (axdr.decode, axdr.skip):
        with pytest.raises(LocalProtocolError):
            decoder(b"\0", -1)
