import struct
from decimal import Decimal

import pytest

from protocols.errors import LocalProtocolError, RemoteProtocolError
from protocols.modbus import frames, requests
from protocols.modbus.frames import Kind, crc16, parse_rtu, parse_tcp
from protocols.modbus.plan import Span, plan
from protocols.modbus.readout import Readout, decode_register
from protocols.modbus.values import column_integer, join
from schemas.reading import Channel
from schemas.register_model import MapRegister, Reads, RegisterModel, Space, load_register_model

INPUT, HOLDING = Space.INPUT, Space.HOLDING


def register(kind, **more):
    return MapRegister.model_validate({"at": 0, "space": "input", "type": kind, **more})


def words_of(data):
    return [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]


@pytest.mark.parametrize(
    ("kind", "hexa", "value"),
    [
        ("u16", "0000", "0"), ("u16", "ffff", "65535"), ("s16", "ffff", "-1"), ("s16", "8000", "-32768"),
        ("u32", "ffffffff", "4294967295"), ("s32", "fffffffe", "-2"), ("s32", "00010000", "65536"),
        ("u64", "ffffffffffffffff", "18446744073709551615"), ("s64", "ffffffffffffffff", "-1"),
        ("f32", "00000000", "0"), ("f32", "80000000", "0"), ("f32", "3dcccccd", "0.1"),
        ("f32", "4b800001", "16777218"), ("f64", "3fb999999999999a", "0.1"), ("bits16", "8001", "32769"),
        ("bcd16", "0042", "42"), ("bcd32", "12345678", "12345678"),
    ],
)  # fmt: skip
def test_every_type_exactly(kind, hexa, value):
    words = words_of(bytes.fromhex(hexa))
    found = decode_register("x", register(kind), words)
    assert str(found.value) == value
    assert found.rounded == kind.startswith("f")
    assert found.raw == (None if kind.startswith("f") else int(value))
    # a single word has no order; more of them may come low word first
    assert decode_register("x", register(kind, order="little"), words[::-1]).value == found.value


def test_scalers_are_powers_of_ten_and_nothing_is_rounded():
    assert str(decode_register("x", register("s32", scaler=-1), [0, 2301]).value) == "230.1"
    assert str(decode_register("x", register("s32", scaler=2), [0, 7]).value) == "700"
    assert str(decode_register("x", register("u64", scaler=-20), [0xFFFF] * 4).value) == (
        "0.18446744073709551615"
    )
    assert str(decode_register("x", register("u16", scaler=3), [0]).value) == "0"


@pytest.mark.parametrize("hexa", ["7fc00000", "ffc00000", "7f800000", "ff800000", "7f800001"])
def test_a_float_that_is_no_number_is_missing(hexa):
    found = decode_register("x", register("f32"), words_of(bytes.fromhex(hexa)))
    assert (found.value, found.reason) == (None, "not a number")


def test_what_the_meter_marks_as_not_there_is_missing_and_zero_is_not():
    found = decode_register("x", register("s16"), [0x8000], missing=[0x8000])
    assert (found.value, found.raw, found.reason) == (None, None, "not implemented by the meter")
    assert decode_register("x", register("s16"), [0], missing=[0x8000]).value == 0
    assert decode_register("x", register("bcd16"), [0x0A00]).reason == "0a00 has digits above 9"


@pytest.mark.parametrize(
    ("data", "text", "reason"),
    [
        (b"SN123\0\0\0", "SN123", None),
        (b"  SN 12 ", "SN 12", None),
        (bytes(8), None, "empty"),
        (b"SN\xff12345", None, "text is not UTF-8"),
        (b"SN\x1b[31mx", None, "text has control characters"),
    ],
)
def test_text(data, text, reason):
    found = decode_register("x", register("text", words=4), words_of(data))
    assert (found.text, found.reason, found.value) == (text, reason, None)


def test_labels_of_values_and_bits():
    labels = {"0": "none", "2": "M_EVENT_Power_Failure", "5": "b"}
    assert decode_register("x", register("u16", labels=labels), [0]).text == "none"
    assert decode_register("x", register("u16", labels=labels), [3]).text is None
    found = decode_register("x", register("bits32", labels=labels), [0, 0b100101])
    assert found.text == "none, M_EVENT_Power_Failure, b"


