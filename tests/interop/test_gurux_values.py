"""A-XDR values and key wrap: Gurux' bytes and ours are the same, and each reads the other's."""

import datetime as dt
from zoneinfo import ZoneInfo

import pytest
from gurux_dlms import (
    GXBitString,
    GXByteBuffer,
    GXDate,
    GXDateTime,
    GXFloat32,
    GXFloat64,
    GXTime,
)
from gurux_dlms.enums import ClockStatus as GuruxStatus
from gurux_dlms.enums import DataType as Gurux
from gurux_dlms.enums import DateTimeSkips
from gurux_dlms.GXDLMSSettings import GXDLMSSettings
from gurux_dlms.internal._GXCommon import _GXCommon
from gurux_dlms.internal._GXDataInfo import _GXDataInfo
from gurux_dlms.secure import GXDLMSSecureClient
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.dlms import axdr
from protocols.dlms.axdr import CompactArray, Data, DataType, TypeDescription
from protocols.dlms.cosem_time import ClockStatus, CosemDateTime
from protocols.dlms.security import Key, unwrap_key, wrap_key

pytestmark = pytest.mark.interop

SETTINGS = GXDLMSSettings(True, None)


def written(kind, value) -> bytes:
    """What Gurux writes for ``value``."""
    buffer = GXByteBuffer()
    _GXCommon.setData(SETTINGS, buffer, kind, value)
    return bytes(buffer.array())


def read(raw: bytes):
    """What Gurux reads in ``raw``, all of it."""
    buffer = GXByteBuffer(raw)
    value = _GXCommon.getData(SETTINGS, buffer, _GXDataInfo())
    assert buffer.position == len(raw)
    return value


INTEGERS = [
    (Gurux.INT8, DataType.INTEGER, -(2**7), 2**7 - 1),
    (Gurux.INT16, DataType.LONG, -(2**15), 2**15 - 1),
    (Gurux.INT32, DataType.DOUBLE_LONG, -(2**31), 2**31 - 1),
    (Gurux.INT64, DataType.LONG64, -(2**63), 2**63 - 1),
    (Gurux.UINT8, DataType.UNSIGNED, 0, 2**8 - 1),
    (Gurux.UINT16, DataType.LONG_UNSIGNED, 0, 2**16 - 1),
    (Gurux.UINT32, DataType.DOUBLE_LONG_UNSIGNED, 0, 2**32 - 1),
    (Gurux.UINT64, DataType.LONG64_UNSIGNED, 0, 2**64 - 1),
]


@pytest.mark.parametrize(("theirs", "ours", "least", "most"), INTEGERS)
def test_integers(theirs, ours, least, most):
    for value in {least, least + 1, 0, 1, 127, most - 1, most} & set(range(-200, 200)) | {least, most}:
        raw = written(theirs, value)
        assert raw == axdr.encode(Data(ours, value))
        assert axdr.decode_exact(raw) == Data(ours, value)
        assert read(raw) == value


@pytest.mark.parametrize("length", [0, 1, 127, 128, 255, 256, 65535, 65536])
def test_octet_and_text_strings_of_all_length_forms(length):
    octets = (bytes(range(256)) * 257)[:length]
    raw = written(Gurux.OCTET_STRING, octets)
    assert axdr.decode_exact(raw) == axdr.octets(octets)
    if length < 65536:  # there it writes a length of four bytes, we one of three, which it cannot read
        assert raw == axdr.encode(axdr.octets(octets))
        assert bytes(read(raw) or b"") == octets
    text = "kWh " * (length // 4) + "x" * (length % 4)
    raw = written(Gurux.STRING, text)
    decoded = axdr.decode_exact(raw)
    assert (decoded.type, decoded.value) == (DataType.VISIBLE_STRING, text)
    assert axdr.encode(decoded) == raw or length >= 65536


def test_booleans_enums_null_and_bits():
    for value in (True, False):
        assert axdr.decode_exact(written(Gurux.BOOLEAN, value)) == Data(DataType.BOOLEAN, value)
        assert read(axdr.encode(Data(DataType.BOOLEAN, value))) is value
    for value in (0, 30, 255):
        assert written(Gurux.ENUM, value) == axdr.encode(axdr.enum(value))
    assert written(Gurux.NONE, None) == axdr.encode(Data(DataType.NULL, None))
    for bits in ("1", "0110", "10000000", "101100111", "0" * 24):
        raw = written(Gurux.BITSTRING, GXBitString(bits))
        decoded = axdr.decode_exact(raw)
        assert decoded.type is DataType.BIT_STRING
        assert axdr.encode(decoded) == raw


@pytest.mark.parametrize("value", [0.0, -0.0, 1.5, -273.15, 3.4e38, 1e-40, float("inf")])
def test_floats(value):
    for theirs, ours, make in (
        (Gurux.FLOAT32, DataType.FLOAT32, GXFloat32),
        (Gurux.FLOAT64, DataType.FLOAT64, GXFloat64),
    ):
        raw = written(theirs, make(value))
        decoded = axdr.decode_exact(raw)
        assert decoded.type is ours
        assert axdr.encode(decoded) == raw
        again = read(axdr.encode(decoded))
        assert float(getattr(again, "value", again)) == read(raw)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 100 * 365 * 86_400),
    st.integers(-12 * 4, 14 * 4),
)
def test_moments_with_any_deviation(seconds, quarters):
    zone = dt.timezone(dt.timedelta(minutes=15 * quarters))
    moment = dt.datetime(2000, 1, 2, tzinfo=zone) + dt.timedelta(seconds=seconds)
    raw = written(Gurux.OCTET_STRING, GXDateTime(moment))
    assert raw[:2] == b"\x09\x0c"
    ours = CosemDateTime.from_bytes(raw[2:])
    assert ours.to_utc() == moment
    assert ours.deviation_min == -15 * quarters
    theirs = _GXCommon.changeType(
        SETTINGS, bytearray(CosemDateTime.from_utc(moment).to_bytes()), Gurux.DATETIME
    )
    assert theirs.value == moment


