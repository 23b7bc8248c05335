"""Each DLMS, HDLC and M-Bus capture gives its listed values or refusal, also by ``headend decode``.

The files in ``captures/`` are as their sources' collectors wrote them; each names its source and licence.
"""

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headend.cli.main import app
from protocols.dlms.decode import Keys, Message, Status, decode_stream
from protocols.dlms.obis import Obis
from protocols.dlms.security import Key
from schemas.model import load_model

HERE = Path(__file__).parent


def load(name: str) -> dict:
    document = json.loads((HERE / f"{name}.json").read_text())
    assert document["license"]
    assert document["source_repo"]
    return document


HAN = {entry["id"]: entry for entry in load("captures/han_nordic")["entries"]}
DUMPS = {entry["id"]: entry for entry in load("captures/push_dumps")["entries"]}
AUSTRIA = {entry["id"]: entry for entry in load("captures/mbus_austria")["entries"]}
SUITE0 = load("dlms/crypto_suite0")
WRAPPED = load("dlms/general_glo_wrapper")
APDUS = {entry["n"]: entry["hex"] for entry in load("dlms/apdus")["entries"]}
RAW_XT211 = "raw_sagecom_xt211"

PROFILES = {
    "hdlc_7d_in_content": "aidon",
    "hdlc_7e_in_content": "kaifa-ma304",
    "kamstrup_se_full_frame": "kamstrup-omnipower",
    "hdlc_iskra550": "iskra-am550",
    "hdlc_kaifa_ma304h3e": "kaifa-ma304",
    "hdlc_landis_gyr_e450": "landisgyr-e450",
    "hdlc_norway_han_1phase": "aidon",
    "hdlc_norway_han_3phase": "aidon",
    "mbus_netz_noe_p1": "kaifa-ma309",
    "netznoe_kaifa_real": "kaifa-ma309",
    "raw_egd_example": "egd",
    RAW_XT211: "sagemcom-xt211",
}
BRANDS = {"Aidon": "aidon", "Kaifa": "kaifa-ma304", "Kamstrup": "kamstrup-omnipower"}


def frames_of(entry: dict) -> list[str]:
    for key in ("hdlc_frames_hex", "mbus_frames_hex"):
        if key in entry:
            return entry[key]
    return [next(entry[key] for key in ("hdlc_hex", "llc_apdu_hex", "apdu_hex") if key in entry)]


def profile_of(entry: dict) -> str | None:
    return PROFILES.get(entry["id"]) or BRANDS.get(entry.get("meter", ""))


def key_options(entry: dict) -> list[str]:
    options = []
    for option, key in (("--key", "encryption_key_hex"), ("--auth-key", "authentication_key_hex")):
        if key in entry:
            options += [option, entry[key]]
    return options


def keys_of(entry: dict) -> Keys:
    found = (entry.get(name) for name in ("encryption_key_hex", "authentication_key_hex"))
    return Keys(*(None if text is None else Key.from_hex(text) for text in found))


def decoded(entry: dict) -> list[Message]:
    name = profile_of(entry)
    return decode_stream(
        bytes.fromhex("".join(frames_of(entry))), keys_of(entry), load_model(name) if name else None
    )


def run(text: str, *options: str) -> tuple[int, list[dict]]:
    """Exit status and messages of ``headend decode --json`` on ``text``."""
    result = CliRunner().invoke(app, ["decode", "-", "--json", *options], input=text)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.exit_code, json.loads(result.stdout)


def by_command(entry: dict) -> tuple[int, list[dict]]:
    """The entry as a file of an engineer, its frames on lines of their own."""
    name = profile_of(entry)
    text = f"# {entry['id']}\n" + "\n".join(frames_of(entry)) + "\n"
    return run(text, *key_options(entry), *(["--profile", name] if name else []))


def same(message: Message, told: dict) -> None:
    """The command tells what the library found."""
    assert told == json.loads(json.dumps(message.to_json()))


# ---- push lists of the HAN port -------------------------------------------------------------------

