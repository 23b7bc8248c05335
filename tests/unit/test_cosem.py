import datetime as dt
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from protocols.dlms import axdr, cosem
from protocols.dlms.axdr import CompactArray, Data, DataType, TypeDescription
from protocols.dlms.cosem import (
    Attribute,
    AttributeAccess,
    CaptureObject,
    EntryDescriptor,
    LogicalDevice,
    Method,
    MethodAccess,
    ObjectEntry,
    RangeDescriptor,
    Register,
    ScalerUnit,
    SecurityPolicy,
    SortMethod,
)
from protocols.dlms.cosem_time import CosemDateTime
from protocols.dlms.obis import Obis
from protocols.errors import RemoteProtocolError

STAMP = bytes.fromhex("07ea0302 01 000000 00 ffc4 00")
IMPORT = Obis.parse("1-0:1.8.0*255")
CLOCK_COLUMN = CaptureObject(8, Obis.parse("0-0:1.0.0*255"), 2, 0)


def parsed(text):
    return axdr.decode_exact(bytes.fromhex(text))


def test_descriptors_print_for_engineers():
    assert str(Attribute(3, IMPORT, 2)) == "3/1-0:1.8.0*255/2"
    assert str(Method(15, IMPORT, 1)) == "15/1-0:1.8.0*255/method 1"


@pytest.mark.parametrize(
    ("value", "scaler_unit", "expected"),
    [
        (axdr.u32(1204895), "02020f01161e", Register(Decimal(12048950), "Wh")),
        (axdr.u16(2302), "02020fff1623", Register(Decimal("230.2"), "V")),
        (axdr.u32(0), "02020f00161e", Register(Decimal(0), "Wh")),
        (axdr.u64(2**64 - 1), "02020f0016ff", Register(Decimal(2**64 - 1), None)),
        (axdr.i32(-5), "02020ffd161b", Register(Decimal("-0.005"), "W")),
        (axdr.float32(0.1), "02020f031624", Register(Decimal(100), None)),
        (axdr.NULL, "02020f00161e", None),
    ],
)
def test_exact_values(value, scaler_unit, expected):
    scaling = ScalerUnit.decode(parsed(scaler_unit))
    found = cosem.exact(value, scaling)
    if expected is not None and scaling.unit == 0x24:
        expected = Register(expected.value, "V/m")
    assert found == expected
    assert axdr.encode(scaling.encode()) == bytes.fromhex(scaler_unit)


def test_raw_where_no_scaler_is_known():
    assert cosem.exact(axdr.u8(7)) == Register(Decimal(7), None)
    with pytest.raises(RemoteProtocolError, match="not a number"):
        cosem.exact(axdr.octets(b"7"))
    with pytest.raises(RemoteProtocolError, match="not a number"):
        cosem.exact(axdr.boolean(True))


@pytest.mark.parametrize(
    "text", ["00", "02010f00", "02021100161e", "02020f000f1e", "0203 0f00 161e 00", "01020f000f1e"]
)
def test_bad_scaler_units(text):
    with pytest.raises(RemoteProtocolError, match="scaler_unit"):
        ScalerUnit.decode(parsed(text))


def test_a_demand_register_counts_differently():
    assert cosem.REGISTER_ATTRIBUTES[3].scaler_unit == 3
    assert cosem.REGISTER_ATTRIBUTES[5].scaler_unit == 4
    assert cosem.REGISTER_ATTRIBUTES[4].capture_time == 5


#: capture_objects of a clock and an import register, by hand
CAPTURE = "0102 0204 120008 09060000010000ff 0f02 120000 0204 120003 09060100010800ff 0f02 120000"


def test_capture_objects():
    found = cosem.capture_objects(parsed(CAPTURE))
    assert found == (CLOCK_COLUMN, CaptureObject(3, IMPORT, 2, 0))
    assert axdr.encode(axdr.array(item.encode() for item in found)) == bytes.fromhex(CAPTURE)


def test_capture_objects_as_a_compact_array():
    kinds = (DataType.LONG_UNSIGNED, DataType.OCTET_STRING, DataType.INTEGER, DataType.LONG_UNSIGNED)
    description = TypeDescription(DataType.STRUCTURE, 0, tuple(TypeDescription(kind) for kind in kinds))
    packed = Data(DataType.COMPACT_ARRAY, CompactArray.of(description, [CLOCK_COLUMN.encode()]))
    assert cosem.capture_objects(axdr.decode_exact(axdr.encode(packed))) == (CLOCK_COLUMN,)


@pytest.mark.parametrize(
    "text", ["00", "0101 00", "0101 0203 120008 09060000010000ff 0f02",
             "0101 0204 120008 090500000100ff 0f02 120000",
             "0101 0204 120008 1108 0f02 120000", "0101 0204 0900 09060000010000ff 0f02 120000"],
)  # fmt: skip
def test_bad_capture_objects(text):
    with pytest.raises(RemoteProtocolError):
        cosem.capture_objects(parsed(text))


def test_plain_attributes_of_a_profile():
    assert cosem.seconds(axdr.u32(900)) == 900
    assert cosem.seconds(axdr.u32(0)) == 0
    assert cosem.entries(axdr.u32(5760)) == 5760
    assert cosem.sort_method(axdr.enum(1)) is SortMethod.FIFO
    assert cosem.sort_method(axdr.enum(2)) is SortMethod.LIFO
    for bad in (axdr.enum(0), axdr.enum(7), axdr.octets(b"\1")):
        with pytest.raises(RemoteProtocolError):
            cosem.sort_method(bad)
    with pytest.raises(RemoteProtocolError, match="negative"):
        cosem.entries(axdr.i8(-1))


