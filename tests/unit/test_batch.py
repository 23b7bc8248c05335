import copy
import json
from importlib.resources import files

import pytest
from pydantic import ValidationError

from schemas.batch import BATCH, Batch, BatchLost, BatchRequest, json_schema

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
