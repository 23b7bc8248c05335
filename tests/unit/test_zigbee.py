from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest

from protocols.errors import RemoteProtocolError
from protocols.zigbee import metering, zcl
from protocols.zigbee.metering import Scaling, exact
from protocols.zigbee.zcl import Attribute, attributes, decode_value, parse_frame


def report(*parts, command="0a", control="18"):
    return parse_frame(bytes.fromhex(f"{control}01{command}" + "".join(parts)))


KNOWN = Scaling(1, 1000, 0)


def test_a_report_of_summation_and_demand():
    """Written by hand from the cluster's layout: 12345.678 kWh delivered, -0.250 kW."""
    frame = report("000025" + "4e61bc000000", "00042a" + "06ffff")
    assert (frame.sequence, frame.command, frame.manufacturer, frame.cluster_specific) == (
        1,
        0x0A,
        None,
        False,
    )
    told = metering.read(attributes(frame), KNOWN)
    summation, demand = told.values
    assert (summation.quantity, summation.raw, summation.multiplier, summation.divisor) == (
        "active_import", 12345678, 1, 1000
    )  # fmt: skip
    assert (str(summation.value), summation.unit, summation.tariff) == ("12345678", "Wh", 0)
    assert (demand.quantity, demand.raw, str(demand.value), demand.unit) == (
        "active_power",
        -250,
        "-250",
        "W",
    )


def test_scaling_is_learned_from_an_answer_and_never_assumed():
    answer = report("0003003000", "01030022010000", "02030022e80300", "000186", command="01")
    told = metering.read(attributes(answer))
    assert told.scaling == Scaling(1, 1000, 0)
    assert told.missing == ("active_import_t1",)  # tier 1: the device refused, it has no such attribute
    (value,) = metering.read(attributes(report("000025" + "010000000000"))).values
    assert (value.raw, value.value, value.reason) == (1, None, "multiplier and divisor and unit not known")
    (value,) = metering.read(attributes(report("000025" + "010000000000")), Scaling(1, None, 0)).values
    assert value.reason == "divisor not known"


@pytest.mark.parametrize(
    ("raw", "multiplier", "divisor", "value"),
    [
        (0, 1, 1000, "0"), (7, 1, 1, "7"), (1, 1, 3, None), (3, 1, 3, "1"),
        (1, 3, 1 << 20, "0.00000286102294921875"),
        (-250, 1, 1000, "-0.25"), (2**48 - 2, 2**24 - 2, 10**7, "472236648212996.7999999"),
        (1, 1, 1 << 23, "0.00000011920928955078125"),
    ],
)  # fmt: skip
def test_fractions_are_exact_or_not_decimal_at_all(raw, multiplier, divisor, value):
    found = exact(raw, multiplier, divisor)
    if value is None:
        assert found is None
    else:
        assert Fraction(found) == Fraction(raw * multiplier, divisor)


@pytest.mark.parametrize(
    ("scaling", "reason"),
    [
        (Scaling(1, 0, 0), "multiplier or divisor is 0"),
        (Scaling(0, 1, 0), "multiplier or divisor is 0"),
        (Scaling(1, 7, 0), "26 x 1 / 7 is no finite decimal"),
        (Scaling(1, 1, 1), "unit of measure 01 is not kWh"),
        (Scaling(1, 1, 0x80), "1a has digits above 9"),
    ],
)
def test_what_has_no_decimal_keeps_its_integers(scaling, reason):
    (value,) = metering.read([Attribute(0, 0x25, 26)], scaling).values
    assert (value.raw, value.value, value.reason) == (26, None, reason)
    assert (value.multiplier, value.divisor) == (scaling.multiplier, scaling.divisor)


def test_bcd_tiers_status_and_time():
    told = metering.read(
        [
            Attribute(0x0100, 0x25, 0x12), Attribute(0x0103, 0x25, 0x34), Attribute(0x0200, 0x18, 0),
            Attribute(0x0007, 0xE2, 86400), Attribute(0x0500, 0x20, 1), Attribute(0x0001, 0x25, None),
        ],
        Scaling(1, 10, 0x80),
    )  # fmt: skip
    assert [(v.quantity, v.tariff, v.value) for v in told.values] == [
        ("active_import", 1, Decimal(1200)),
        ("active_export", 2, Decimal(3400)),
    ]
    assert told.status == 0
    assert told.time == datetime(2000, 1, 2, tzinfo=UTC)
    assert told.missing == ("active_export",)


@pytest.mark.parametrize(
    ("kind", "data", "value"),
    [
        (0x10, "00", False), (0x10, "01", True), (0x10, "ff", None), (0x18, "ff", 255), (0x08, "ff", 255),
        (0x20, "00", 0), (0x20, "ff", None), (0x22, "010203", 0x030201), (0x25, "ffffffffffff", None),
        (0x27, "0100000000000000", 1), (0x28, "80", None), (0x28, "ff", -1), (0x2A, "000080", None),
        (0x2B, "ffffffff", -1), (0x30, "ff", None), (0x39, "cdcccc3d", Decimal("0.1")),
        (0x39, "0000c07f", None), (0x3A, "9a9999999999b93f", Decimal("0.1")), (0x41, "02abcd", b"\xab\xcd"),
        (0x41, "ff", None), (0x42, "03c3a442", "äB"), (0x42, "00", ""), (0x43, "0100ab", b"\xab"),
        (0x44, "ffff", None), (0xE2, "ffffffff", None), (0xF0, "0102030405060708", 0x0807060504030201),
    ],
)  # fmt: skip
def test_values_of_each_type(kind, data, value):
    raw = bytes.fromhex(data)
    assert decode_value(kind, raw, 0) == (value, len(raw))
    assert decode_value(kind, b"\0" + raw + b"\xee", 1) == (value, 1 + len(raw))
    for cut in range(len(raw)):
        with pytest.raises(RemoteProtocolError):
            decode_value(kind, raw[:cut], 0)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ("", "empty"), ("18", "no whole ZCL header"), ("1801", "no whole"), ("1c115f01", "no whole"),
        ("02010a", "frame type 2 is reserved"), ("03010a", "frame type 3"), ("18010a", "no attributes"),
        ("180100", "command 00 carries no attributes"), ("09010a000020ff", "cluster command 0a"),
        ("18010a00", "cut short"), ("18010a0000", "cut short"), ("18010a000025ff", "5 bytes missing"),
        ("18010a0000484000", "type 48 is not read here"), ("18010a00001002", "boolean of 2"),
        ("18010a000042028080", "not UTF-8"), ("18" * 1025, "1025 bytes"),
    ],
)  # fmt: skip
def test_what_is_refused(data, complaint):
    with pytest.raises(RemoteProtocolError, match=complaint):
        attributes(parse_frame(bytes.fromhex(data)))


def test_a_makers_own_attribute_is_marked():
    frame = parse_frame(bytes.fromhex("1c5f11010a000020" + "05"))
    assert (frame.manufacturer, attributes(frame)) == (0x115F, (Attribute(0, 0x20, 5),))
    assert frame.command == zcl.REPORT_ATTRIBUTES
