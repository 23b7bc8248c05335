"""``headend decode`` on DL/T 645, IEC 62056-21 and P1: every capture with its listed values and status."""

import json
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headend.cli.main import app
from protocols.decode import decode_stream, split
from protocols.dlms.framing import Framing
from protocols.dlt645.control import Control
from protocols.dlt645.frame import Dlt645Frame, encode_frame
from protocols.dlt645.identifiers import DataId
from protocols.iec62056_21.messages import block_check

_FOLDER = Path(__file__).parents[1] / "vectors"
DLT645 = json.loads((_FOLDER / "dlt645/frames.json").read_text())
IEC = json.loads((_FOLDER / "iec62056_21/readouts.json").read_text())
P1 = json.loads((_FOLDER / "p1/telegrams.json").read_text())
TELEGRAMS = {entry["id"]: entry["telegram"] for entry in P1["entries"]}
#: A DLMS message with values: a whole HDLC frame of a capture.
HDLC = next(
    entry["frames_hex"][0]
    for entry in json.loads((_FOLDER / "framing/han_nordic.json").read_text())["entries"]
    if entry["id"] == "kamstrup_se_full_frame"
)


def run(data: str | bytes, status: int = 0, *, readable: bool = False):
    result = CliRunner().invoke(app, ["decode"] if readable else ["decode", "--json"], input=data)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == status, result.stdout
    return result.stdout if readable else json.loads(result.stdout)


def even(data: bytes) -> bytes:
    return bytes(byte | (byte.bit_count() & 1) << 7 for byte in data)


def told(message: dict) -> dict[str, tuple[str | None, str | None]]:
    found: dict[str, tuple[str | None, str | None]] = {}
    for value in message["values"]:
        for name in (value["name"], value["obis"]):
            found.setdefault(name, (value["value"], value["unit"]))
    return found


# ---- DL/T 645 ------------------------------------------------------------------------------------


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("entry", DLT645["entries"], ids=lambda entry: entry["id"])
def test_captured_dlt645_frames(entry, binary):
    (message,) = run(bytes.fromhex(entry["hex"]) if binary else entry["hex"])
    expected, tree = entry["expected"], message["tree"]
    assert (message["framing"], message["checks"]) == ("dlt645", {"checksum": True})
    assert tree["address"] == expected["address"].removesuffix(" (wildcard)")
    assert message["source" if entry["direction"] == "response" else "destination"] == tree["address"]
    assert int(tree["control"].split()[0], 16) == int(expected["control"].split()[0], 16)
    assert tree["preamble_bytes"] == expected.get("preamble_bytes", 0)
    assert tree.get("di") == expected.get("di")
    if "value" in expected:
        (value,) = message["values"]
        assert value == {
            "obis": "1-0:1.8.0*255", "value": str(expected["value"]), "unit": expected["unit"],
            "scaled": None, "name": f"dlt645:{expected['di']}", "label": "active energy import, total",
        }  # fmt: skip
    assert tree.get("error") == (expected["error"].lower() if "error" in expected else None)
    if "password_wire" in expected:
        assert tree["data_length"] == expected["data_length"]
        assert expected["password_wire"][2:] not in json.dumps(message)
        assert tree["password_class"] == 0


@pytest.mark.parametrize("case", DLT645["value_decoding"], ids=lambda case: case["wire_after_minus_33"])
def test_captured_dlt645_values(case):
    data = DataId.parse(case["di"]).to_wire() + bytes.fromhex(case["wire_after_minus_33"])
    (message,) = run(encode_frame(Dlt645Frame("1", Control(0x91), data)).hex())
    assert told(message)[f"dlt645:{case['di']}"] == (
        f"{Decimal(message['values'][0]['value']):f}", case["unit"],
    )  # fmt: skip
    assert Decimal(message["values"][0]["value"]) == Decimal(str(case["value"]))


def test_following_dlt645_frames_are_one_message():
    di = DataId.parse("00-01-FF-00")
    frames = [
        Dlt645Frame("1", Control(0xB1), di.to_wire() + bytes(6)),
        Dlt645Frame("1", Control(0xB2), di.to_wire() + bytes(1) + b"\x01"),
        Dlt645Frame("1", Control(0x92), di.to_wire() + bytes(1) + b"\x02"),
    ]
    wire = [encode_frame(frame).hex() for frame in frames]
    (message,) = run("\n\n".join(wire))
    assert message["frames"] == 3
    assert [value["obis"] for value in message["values"]] == ["1-0:1.8.0*255", "1-0:1.8.1*255"]
    (lost,) = run(wire[0] + wire[1], 1)
    assert "following frames is missing" in lost["problems"][0]["reason"]
    lost, alone = run(wire[0] + wire[2], 1)
    assert alone["tree"]["di"] == "00-01-FF-00"
    (alone,) = run(wire[2])
    assert "alone" in alone["notes"][0]