SYMBOLS = {
    "active_power_import": "1.7.0", "active_power_export": "2.7.0",
    "reactive_power_import": "3.7.0", "reactive_power_export": "4.7.0",
    "active_power_import_l1": "21.7.0", "active_power_import_l2": "41.7.0",
    "active_power_export_l1": "22.7.0", "active_power_export_l2": "42.7.0",
    "active_power_export_l3": "62.7.0",
    "reactive_power_import_l1": "23.7.0", "reactive_power_import_l2": "43.7.0",
    "reactive_power_import_l3": "63.7.0", "reactive_power_export_l1": "24.7.0",
    "reactive_power_export_l2": "44.7.0", "reactive_power_export_l3": "64.7.0",
    "active_power_import_total": "1.8.0", "active_power_export_total": "2.8.0",
    "reactive_power_import_total": "3.8.0", "reactive_power_export_total": "4.8.0",
    "current_l1": "31.7.0", "current_l2": "51.7.0", "current_l3": "71.7.0",
    "voltage_l1": "32.7.0", "voltage_l2": "52.7.0", "voltage_l3": "72.7.0",
    "list_ver_id": "0.2.129",
}  # fmt: skip
UNITS = {
    "active_power": "W", "reactive_power": "var", "current": "A", "voltage": "V",
    "active_power_total": "Wh", "reactive_power_total": "varh",
}  # fmt: skip
TEXTS = {"meter_id": {"96.1.0", "0.0.5"}, "meter_type": {"96.1.7", "96.1.1"}}
EMPTY = {"hdlc_empty_info", "hdlc_short_info"}


def unit_of(name: str) -> str | None:
    kind = "_".join(name.split("_")[:2]) if "power" in name else name.split("_")[0]
    return UNITS.get(kind + ("_total" if name.endswith("_total") else ""))


def group_values(told: dict) -> dict[str, dict]:
    """Values by the groups C.D.E of their code."""
    return {value["obis"].split(":")[1].split("*")[0]: value for value in told["values"]}


def raw_of(node: dict) -> object:
    """A tree in the form of ``raw_axdr_decoded``."""
    if "items" in node:
        return [raw_of(item) for item in node["items"]]
    return node["value"]


def same_raw(ours: object, listed: object) -> None:
    if isinstance(listed, list):
        assert isinstance(ours, list)
        assert len(ours) == len(listed)
        for mine, theirs in zip(ours, listed, strict=True):
            same_raw(mine, theirs)
    else:
        assert ours == listed


@pytest.mark.parametrize("name", sorted(set(HAN) - EMPTY))
def test_han_list(name: str) -> None:
    entry = HAN[name]
    (message,) = decoded(entry)
    status, (told,) = by_command(entry)
    assert (status, message.status, message.apdu) == (0, Status.OK, "data-notification")
    same(message, told)
    assert message.checks == ({} if "llc_apdu_hex" in entry else {"hcs": True, "fcs": True})
    values = group_values(told)
    for what, expected in entry["expected"].items():
        if what == "meter_manufacturer":
            continue  # not in the message: the source's parser knows whose it is
        if what == "meter_datetime":
            assert expected in (told["time"], values.get("1.0.0", {}).get("value"))
        elif what in TEXTS:
            (group,) = TEXTS[what] & set(values)
            assert values[group]["value"] == expected
        elif what == "list_ver_id":
            assert values[SYMBOLS[what]]["value"] == expected
        else:
            value = values[SYMBOLS[what]]
            assert Decimal(value["value"]) == Decimal(str(expected)), what
            assert value["unit"] == unit_of(what)
            assert value["scaled"] == ("frame" if profile_of(entry) == "aidon" else "profile")
    same_raw(raw_of(told["tree"]["body"]), entry["raw_axdr_decoded"])


@pytest.mark.parametrize("name", sorted(EMPTY))
def test_frame_without_an_apdu_is_a_good_frame(name: str) -> None:
    (message,) = decoded(HAN[name])
    status, (told,) = by_command(HAN[name])
    assert (status, message.status, message.apdu) == (0, Status.OK, None)
    same(message, told)
    assert told["checks"] == ({"hcs": True, "fcs": True} if name == "hdlc_short_info" else {"fcs": True})


