"""Values are found in every shape in which meters push them."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from protocols.dlms import axdr
from protocols.dlms.axdr import Data, DataType
from protocols.dlms.cosem_time import CosemDateTime
from protocols.dlms.obis import Obis
from protocols.dlms.push_values import Unnamed, Value, find, named, utc, written
from schemas.model import load_model

IMPORT, VOLTAGE, SERIAL = (Obis.parse(code) for code in ("1-0:1.8.0", "1-0:32.7.0", "0-0:96.1.0"))
WH = axdr.structure(axdr.i8(1), axdr.enum(30))
V = axdr.structure(axdr.i8(-1), axdr.enum(35))
CLOCK = bytes.fromhex("07e3020401173416ff800000")


def code(obis: Obis) -> Data:
    return axdr.octets(obis.to_bytes())


def descriptor(obis: Obis, attribute: int = 2) -> list[Data]:
    return [axdr.u16(3), code(obis), axdr.i8(attribute)]


FRAME_SCALED = (
    Value(IMPORT, Decimal(50), "Wh", "frame"),
    Value(VOLTAGE, Decimal("230.1"), "V", "frame"),
)
RAW = (Value(IMPORT, Decimal(5)), Value(VOLTAGE, Decimal(2301)))
SHAPES = {
    "elements": (
        axdr.array(
            [axdr.structure(code(IMPORT), axdr.u32(5), WH), axdr.structure(code(VOLTAGE), axdr.u16(2301), V)]
        ),
        FRAME_SCALED,
    ),
    "triples": (
        axdr.structure(code(IMPORT), axdr.u32(5), WH, code(VOLTAGE), axdr.u16(2301), V),
        FRAME_SCALED,
    ),
    "pairs": (axdr.structure(code(IMPORT), axdr.u32(5), code(VOLTAGE), axdr.u16(2301)), RAW),
    "pairs in structures": (
        axdr.structure(
            axdr.structure(code(IMPORT), axdr.u32(5)), axdr.structure(code(VOLTAGE), axdr.u16(2301))
        ),
        RAW,
    ),
    "descriptor and value": (
        axdr.structure(
            axdr.enum(1),
            axdr.array(
                [
                    axdr.structure(axdr.structure(*descriptor(IMPORT)), axdr.u32(5)),
                    axdr.structure(axdr.structure(*descriptor(VOLTAGE)), axdr.u16(2301)),
                ]
            ),
        ),
        RAW,
    ),
    "descriptor and value in one": (
        axdr.array(
            [
                axdr.structure(*descriptor(IMPORT), axdr.u32(5)),
                axdr.structure(*descriptor(VOLTAGE), axdr.i32(2301)),
            ]
        ),
        RAW,
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_shape(shape: str) -> None:
    body, expected = SHAPES[shape]
    assert find(body).values == expected


def test_zero_is_a_value_and_null_is_missing() -> None:
    body = axdr.structure(
        axdr.visible("list"),
        code(IMPORT), axdr.u32(0),
        Data(DataType.NULL, None), Data(DataType.NULL, None),
        code(VOLTAGE), Data(DataType.NULL, None),
    )  # fmt: skip
    found = find(body)
    assert found.values == (Value(IMPORT, Decimal(0)), Value(VOLTAGE, None))
    assert found.unnamed == (Unnamed(0, "list"),)


def test_a_value_may_look_like_a_code() -> None:
    body = axdr.structure(code(SERIAL), code(VOLTAGE), code(IMPORT), axdr.u32(5))
    assert find(body).values == (Value(SERIAL, VOLTAGE.to_bytes().hex()), Value(IMPORT, Decimal(5)))


def test_a_text_of_six_characters_is_no_code() -> None:
    assert find(axdr.structure(axdr.octets(b"160456"), axdr.u32(5))).values == ()


def test_definitions_of_objects_are_no_values() -> None:
    definitions = axdr.array([axdr.structure(*descriptor(obis), axdr.u16(0)) for obis in (IMPORT, VOLTAGE)])
    assert find(definitions).values == ()


def test_the_objects_own_name_is_no_value() -> None:
    body = axdr.structure(axdr.structure(*descriptor(SERIAL, 1)), code(SERIAL))
    assert find(body).values == (Value(SERIAL, ""),)


def test_list_without_codes_by_profile() -> None:
    kaifa = load_model("kaifa-ma304")
    body = axdr.structure(axdr.u32(0))
    assert find(body).unnamed == (Unnamed(0, Decimal(0)),)
    found = find(body, kaifa)
    assert found.values == (Value(Obis.parse("1-0:1.7.0"), Decimal(0), "W", "profile"),)
    assert (found.push_list, found.unnamed) == ("power", ())


def test_the_frames_scaler_goes_before_the_profiles() -> None:
    model = load_model("kamstrup-omnipower")
    energy = Obis.parse("1-1:1.8.0")
    with_scaler = axdr.array(
        [axdr.structure(code(energy), axdr.u32(7), axdr.structure(axdr.i8(0), axdr.enum(30)))]
    )
    assert find(with_scaler, model).values == (Value(energy, Decimal(7), "Wh", "frame"),)
    without = axdr.array([axdr.structure(code(energy), axdr.u32(7))])
    assert find(without, model).values == (Value(energy, Decimal(70), "Wh", "profile"),)


def test_a_bare_value_is_unnamed_and_a_named_one_is_not() -> None:
    assert find(axdr.u16(3)).unnamed == (Unnamed(0, Decimal(3)),)
    assert named(IMPORT, axdr.u32(0)) == Value(IMPORT, Decimal(0))
    assert named(IMPORT, axdr.array([])) is None


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (axdr.boolean(False), "0"),
        (axdr.boolean(True), "1"),
        (axdr.octets(b""), ""),
        (axdr.octets(CLOCK), "2019-02-04T23:52:22"),
        (Data(DataType.DATE_TIME, CLOCK[:9] + bytes.fromhex("ff8880")), "2019-02-04T23:52:22+02:00"),
        (axdr.octets(b"\x01\x02"), "0102"),
        (axdr.bits("0101"), "0101"),
        (axdr.float32(1.5), "1.5"),
        (axdr.i64(-(2**62)), str(-(2**62))),
        (Data(DataType.NULL, None), None),
    ],
)
def test_written(data: Data, text: str | None) -> None:
    assert written(named(SERIAL, data).value) == text


@pytest.mark.parametrize(
    ("data", "flagged"), [(axdr.float32(0.1), True), (axdr.float64(0.1), True), (axdr.u8(1), False)]
)
def test_a_float_is_its_shortest_decimal_and_flagged(data: Data, flagged: bool) -> None:
    found = named(SERIAL, data)
    assert (found.value, found.from_float) == (Decimal("0.1") if flagged else Decimal(1), flagged)


def test_utc_by_deviation_by_profile_or_not_at_all() -> None:
    stamp = CosemDateTime.from_bytes(CLOCK)
    assert utc(stamp) is None
    assert utc(stamp, load_model("aidon")) == datetime(2019, 2, 4, 22, 52, 22, tzinfo=UTC)
    zulu = CosemDateTime.from_bytes(CLOCK[:9] + bytes.fromhex("000000"))
    assert utc(zulu) == datetime(2019, 2, 4, 23, 52, 22, tzinfo=UTC)


def test_deviation_as_the_profile_means_it() -> None:
    east = CosemDateTime.from_bytes(CLOCK[:9] + bytes.fromhex("ffc400"))  # -60 minutes: UTC+1
    aidon = load_model("aidon")
    assert utc(east, aidon) == datetime(2019, 2, 4, 22, 52, 22, tzinfo=UTC)
    inverted = aidon.model_copy(update={"clock": aidon.clock.model_copy(update={"deviation": "inverted"})})
    assert utc(east, inverted) == datetime(2019, 2, 5, 0, 52, 22, tzinfo=UTC)
    unspecified = aidon.clock.model_copy(update={"deviation": "unspecified"})
    summer = CosemDateTime.from_bytes(bytes.fromhex("07e3070401173416ff000000"))
    assert utc(summer, aidon) == datetime(2019, 7, 4, 23, 52, 22, tzinfo=UTC)
    model = aidon.model_copy(update={"clock": unspecified})
    assert utc(summer, model) == datetime(2019, 7, 4, 21, 52, 22, tzinfo=UTC)
