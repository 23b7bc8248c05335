"""P1: all captured telegrams, every layout of objects, CRC, times, and a dirty line."""

import json
from decimal import Decimal
from pathlib import Path

import pytest

from protocols.dlms.cosem_time import CosemDateTime
from protocols.dlms.framing import BadFrame, Missing
from protocols.dlms.push_values import written
from protocols.errors import RemoteProtocolError
from protocols.iec62056_21 import p1
from protocols.iec62056_21.p1 import P1Reader, P1Telegram, crc16
from protocols.iec62056_21.p1_objects import Device, read, stamp

VECTORS = json.loads((Path(__file__).parents[1] / "vectors/p1/telegrams.json").read_text())
TELEGRAMS = {entry["id"]: entry["telegram"].encode("latin-1") for entry in VECTORS["entries"]}
V4 = TELEGRAMS["telegram_v4_2"]


def split(data: bytes, *, size: int | None = None) -> list[P1Telegram | BadFrame]:
    reader, found = P1Reader(), []
    size = size or max(1, len(data))
    for at in range(0, len(data), size):
        reader.feed(data[at : at + size])
        while (item := reader.next()) is not None:
            found.append(item)
    reader.end()
    while (item := reader.next()) is not None:
        found.append(item)
    return found


def objects(name: str) -> dict[str, tuple[str | None, str | None]]:
    (telegram,) = split(TELEGRAMS[name])
    found = read(telegram)
    assert found.problems == ()
    return {str(value.obis): (written(value.value), value.unit) for value in found.values}


def made(lines: str, *, crc: bool = True) -> bytes:
    body = f"/ABC5X\r\n\r\n{lines}!".encode()
    return body + (f"{crc16(body):04X}".encode() if crc else b"") + b"\r\n"


@pytest.mark.parametrize("size", [None, 1, 100])
@pytest.mark.parametrize("entry", VECTORS["entries"], ids=TELEGRAMS)
def test_captured_telegrams(entry, size):
    (telegram,) = split(TELEGRAMS[entry["id"]], size=size)
    assert (telegram.crc is None) is (entry["verified"]["crc16_ok"] is None)
    assert telegram.is_typical
    assert "/" + telegram.identification == entry["telegram"].split("\r\n")[0]
    found = read(telegram)
    assert found.problems == ()
    assert all(value.obis is not None for value in found.values)
    assert {value.name for value in found.values} == {one.address for one in telegram.sets()[0]}


def test_values_of_version_4_2():
    told = objects("telegram_v4_2")
    for name, text in VECTORS["expected"]["telegram_v4_2"].items():
        value, unit = told[f"{name}*255"]
        expected, _, expected_unit = text.partition(" ")
        if unit is None:
            assert value == expected
        else:
            assert (Decimal(value), unit) == (Decimal(expected), expected_unit)
    assert told["0-1:24.2.1*255"] == ("981.443", "m3")
    assert told["0-0:96.7.21*255"] == ("15", None)


def test_log_of_power_failures():
    (telegram,) = split(V4)
    log = [value for value in read(telegram).values if value.name == "1-0:99.97.0"]
    assert (str(log[0].obis), log[0].value) == ("1-0:99.97.0*255", 3)
    assert [(str(one.obis), one.value, one.unit, written(one.time)) for one in log[1:]] == [
        ("0-0:96.7.19*255", 237126, "s", "2000-01-04T18:03:20+01:00"),
        ("0-0:96.7.19*255", 2147583646, "s", "2000-01-01T00:00:01+01:00"),
        ("0-0:96.7.19*255", 2317482647, "s", "2000-01-02T00:00:03+01:00"),
    ]


def test_maxima_of_past_months():
    (telegram,) = split(TELEGRAMS["telegram_fluvius_v171"])
    found = [value for value in read(telegram).values if value.name == "0-0:98.1.0"]
    assert [(written(one.kept), written(one.time), one.value, one.unit) for one in found[1:]] == [
        ("2020-05-01T00:00:00+02:00", "2020-04-23T19:25:38+02:00", Decimal("3.695"), "kW"),
        ("2020-04-01T00:00:00+02:00", "2020-03-05T12:21:39+02:00", Decimal("5.980"), "kW"),
        ("2020-03-01T00:00:00+02:00", "2020-02-10T03:54:21+01:00", Decimal("4.318"), "kW"),
    ]
    (now,) = [value for value in read(telegram).values if value.name == "1-0:1.6.0"]
    assert (written(now.time), now.value) == ("2020-05-09T13:45:58+02:00", Decimal("2.589"))


