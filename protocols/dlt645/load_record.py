"""Load records of DL/T 645-2007 (identifiers 06-cc-00-nn): what a meter keeps at each interval.

::

    A0 A0 | length | mm hh DD MM YY | class 1 AA class 2 AA ... class 6 AA | checksum | E5

A class that the meter does not record is empty, its AA stays. The checksum is the sum of all bytes from A0 to
the last AA, modulo 256. One answer may hold several records.
"""

from typing import Final, NamedTuple

from protocols.dlms.cosem_time import CosemDateTime
from protocols.dlt645.identifiers import DataId, meaning
from protocols.dlt645.values import Reading, moment, number
from protocols.errors import RemoteProtocolError

RECORD_FAMILY: Final = 0x06
_START: Final = b"\xa0\xa0"
_END: Final = 0xE5
_SEPARATOR: Final = 0xAA
_HEAD: Final = 8  # start, length, time

#: The values of each class, as the identifiers under which the meter tells them one by one.
CLASSES: Final[tuple[tuple[DataId, ...], ...]] = tuple(
    tuple(DataId.parse(text) for text in texts.split())
    for texts in (
        "02-01-01-00 02-01-02-00 02-01-03-00 02-02-01-00 02-02-02-00 02-02-03-00 02-80-00-02",
        "02-03-00-00 02-03-01-00 02-03-02-00 02-03-03-00 02-04-00-00 02-04-01-00 02-04-02-00 02-04-03-00",
        "02-06-00-00 02-06-01-00 02-06-02-00 02-06-03-00",
        "00-01-00-00 00-02-00-00 00-03-00-00 00-04-00-00",
        "00-05-00-00 00-06-00-00 00-07-00-00 00-08-00-00",
        "02-80-00-04 02-80-00-05",
    )
)


class LoadRecord(NamedTuple):
    """What was kept at ``time`` (the meter's local time, the end of the interval)."""

    time: CosemDateTime
    readings: tuple[Reading, ...]


def decode_records(data: bytes) -> tuple[LoadRecord, ...]:
    """All records in ``data``, joined from all frames of the answer.

    Raises:
        RemoteProtocolError: what is no record, or one whose checksum is wrong; ``offset`` counts in ``data``.
    """
    records = []
    offset = 0
    while offset < len(data):
        record, offset = _record(data, offset)
        records.append(record)
    return tuple(records)


def _record(data: bytes, start: int) -> tuple[LoadRecord, int]:
    if data[start : start + 2] != _START:
        raise RemoteProtocolError("no load record: it begins with A0 A0", offset=start)
    at = start + _HEAD
    if at > len(data):
        raise RemoteProtocolError("load record cut short", offset=start)
    digits = bytes(reversed(data[start + 3 : at])).hex()
    try:
        if not digits.isdigit():
            raise ValueError("no decimal digits")
        time = moment([int(digits[index : index + 2]) for index in range(0, 10, 2)])
    except ValueError as exc:
        raise RemoteProtocolError(f"time of a load record: {exc}: {digits}", offset=start + 3) from exc
    if time is None:
        raise RemoteProtocolError("load record without a time", offset=start + 3)
    readings: list[Reading] = []
    for identifiers in CLASSES:
        if data[at : at + 1] != bytes((_SEPARATOR,)):
            for di in identifiers:
                reading, at = _reading(di, data, at, time)
                readings.append(reading)
        if data[at : at + 1] != bytes((_SEPARATOR,)):
            raise RemoteProtocolError("no AA behind a class of a load record", offset=at)
        at += 1
    if at + 2 > len(data) or data[at + 1] != _END:
        raise RemoteProtocolError("load record without its end E5", offset=at)
    if sum(data[start:at]) & 0xFF != data[at]:
        raise RemoteProtocolError("checksum of a load record is wrong", offset=at)
    return LoadRecord(time, tuple(readings)), at + 2


def _reading(di: DataId, data: bytes, at: int, time: CosemDateTime) -> tuple[Reading, int]:
    known = meaning(di)
    if known is None:  # a mistake in CLASSES, which the tests would show
        raise LookupError(str(di))
    (item,) = known.items
    raw = data[at : at + item.length]
    if len(raw) < item.length:
        raise RemoteProtocolError("load record cut short", offset=at)
    value = None
    if raw != b"\xff" * len(raw):
        try:
            value = number(bytes(reversed(raw)), item.decimals, signed=item.signed)
        except ValueError as exc:
            raise RemoteProtocolError(f"{known.name}: {exc}: {raw.hex()}", offset=at) from exc
    return Reading(di, known.name, value, item.unit, known.obis, time), at + item.length
