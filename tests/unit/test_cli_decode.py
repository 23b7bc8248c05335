"""``headend decode`` as a shell calls it: input, options, keys, output, exit status."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headend.cli.main import app

KEY = "36C66639E48A8CA4D6BC8B282A793BBB"
MBUS = "".join(
    next(
        entry
        for entry in json.loads((Path(__file__).parents[1] / "vectors/captures/push_dumps.json").read_text())[
            "entries"
        ]
        if entry["id"] == "mbus_netz_noe_p1"
    )["mbus_frames_hex"]
)
CLOCK_ANSWER = "c401c100090c07e3020401173416ff800000"


def run(*arguments: str, text: str | bytes = "", **environment: str):
    result = CliRunner().invoke(app, ["decode", *arguments], input=text, env=environment)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def test_file_and_standard_input_hex_and_binary(tmp_path: Path) -> None:
    text, binary = tmp_path / "frame.hex", tmp_path / "frame.bin"
    text.write_text(MBUS)
    binary.write_bytes(bytes.fromhex(MBUS))
    outputs = {
        run(str(text), "--key", KEY, "--json").stdout,
        run(str(binary), "--key", KEY, "--json").stdout,
        run("-", "--key", KEY, "--json", text=MBUS).stdout,
        run("--key", KEY, "--json", text=bytes.fromhex(MBUS)).stdout,
    }
    assert len(outputs) == 1
    (message,) = json.loads(outputs.pop())
    assert message["status"] == "ok"
    assert message["values"][0] == {
        "obis": "1-0:1.8.0*255",
        "value": "12937",
        "unit": "Wh",
        "scaled": "frame",
    }


def test_profile_names_what_has_no_code() -> None:
    (message,) = json.loads(run("--key", KEY, "--json", "--profile", "kaifa-ma309", text=MBUS).stdout)
    assert message["values"][-1] == {
        "obis": "0-0:96.1.0*255",
        "value": "181220000009",
        "unit": None,
        "scaled": None,
    }
    assert message["unnamed"] == []


def test_readable_output_says_what_json_says() -> None:
    result = run("--key", KEY, text=MBUS)
    assert result.exit_code == 0
    for part in (
        "general-glo-ciphering > data-notification", "4b464d6750000009 KFM", "counter 35", "not verified",
        "2021-09-27T09:47:15+02:00", "1-0:1.8.0*255", "12937", "Wh", "1 messages, 1 ok",
    ):  # fmt: skip
        assert part in " ".join(result.stdout.split()), part


def test_keys_come_from_the_environment_and_never_show() -> None:
    result = run("--json", text=MBUS, DLMS_KEY=KEY)
    assert json.loads(result.stdout)[0]["status"] == "ok"
    for output in (result, run(text=MBUS, DLMS_KEY=KEY), run("--help", DLMS_KEY=KEY)):
        assert KEY.lower() not in output.output.lower()


def test_undecryptable_is_status_0() -> None:
    result = run("--json", text=MBUS)
    assert result.exit_code == 0
    assert json.loads(result.stdout)[0]["status"] == "undecryptable"


def test_bad_is_status_1_and_the_rest_goes_on() -> None:
    broken = MBUS[:-4] + "0016"  # checksum of the second frame
    result = run("--json", "--key", KEY, text=f"{broken}\n\n{CLOCK_ANSWER}\n\nno hex\n\n{MBUS}")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert [message["offset"] for message in told] == sorted(message["offset"] for message in told)
    assert [message["status"] for message in told].count("ok") == 2
    reasons = [problem["reason"] for message in told for problem in message["problems"]]
    assert any("checksum" in reason for reason in reasons)
    assert any("line 5" in reason for reason in reasons)
    readable = run("--key", KEY, text=broken)
    assert readable.exit_code == 1
    assert "checksum" in readable.stdout


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--key", "xyz"], "not hexadecimal"),
        (["--key", "0011"], "16 or 32 bytes"),
        (["--auth-key", "0011"], "16 or 32 bytes"),
        (["--system-title", "00"], "8 bytes"),
        (["--system-title", "q"], "not hexadecimal"),
        (["--profile", "nobody"], "nobody"),
        (["/nowhere/at/all"], "No such file"),
    ],
)
def test_wrong_use_is_status_2(arguments: list[str], reason: str) -> None:
    result = run(*arguments, text=MBUS)
    assert result.exit_code == 2
    assert reason in " ".join(result.output.replace("│", " ").split())
    assert "xyz" not in result.output


def test_empty_input() -> None:
    result = run("--json", text="")
    assert (result.exit_code, json.loads(result.stdout)) == (0, [])


def test_a_password_is_not_shown() -> None:
    aarq = (
        "6036a1090607608574050801018a0207808b0760857405080201ac0a80083132333435363738"
        "be10040e01000000065f1f0400007e1f04b0"
    )
    for output in (run(text=aarq).output, run("--json", text=aarq).output):
        assert "AARQ" in output
        assert "12345678" not in output
        assert "3132333435363738" not in output


def test_a_challenge_is_shown() -> None:
    aarq = (
        "6036a1090607608574050801018a0207808b0760857405080205ac0a80084b35366956616759"
        "be10040e01000000065f1f0400007e1f04b0"
    )
    (message,) = json.loads(run("--json", text=aarq).stdout)
    assert message["tree"]["calling_authentication_value"] == b"K56iVagY".hex()


def test_a_frame_is_decoded_without_what_takes_long_to_load() -> None:
    told = subprocess.run(
        [sys.executable, "-c", "import sys, headend.cli.decode; print(*sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert {"pydantic", "psycopg", "fastapi", "uvloop"}.isdisjoint(told.stdout.split())