@pytest.mark.parametrize("words", [[], [1], [1, 2, 3]])
def test_the_wrong_number_of_words_is_the_meters_fault(words):
    with pytest.raises(RemoteProtocolError, match="has 2 words"):
        decode_register("x", register("u32"), words)


@pytest.mark.parametrize("word", [-1, 0x10000])
def test_a_word_that_is_none(word):
    with pytest.raises(RemoteProtocolError, match="0 to 65535"):
        join([0, word])


@pytest.mark.parametrize(
    ("value", "scaler", "raw"),
    [
        ("0", -6, 0), ("0", 3, 0), ("1.5", -1, 15), ("1.5", 0, None), ("-1.50", -1, -15), ("700", 2, 7),
        ("1E+2", 0, 100), ("9223372036854775807", 0, 2**63 - 1), ("9223372036854775808", 0, None),
        ("-9223372036854775808", 0, -(2**63)), ("1E+400", 0, None), ("1E-400", 0, None), ("0E+400", 0, 0),
        ("NaN", 0, None), ("Infinity", 0, None), ("1E-99999", 0, None), ("1E+99999", 0, None),
        ("0E-99999", 0, 0), (f"1.{'0' * 2000}1", 0, None), ("0.5", 0, None), ("5", 1, None), ("-5", 1, None),
    ],
)  # fmt: skip
def test_a_column_takes_what_it_can_hold_exactly(value, scaler, raw):
    assert column_integer(Decimal(value), Channel("active_import", "1-0:1.8.0*255", scaler, "Wh")) == raw


def spans(*pairs, space=INPUT):
    return [Span(space, at, count) for at, count in pairs]


@pytest.mark.parametrize(
    ("wanted", "reads", "blocks"),
    [
        ([], {}, []),
        ([(0, 2), (2, 2)], {}, [(0, 4)]),
        ([(2, 2), (0, 2), (0, 2)], {}, [(0, 4)]),
        ([(0, 2), (18, 2)], {"max_gap": 16}, [(0, 20)]),
        ([(0, 2), (19, 2)], {"max_gap": 16}, [(0, 2), (19, 2)]),
        ([(0, 2), (3, 2)], {"max_gap": 0}, [(0, 2), (3, 2)]),
        ([(0, 124), (124, 1)], {}, [(0, 125)]),
        ([(0, 124), (124, 2)], {}, [(0, 124), (124, 2)]),  # a register is never split
        ([(0, 4), (1, 1)], {}, [(0, 4)]),  # one inside the other
        ([(0, 2), (4, 2)], {"forbidden": [{"space": "input", "first": 3, "last": 3}]}, [(0, 2), (4, 2)]),
        ([(0, 2), (4, 2)], {"forbidden": [{"space": "holding", "first": 3, "last": 3}]}, [(0, 6)]),
        ([(65535, 1)], {}, [(65535, 1)]),
    ],
)
def test_few_large_reads(wanted, reads, blocks):
    assert plan(spans(*wanted), Reads.model_validate(reads)) == tuple(spans(*blocks))


def test_spaces_are_read_apart():
    assert plan([Span(INPUT, 2, 2), Span(HOLDING, 0, 2)], Reads()) == (Span(HOLDING, 0, 2), Span(INPUT, 2, 2))


@pytest.mark.parametrize("count", [0, -1, 126])
def test_a_span_that_cannot_be_read_is_our_fault(count):
    with pytest.raises(LocalProtocolError):
        plan(spans((0, count)), Reads())


def test_a_forbidden_register_is_our_fault():
    reads = Reads.model_validate({"forbidden": [{"space": "input", "first": 1, "last": 1}]})
    with pytest.raises(LocalProtocolError, match="forbidden"):
        plan(spans((0, 2)), reads)


