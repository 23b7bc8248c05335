"""Frames that set clocks of DL/T 645 meters, and what a simulated meter takes.

No recorded trace of setting a clock exists here: the frames are put together by hand from the standard's form
(start, address low byte first, control code, length, data plus 0x33, sum, end).
"""

import datetime as dt
from types import SimpleNamespace
from typing import Any

import pytest

from concentrator_sim import dlt645_clock
from concentrator_sim.dlt645_clock import CHINA
from concentrator_sim.meter import SimulatedMeter
from protocols.dlt645 import conversation as dlt
from protocols.dlt645.control import ErrorWord
from protocols.dlt645.identifiers import DataId
from protocols.errors import LocalProtocolError

NOON = dt.datetime(2026, 3, 1, 12, 5, 7, tzinfo=CHINA)  # a Sunday
TIME = DataId.parse("04-00-01-02")


def summed(body: bytes) -> bytes:
    return b"\xfe" * 4 + body + bytes((sum(body) & 0xFF, 0x16))


def test_the_broadcast_by_hand():
    body = bytes.fromhex("68 999999999999 68 08 06") + bytes(b + 0x33 for b in bytes.fromhex("070512010326"))
    request = dlt.broadcast_time("260301120507")
    assert not request.is_answered
    assert dlt.Conversation(request).start() == summed(body)


def test_writing_a_time_by_hand():
    data = bytes.fromhex("02010004" + "02000000" + "11223344" + "070512")
    body = bytes.fromhex("68 563412000000 68 14 0F") + bytes(b + 0x33 for b in data)
    request = dlt.write(
        "000000123456", TIME, bytes.fromhex("070512"),
        password=bytes.fromhex("02000000"), operator=bytes.fromhex("11223344"),
    )  # fmt: skip
    assert dlt.Conversation(request).start() == summed(body)
    assert "02000000" not in repr(request)
    assert "\\x02" not in repr(request)
    with pytest.raises(LocalProtocolError, match="four bytes"):
        dlt.write("000000123456", TIME, b"", password=b"\x02", operator=bytes(4))


def meter(at: dt.datetime = NOON) -> Any:
    made = SimpleNamespace(meter=SimulatedMeter(1, 1), now=int(at.timestamp()))
    made.shown_s = made.now
    return made


def told(moment: dt.datetime) -> bytes:
    return bytes(reversed(bytes.fromhex(moment.strftime("%y%m%d%H%M%S"))))


@pytest.mark.parametrize(
    ("shown", "ahead_s", "taken"),
    [
        (NOON, 300, True),
        (NOON, -300, True),
        (NOON, 301, False),
        (NOON.replace(hour=0, minute=4, second=59), 0, False),
        (NOON.replace(hour=0, minute=5, second=0), 0, True),
        (NOON.replace(hour=23, minute=55, second=1), 0, False),
        (NOON.replace(hour=23, minute=54, second=0), 0, True),
    ],
)
def test_what_a_meter_takes(shown: dt.datetime, ahead_s: int, taken: bool):
    one = meter(shown)
    assert dlt645_clock.take_broadcast(one, told(shown + dt.timedelta(seconds=ahead_s))) is taken


def test_once_a_day():
    one = meter()
    assert dlt645_clock.take_broadcast(one, told(NOON))
    assert not dlt645_clock.take_broadcast(one, told(NOON))
    tomorrow = NOON + dt.timedelta(days=1)
    one.now = one.shown_s = int(tomorrow.timestamp())
    assert dlt645_clock.take_broadcast(one, told(tomorrow))


def test_what_cannot_be_written():
    one, keys = meter(), dlt645_clock.PASSWORD + bytes(4)
    assert dlt645_clock.write(one, TIME, bytes(8) + b"\x07\x05\x12") is ErrorWord.NOT_AUTHORISED
    assert dlt645_clock.write(one, TIME, keys + b"\x07\x05\x25") is ErrorWord.OTHER
    assert dlt645_clock.write(one, DataId.parse("04-00-01-03"), keys + b"\x15") is ErrorWord.NO_SUCH_DATA
    assert not dlt645_clock.write(one, TIME, keys + b"\x07\x05\x12")
    assert dlt645_clock.read(one, DataId.parse("04-00-01-01")).hex() == "00010326"