# ---- dumps with trees -----------------------------------------------------------------------------

TAGS = {
    "STRUCTURE": "structure", "ARRAY": "array", "OCTETSTRING": "octet-string",
    "VISIBLESTRING": "visible-string", "ENUM": "enum", "BOOLEAN": "boolean", "INT8": "integer",
    "INT16": "long", "INT32": "double-long", "UINT8": "unsigned", "UINT16": "long-unsigned",
    "UINT32": "double-long-unsigned", "AttributeDescriptor": "attribute-descriptor",
}  # fmt: skip


def same_moment(ours: str, listed: str) -> None:
    """The listed trees print the deviation as it is sent: "-02:00" is local time at UTC+2."""
    date, time, *deviation = listed.split()
    assert ours[:19] == f"{date}T{time[:8]}"
    if deviation:
        offset = dt.datetime.fromisoformat(ours).utcoffset()
        sign = 1 if deviation[0][0] == "-" else -1
        hours, minutes = map(int, deviation[0][1:].split(":"))
        assert offset == sign * dt.timedelta(hours=hours, minutes=minutes)


def same_tree(ours: dict, listed: dict) -> None:
    assert ours["type"] == TAGS[listed["tag"]]
    if listed["tag"] == "AttributeDescriptor":
        class_id, instance, attribute = (child["Value"] for child in listed["children"])
        assert (ours["class_id"], ours["attribute"]) == (int(class_id, 16), int(attribute, 16))
        assert ours["obis"] == str(Obis.parse(instance))
    elif "children" in listed:
        assert len(ours["items"]) == int(listed["Qty"]) == len(listed["children"])
        for mine, theirs in zip(ours["items"], listed["children"], strict=True):
            same_tree(mine, theirs)
    elif listed["tag"] == "OCTETSTRING":
        value = listed.get("Value", "")
        octets = bytes.fromhex(ours["value"])
        if octets != value.encode() and ".".join(map(str, octets)) != value:
            same_moment(ours["time"], value)
    elif listed["tag"] == "BOOLEAN":
        assert ours["value"] is (listed["Value"] not in ("0", "false", "False"))
    else:
        assert str(ours["value"]) == listed["Value"]


def units_of(listed: object) -> list[str]:
    """The units that a tree lists, in order. "a" is how its source prints an enum that is none."""
    if isinstance(listed, list):
        return [unit for child in listed for unit in units_of(child)]
    assert isinstance(listed, dict)
    own = [listed["Unit"]] if listed.get("Unit", "a") != "a" else []
    return own + units_of(listed.get("children", []))


@pytest.mark.parametrize("name", sorted(set(DUMPS) - {"mbus_kmswest"}))
def test_dump(name: str) -> None:
    entry = DUMPS[name]
    (message,) = decoded(entry)
    status, (told,) = by_command(entry)
    assert (status, message.status) == (0, Status.OK)
    same(message, told)
    assert message.frames == (0 if name.startswith("raw") else len(frames_of(entry)))

    tree = entry["expected_tree"]
    if tree["tag"] == "GeneralGloCiphering":
        assert told["layers"][-2:] == ["general-glo-ciphering", "data-notification"]
        assert told["system_title"] == tree["SystemTitle"].lower()
        assert told["counter"] == int(tree["FrameCounter"])
        # 0x20 has no tag, so nothing was verified.
        assert told["security"]["verified"] is (entry["security_control"] == "0x30")
        (tree,) = tree["children"]
    moment, body = tree["children"]
    invoke = told["tree"]["long_invoke"]
    assert invoke["invoke_id"] == int(tree["LongInvokeId"], 16) & 0xFFFFFF
    if "Value" in moment:
        same_moment(told["time"], moment["Value"])
    else:
        assert told["time"] is None
    same_tree(told["tree"]["body"], body)

    scaled = [value["unit"] for value in told["values"] if value["scaled"] == "frame"]
    assert [unit for unit in scaled if unit is not None] == units_of(tree)
    values = {value["obis"]: value["value"] for value in told["values"]}
    for dotted, expected in entry["expected_by_obis"].items():
        # The source files the clock that has no code under zeros; the profile knows its code.
        code = "0-0:1.0.0*255" if dotted == "0.0.0.0.0.0" else str(Obis.parse(dotted))
        if isinstance(expected, float):
            assert Decimal(values[code]) == Decimal(str(expected)), code
        elif expected[4:5] == "-":
            same_moment(values[code], expected)
        else:
            assert values[code] == expected, code


