"""DL/T 645-2007: the captured frames, the identifiers, conversations with a meter, and a dirty line."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from protocols.dlms.framing import BadFrame
from protocols.dlt645 import conversation as ask
from protocols.dlt645.control import AbnormalAnswer, Control, ErrorWord, Function
from protocols.dlt645.conversation import Answer, Continue, Conversation
from protocols.dlt645.frame import (
    BROADCAST,
    WILDCARD,
    Dlt645Frame,
    Dlt645Reader,
    address_bytes,
    encode_frame,
)
from protocols.dlt645.identifiers import DataId, meaning, parts
from protocols.dlt645.load_record import CLASSES, decode_records
from protocols.dlt645.values import decode
from protocols.errors import LocalProtocolError, RemoteProtocolError

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/dlt645/frames.json").read_text())
ENTRIES = {entry["id"]: entry for entry in VECTORS["entries"]}
ANSWER = bytes.fromhex(ENTRIES["read_energy_resp"]["hex"])
METER = "000000000001"
ENERGY = DataId.parse("00-01-00-00")


def read(data: bytes, *, size: int | None = None) -> list[Dlt645Frame | BadFrame]:
    reader, found = Dlt645Reader(), []
    size = size or max(1, len(data))
    for at in range(0, len(data), size):
        reader.feed(data[at : at + size])
        while (item := reader.next()) is not None:
            found.append(item)
    reader.end()
    while (item := reader.next()) is not None:
        found.append(item)
    return found


def answer(address: str, control: int, data: bytes) -> bytes:
    return encode_frame(Dlt645Frame(address, Control(control), data))


@pytest.mark.parametrize("entry", VECTORS["entries"], ids=ENTRIES)
def test_captured_frames(entry):
    data, expected = bytes.fromhex(entry["hex"]), entry["expected"]
    (frame,) = read(data)
    assert read(data, size=1) == [frame]
    assert encode_frame(frame) == data
    assert frame.address == expected["address"].removesuffix(" (wildcard)")
    code, _, name = expected["control"].partition(" ")
    assert int(frame.control) == int(code, 16)
    assert name.removeprefix("abnormal ") in str(frame.control)
    assert frame.control.from_meter is (entry["direction"] == "response")
    assert frame.preamble == expected.get("preamble_bytes", 0)
    if "di" in expected:
        assert DataId.from_wire(frame.data[:4]) == DataId.parse(expected["di"])
    if "value" in expected:
        (reading,) = decode(DataId.from_wire(frame.data[:4]), frame.data[4:])
        assert (reading.value, reading.unit) == (Decimal(str(expected["value"])), expected["unit"])
        assert str(reading.obis) == "1-0:1.8.0*255"
    if "error" in expected:
        refusal = AbnormalAnswer(frame.control, frame.data)
        assert refusal.word == int(expected["error"], 16)
        assert refusal.word == ErrorWord.OTHER | ErrorWord.NO_SUCH_DATA
        assert "no such data" in str(refusal)
    if "password_wire" in expected:
        assert frame.data[4:8].hex() == expected["password_wire"]
        assert len(frame.data) == expected["data_length"]
        assert expected["password_wire"][2:] not in repr(frame) + str(frame)


@pytest.mark.parametrize("case", VECTORS["value_decoding"], ids=lambda case: case["wire_after_minus_33"])
def test_captured_values(case):
    (reading,) = decode(DataId.parse(case["di"]), bytes.fromhex(case["wire_after_minus_33"]))
    assert (reading.value, reading.unit) == (Decimal(str(case["value"])), case["unit"])


@pytest.mark.parametrize(
    ("di", "data", "values"),
    [
        ("00-00-00-00", "78563492", [("-123456.78", "kWh", None)]),  # combined energy has a sign
        ("00-01-00-00", "78563492", [("923456.78", "kWh", "1-0:1.8.0*255")]),  # import has none
        ("00-02-03-00", "00000000", [("0.00", "kWh", "1-0:2.8.3*255")]),
        ("00-05-00-01", "01000000", [("0.01", "kvarh", None)]),  # of a settlement: no OBIS code
        ("00-1D-00-00", "01000000", [("0.01", "kVAh", "1-0:29.8.0*255")]),
        ("02-01-FF-00", "002201229922", [("220.0", "V", "1-0:32.7.0*255"), ("220.1", "V", "1-0:52.7.0*255"),
                                         ("229.9", "V", "1-0:72.7.0*255")]),
        ("02-06-00-00", "0090", [("-1.000", None, "1-0:13.7.0*255")]),
        ("02-80-00-02", "0150", [("50.01", "Hz", "1-0:14.7.0*255")]),
        ("02-80-00-07", "5582", [("-25.5", "degC", None)]),
        ("02-01-02-00", "ffff", [(None, "V", "1-0:52.7.0*255")]),
        ("04-00-04-01", "129078563412", [("123456789012", None, None)]),
        ("04-00-01-02", "565412", [("12:54:56", None, "1-0:0.9.1*255")]),
        ("04-00-01-01", "00311224", [("2024-12-31 weekday 0", None, "1-0:0.9.2*255")]),
        ("04-00-04-0B", "373635343332", None),
        ("04-00-05-03", "0180", [("8001", None, None)]),
        ("03-11-00-00", "120000", [("12", None, None)]),
        ("00-01-FF-00", "000001000000000000000100", [
            ("100.00", "kWh", "1-0:1.8.0*255"), ("0.00", "kWh", "1-0:1.8.1*255"),
            ("100.00", "kWh", "1-0:1.8.2*255")]),
        ("0F-01-00-00", "00", []),
    ],
)  # fmt: skip
def test_values_by_identifier(di, data, values):
    if values is None:
        with pytest.raises(RemoteProtocolError, match="cut short"):
            decode(DataId.parse(di), bytes.fromhex(data))
        return
    found = decode(DataId.parse(di), bytes.fromhex(data))
    told = [
        (None if one.value is None else str(one.value), one.unit, one.obis and str(one.obis)) for one in found
    ]
    assert told == values


def test_demand_has_the_time_of_its_occurrence():
    (demand,) = decode(DataId.parse("01-01-00-00"), bytes.fromhex("3412003012241123"))
    assert (demand.value, demand.unit, str(demand.obis)) == (Decimal("0.1234"), "kW", "1-0:1.6.0*255")
    assert str(demand.time).startswith("2023-11-24 12:30:00")
    (never,) = decode(DataId.parse("01-01-00-00"), bytes(8))
    assert (never.value, never.time) == (0, None)


def test_daily_freeze_of_all_tariffs():
    found = decode(DataId.parse("05-06-01-01"), bytes.fromhex("0000010000000200"))
    assert [(str(one.value), one.name) for one in found] == [
        ("100.00", "daily freeze, 1 back: active energy import, total"),
        ("200.00", "daily freeze, 1 back: active energy import, tariff 1"),
    ]
    (time,) = decode(DataId.parse("05-06-00-01"), bytes.fromhex("0000241123"))
    assert str(time.value).startswith("2023-11-24 00:00:00")
    powers = decode(DataId.parse("05-00-10-01"), bytes(24))
    assert [one.unit for one in powers] == ["kW"] * 4 + ["kvar"] * 4


@pytest.mark.parametrize(
    ("di", "data", "offset"),
    [
        ("00-01-00-00", "0000000a", 0),
        ("00-01-00-00", "", 0),
        ("02-01-FF-00", "00220122992201", 6),
        ("00-01-FF-00", "0000010000", 4),
        ("01-01-00-00", "3412003012241323", 3),  # month 13
        ("04-00-01-02", "565424", 0),
    ],
)
def test_malformed_values(di, data, offset):
    with pytest.raises(RemoteProtocolError) as caught:
        decode(DataId.parse(di), bytes.fromhex(data))
    assert caught.value.offset == offset


def test_every_class_of_a_load_record_is_in_the_table():
    assert [sum(meaning(di).length for di in one) for one in CLASSES] == [17, 24, 8, 16, 16, 6]


def test_load_records():
    body = bytes.fromhex("a0a0 00 0015241123") + bytes.fromhex("0022 0022 0022 001500 000000 001580 0050 aa")
    body += bytes.fromhex("aa aa 00000100 00000000 00000000 00000080 aa aa aa")
    record = body + bytes((sum(body) & 0xFF, 0xE5))
    one, two = decode_records(record * 2)
    assert one == two
    assert str(one.time).startswith("2023-11-24 15:00:00")
    assert [str(reading.value) for reading in one.readings] == [
        "220.0", "220.0", "220.0", "1.500", "0.000", "-1.500", "50.00", "100.00", "0.00", "0.00", "0.00",
    ]  # fmt: skip
    assert decode_records(b"") == ()
    for bad, reason in (
        (record[:-2] + b"\0\xe5", "checksum"),
        (record[:-1] + b"\0", "end E5"),
        (record[:9], "cut short"),
        (record[:8] + record[9:], "class|no decimal"),
        (record + b"\xa0", "no load record"),
        (record[:4] + b"\x60" + record[5:], "no such time"),
    ):
        with pytest.raises(RemoteProtocolError, match=reason):
            decode_records(bad)


@pytest.mark.parametrize("text", ["1234567890123", "12345678901A", "x", "²"])
def test_no_address(text):
    with pytest.raises(LocalProtocolError):
        address_bytes(text)


def test_short_address_and_no_identifier():
    assert address_bytes("1").hex() == "010000000000"
    for text in ("", "00-01-00", "0001000g"):
        with pytest.raises(LocalProtocolError):
            DataId.parse(text)
    assert parts(DataId.parse("07-01-FF-00"), 4) is None


# ---- conversations -------------------------------------------------------------------------------


def test_a_read_and_its_answer():
    conversation = Conversation(ask.read("1", ENERGY))
    sent = conversation.start()
    assert sent == b"\xfe" * 4 + bytes.fromhex(ENTRIES["read_energy_req"]["hex"])
    assert conversation.receive(sent) is None  # the echo of the line
    assert conversation.receive(ANSWER[:-1]) is None
    assert conversation.receive(ANSWER[-1:]) == Answer(METER, Function.READ, ENERGY, ANSWER[14:18].translate(
        bytes((value - 0x33) & 0xFF for value in range(256))))  # fmt: skip
    assert conversation.done
    assert conversation.receive(ANSWER) is None
    assert conversation.strays == 2
    assert conversation.again() == sent


def test_answers_to_something_else_are_not_taken():
    conversation = Conversation(ask.read(METER, ENERGY))
    conversation.start()
    wire = ENERGY.to_wire()
    for late in (
        answer("2", 0x91, wire + bytes(4)),
        answer(METER, 0x91, DataId.parse("00-02-00-00").to_wire() + bytes(4)),
        answer(METER, 0x92, wire + bytes(4)),
        answer(METER, 0x11, wire + bytes(4)),
        answer(METER, 0x94, b""),
        answer(METER, 0x91, b"\0"),
        answer(WILDCARD, 0x91, wire + bytes(4)),
    ):
        assert conversation.receive(late) is None
    assert conversation.strays == 7
    assert isinstance(conversation.receive(answer(METER, 0x91, wire + bytes(4))), Answer)


def test_following_frames_are_joined_by_their_sequence():
    conversation = Conversation(ask.read("AAAAAAAA0001", ENERGY))
    conversation.start()
    wire = ENERGY.to_wire()
    step = conversation.receive(answer(METER, 0xB1, wire + b"one"))
    assert isinstance(step, Continue)
    assert read(step.data) == [Dlt645Frame(METER, Control(0x12), wire + b"\x01", 4)]
    assert conversation.receive(answer(METER, 0xB1, wire + b"one")) is None  # sent again
    assert isinstance(conversation.receive(answer(METER, 0xB2, wire + b"two\x01")), Continue)
    assert conversation.receive(answer(METER, 0xB2, wire + b"two\x01")) is None
    assert conversation.receive(answer("2", 0x92, wire + b"two\x02")) is None
    assert conversation.receive(answer(METER, 0x92, wire + b"\x02")) == Answer(
        METER, Function.READ, ENERGY, b"onetwo"
    )


def test_an_answer_without_end():
    conversation = Conversation(ask.read(METER, ENERGY))
    conversation.start()
    wire = ENERGY.to_wire()
    conversation.receive(answer(METER, 0xB1, wire))
    for sequence in range(1, 255):
        assert isinstance(conversation.receive(answer(METER, 0xB2, wire + bytes((sequence,)))), Continue)
    with pytest.raises(RemoteProtocolError, match="256 frames"):
        conversation.receive(answer(METER, 0xB2, wire + b"\xff"))
    assert conversation.done


def test_a_refusal():
    conversation = Conversation(ask.read(METER, ENERGY))
    conversation.start()
    refusal = conversation.receive(bytes.fromhex(ENTRIES["read_error_resp"]["hex"]))
    assert isinstance(refusal, AbnormalAnswer)
    assert refusal.word == 3
    assert conversation.done
    assert AbnormalAnswer(Control(0xD1), b"").word is None


def test_the_address_is_found():
    conversation = Conversation(ask.read_address())
    assert conversation.start() == bytes.fromhex(ENTRIES["read_address_broadcast_with_preamble"]["hex"])
    found = conversation.receive(answer("123456789012", 0x93, address_bytes("123456789012")))
    assert found == Answer("123456789012", Function.READ_ADDRESS, None, address_bytes("123456789012"))


@pytest.mark.parametrize(
    ("request_", "address", "control", "data"),
    [
        (ask.write_address("123456789012"), WILDCARD, 0x15, "129078563412"),
        (ask.broadcast_time("241231235958"), BROADCAST, 0x08, "585923311224"),
        (ask.freeze("1"), METER, 0x16, "99999999"),
        (ask.freeze(BROADCAST, "99992359"), BROADCAST, 0x16, "59239999"),
        (ask.change_baud("1", 9600), METER, 0x17, "20"),
        (ask.read_load_records("1", DataId.parse("06-00-00-01"), 2, "2311241500"), METER, 0x11,
         "01000006020015241123"),
        (ask.read_load_records("1", DataId.parse("06-00-00-00"), 1), METER, 0x11, "0000000601"),
    ],
)  # fmt: skip
def test_requests(request_, address, control, data):
    conversation = Conversation(request_)
    (frame,) = read(conversation.start())
    assert frame == Dlt645Frame(address, Control(control), bytes.fromhex(data), 4)
    assert conversation.done is (address == BROADCAST)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ask.change_baud("1", 300),
        lambda: ask.broadcast_time("2412312359"),
        lambda: ask.freeze("1", "²9999999"),
        lambda: ask.read_load_records("1", ENERGY, 0),
        lambda: encode_frame(Dlt645Frame("1", Control(0x14), bytes(256))),
    ],
)
def test_requests_that_cannot_be_written(make):
    with pytest.raises(LocalProtocolError):
        make()


# ---- a dirty line --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [None, 1, 7])
@pytest.mark.parametrize(
    ("index", "value", "reason"),
    [
        (10, 0x00, "checksum is wrong"),
        (19, 0x00, "no DL/T 645 stop byte"),
        (9, 0x00, "no DL/T 645 stop byte"),
    ],
)
def test_bad_frame_is_told_and_the_next_is_read(size, index, value, reason):
    data = bytearray(ANSWER)
    data[index] = value
    bad, good = read(bytes(data) + b"\xfe\xfe" + ANSWER, size=size)
    assert (bad.offset, bad.data) == (0, bytes(data))
    assert reason in bad.reason
    assert (good.offset, good.preamble, good.data) == (20, 2, read(ANSWER)[0].data)


@pytest.mark.parametrize("size", [None, 1, 3])
def test_noise_and_false_starts(size):
    noise = bytes.fromhex("0068ff68010000000000ff6868")
    bad, good = read(noise + ANSWER + b"\xfe\xfe", size=size)
    assert (bad.data, good.offset) == (noise, len(noise))


def test_cut_short_at_the_end():
    (bad,) = read(ANSWER[:-1])
    assert "cut short: 19 of 20 bytes" in bad.reason
    assert read(b"\xfe" * 100) == []


def test_names_of_controls():
    assert str(Control(0xD4)) == "0xD4 write abnormal answer"
    assert Control(0xB1).more
    assert Control(0x1F).function is None
    assert "reserved" in Control(0x9F).name
