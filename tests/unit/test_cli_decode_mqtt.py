"""``headend decode`` of MQTT payloads, with and without the topic."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headend.cli.main import app
from protocols.mqtt import batches
from schemas.batch import BATCH

CAPTURES = {
    entry["id"]: entry["payload"]
    for entry in json.loads(
        (Path(__file__).parents[1] / "vectors/mqtt/mqtt_payloads.json").read_text("utf-8")
    )["entries"]
}
BATCH_SENT = {
    "format": "headend.batch.1", "concentrator": "C-1", "run": "r", "sequence": 7, "sent": 1800000000,
    "layouts": [[{"obis": "1-0:1.8.0*255", "unit": "Wh", "scaler": 1}]],
    "series": [{"meter": "a", "period_s": 900, "stamps": [1799999100, 1800000000], "values": [[1, 2]]}],
    "registers": [
        {"meter": "b", "obis": "1-0:32.7.0*255", "value": "230.10", "unit": "V", "time": 1800000000}
    ],
    "events": [{"time": 1800000000, "log": "station", "meaning": "power_up"}],
}  # fmt: skip


def run(*arguments: str, text: str | bytes = ""):
    result = CliRunner().invoke(app, ["decode", *arguments], input=text)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def told(*arguments: str, text: str | bytes):
    result = run(*arguments, "--json", text=text)
    return result.exit_code, json.loads(result.stdout)


def test_a_captured_payload_is_known_without_its_topic() -> None:
    code, found = told(text=json.dumps(CAPTURES["tasmota_sensor_sdm"]))
    assert (code, found["form"], found["device"]) == (0, "tasmota", "")
    assert {
        "quantity": "voltage",
        "obis": "1-0:32.7.0*255",
        "value": "234.31",
        "unit": "V",
        "doubt": None,
    } in found["readings"]


def test_the_topic_tells_the_device_and_doubts_are_shown() -> None:
    result = run("--topic", "shellypro3em-1/events/rpc", text=json.dumps(CAPTURES["shelly_rpc_notify_em"]))
    assert result.exit_code == 0
    assert "shellypro3em-1234567890ab" in result.stdout
    assert "no voltage at this input" in result.stdout
    assert "neutral_current" in result.stdout


def test_a_profile_adds_what_it_lists(tmp_path: Path) -> None:
    payload = tmp_path / "payload.json"
    payload.write_text('{"Time":"2026-03-01T12:00:02","SML":{"Total_in":12345.6789}}\n')
    code, found = told(str(payload), "--topic", "tele/m/SENSOR", "--profile", "tasmota-sml", text="")
    assert code == 0
    assert found["readings"][0]["value"] == "12345678.9"
    assert run("--topic", "x", "--profile", "no-such-model", text="{}").exit_code == 2


def test_a_zigbee_report_in_hexadecimal() -> None:
    topic = ("--topic", "zigbee/00124b0014d9a2f1/0702")
    code, found = told(*topic, "--profile", "zigbee-zcl-wh", text="18 01 0a 0000 25 40e201000000\n")
    assert (code, found["readings"][0]["value"], found["readings"][0]["unit"]) == (0, "123456", "Wh")
    code, found = told(*topic, text="18010a00002540e201000000")
    assert found["readings"][0]["doubt"] == "multiplier and divisor and unit not known"


@pytest.mark.parametrize("form", ["json", "cbor", "hex"])
def test_a_batch_in_either_form(form: str) -> None:
    message = BATCH.validate_json(json.dumps(BATCH_SENT))
    sent = {
        "json": batches.encode(message),
        "cbor": batches.encode_compact(message),
        "hex": batches.encode_compact(message).hex().encode(),
    }[form]
    code, found = told("--topic", "headend/batch/C-1", text=sent)
    assert (code, found["sequence"], found["series"][0]["values"]) == (0, 7, [[1, 2]])
    shown = run("--topic", "headend/batch/C-1", text=sent).stdout
    for word in ("C-1", "number 7", "curve 1", "230.10", "power_up", "2027-01-15"):
        assert word in shown, shown


def test_a_last_will() -> None:
    assert told("--topic", "tele/m/LWT", text="Offline\n") == (
        0,
        {"form": "tasmota", "device": "m", "online": False},
    )


def test_frames_of_dlms_are_shown_as_ever() -> None:
    frame = json.loads((Path(__file__).parents[1] / "vectors/captures/push_dumps.json").read_text("utf-8"))[
        "entries"
    ]
    text = "".join(next(one["mbus_frames_hex"] for one in frame if one["id"] == "mbus_netz_noe_p1"))
    code, found = told("--topic", "dlms/gw", text=text)
    assert code == 0
    assert found[0]["framing"] == "mbus"


@pytest.mark.parametrize(
    ("topic", "payload", "says"),
    [
        ("tele/m/SENSOR", '{"ENERGY":{"Total":"much"}}', "not a number"),
        ("x", '{"a":1,"a":2}', "twice"),
        ("headend/batch/C-1", '{"format":"headend.batch.1"}', "concentrator"),
        ("x", '{"a":1}', "no language"),
    ],
)
def test_a_wrong_payload_says_why(topic: str, payload: str, says: str) -> None:
    result = run("--topic", topic, text=payload)
    assert result.exit_code == 1
    assert says in result.stdout
    assert told("--topic", topic, text=payload)[0] == 1
