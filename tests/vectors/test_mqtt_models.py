"""Messages one after another, and the rows and registers that must come of them, digit by digit.

What each model's words mean is held by `tests/unit/test_golden.py`; here it is what counts for a boundary,
what is not stored, and what one message leaves behind for the next.
"""

import json
import tomllib
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from headend.drivers.mqtt.message import load_decoder
from headend.drivers.mqtt.meters import Known
from headend.drivers.mqtt.told import Frames, Ignored, Problem, Readings, StationBatch, merge
from schemas.models import all_names, load_any
from schemas.mqtt_model import load_mqtt_model, mqtt_model_names
from schemas.reading import Quality

HERE = Path(__file__).parent
CAPTURES = {
    entry["id"]: entry["payload"]
    for entry in json.loads((HERE / "mqtt/mqtt_payloads.json").read_text("utf-8"))["entries"]
}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SCENARIOS = sorted(path.stem for path in (HERE / "models/mqtt").glob("*.toml"))


class Fleet:
    def __init__(self, model):
        self._known = Known(1, "m", load_mqtt_model(model))

    def of(self, identity):
        return self._known if identity in ("m", "00124b0014d9a2f1") else None

    def age(self):
        pass


def us(moment):
    return (moment - EPOCH) // (EPOCH.resolution)


def written(read):
    return f"{read.value} {read.unit or ''}".strip()


def rows_of(batch):
    found = {}
    for at in range(len(batch)):
        channels = batch.layouts[batch.layout[at]].channels
        assert batch.quality[at] == Quality.SAMPLED
        found[int(batch.profile[at])] = {
            "start": int(batch.start_us[at]),
            "stamp": int(batch.stamp_us[at]),
            **{
                channel.quantity: channel.exact(int(batch.values[at, place])).normalize()
                for place, channel in enumerate(channels)
                if batch.valid[at, place]
            },
        }
    return found


@pytest.mark.parametrize("model", SCENARIOS)
def test_the_messages_of_a_device(model):
    case = tomllib.loads((HERE / "models/mqtt" / f"{model}.toml").read_text("utf-8"))
    assert case["source"]
    decoder = load_decoder(Fleet(model))
    for message in case["messages"]:
        payload = message.get("payload") or json.dumps(CAPTURES[message["capture"]])
        told = decoder.decode(
            message["topic"],
            payload.encode(),
            retained=message.get("retained", False),
            received_us=us(message["received"]),
        )
        if "ignored" in message:
            assert told == Ignored(message["ignored"])
            continue
        if "problem" in message:
            assert isinstance(told, Problem)
            assert message["problem"] in told.reason
            continue
        assert isinstance(told, Readings), told
        batch = merge([told], source="x")
        registers = {read.obis: written(read) for read in batch.registers}
        assert len(registers) == len(batch.registers)
        if "some" in message:
            assert message["some"].items() <= registers.items()
        else:
            assert registers == message.get("registers", {})
        wanted = {}
        for number, name in ((1, "row"), (2, "row2")):
            if name in message:
                row = dict(message[name])
                wanted[number] = {
                    "start": us(row.pop("start")),
                    "stamp": us(row.pop("stamp")),
                    **{quantity: Decimal(value).normalize() for quantity, value in row.items()},
                }
        assert rows_of(batch) == wanted


def test_every_model_is_found_by_its_name_alone():
    assert set(mqtt_model_names()) <= set(all_names())
    for name in mqtt_model_names():
        assert load_any(name).driver == "mqtt"


def test_frames_of_a_captured_push_are_handed_on():
    frame = json.loads((HERE / "framing/han_nordic.json").read_text("utf-8"))
    text = next(iter(_hex(frame)))
    told = load_decoder(Fleet("tasmota")).decode("dlms/gw", text.encode(), retained=False, received_us=0)
    assert told == Frames("gw", bytes.fromhex(text))


def _hex(item):
    """Texts of nothing but hexadecimal digits, long enough for a frame."""
    if isinstance(item, dict | list):
        for one in item.values() if isinstance(item, dict) else item:
            yield from _hex(one)
    elif isinstance(item, str) and len(item) > 100 and set(item.lower()) <= set("0123456789abcdef"):
        yield item


def test_a_batch_that_a_person_wrote_says_what_it_says():
    document = {
        "format": "headend.batch.1", "concentrator": "C-1", "run": "2026-03-01", "sequence": 0,
        "sent": 1772366400,
        "layouts": [[{"obis": "1-0:1.8.0*255", "scaler": 0, "unit": "Wh"}]],
        "series": [{"meter": "m", "period_s": 900, "stamps": [1772366400], "values": [[4711]]}],
    }  # fmt: skip
    told = load_decoder(Fleet("headend-batch-meter")).decode(
        "headend/batch/C-1", json.dumps(document).encode(), retained=False, received_us=0
    )
    assert isinstance(told, StationBatch)
    batch = merge([told], source="x")
    assert batch.start_us.tolist() == [us(datetime(2026, 3, 1, 11, 45, tzinfo=UTC))]
    assert batch.values[0, 0] == 4711