def test_range_descriptor():
    day = RangeDescriptor.between(CosemDateTime.from_bytes(STAMP), CosemDateTime.from_bytes(STAMP))
    clock = "0204 120008 09060000010000ff 0f02 120000"
    stamp = STAMP.hex()
    assert axdr.encode(day.encode()) == bytes.fromhex(f"0204 {clock} 090c{stamp} 090c{stamp} 0100")
    assert RangeDescriptor.decode(day.encode()) == day
    tagged = RangeDescriptor.between(
        CosemDateTime.from_bytes(STAMP),
        CosemDateTime.from_bytes(STAMP),
        selected=[CLOCK_COLUMN],
        tagged_date_time=True,
    )
    assert axdr.encode(tagged.encode()) == bytes.fromhex(f"0204 {clock} 19{stamp} 19{stamp} 0101 {clock}")
    assert RangeDescriptor.decode(tagged.encode()) == tagged
    with pytest.raises(RemoteProtocolError):
        RangeDescriptor.decode(axdr.structure(axdr.NULL, axdr.NULL, axdr.NULL, axdr.NULL))


def test_entry_descriptor():
    assert axdr.encode(EntryDescriptor(1, 96).encode()) == bytes.fromhex(
        "0204 0600000001 0600000060 120001 120000"
    )
    assert EntryDescriptor.decode(EntryDescriptor(5, 0, 2, 3).encode()) == EntryDescriptor(5, 0, 2, 3)
    with pytest.raises(RemoteProtocolError):
        EntryDescriptor.decode(axdr.structure(axdr.i8(-1), axdr.u8(0), axdr.u8(0), axdr.u8(0)))


def test_clock():
    moment = dt.datetime(2026, 3, 1, 23, tzinfo=dt.UTC)
    assert cosem.clock_time(axdr.octets(STAMP)) == moment
    assert cosem.clock_time(Data(DataType.DATE_TIME, STAMP)) == moment
    open_deviation = axdr.octets(STAMP[:9] + b"\x80\0\0")
    assert cosem.clock_time(open_deviation, zone=ZoneInfo("Europe/Berlin")) == moment
    assert cosem.minutes(axdr.i16(-60)) == -60
    assert cosem.date_time(axdr.NULL) is cosem.date_time(axdr.octets(b"")) is None
    for bad in (axdr.NULL, axdr.u32(1), axdr.octets(b"\0" * 11)):
        with pytest.raises(RemoteProtocolError):
            cosem.clock_time(bad)


#: object_list with one register, by hand: attribute 2 read-only with selector 1, method 1 allowed
OBJECTS = (
    "0101 0204 120003 1100 09060100010800ff 0202"
    " 0102 0203 0f01 1601 00 0203 0f02 1601 0101 0f01"
    " 0101 0202 0f01 1601"
)


def test_object_list():
    (entry,) = cosem.object_list(parsed(OBJECTS))
    attributes = (AttributeAccess(1, 1), AttributeAccess(2, 1, (1,)))
    assert entry == ObjectEntry(3, 0, IMPORT, attributes, (MethodAccess(1, 1),))
    assert axdr.encode(axdr.array([entry.encode()])) == bytes.fromhex(OBJECTS)


def test_object_list_of_version_0_writes_methods_as_booleans():
    (entry,) = cosem.object_list(parsed(OBJECTS[: OBJECTS.rindex("1601")] + "0301"))
    assert entry.methods == (MethodAccess(1, 1),)


def test_sap_assignment():
    data = axdr.array([axdr.structure(axdr.u16(1), axdr.octets(b"ABC0000000000001")),
                       axdr.structure(axdr.u16(17), axdr.visible("METER17")),
                       axdr.structure(axdr.u16(18), axdr.octets(b"\0\xff"))])  # fmt: skip
    assert cosem.sap_assignment_list(data) == (
        LogicalDevice(1, "ABC0000000000001"), LogicalDevice(17, "METER17"), LogicalDevice(18, "00ff"),
    )  # fmt: skip
    with pytest.raises(RemoteProtocolError):
        cosem.sap_assignment_list(axdr.array([axdr.structure(axdr.u16(1), axdr.u8(1))]))


def test_security_setup():
    both = SecurityPolicy(0b1101100)
    assert (
        cosem.security_policy(axdr.enum(0), 0)
        == cosem.security_policy(axdr.enum(0), 1)
        == SecurityPolicy.NONE
    )
    assert cosem.security_policy(axdr.enum(1), 0) == SecurityPolicy(0b0100100)
    assert cosem.security_policy(axdr.enum(2), 0) == SecurityPolicy(0b1001000)
    assert cosem.security_policy(axdr.enum(3), 0) == both == cosem.security_policy(axdr.enum(0x6C), 1)
    for value, version in ((4, 0), (3, 1), (0x100, 1), (0, 2)):
        data = axdr.u16(value)
        with pytest.raises(RemoteProtocolError):
            cosem.security_policy(data, version)
    assert [cosem.security_suite(axdr.enum(suite)) for suite in (0, 1, 2)] == [0, 1, 2]
    with pytest.raises(RemoteProtocolError, match="reserved"):
        cosem.security_suite(axdr.enum(3))
    assert cosem.system_title(axdr.octets(b"ABC12345")) == b"ABC12345"
    assert cosem.system_title(axdr.octets(b"")) == b""
    with pytest.raises(RemoteProtocolError, match="8 octets"):
        cosem.system_title(axdr.octets(b"ABC"))
