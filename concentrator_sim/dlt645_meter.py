"""DL/T 645-2007 meters on one line, sans-I/O: energies, values of now, the last daily freeze, load records.

Identifiers and forms are the head-end's own table (`protocols.dlt645.identifiers`). The clock is Chinese.
What a meter has not it refuses with "no such data"; a frame for nobody, or one that is spoilt, gets silence.
"""

import datetime as dt
from collections.abc import Sequence
from decimal import Decimal
from typing import Final

from concentrator_sim import billing, dlt645_breaker, dlt645_clock, dlt645_tariff
from concentrator_sim.generator import moment_of, quarter_of
from concentrator_sim.line_meters import LineMeter
from concentrator_sim.meter import PROFILE_ROWS
from concentrator_sim.meter_clock import MeterClock
from protocols.dlms.framing import BadFrame
from protocols.dlt645.control import Control, ErrorWord, Function
from protocols.dlt645.frame import BROADCAST, WILDCARD, Dlt645Frame, Dlt645Reader, encode_frame
from protocols.dlt645.identifiers import BLOCK, DataId, Form, Item, Meaning, parts
from protocols.dlt645.load_record import CLASSES

MODEL: Final = "dlt645-2007-load-records"
CHINA: Final = dlt645_clock.CHINA
#: Energies: the class of load records that these meters keep.
_KEPT_CLASS: Final = 4
_RECORDS: Final = DataId.parse("06-04-00-01")
_FREEZE_TIME: Final = DataId.parse("05-06-00-01")
_FREEZE_IMPORT: Final = DataId.parse("05-06-01-01")
_ANSWER: Final = 0x80
_ABNORMAL: Final = 0xC0
_MOST_DATA: Final = 200
_DI: Final = 4


class Dlt645Line:
    """See the module. Meters have the last twelve digits of their serial number as address."""

    def __init__(self, meters: Sequence[LineMeter]) -> None:
        self._meters = {address_of(one): one for one in meters}
        self._reader = Dlt645Reader()

    def receive(self, data: bytes) -> bytes:
        """See `concentrator_sim.links.Line`."""
        self._reader.feed(data)
        out = b""
        while (frame := self._reader.next()) is not None:
            if not isinstance(frame, BadFrame) and not frame.control.from_meter:
                out += self._frame(frame)
        return out

    def _frame(self, asked: Dlt645Frame) -> bytes:
        if asked.address == BROADCAST:
            if asked.control.function is Function.BROADCAST_TIME:
                for one in self._meters.values():
                    if one.hears:
                        dlt645_clock.take_broadcast(one, asked.data)
            return b""
        if asked.address == WILDCARD:
            found = next(iter(self._meters.values())) if len(self._meters) == 1 else None
        else:
            found = self._meters.get(asked.address)
        if found is None:
            return b""
        address = address_of(found)
        told: bytes | None = None
        refusal = ErrorWord.NO_SUCH_DATA
        if asked.control.function is Function.READ and len(asked.data) >= _DI:
            told = _read(found, DataId.from_wire(asked.data[:_DI]), asked.data[_DI:])
        elif asked.control.function is Function.WRITE and len(asked.data) >= _DI:
            di = DataId.from_wire(asked.data[:_DI])
            write = dlt645_tariff.write if dlt645_tariff.is_tariff(di) else dlt645_clock.write
            refusal = write(found, di, asked.data[_DI:])
            told = b"" if not refusal else None
        elif asked.control.function is Function.SWITCH:
            refusal = dlt645_breaker.switch(found, asked.data)
            told = b"" if not refusal else None
        elif asked.control.function is Function.READ_ADDRESS:
            told = bytes(reversed(bytes.fromhex(address)))
        if told is None:
            control, told = _ABNORMAL | asked.control.code, bytes((refusal,))
        else:
            control = _ANSWER | asked.control.code
        return found.says(encode_frame(Dlt645Frame(address, Control(control), told, preamble=4)))


def address_of(one: LineMeter) -> str:
    """The address of a meter: twelve digits."""
    return one.serial[-12:]


def _read(one: LineMeter, di: DataId, parameters: bytes) -> bytes | None:
    if di == _RECORDS:
        value = _records(one, parameters)
    elif di in (_FREEZE_TIME, _FREEZE_IMPORT):
        value = _freeze(one, di)
    elif di == dlt645_breaker.STATUS_3:
        value = _either(dlt645_breaker.status(one), dlt645_tariff.status(one))
    elif dlt645_tariff.is_tariff(di):
        value = dlt645_tariff.read(one, di)
    elif di in (dlt645_clock.DATE, dlt645_clock.TIME):
        value = dlt645_clock.read(one, di)
    else:
        value = _values(one, di)
    return None if value is None else di.to_wire() + value