def test_dump_without_listed_values_gives_raw_ones_scaled() -> None:
    """Kaifa's list: the tree lists raw numbers, the profile's scaling is the maker's."""
    _, (told,) = by_command(DUMPS["hdlc_kaifa_ma304h3e"])
    values = {value["obis"]: (value["value"], value["unit"], value["scaled"]) for value in told["values"]}
    assert values["1-0:1.7.0*255"] == ("948", "W", "profile")
    assert values["1-0:31.7.0*255"] == ("1.416", "A", "profile")
    assert values["1-0:72.7.0*255"] == ("238.9", "V", "profile")
    assert values["0-0:96.1.7*255"] == ("MA304H3E", None, None)


@pytest.mark.parametrize("name", sorted(DUMPS))
def test_dump_without_keys_is_undecryptable_and_not_bad(name: str) -> None:
    entry = DUMPS[name]
    ciphered = "ciphered_apdu_hex" in entry
    status, (told,) = run("\n".join(frames_of(entry)))
    assert status == 0
    assert told["status"] == ("undecryptable" if ciphered else "ok")
    if ciphered:
        assert told["values"] == []
        assert told["system_title"] == entry["system_title_hex"]
        assert told["counter"] == entry["invocation_counter"]
        assert told["security"]["control"] == entry["security_control"]
        assert told["tree"]["body"]["ciphertext"] in entry["ciphered_apdu_hex"]


@pytest.mark.parametrize("name", sorted(n for n, e in DUMPS.items() if "ciphered_apdu_hex" in e))
def test_dump_with_a_wrong_key_is_bad(name: str) -> None:
    wrong = "00112233445566778899aabbccddeeff"
    status, (told,) = run("\n".join(frames_of(DUMPS[name])), "--key", wrong, "--auth-key", wrong)
    assert (status, told["status"], told["values"]) == (1, "bad", [])
    reason = told["problems"][0]["reason"]
    tagged = DUMPS[name]["security_control"] == "0x30"
    assert ("authentication tag does not verify" if tagged else "wrong key?") in reason


@pytest.mark.parametrize("cut", [1, 3, 7, 200])
def test_dump_cut_short_gives_the_values_so_far(cut: int) -> None:
    """The XT211 dump, said to be cut by its source, is whole: 22 of 22 elements. Here it is cut."""
    (text,) = frames_of(DUMPS[RAW_XT211])
    whole = decoded(DUMPS[RAW_XT211])[0].values
    status, (told,) = run(text[: -2 * cut], "--profile", "sagemcom-xt211")
    assert (status, told["status"]) == (1, "bad")
    assert "cut short" in told["problems"][0]["reason"]
    assert "of 22 elements" in told["problems"][0]["reason"]
    assert told["problems"][0]["offset"] <= len(text) // 2 - cut
    values = [value["obis"] for value in told["values"]]
    assert values == [str(value.obis) for value in whole[: len(values)]]
    assert len(values) >= (21 if cut < 8 else 8)


