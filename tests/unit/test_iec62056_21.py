"""IEC 62056-21: the captured readouts, every message, the client in each mode, and a dirty line."""

import json
import re
from decimal import Decimal
from pathlib import Path

import pytest

from protocols.dlms.framing import BadFrame
from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.iec62056_21 import messages
from protocols.iec62056_21.client import (
    MAX_REPEATS,
    HdlcFollows,
    Identified,
    ReadoutClient,
    ReadoutReceived,
    Want,
)
from protocols.iec62056_21.data_sets import DataSet, Part, medium_of, obis_of, parse
from protocols.iec62056_21.messages import (
    Block,
    Identification,
    IecReader,
    Mode,
    OptionSelect,
    SignOn,
    block_check,
)

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/iec62056_21/readouts.json").read_text())
TEXT = "1.8.0(000123.45*kWh)\r\nF.F(00)\r\n!\r\n"
IDENTIFICATION = b"/LGZ5ZMD310\r\n"
HDLC_METER = b"/LGZ5\\2ZMD310\r\n"


def read(data: bytes, *, size: int | None = None) -> list:
    reader, found = IecReader(), []
    size = size or max(1, len(data))
    for at in range(0, len(data), size):
        reader.feed(data[at : at + size])
        while (item := reader.next()) is not None:
            found.append(item)
    reader.end()
    while (item := reader.next()) is not None:
        found.append(item)
    return found


def framed(text: str = TEXT, *, close: int = 3) -> bytes:
    body = text.encode("ascii") + bytes((close,))
    return b"\x02" + body + bytes((block_check(body),))


def even(data: bytes) -> bytes:
    return bytes(byte | (byte.bit_count() & 1) << 7 for byte in data)


@pytest.mark.parametrize("size", [None, 1, 13])
@pytest.mark.parametrize("entry", VECTORS["readouts"], ids=lambda entry: entry["id"])
def test_captured_readouts(entry, size):
    *before, block = read(entry["text"].encode(), size=size)
    assert before == ([SignOn("Bla0")] if entry["text"].startswith("/?") else [])
    assert isinstance(block, Block)
    assert (block.checked, block.complete, block.last) == (False, True, True)
    sets, malformed = block.sets()
    assert malformed == ()
    assert len(sets) == entry["text"].count("(")
    assert medium_of(sets) == 6
    told = {str(obis_of(one.address, 6)).removesuffix(".0*255"): one for one in sets}
    told |= {one.address: one for one in sets}
    for address, raw in entry["expected_raw"].items():
        assert told[address].groups == (raw,)
    for address, value in entry["expected_first_value"].items():
        assert told[address].parts[0].number == Decimal(str(value))
    assert told["9.4"].parts == (Part("088", "C"), Part("082", "C"))
    assert told["9.36"].parts == (Part("2017-01-18"), Part("01:36:47"))
    assert told["9.2"].parts == (Part(""), Part(""), Part(""))
    assert told["6.8.1"].parts == (Part(""),)
    assert str(obis_of("6.8*01", 6)) == "6-0:6.8.0*1"


def test_captured_data_sets():
    for case in VECTORS["data_sets"]:
        sets, malformed = parse(case["text"])
        assert malformed == ()
        if "count" in case:
            assert [one.address for one in sets] == ["12", "13", "14"]
            assert [one.parts[0].number for one in sets] == [12, 13, 14]
            continue
        (one,) = sets
        assert (one.address, one.parts) == (case["address"], (Part(case["value"], case["unit"]),))


def test_captured_block_checks():
    for case in VECTORS["block_checks"]:
        data = bytes.fromhex(case["hex"])
        assert block_check(data[1:-1]) == int(case["bcc"], 16)
        (block,) = read(data)
        assert block.command == data[1:3].decode()
        assert block.checked
        spoilt = data[:-1] + bytes((data[-1] ^ 1,))
        (bad,) = read(spoilt)
        assert "block check" in bad.reason