def test_the_two_hours_of_autumn_and_what_is_unspecified():
    berlin = ZoneInfo("Europe/Berlin")
    for fold in (0, 1):
        moment = dt.datetime(2026, 10, 25, 2, 30, tzinfo=berlin, fold=fold)
        ours = CosemDateTime.from_zone(moment.astimezone(dt.UTC), berlin)
        theirs = _GXCommon.changeType(SETTINGS, bytearray(ours.to_bytes()), Gurux.DATETIME)
        assert theirs.value.astimezone(dt.UTC) == moment.astimezone(dt.UTC)
        summer = bool(theirs.status & GuruxStatus.DAYLIGHT_SAVE_ACTIVE)
        assert summer is (fold == 0)
        assert (ours.status is not None and bool(ours.status & ClockStatus.DST_ACTIVE)) is summer
    stamp = GXDateTime(dt.datetime(2026, 3, 10, 12, 15, tzinfo=dt.UTC))
    stamp.skip = DateTimeSkips.DEVITATION | DateTimeSkips.DAY_OF_WEEK | DateTimeSkips.SECOND
    ours = CosemDateTime.from_bytes(written(Gurux.OCTET_STRING, stamp)[2:])
    assert ours.deviation_min is None
    assert ours.date.weekday is None
    assert ours.time.second is None
    assert (ours.date.year, ours.date.month, ours.date.day) == (2026, 3, 10)


def test_dates_and_times():
    date = axdr.decode_exact(written(Gurux.DATE, GXDate(dt.datetime(2026, 3, 10, tzinfo=dt.UTC))))
    assert date.type is DataType.DATE
    assert bytes(date.value)[:4] == bytes((7, 0xEA, 3, 10))
    time = axdr.decode_exact(written(Gurux.TIME, GXTime(dt.datetime(2026, 3, 10, 12, 15, 7, tzinfo=dt.UTC))))
    assert time.type is DataType.TIME
    assert bytes(time.value)[:3] == bytes((12, 15, 7))


def test_structures_and_arrays_within_each_other():
    data = axdr.array(
        axdr.structure(
            axdr.octets(bytes(12)), axdr.u8(n), axdr.u32(2**32 - 1 - n), axdr.array([axdr.u16(n)] * 3)
        )
        for n in range(200)
    )
    assert read(axdr.encode(data)) == [[bytearray(12), n, 2**32 - 1 - n, [n] * 3] for n in range(200)]


def test_compact_arrays():
    """200 rows of (double-long-unsigned, unsigned) told once: tag 19, type description, contents."""
    rows = [(1000 + n, n % 256) for n in range(200)]
    description = TypeDescription(
        DataType.STRUCTURE,
        parts=(TypeDescription(DataType.DOUBLE_LONG_UNSIGNED), TypeDescription(DataType.UNSIGNED)),
    )
    packed = CompactArray.of(description, [axdr.structure(axdr.u32(a), axdr.u8(b)) for a, b in rows])
    raw = axdr.encode(Data(DataType.COMPACT_ARRAY, packed))
    assert raw.startswith(bytes.fromhex("1302020611"))
    assert read(raw) == [list(row) for row in rows]


@pytest.mark.parametrize("length", [16, 32])
def test_key_wrap(length):
    """RFC 3394 with a master key of 128 bits, all that Gurux takes; its unwrapping fails on its own error."""
    kek, key = bytes(range(16)), bytes(range(0x20, 0x20 + length))
    theirs = bytes(GXDLMSSecureClient.encrypt(kek, key))
    assert theirs == wrap_key(Key(key), kek=Key(kek))
    assert unwrap_key(theirs, kek=Key(kek)).reveal() == key