def test_spoilt_dlt645_frames():
    good = DLT645["entries"][2]["hex"]
    bad, after = run(good[:-4] + "0016" + "fefe" + good, 1)
    assert (bad["framing"], bad["offset"], bad["status"]) == ("dlt645", 0, "bad")
    assert bad["problems"][0]["reason"] == "DL/T 645 checksum is wrong"
    assert (after["offset"], after["status"]) == (20, "ok")
    (cut,) = run(good[:-6], 1)
    assert cut["problems"][0]["reason"] == "cut short: 17 of 20 bytes"
    wrong = encode_frame(Dlt645Frame("1", Control(0x91), bytes.fromhex("000001000000000a")))
    (malformed,) = run(wrong.hex(), 1)
    assert malformed["problems"][0] == {
        "offset": 14, "reason": "00-01-00-00: no decimal digits: 0000000a", "apdu_offset": None,
    }  # fmt: skip
    unknown = encode_frame(Dlt645Frame("1", Control(0x91), bytes.fromhex("00000f0f00")))
    (message,) = run(unknown.hex())
    assert "not in the table" in message["notes"][0]


@pytest.mark.parametrize("control", [0x14, 0x18, 0x19, 0x1A, 0x1B, 0x1C])
def test_a_dlt645_password_is_not_shown(control):
    secret = "02abcdef"
    data = ("11223344" if control in (0x14, 0x18) else "") + secret
    data += "02fedcba" if control == 0x18 else "01000000"
    frame = encode_frame(Dlt645Frame("1", Control(control), bytes.fromhex(data)))
    output = run(frame.hex(), readable=True) + json.dumps(run(frame.hex()))
    for hidden in ("abcdef", "efcdab", "fedcba"):
        assert hidden not in output
    assert "redacted" in output


# ---- IEC 62056-21 --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "dress", [str.encode, lambda text: text.encode().hex(), lambda text: even(text.encode())]
)
@pytest.mark.parametrize("entry", IEC["readouts"], ids=lambda entry: entry["id"])
def test_captured_readouts(entry, dress):
    *before, message = run(dress(entry["text"]))
    assert [one["apdu"] for one in before] == (["sign-on"] if entry["text"].startswith("/?") else [])
    assert (message["framing"], message["apdu"]) == ("iec62056-21", "readout")
    found = told(message)
    for address, raw in entry["expected_raw"].items():
        value, _, unit = raw.partition("*")
        name = address if ":" not in address else f"{address}.0*255"
        number, told_unit = found[name]
        assert Decimal(number) == Decimal(value) == Decimal(str(entry["expected_first_value"][address]))
        assert told_unit == (unit or None)
    sets = {one["address"]: one["groups"] for one in message["tree"]["sets"]}
    assert sets["6.8"] == ["0029.055*MWh"]
    assert found["6-0:6.8.0*255"] == ("29.055", "MWh")
    assert found["6.8.1"] == (None, None)
    assert [value["value"] for value in message["values"] if value["name"] == "9.4"] == ["88", "82"]


def test_captured_data_sets():
    for case in IEC["data_sets"]:
        (message,) = run(case["text"])
        assert len(message["values"]) == case.get("count", 1)
        if "address" in case:
            assert told(message)[case["address"]] == (case["value"], case["unit"])


def test_captured_block_checks():
    for case in IEC["block_checks"]:
        (message,) = run(case["hex"])
        assert message["checks"] == {"bcc": True}
        assert message["apdu"] == f"command {case['ascii'][1:3]}"
        (bad,) = run(case["hex"][:-2] + "7f", 1)
        assert f"0x{case['bcc']}" in bad["problems"][0]["reason"].lower()


def test_a_session_of_mode_c_and_of_mode_e():
    text = b"1.8.0(000123.45*kWh)\r\n1.8.1(bad\r\nF.F(00)\r\n!\r\n\x03"
    data = b"/?!\r\n/LGZ5\\2ZMD310\r\n\x06050\r\n\x02" + text + bytes((block_check(text),))
    for wire in (data, even(data)):
        messages = run(wire, 1)
        assert [one["apdu"] for one in messages] == ["sign-on", "identification", "option select", "readout"]
        assert messages[1]["tree"]["mode"] == "E"
        assert told(messages[3])["1-0:1.8.0*255"] == ("123.45", "kWh")
        (problem,) = messages[3]["problems"]
        assert data[problem["offset"] :].startswith(b"1.8.1(bad")
    messages = run(b"\x06252\r\n" + bytes.fromhex(HDLC))
    assert [one["framing"] for one in messages] == ["iec62056-21", "hdlc"]