@pytest.mark.parametrize("size", [None, 1])
def test_every_message(size):
    data = b"".join(
        (b"/?12345678!\r\n", HDLC_METER, b"\x06000\r\n", framed(close=4), framed(), b"\x01B0\x03q")
    )
    found = read(data, size=size)
    assert [message._replace(offset=0) for message in found[:3]] == [
        SignOn("12345678"), Identification("LGZ", "5", "\\2ZMD310"), OptionSelect("0", "0", "0"),
    ]  # fmt: skip
    assert [(block.text, block.command, block.last) for block in found[3:]] == [
        (TEXT, None, False), (TEXT, None, True), ("", "B0", True),
    ]  # fmt: skip
    assert [message.offset for message in found] == [
        0,
        13,
        28,
        34,
        34 + len(TEXT) + 3,
        34 + 2 * len(TEXT) + 6,
    ]


@pytest.mark.parametrize("size", [None, 1])
def test_parity_bits_are_taken_off(size):
    data = IDENTIFICATION + framed()
    assert read(even(data), size=size) == read(data)
    assert even(data) != data


@pytest.mark.parametrize(
    ("line", "mode", "baud"),
    [
        ("/LGZ5x", Mode.C, 9600), ("/LGZ0x", Mode.C, 300), ("/LGZ6\\2x", Mode.E, 19200),
        ("/LGZ4\\@\\2x", Mode.E, 4800), ("/LGZC\\2x", Mode.B, 2400), ("/LGZ:x", Mode.A, 300),
        ("/lgz5", Mode.C, 9600),
    ],
)  # fmt: skip
def test_modes(line, mode, baud):
    (told,) = read(line.encode() + b"\r\n")
    assert (told.mode, told.baud) == (mode, baud)


def test_forms_of_data_sets():
    sets, malformed = parse(
        "1-0:1.8.0&02(1*kWh)\r\nP.01(2311241500)(00)(15)(1)(1.5)(kW)\r\n(0.1)(0.2)\r\n(secret)\r\n"
        "1.8.1(5*kWh\r\n2.8.0(-1.50*kWh)x\r\n3.8.0(1))\r\njunk\r\n!4.8.0(1)"
    )
    assert [str(one) for one in sets] == [
        "1-0:1.8.0&02(1*kWh)", "P.01(2311241500)(00)(15)(1)(1.5)(kW)(0.1)(0.2)(secret)", "2.8.0(-1.50*kWh)",
        "3.8.0(1)",
    ]  # fmt: skip
    assert [bad.text for bad in malformed] == ["1.8.1(5*kWh", "x", ")", "junk"]
    assert sets[2].parts[0].number == Decimal("-1.50")
    assert parse("(1234567)")[0] == (DataSet("", ("1234567",)),)


@pytest.mark.parametrize(
    ("address", "medium", "code"),
    [
        ("1.8.0", 1, "1-0:1.8.0*255"), ("1.8.0*01", 1, "1-0:1.8.0*1"), ("1-0:1.8.0&02", None, "1-0:1.8.0*2"),
        ("1.8.0", None, None), ("6.8", 6, "6-0:6.8.0*255"), ("0:1.8.0", 1, "1-0:1.8.0*255"),
        ("F.F", 1, "0-0:97.97.0*255"),
        ("F", 1, None), ("12", 1, None), ("999.8.0", 1, None), ("", 1, None),
    ],
)  # fmt: skip
def test_codes_of_addresses(address, medium, code):
    found = obis_of(address, medium)
    assert (found and str(found)) == code


def test_media():
    assert medium_of(parse("6.8(1*varh)1.8.0(1*kWh)")[0]) == 1
    assert medium_of(parse("0.0(1)")[0]) is None
    assert medium_of(parse("1-0:1.8.0(1*kWh)")[0]) is None


def test_numbers():
    assert [Part(text).number for text in ("0", "-0.10", "1.", "R", "", "²", "1e5", "--")] == [
        0, Decimal("-0.10"), None, None, None, None, None, None,
    ]  # fmt: skip


# ---- a dirty line --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [None, 1, 5])
def test_spoilt_block_is_told_and_nothing_is_read_from_its_middle(size):
    spoilt = bytearray(framed())
    spoilt[8] ^= 0x10
    bad, good = read(bytes(spoilt) + framed(), size=size)
    assert isinstance(bad, BadFrame)
    assert "block check" in bad.reason
    assert bad.data == bytes(spoilt)
    assert good.text == TEXT


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"/AB", "cut short"),
        (b"/AB1x\r\n", "outside any frame|neither"),
        (b"\x06999", "cut short"),
        (b"\x0212\x02", "inside a block"),
        (b"\x01W9\x05", "no command"),
        (b"\x02" + b"1" * 70000, "more than 65536|65536"),
        (b"1.8.0(" + b"1" * 70000, "65536"),
        (b"1.8.0(1)\r\n2.8.0(1", "cut short"),
        (b"1.8.0(1)\r\n/ABC5x\r\n", "another message"),
        (b"1.8.0(1)\0!", "inside data sets"),
        (b"hello", "outside any frame|no data set|cut short"),
        (b"/" + b"A" * 100, "neither"),
    ],
)
def test_malformed(data, reason):
    found = read(data)
    assert isinstance(found[0], BadFrame)
    assert re.search(reason, found[0].reason), found[0].reason
    one_by_one = read(data[:300], size=1)
    assert one_by_one == read(data[:300])


