"""Values as people write them, what a model allows, and values of meters written out."""

import datetime as dt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from headend.parameters.allowed import dlms_model, mistakes
from protocols.dlms import axdr
from protocols.dlms.cosem import CaptureObject, capture_objects
from protocols.dlms.cosem.plain_values import data_of, is_same, plain
from protocols.dlms.cosem_time import CosemDateTime
from schemas.program import digest
from schemas.programs.parameter_value import INTEGERS, typed
from schemas.programs.parameters import ParametersProgram

_LEAVES = st.one_of(
    *(st.integers(low, high).map(lambda n, k=kind: {k: n}) for kind, (low, high) in INTEGERS.items()),
    st.binary(max_size=200).map(lambda raw: {"octets": raw.hex()}),
    st.text(st.characters(max_codepoint=127), max_size=20).map(lambda one: {"text": one}),
    st.text("01", max_size=20).map(lambda one: {"bits": one}),
    st.booleans().map(lambda one: {"boolean": one}),
    st.just({"null": True}),
)
_TREES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=4).flatmap(
        lambda parts: st.sampled_from(["array", "structure"]).map(lambda kind: {kind: parts})
    ),
    max_leaves=20,
)


@given(_TREES)
def test_a_value_is_encoded_and_comes_back_as_it_was_written(tree: dict[str, Any]) -> None:
    value = typed(tree)
    data = data_of(value)
    found = axdr.decode_exact(axdr.encode(data))
    assert plain(found) == value
    assert typed(plain(found)) == value
    assert is_same(data, found)


def test_short_forms_by_hand() -> None:
    columns = {"objects": [{"class_id": 8, "obis": "0-0:1.0.0*255", "attribute": 2}]}
    raw = axdr.encode(data_of(typed(columns)))
    assert raw.hex() == "0101020412000809060000010000ff0f02120000"
    (found,) = capture_objects(axdr.decode_exact(raw))
    assert isinstance(found, CaptureObject)
    assert (found.class_id, str(found.obis), found.attribute) == (8, "0-0:1.0.0*255", 2)
    destination = typed({"destination": {"service": 0, "address": "10.0.0.1:4059"}})
    assert axdr.encode(data_of(destination)).hex() == "02031600090d" + b"10.0.0.1:4059".hex() + "1600"
    window = typed({"windows": [{"from": "*-*-*T22:00:00", "to": "2026-12-31T23:30:00"}]})
    (pair,) = data_of(window).value
    begin, end = (CosemDateTime.from_bytes(one.value) for one in pair.value)
    assert (begin.date.year, begin.time.hour, begin.deviation_min) == (None, 22, None)
    assert end.local() == dt.datetime(2026, 12, 31, 23, 30)  # noqa: DTZ001 - a meter's wall clock


@pytest.mark.parametrize(
    "value",
    [
        {"u8": 256}, {"i8": -129}, {"u32": True}, {"u32": "1"}, {"octets": "0G"}, {"text": "ü"},
        {"bits": "12"},
        {"null": False}, {"boolean": 1}, {}, {"u8": 1, "u16": 1}, {"float": 1.5}, 7, {"array": {"u8": 1}},
        {"obis": "1.8.0"}, {"objects": [{"class_id": 8}]}, {"windows": [{"from": "22:00", "to": "23:00"}]},
        {"windows": [{"from": "*-13-*T22:00:00", "to": "*-*-*T23:00:00"}]},
    ],
)  # fmt: skip
def test_what_is_no_value_is_refused_with_its_place(value: Any) -> None:
    with pytest.raises(ValueError, match=r"value|OBIS"):
        typed(value)
    deep: Any = {"u8": 1}
    for _ in range(20):
        deep = {"array": [deep]}
    with pytest.raises(ValueError, match="too large"):
        typed(deep)


def test_widths_and_tags_of_meters_are_no_difference_and_values_are() -> None:
    stamp = bytes.fromhex("07ea0301ff0800000000ffc400")
    assert is_same(axdr.u16(900), axdr.u32(900))
    assert is_same(axdr.octets(b"abc"), axdr.visible("abc"))
    assert is_same(axdr.octets(stamp[:12]), axdr.Data(axdr.DataType.DATE_TIME, stamp[:12]))
    assert not is_same(axdr.u16(900), axdr.u16(901))
    assert not is_same(axdr.boolean(True), axdr.u8(1))
    assert not is_same(axdr.array([axdr.u8(1)]), axdr.structure(axdr.u8(1)))


def _program(**item: Any) -> ParametersProgram:
    whole = {"do": "write", "class_id": 1, "obis": "0-0:97.98.10*255", "attribute": 2, "value": {"u32": 7}}
    if item.get("do") == "read":
        del whole["value"]
    elif item.get("do") == "run":
        whole = {}
    return ParametersProgram.model_validate({"items": [{**whole, **item}]})


@pytest.mark.parametrize(
    ("item", "why"),
    [
        ({}, None),
        ({"obis": "0-0:97.97.0*255"}, "does not allow"),
        ({"class_id": 64, "attribute": 2}, "keys program"),
        ({"class_id": 18, "attribute": 5}, "firmware program"),
        ({"class_id": 8, "attribute": 2}, "clock program"),
        ({"class_id": 15, "attribute": 7}, "keys program"),
        ({"class_id": 70, "obis": "0-0:96.3.10*255", "attribute": 3}, "switch program"),
        ({"class_id": 70, "obis": "0-0:96.3.10*255", "attribute": 4, "value": {"enum": 3}}, None),
        ({"class_id": 70, "obis": "0-0:96.3.10*255", "attribute": 4, "value": {"enum": 0}}, "mode 0"),
        ({"class_id": 70, "obis": "0-0:96.3.10*255", "attribute": 4, "value": {"u8": 0}}, "mode 0"),
        ({"do": "run", "script": 1}, None),
        ({"do": "run", "script": 2}, "does not allow"),
        ({"do": "run", "script": 1, "obis": "0-0:10.0.106*255"}, "switch or firmware"),
        ({"do": "read", "class_id": 15, "attribute": 7}, "secret"),
        ({"do": "read", "class_id": 64, "attribute": 5}, None),
    ],
)
def test_a_model_allows_what_it_names_and_never_what_has_a_program_of_its_own(
    item: dict[str, Any], why: str | None
) -> None:
    model = dlms_model("headend-sim-hls5")
    assert model is not None
    told = mistakes(_program(**item), model)
    if why is None:
        assert told == []
    else:
        assert len(told) == 1
        assert "item 1" in told[0]
        assert why in told[0]
    bare = dlms_model("generic-dlms")
    assert bare is not None
    assert bool(mistakes(_program(**item), bare)) == (item.get("do") != "read" or why is not None)


def test_two_spellings_are_one_program() -> None:
    one = _program(value={"obis": "1-0:1.8.0*255"})
    other = _program(value={"octets": "01 00 01 08 00 ff"})
    assert digest(one) == digest(other)
    with pytest.raises(ValidationError, match="attribute"):
        _program(attribute=1)
