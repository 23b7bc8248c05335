"""The clock of a DL/T 645 meter: date and time of day; read, written with a password, told by broadcast."""

import datetime as dt
from typing import Final

from concentrator_sim.line_meters import LineMeter
from concentrator_sim.meter_clock import MeterClock
from concentrator_sim.object_model import Meter
from protocols.dlt645.control import ErrorWord
from protocols.dlt645.identifiers import DataId

CHINA: Final = dt.timezone(dt.timedelta(hours=8))
DATE: Final = DataId.parse("04-00-01-01")
TIME: Final = DataId.parse("04-00-01-02")
#: Level 02 and three bytes, as they go on the wire.
PASSWORD: Final = bytes.fromhex("02000000")
#: A broadcast is taken within so much of the meter's own time, and not so near to midnight.
_WITHIN: Final = dt.timedelta(minutes=5)
_DAY: Final = dt.timedelta(days=1)
_KEYS: Final = 8


class Told:
    """On which day, by its own clock, the meter took a broadcast last."""

    def __init__(self, meter: Meter) -> None:
        self.day: dt.date | None = None


def read(one: LineMeter, di: DataId) -> bytes:
    """Date and day of the week (Sunday 0), or the time of day; low byte first."""
    local = dt.datetime.fromtimestamp(one.shown_s, CHINA)
    if di == DATE:
        return _low_first(local.strftime("%y%m%d") + f"{local.isoweekday() % 7:02d}")
    return _low_first(local.strftime("%H%M%S"))


def take_broadcast(one: LineMeter, data: bytes) -> bool:
    """Whether the meter took it: once a day, within five minutes, not around midnight."""
    shown = dt.datetime.fromtimestamp(one.shown_s, CHINA)
    told = _moment(bytes(reversed(data)).hex(), "%y%m%d%H%M%S")
    if told is None or abs(told - shown) > _WITHIN:
        return False
    midnight = shown.replace(hour=0, minute=0, second=0, microsecond=0)
    last = one.meter.part(Told)
    if min(shown - midnight, midnight + _DAY - shown) < _WITHIN or last.day == shown.date():
        return False
    last.day = shown.date()
    one.meter.part(MeterClock).set(one.now, int(told.timestamp()))
    return True


def write(one: LineMeter, di: DataId, data: bytes) -> ErrorWord:
    """What is wrong with writing date or time of day behind password and operator code; 0: it is done."""
    if di not in (DATE, TIME):
        return ErrorWord.NO_SUCH_DATA
    if data[:4] != PASSWORD:
        return ErrorWord.NOT_AUTHORISED
    shown = dt.datetime.fromtimestamp(one.shown_s, CHINA)
    digits = bytes(reversed(data[_KEYS:])).hex()
    if di == DATE:
        told = _moment(digits[:6] + shown.strftime("%H%M%S"), "%y%m%d%H%M%S")
    else:
        told = _moment(shown.strftime("%y%m%d") + digits, "%y%m%d%H%M%S")
    if told is None:
        return ErrorWord.OTHER
    one.meter.part(MeterClock).set(one.now, int(told.timestamp()))
    return ErrorWord(0)


def _moment(digits: str, form: str) -> dt.datetime | None:
    try:
        return dt.datetime.strptime(digits, form).replace(tzinfo=CHINA)
    except ValueError:
        return None


def _low_first(digits: str) -> bytes:
    return bytes(reversed(bytes.fromhex(digits)))