def test_a_sdm630_is_read_in_few_requests():
    readout = Readout(load_register_model("eastron-sdm630"))
    assert [(b.address, b.count) for b in readout.blocks] == [(0, 80), (80, 28), (200, 70), (334, 48)]
    answers = {block: words_of(struct.pack(">f", 1.5) * (block.count // 2)) for block in readout.blocks}
    values = {value.name: value for value in readout.decode(answers)}
    assert len(values) == 90
    assert str(values["import_energy_active"].value) == "1500"
    assert values["import_energy_active"].quantity == "active_import"
    answers[readout.blocks[0]] = None
    values = {value.name: value for value in readout.decode(answers)}
    assert values["l1_voltage"].reason == "not read"
    assert values["l12_voltage"].value == Decimal("1.5")


def test_only_what_is_wanted_is_read():
    readout = Readout(load_register_model("carlogavazzi-em24"), ["export_energy_active", "frequency"])
    assert [(b.address, b.count) for b in readout.blocks] == [(51, 1), (78, 2)]
    export, frequency = readout.decode(dict(zip(readout.blocks, ([499], [1, 0]), strict=True)))
    assert (str(export.value), export.unit, export.raw) == ("100", "Wh", 1)
    assert (str(frequency.value), frequency.unit) == ("49.9", "Hz")


@pytest.mark.parametrize("words", [[], [1], [1, 2, 3]])
def test_an_answer_of_the_wrong_length(words):
    readout = Readout(load_register_model("eastron-sdm120"), ["voltage"])
    with pytest.raises(RemoteProtocolError, match="asked for 2 registers"):
        readout.decode({readout.blocks[0]: words})


def test_what_is_never_read_cannot_be_asked_for():
    model = load_register_model("eastron-sdm72-v2")
    for name in ("password", "reset_history"):
        with pytest.raises(LocalProtocolError, match="never read"):
            Readout(model, [name])
    with pytest.raises(LocalProtocolError, match="no register"):
        Readout(model, ["warmth"])


@pytest.mark.parametrize(
    ("power", "value", "reason"),
    [
        (0, "7", None), (0xFFFF, "0.7", None), (2, "700", None), (10, "70000000000", None),
        (0xFFF6, "7E-10", None), (11, None, "its scale is 11"),
        (0x8000, None, "its scale is not implemented"),
    ],
)  # fmt: skip
def test_a_scale_register_is_fetched_with_its_value(power, value, reason):
    model = RegisterModel.model_validate(
        {
            "name": "m", "title": "m", "driver": "modbus",
            "defaults": {"space": "holding", "type": "s16"},
            "registers": {"w": {"at": 0, "scale_register": "w_sf", "unit": "W"}, "w_sf": {"at": 40}},
        }
    )  # fmt: skip
    readout = Readout(model, ["w"])
    near, far = readout.blocks
    (found,) = readout.decode({near: [7], far: [power]})
    assert (found.value, found.reason) == (None if value is None else Decimal(value), reason)
    (found,) = readout.decode({near: [7], far: None})
    assert found.reason == "its scale was not read"


@pytest.mark.parametrize(
    ("more", "words", "told"),
    [
        ({}, [0x42C8, 0], "100"),
        ({"order": "little"}, [0, 0x42C8], "100"),
        ({"scale_register": "sf"}, [0x42C8, 0], "1000"),
        ({"scaler": 3}, [0x42C8, 0], "100000"),
    ],
)
def test_floats_by_the_long_way_and_the_short_one(more, words, told):
    def model(**rest):
        return RegisterModel.model_validate(
            {
                "name": "m", "title": "m", "driver": "modbus",
                "registers": {
                    "w": {"at": 0, "space": "input", "type": "f32", **more},
                    "sf": {"at": 2, "space": "input", "type": "s16"},
                },
                **rest,
            }
        )  # fmt: skip

    readout = Readout(model(), ["w"])
    answers = {block: [*words, 1][: block.count] for block in readout.blocks}
    (found,) = readout.decode(answers)
    assert (str(found.value), found.rounded, found.reason) == (told, True, None)
    (found,) = Readout(model(missing={"f32": [0x42C80000]}), ["w"]).decode(answers)
    assert (found.value, found.reason) == (None, "not implemented by the meter")


def rtu(body):
    data = bytes.fromhex(body)
    return data + crc16(data).to_bytes(2, "little")


@pytest.mark.parametrize(
    ("body", "kind", "told"),
    [
        ("01030000000a", Kind.REQUEST, "unit 1 function 3 request 10 at 0"),
        ("1103020102", Kind.ANSWER, "unit 17 function 3 answer 0102"),
        ("0103060001000200ff", Kind.ANSWER, "unit 1 function 3 answer 0001000200ff"),
        ("010600100003", Kind.ECHO, "unit 1 function 6 echo 1 at 16 0003"),
        ("0110001000020400010002", Kind.REQUEST, "unit 1 function 16 request 2 at 16 00010002"),
        ("011000100002", Kind.ANSWER, "unit 1 function 16 answer 2 at 16"),
        ("018302", Kind.EXCEPTION, "unit 1 function 3 exception 2: illegal data address"),
        ("01830b", Kind.EXCEPTION, "unit 1 function 3 exception 11: gateway target did not respond"),
        ("018399", Kind.EXCEPTION, "unit 1 function 3 exception 153: unknown code"),
    ],
)
def test_frames_tell_what_they_are(body, kind, told):
    frame, end = parse_rtu(b"\0" + rtu(body) + b"\x01\x03", 1)
    assert (frame.kind, str(frame), end) == (kind, told, 1 + len(rtu(body)))
    wrong = bytearray(rtu(body))
    wrong[-1] ^= 1
    assert parse_rtu(bytes(wrong)) is None
    assert parse_rtu(rtu(body)[:-1]) is None
    tcp = b"\0\7\0\0" + len(bytes.fromhex(body)).to_bytes(2, "big") + bytes.fromhex(body)
    frame, end = parse_tcp(tcp + b"more")
    assert (frame.transaction, str(frame), end) == (7, told, len(tcp))
    for cut in range(len(tcp)):
        with pytest.raises(RemoteProtocolError):
            parse_tcp(tcp[:cut])


@pytest.mark.parametrize(
    "text",
    [
        "0001000100060103000000",
        "00010000000201",
        "0001000000ff0103",
        "000100000003010300",
        "00010000000301630000",
    ],
)
def test_what_is_no_tcp_frame(text):
    with pytest.raises(RemoteProtocolError):
        parse_tcp(bytes.fromhex(text))


def test_the_crc_of_the_specification():
    assert crc16(b"123456789") == 0x4B37
    assert frames.MAX_RTU == 256


#: The examples of the Modbus application protocol V1.1b3, 6.14 and 6.15.
READ_FILES = "14 0e 06 0004 0001 0002 06 0003 0009 0002"
FILES_READ = "14 0c 05 06 0dfe 0020 05 06 33cd 0040"
WRITE_FILE = "15 0d 06 0004 0007 0003 06af 04be 100d"


def test_records_of_files_as_in_the_standards_examples():
    asked, answered, written = map(bytes.fromhex, (READ_FILES, FILES_READ, WRITE_FILE))
    assert requests.file_parts(20, asked[2:]) == ((4, 1, 2, b""), (3, 9, 2, b""))
    assert requests.file_answer((b"\x0d\xfe\0\x20", b"\x33\xcd\0\x40")) == answered
    assert requests.write_file(4, 7, written[9:]) == (written, written, len(written))
    assert requests.read_file(4, 1, 2) == (
        bytes.fromhex("14 07 06 0004 0001 0002"), bytes.fromhex("14 06 05 06"), 8,
    )  # fmt: skip
    assert requests.file_parts(21, written[2:]) == ((4, 7, 3, written[9:]),)
    for pdu, kind in ((asked, Kind.REQUEST), (answered, Kind.ANSWER), (written, Kind.ECHO)):
        body = b"\x01" + pdu
        frame, end = parse_rtu(b"\0" + body + crc16(body).to_bytes(2, "little"), 1)
        assert (frame.function, frame.kind, frame.data, end) == (pdu[0], kind, pdu[2:], len(pdu) + 4)


@pytest.mark.parametrize(
    ("make", "args"),
    [
        (requests.read_file, (0, 0, 1)), (requests.read_file, (1, 9_999, 2)),
        (requests.read_file, (1, 0, 122)), (requests.write_file, (1, 0, b"")),
        (requests.write_file, (1, 0, b"abc")),
        (requests.write_file, (1, 0, bytes(246))),
        (requests.write_registers, (0, bytes(248))),
    ],
)  # fmt: skip
def test_requests_that_nobody_may_send(make, args):
    with pytest.raises(LocalProtocolError):
        make(*args)