def test_austria() -> None:
    (entry,) = AUSTRIA.values()
    (message,) = decoded(entry)
    status, (told,) = by_command(entry)
    assert (status, told["status"]) == (0, "ok")
    same(message, told)
    assert (told["frames"], told["checks"]) == (2, {"checksum": True})
    assert told["system_title"] == entry["system_title_hex"]
    assert told["counter"] == entry["invocation_counter"]
    assert told["security"]["control"] == entry["security_control"]
    assert told["time"] == "2022-02-04T16:43:20+01:00"
    same_raw(raw_of(told["tree"]["body"]), entry["raw_axdr_decoded"])
    clock, *raw, number = entry["raw_axdr_decoded"]
    expected = {"0-0:1.0.0*255": told["time"], "0-0:96.1.0*255": bytes.fromhex(number).decode()}
    for name, value, (scaler, _) in zip(raw[::3], raw[1::3], raw[2::3], strict=True):
        expected[str(Obis(bytes.fromhex(name)))] = str(Decimal(value).scaleb(scaler))
    assert clock == "07e6020405102b1400ffc400"
    assert {value["obis"]: value["value"] for value in told["values"]} == expected


# ---- sessions -------------------------------------------------------------------------------------


def test_wrapper_messages() -> None:
    text = "".join(message["hex"] for message in WRAPPED["messages"])
    status, told = run(text, *key_options(WRAPPED))
    assert status == 0
    assert len(told) == len(WRAPPED["messages"]) == 13
    for message, listed in zip(told, WRAPPED["messages"], strict=True):
        assert message["security"]["verified"] is True
        assert message["layers"] == ["general-glo-ciphering", "data-notification"]
        assert message["system_title"] == "2f19229199164103"
        assert "0922" + message["tree"]["body"]["value"] == listed["plain_apdu_hex"][12:]


def test_worked_example_of_a_ciphered_aarq() -> None:
    common = SUITE0["common"]
    get, initiate = SUITE0["gcm"]
    keys = ["--key", common["encryption_key_hex"], "--auth-key", common["authentication_key_hex"]]
    ciphered_get = f"c81e30{get['invocation_counter']}{get['ciphertext_and_tag_hex']}"
    # The AARQ tells the system title that the message behind it needs.
    status, (aarq, request) = run(f"{initiate['aarq_hex']}\n\n{ciphered_get}", *keys)
    assert status == 0
    assert aarq["security"]["verified"] is True
    assert aarq["tree"]["user_information"]["apdu"] == "initiate-request"
    assert aarq["tree"]["user_information"]["max_receive_pdu"] == 0x04B0
    assert initiate["dedicated_key_hex"] not in json.dumps(aarq["tree"])
    assert request["layers"] == ["glo-get-request", "get-request"]
    assert request["tree"]["attribute"] == {"class_id": 8, "obis": "0-0:1.0.0*255", "attribute": 2}
    # Alone it needs the option.
    assert run(ciphered_get, *keys)[1][0]["status"] == "undecryptable"
    status, (alone,) = run(ciphered_get, *keys, "--system-title", get["system_title_hex"])
    assert (status, alone["tree"]) == (0, request["tree"])


# Malformed for every APDU type: refused. The rest is decoded by its own tag (see test_apdus.py for both
# sets); 35 is a well-formed last block whose value is cut short, 87 a wrapper header without its APDU.
REFUSED = {
    17, 18, 20, 21, 22, 23, 25, 26, 29, 30, 33, 34, 38, 40, 41, 45, 47, 48, 51, 53, 54, 55, 56, 57,
    59, 60, 61, 62, 66, 67, 68, 69, 71, 78, 79,
}  # fmt: skip
CUT_SHORT = {35, 87}
CIPHERED = {3, 13, 15, 84, 86}  # in whole or in part, and no key is given


@pytest.mark.parametrize("n", sorted(APDUS))
def test_apdu(n: int) -> None:
    status, told = run(APDUS[n])
    assert len(told) == 1
    expected = "bad" if n in REFUSED | CUT_SHORT else "undecryptable" if n in CIPHERED else "ok"
    assert told[0]["status"] == expected
    assert status == (expected == "bad")
    assert bool(told[0]["problems"]) == (expected == "bad")
    same(decode_stream(bytes.fromhex(APDUS[n]))[0], told[0])