def test_an_iec_password_is_not_shown():
    body = b"P1\x02(7654321)\x03"
    output = run(b"\x01" + body + bytes((block_check(body),)), readable=True)
    assert "7654321" not in output
    assert b"7654321".hex() not in output
    assert "redacted" in output


# ---- P1 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dress", [str, str.encode, lambda text: text.encode().hex(), str.strip])
@pytest.mark.parametrize("name", TELEGRAMS)
def test_captured_telegrams(name, dress):
    (message,) = run(dress(TELEGRAMS[name]))
    entry = next(entry for entry in P1["entries"] if entry["id"] == name)
    assert (message["framing"], message["status"]) == ("p1", "ok")
    assert message["checks"] == ({} if entry["verified"]["crc16_ok"] is None else {"crc": True})
    for address, text in P1["expected"].get(name, {}).items():
        value, unit = told(message)[f"{address}*255"]
        assert [value, *([unit] if unit else [])] == text.split(" ")[: 2 if unit else 1]


def test_time_and_values_of_a_telegram():
    (message,) = run(TELEGRAMS["telegram_v4_2"])
    assert (message["time"], message["time_utc"]) == ("2016-11-13T20:57:57+01:00", "2016-11-13T19:57:57Z")
    (gas,) = [value for value in message["values"] if value["name"] == "0-1:24.2.1"]
    assert gas == {
        "obis": "0-1:24.2.1*255", "value": "981.443", "unit": "m3", "scaled": None, "name": "0-1:24.2.1",
        "time": "2016-11-29T20:00:00+01:00",
    }  # fmt: skip
    shown = " ".join(run(TELEGRAMS["telegram_v4_2"], readable=True).split())
    for part in ("p1 telegram", "1-0:1.8.1*255 1581.123 kWh", "1 messages, 1 ok"):
        assert part in shown


def test_spoilt_telegrams():
    text = TELEGRAMS["telegram_v4_2"]
    bad, good = run(text.replace("!6796", "!6797") + TELEGRAMS["telegram_v5"], 1)
    assert (bad["framing"], bad["offset"], good["status"]) == ("p1", 0, "ok")
    assert bad["problems"][0]["reason"] == "P1 CRC is 6797, the bytes say 6796"
    (cut,) = run(text[:400], 1)
    assert "cut short" in cut["problems"][0]["reason"]
    (note,) = run(text.replace("\r\n", "\n"))[0]["notes"]
    assert "line ends" in note


def test_mode_d_with_full_codes_is_no_telegram():
    first, readout = run("/ESY5Q3DA1004 V3.04\r\n\r\n1-0:1.8.0*255(0000001.3*kWh)\r\n!\r\n")
    assert (first["framing"], readout["framing"]) == ("iec62056-21", "iec62056-21")
    assert told(readout)["1-0:1.8.0*255"] == ("1.3", "kWh")


# ---- all together --------------------------------------------------------------------------------


def test_every_language_in_one_stream():
    readout = b"1.8.0(1*kWh)!\r\n\x03"
    parts = [
        bytes.fromhex(DLT645["entries"][2]["hex"]),
        TELEGRAMS["telegram_v5"].encode(),
        bytes.fromhex(HDLC),
        b"\x02" + readout + bytes((block_check(readout),)),
        b"\xfe\xfe" + bytes.fromhex(DLT645["entries"][4]["hex"]),
    ]
    messages = decode_stream(b"".join(parts))
    assert [message.framing for message in messages] == [
        Framing.DLT645, Framing.P1, Framing.HDLC, Framing.IEC62056_21, Framing.DLT645,
    ]  # fmt: skip
    starts = [sum(map(len, parts[:index])) for index in range(5)]
    assert [message.offset for message in messages] == starts
    noisy = decode_stream(b"\xde\xad\xbe\xef".join(parts))
    assert [message.framing for message in noisy if not message.problems] == [m.framing for m in messages]
    assert sum(bool(message.problems) for message in noisy) == 4


def test_parts_cover_the_input():
    assert split(b"") == []
    for data in (b"hello", b"\r\n\r\n", bytes.fromhex(HDLC), b"\x68\xff" * 40):
        (only,) = split(data)
        assert (only.begin, only.end, only.frame, only.reason) == (0, len(data), None, None)