def _either(one: bytes, other: bytes) -> bytes:
    """Bits of both."""
    return bytes(a | b for a, b in zip(one, other, strict=True))


def _values(one: LineMeter, di: DataId) -> bytes | None:
    """A single value, or a block: the tariffs that it has of energy import, all three phases."""
    found = parts(di, _MOST_DATA)
    if found is None:
        return None
    shows, out = one.shows(), b""
    for part in found:
        tariff = billing.TARIFFS.index(part.obis) if part.obis in billing.TARIFFS else None
        if tariff is not None:
            value: Decimal | None = Decimal(dlt645_tariff.registers(one)[tariff])
        else:
            value = None if part.obis is None else shows.value(str(part.obis))
        if value is None:
            return (out or None) if di.di1 == BLOCK else None
        out += _encoded(part, value)
    return out


def _encoded(part: Meaning, value: Decimal) -> bytes:
    (item,) = part.items
    return number(item, value.scaleb(-3) if (item.unit or "").startswith("k") else value)


def number(item: Item, value: Decimal) -> bytes:
    """Binary-coded decimal, low byte first, rounded down; digits beyond its length roll over."""
    if item.form is not Form.NUMBER:
        raise ValueError(f"{item.form} is no number")
    raw = int(abs(value).scaleb(item.decimals)) % 10 ** (2 * item.length)
    data = bytearray(bytes.fromhex(f"{raw:0{2 * item.length}d}"))
    if item.signed and value < 0:
        data[0] |= 0x80
    return bytes(reversed(data))


def _minute(moment: int) -> bytes:
    local = dt.datetime.fromtimestamp(moment, CHINA)
    return bytes(reversed(bytes.fromhex(local.strftime("%y%m%d%H%M"))))


def _freeze(one: LineMeter, di: DataId) -> bytes:
    now = dt.datetime.fromtimestamp(one.shown_s, CHINA)
    midnight = int(now.replace(hour=0, minute=0, second=0, microsecond=0).timestamp())
    if di == _FREEZE_TIME:
        return _minute(midnight)
    found = parts(di, _MOST_DATA)
    total = Decimal(one.shows(midnight).energy(0))
    return b"" if found is None else _encoded(found[0], total)


def _records(one: LineMeter, parameters: bytes) -> bytes | None:
    """So many records from a time on, as many as fit a frame. None where there are none."""
    if not parameters:
        return None
    digits = bytes(reversed(parameters[1:6])).hex()
    try:
        since = dt.datetime.strptime(digits, "%y%m%d%H%M").replace(tzinfo=CHINA)
    except ValueError:
        return None
    out = b""
    for stamp, captured in _kept(one, int(since.timestamp()), parameters[0]):
        record = _record(one, stamp, captured)
        if len(out) + len(record) > _MOST_DATA:
            break
        out += record
    return out or None


def _kept(one: LineMeter, since_s: int, count: int) -> list[tuple[int, int]]:
    """(stamp, true moment) of the records from a stamp on."""
    clock = one.meter.part_if_any(MeterClock)
    if clock is not None:
        rows = clock.rows(one.now, min(PROFILE_ROWS, clock.entries_since(one.now, since_s)))
        return [(row.stamp_s, row.captured_s) for row in rows if row.stamp_s >= since_s][:count]
    newest = quarter_of(one.now)
    first = max(newest + 1 - PROFILE_ROWS, quarter_of(since_s + 899))
    moments = [moment_of(quarter) for quarter in range(first, min(newest + 1, first + count))]
    return list(zip(moments, moments, strict=True))


def _record(one: LineMeter, moment: int, captured: int) -> bytes:
    shows, body = one.shows(captured), b""
    for place, identifiers in enumerate(CLASSES, 1):
        if place == _KEPT_CLASS:
            energies = (shows.energy(quantity) for quantity in range(4))
            for di, energy in zip(identifiers, energies, strict=True):
                found = parts(di, _MOST_DATA)
                body += b"" if found is None else _encoded(found[0], Decimal(energy))
        body += b"\xaa"
    told = b"\xa0\xa0" + bytes((len(body) + 5,)) + _minute(moment) + body
    return told + bytes((sum(told) & 0xFF, 0xE5))