@pytest.mark.parametrize(
    ("name", "reading", "devices"),
    [
        ("telegram_v2_2", ("0-1:24.2.1*255", "1.001", "m3", "2016-11-07T19:00:00"), [(1, 3, "000000000000")]),
        ("telegram_v3", ("0-1:24.2.1*255", "1.001", "m3", "2009-02-12T16:00:00"),
         [(1, 3, "2222ABCD123456789")]),
        ("telegram_v5", ("0-1:24.2.1*255", "0.107", "m3", "2017-01-02T16:10:05+01:00"),
         [(1, 3, "2222ABCD123456789"), (2, 3, None)]),
        ("telegram_unpadded_crc", ("0-1:24.2.1*255", "240.860", "GJ", "2026-02-15T20:05:23+01:00"),
         [(1, 4, "621848012D2C0B0C")]),
        ("telegram_fluvius_v171", ("0-1:24.2.3*255", "112.384", "m3", "2020-05-12T13:45:58+02:00"),
         [(1, 3, "7FLO2119033733"), (2, 7, "8SAG1234567890")]),
    ],
)  # fmt: skip
def test_devices_on_the_meter_s_bus(name, reading, devices):
    (telegram,) = split(TELEGRAMS[name])
    found = read(telegram)
    readings = [
        (str(one.obis), written(one.value), one.unit, written(one.time)) for one in found.values if one.time
    ]
    assert reading in readings
    assert [tuple(device) for device in found.devices] == devices
    assert isinstance(found.devices[0], Device)


def test_texts_and_units():
    v3 = objects("telegram_v3")
    assert v3["0-0:96.1.1*255"] == ("K8EG004046395507", None)
    assert v3["0-0:96.13.1*255"] == ("012345678", None)
    assert v3["0-0:17.0.0*255"] == ("16", "A")
    t210 = objects("telegram_sagemcom_t210_d_r")
    assert t210["1-0:3.8.0*255"] == ("747", "varh")
    assert objects("telegram_v5")["0-2:96.1.0*255"] == (None, None)


def test_ireland_is_an_hour_west_of_central_europe():
    (telegram,) = split(TELEGRAMS["telegram_iskra_ie"])
    assert written(read(telegram).time) == "2023-02-02T13:27:47+01:00"  # marked S: one hour from Greenwich
    assert written(read(telegram, winter_min=60).time) == "2023-02-02T13:27:47+02:00"


def test_times():
    assert written(stamp("161113205757W", 60)) == "2016-11-13T20:57:57+01:00"
    assert stamp("161113205757S", 60).to_utc().isoformat() == "2016-11-13T18:57:57+00:00"
    assert stamp("161113205757", 60).deviation_min is None
    for text in ("161313205757W", "1611132057W", "161113205757X", "", "161113255757W"):
        with pytest.raises(RemoteProtocolError):
            stamp(text, 60)


def test_crc():
    assert crc16(b"123456789") == 0xBB3D
    assert crc16(b"") == 0


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (V4.replace(b"!6796", b"!6797"), "CRC is 6797, the bytes say 6796"),
        (V4.replace(b"001581.123", b"001581.124"), "CRC is 6796"),
        (V4.replace(b"!6796", b"!"), "has a CRC"),
        (V4[:500], "cut short"),
        (V4.replace(b"1-0:2.8.2", b"1-0:2.\xff.2"), "0xFF"),
    ],
)
@pytest.mark.parametrize("size", [None, 1, 64])
def test_bad_telegram_is_told_and_the_next_is_read(data, reason, size):
    bad, good = split(data + TELEGRAMS["telegram_v5"], size=size)
    assert isinstance(bad, BadFrame)
    assert (bad.offset, bad.data) == (0, data)
    assert reason in bad.reason
    assert isinstance(good, P1Telegram)
    assert good.offset == len(data)


def test_bounds():
    (bad, *_) = split(b"/ABC5X\r\n\r\n" + b"1" * 20000)
    assert "more than 16384" in bad.reason
    reader = P1Reader()
    for _ in range(100):
        reader.feed(b"/ABC5X\r\n" + b"x" * 500)
        while reader.next() is not None:
            pass
        assert reader.pending < 40000


def test_line_ends_that_an_editor_changed():
    (telegram,) = split(V4.replace(b"\r\n", b"\n"))
    assert telegram.bare_line_ends
    assert telegram.crc == 0x6796


def test_end_of_input_behind_the_crc():
    assert split(V4.removesuffix(b"\r\n"))[0].crc == 0x6796
    assert split(TELEGRAMS["telegram_v3"].removesuffix(b"\r\n"))[0].crc is None


def test_what_is_bad_inside_is_told_and_the_rest_is_read():
    (telegram,) = split(
        made(
            "1-0:1.8.0(1*kWh)\r\n1-0:2.8.0(x*kWh)\r\njunk\r\n1-0:999.8.0(1)\r\n0-1:24.2.1(632525252525W)(1*m3)\r\n"
            "1-0:99.97.0(2)(0-0:96.7.19)(000104180320W)\r\n1-0:3.8.0(1)(2)(3)\r\n0-1:24.3.0(1)(2)\r\n"
            "1-0:4.8.0(1&2)\r\n1-0:1.7.0(0.5*kW)\r\n"
        )
    )
    found = read(telegram)
    assert [value.name for value in found.values] == ["1-0:1.8.0", "1-0:1.7.0"]
    assert len(found.problems) == 8
    offset, reason = found.problems[1]
    assert telegram.text[offset:].startswith("junk")
    assert "no data set" in reason


def test_plain_readouts_look_the_same_and_are_not_typical():
    (plain,) = split(made("1-0:1.8.0*255(1*kWh)\r\n", crc=False))
    assert not plain.is_typical
    assert p1.parse(b"/AB") == Missing(3, None)
    assert isinstance(stamp("161113205757W", 60), CosemDateTime)