def test_plain_data_without_an_end():
    (block,) = read(b"1.8.0(1*kWh)\r\n2.8.0(1)")
    assert not block.complete
    assert len(block.sets()[0]) == 2


def test_a_password_is_not_in_repr():
    body = b"P1\x02(7654321)\x03"
    (block,) = read(b"\x01" + body + bytes((block_check(body),)))
    assert block.is_password
    assert "7654321" not in repr(block) + str(block)


# ---- the client ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("identification", "reply", "baud", "max_baud"),
    [
        (IDENTIFICATION, b"\x06050\r\n", 9600, 19200),
        (IDENTIFICATION, b"\x06030\r\n", 2400, 2400),
        (HDLC_METER, b"\x06050\r\n", 9600, 9600),
        (b"/ABCC1\r\n", b"", 2400, 9600),
        (b"/ABC:1\r\n", b"", 300, 9600),
    ],
)
def test_readout(identification, reply, baud, max_baud):
    client = ReadoutClient(max_baud=max_baud)
    assert client.start() == b"/?!\r\n"
    (told,) = client.receive(b"/?!\r\n" + even(identification))  # the optical head echoes
    assert told == Identified(told.identification, reply, baud)
    first, last = client.receive(reply + framed(close=4) + even(framed()))
    assert isinstance(first, ReadoutReceived)
    assert (first.block.last, last.block.text, client.done) == (False, TEXT, True)


def test_hdlc_follows_the_echo():
    client = ReadoutClient("123", want=Want.HDLC)
    assert client.start() == b"/?123!\r\n"
    (told,) = client.receive(HDLC_METER)
    assert (told.reply, told.baud) == (b"\x06252\r\n", 9600)
    assert client.receive(even(b"\x062")) == []
    assert client.receive(even(b"52\r\n") + b"\x7e\xa0") == [HdlcFollows(b"\x7e\xa0")]
    assert client.done


def test_no_hdlc():
    client = ReadoutClient(want=Want.HDLC)
    client.start()
    with pytest.raises(RemoteProtocolError, match="offers no HDLC"):
        client.receive(IDENTIFICATION)
    client = ReadoutClient(want=Want.HDLC)
    client.start()
    client.receive(HDLC_METER)
    with pytest.raises(RemoteProtocolError, match="does not confirm"):
        client.receive(b"\x7e")


def test_silence_is_asked_again_and_not_for_ever():
    client = ReadoutClient()
    client.start()
    assert client.again() == b"/?!\r\n"
    client.receive(IDENTIFICATION)
    spoilt = bytearray(framed())
    spoilt[5] ^= 1
    assert client.receive(bytes(spoilt)) == []
    assert client.again() == b"\x15"
    assert [type(event) for event in client.receive(framed(close=4))] == [ReadoutReceived]
    for _ in range(MAX_REPEATS):
        client.again()
    with pytest.raises(RemoteProtocolError, match="3 repeats"):
        client.again()
    assert client.done


def test_wrong_use():
    with pytest.raises(LocalProtocolError):
        ReadoutClient("a!b")
    client = ReadoutClient()
    client.start()
    with pytest.raises(LocalProtocolError):
        client.start()


def test_a_line_that_sends_filling_only_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    real = messages.filling

    def counted(data: bytes | bytearray, start: int = 0, end: int | None = None) -> int:
        looked.append(len(data) - start)
        return real(data, start, end)

    monkeypatch.setattr(messages, "filling", counted)
    reader = IecReader()
    for _ in range(2000):
        reader.feed(b"\0")
        assert reader.next() is None
    assert sum(looked) <= 4 * 2000
    reader.feed(b"/ABC5x\r\n")
    assert isinstance(reader.next(), Identification)
