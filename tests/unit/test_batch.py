import copy
import json
from importlib.resources import files

import pytest
from pydantic import ValidationError

from protocols.errors import RemoteProtocolError
from protocols.mqtt import batches
from schemas.batch import BATCH, CBOR_KEYS, Batch, BatchLost, BatchRequest, json_schema

BATCH_DOCUMENT = {
    "format": "headend.batch.1",
    "concentrator": "C-0001",
    "run": "2026-11-01.7",
    "sequence": 0,
    "sent": 1763800000,
    "layouts": [
        [{"obis": "1-0:1.8.0*255", "scaler": 0, "unit": "Wh"}, {"obis": "1-0:2.8.0*255", "unit": "Wh"}]
    ],
    "series": [
        {
            "meter": "SIM00000001",
            "profile": 1,
            "period_s": 900,
            "layout": 0,
            "stamps": [1763799300, 1763800200],
            "status": [0, None],
            "values": [[0, 9223372036854775807], [None, -1]],
        }
    ],
    "registers": [
        {"meter": "SIM00000001", "obis": "1-0:32.7.0*255", "value": "230.10", "unit": "V", "time": 1}
    ],
    "events": [{"meter": "SIM00000001", "time": 0, "code": 0, "text": "power down"}],
}
RANGE = {"concentrator": "C-0001", "run": "r", "first": 3, "last": 3}


def read(document):
    return BATCH.validate_json(json.dumps(document))


def test_a_batch_comes_out_as_it_went_in():
    batch = read(BATCH_DOCUMENT)
    assert isinstance(batch, Batch)
    (series,) = batch.series
    assert series.values == ((0, 2**63 - 1), (None, -1))
    assert batch.layouts[series.layout][1].scaler == 0
    assert read(json.loads(batch.model_dump_json())) == batch


def test_requests_and_losses():
    assert isinstance(read({"format": "headend.batch-request.1", **RANGE}), BatchRequest)
    assert isinstance(read({"format": "headend.batch-lost.1", **RANGE}), BatchLost)
    with pytest.raises(ValidationError, match="last is before first"):
        read({"format": "headend.batch-lost.1", **RANGE, "last": 2})


def test_the_published_schema_is_that_of_the_classes():
    published = json.loads((files("schemas") / "batch.schema.json").read_text("utf-8"))
    assert published == json.loads(json.dumps(json_schema())), "run python -m schemas.batch"


def changed(*path, value):
    document = copy.deepcopy(BATCH_DOCUMENT)
    place = document
    for step in path[:-1]:
        place = place[step]
    if value is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return document


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format",), "headend.batch.2"), (("format",), ...), (("sequence",), ...), (("sequence",), -1),
        (("sequence",), 1.5), (("sequence",), "1"), (("sequence",), True), (("run",), ""), (("run",), "a/b"),
        (("concentrator",), "a b"), (("concentrator",), "x" * 65), (("extra",), 1), (("sent",), 2**32),
        (("series", 0, "values"), [[0, 1]]), (("series", 0, "values"), [[0, 1], [0]]),
        (("series", 0, "values", 0, 0), 2**63), (("series", 0, "values", 0, 0), 1.0),
        (("series", 0, "values", 0, 0), "1"), (("series", 0, "status"), [0]), (("series", 0, "stamps"), []),
        (("series", 0, "period_s"), 0), (("layouts", 0, 1, "obis"), "1-0:1.8.0*255"),
        (("layouts", 0, 1, "obis"), "1.8.0"), (("layouts", 0, 0, "scaler"), 128),
        (("series", 0, "layout"), 1),
        (("registers", 0, "value"), 230.1), (("registers", 0, "value"), "1e5"),
        (("registers", 0, "value"), "NaN"), (("registers", 0, "value"), "1" * 41),
        (("events", 0, "text"), "x" * 257),
    ],
)  # fmt: skip
def test_what_is_refused(path, value):
    with pytest.raises(ValidationError):
        read(changed(*path, value=value))


def names_in(schema):
    """All names of members that the schema has."""
    found = set()
    for part in schema["$defs"].values():
        found |= set(part.get("properties", ()))
    return found


def test_every_name_has_a_number_of_its_own_in_the_compact_form():
    assert set(CBOR_KEYS) == names_in(json_schema())
    assert sorted(CBOR_KEYS.values()) == list(range(len(CBOR_KEYS)))
    assert json_schema()["x-cbor-keys"] == CBOR_KEYS
    # what is published stays: a concentrator in the field has these
    assert [CBOR_KEYS[name] for name in ("format", "run", "series", "stamps", "heard")] == [0, 2, 6, 16, 36]


ANNOUNCED = {"meter": "a", "model": "m", "title": "t", "address": "mqtt:a", "parent": "b", "link": "zigbee",
             "hops": 3, "quality": 0, "heard": 0}  # fmt: skip


@pytest.mark.parametrize(
    "document",
    [
        BATCH_DOCUMENT,
        {**RANGE, "format": "headend.batch-request.1"},
        {**RANGE, "format": "headend.batch-lost.1"},
        {**RANGE, "format": "headend.batch-ack.1"},
        {
            "format": "headend.batch-announce.1",
            "concentrator": "c",
            "sent": 0,
            "meters": [ANNOUNCED, {"meter": "x"}],
        },
    ],
)
def test_both_forms_of_a_message_mean_the_same(document):
    message = read(document)
    plain, compact = batches.encode(message), batches.encode_compact(message)
    assert batches.decode(plain) == batches.decode(compact) == message
    assert batches.decode(b"\xd9\xd9\xf7" + compact) == message
    assert len(compact) < 0.7 * len(plain)
    assert batches.tree(compact) == json.loads(plain)


@pytest.mark.parametrize(
    ("compact", "says"),
    [
        ("a0", "format"),
        ("a10005", "format"),
        ("a1186305", "99"),
        ("a1616105", "is the number of no name"),
        ("a1f505", "is the number of no name"),
        ("a100f97e00", "float"),
        ("a1004100", "bytes"),
        ("a100c100", "datetime"),
        ("a100c24101", "not CBOR"),
        ("a10005a0", "bytes behind"),
        ("a1", "not CBOR"),
        ("a100", "not CBOR"),
        ("bf0005", "not CBOR"),
        ("a10061ff", "not CBOR"),
    ],
)
def test_a_compact_message_that_is_none_says_why(compact, says):
    with pytest.raises(RemoteProtocolError, match=says):
        batches.decode(bytes.fromhex(compact))


@pytest.mark.parametrize(
    ("event", "good"),
    [
        ({"time": 0, "code": 0}, True),
        ({"time": 0, "meaning": "meter_silent", "log": "station", "meter": "a"}, True),
        ({"time": 0, "code": 1, "duration_s": 0}, True),
        ({"time": 0}, False),
        ({"time": 0, "meaning": "no such meaning"}, False),
        ({"time": 0, "code": 1, "log": "no such log"}, False),
        ({"time": 0, "code": 1, "duration_s": -1}, False),
    ],
)
def test_an_event_has_a_code_or_a_meaning(event, good):
    document = {**BATCH_DOCUMENT, "events": [event]}
    if good:
        assert read(document).events[0].time == 0
    else:
        with pytest.raises(ValidationError):
            read(document)
