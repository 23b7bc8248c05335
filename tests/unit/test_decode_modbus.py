"""``headend decode`` on Modbus frames."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headend.cli.main import app
from protocols.decode import decode_stream
from protocols.dlms.framing import Framing
from protocols.modbus.frames import crc16

_FILE = Path(__file__).parents[1] / "vectors/modbus/rtu_frames.json"
FRAMES = {entry["id"]: bytes.fromhex(entry["hex"]) for entry in json.loads(_FILE.read_text())["entries"]}


def run(data, status=0):
    result = CliRunner().invoke(app, ["decode", "--json"], input=data)
    assert result.exit_code == status, result.stdout
    return json.loads(result.stdout)


@pytest.mark.parametrize("binary", [False, True])
def test_the_captured_frames(binary):
    told = {}
    for name, frame in FRAMES.items():
        (message,) = run(frame if binary else frame.hex())
        assert (message["framing"], message["checks"], message["status"]) == (
            "modbus-rtu",
            {"crc": True},
            "ok",
        )
        told[name] = message
    assert told["sdm_read_voltage_req"]["tree"] == {
        "unit": 1, "function": 4, "kind": "request", "address": 0, "count": 2
    }  # fmt: skip
    assert told["sdm_read_voltage_req"]["destination"] == "1"
    answer = told["sdm_read_voltage_resp"]
    assert answer["source"] == "1"
    assert (answer["tree"]["registers"], answer["tree"]["f32"]) == ([17254, 13108], ["230.20001"])
    assert told["modbus_exception"]["tree"]["meaning"] == "illegal data address"


def test_a_recording_of_a_bus():
    messages = decode_stream(b"".join(FRAMES.values()))
    assert [message.offset for message in messages] == [0, 8, 17]
    assert {message.framing for message in messages} == {Framing.MODBUS_RTU}


def test_tcp_frames():
    frame = b"\0\7\0\0\0\x05\x01\x03\x02\0\x2a"
    (first, second) = decode_stream(frame + frame)
    assert (first.framing, first.tree["transaction"], first.tree["registers"]) == (
        Framing.MODBUS_TCP,
        7,
        [42],
    )
    assert second.offset == len(frame)
    coils = b"\0\7\0\0\0\4\x01\x01\1\x05"
    assert decode_stream(coils)[0].tree["data"] == "05"


def test_what_is_not_all_modbus_is_not_modbus():
    frame = FRAMES["sdm_read_voltage_resp"]
    broken = frame[:-1] + bytes([frame[-1] ^ 1])
    for data in (broken, frame[:-1], frame + b"\0", b"\0" + frame):
        assert Framing.MODBUS_RTU not in {message.framing for message in decode_stream(data)}
    assert crc16(frame) == 0  # a CRC sent low byte first leaves nothing


def test_a_pair_that_is_no_float():
    body = b"\x01\x03\x04\x7f\xc0\0\0"
    (message,) = decode_stream(body + crc16(body).to_bytes(2, "little"))
    assert message.tree["f32"] == [None]
