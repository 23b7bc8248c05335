"""Register values made ready for their table: which can be held, which came twice, as parameters, as JSON."""

import json
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, Final

import numpy as np

from headend.store import rows
from schemas.reading import Quality, RegisterRead

#: How long before and after it a push is recognised as the same again; each 7 days are one more chunk to ask.
#: After: the clocks of two head-ends differ.
SAME_PUSH_BEFORE: Final = timedelta(days=31)
SAME_PUSH_AFTER: Final = timedelta(days=1)


def fits(read: RegisterRead) -> bool:
    """Whether PostgreSQL can hold it: no NUL and no half surrogate in a text, times that a clock may show."""
    for text in (read.text, read.unit, read.obis):
        if text is not None and not _is_storable(text):
            return False
    if read.value is not None and not read.value.is_finite():
        return False
    times = (read.read_us,) if read.meter_us is None else (read.read_us, read.meter_us)
    return all(rows.EARLIEST_US <= us < rows.LATEST_US for us in times)


def _is_storable(text: str) -> bool:
    if "\0" in text:
        return False
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def without_repeats(reads: Sequence[RegisterRead]) -> list[RegisterRead]:
    """``reads`` without the pushes that say what an earlier one of them says, of the same time of the meter.

    A push without a time of the meter's own is a reading of its own each time: a value may stay as it is.
    """
    kept: dict[object, RegisterRead] = {}
    for place, read in enumerate(reads):
        kept.setdefault(_push(read) or place, read)
    return list(kept.values())


def _push(read: RegisterRead) -> object | None:
    if read.quality is not Quality.PUSHED or read.meter_us is None:
        return None
    return (read.meter_id, read.obis, read.attribute, read.meter_us, read.value, read.text, read.unit)


def parameters(reads: Sequence[RegisterRead]) -> dict[str, Any]:
    """As the parallel lists of insert_registers, with the bounds within which a push is the same again.

    Lists are array literals: psycopg dumps a list element by element, which costs as much as the query.
    """
    pushed = [read.read_us for read in reads if read.quality is Quality.PUSHED] or [rows.EARLIEST_US]
    return {
        "read_at": _times([read.read_us for read in reads]),
        "meter_time": _times([read.meter_us for read in reads]),
        "meters": rows.integers(read.meter_id for read in reads),
        "attributes": rows.integers(read.attribute for read in reads),
        "qualities": rows.integers(int(read.quality) for read in reads),
        "obis": _texts([read.obis for read in reads]),
        "units": _texts([read.unit for read in reads]),
        "values": _array("NULL" if read.value is None else str(read.value) for read in reads),
        "texts": _texts([read.text for read in reads]),
        "floats": _array("t" if read.from_float else "f" for read in reads),
        "since": rows.moment(min(pushed)) - SAME_PUSH_BEFORE,
        "until": rows.moment(max(pushed)) + SAME_PUSH_AFTER,
    }


def _array(elements: Iterable[str]) -> str:
    return f"{{{','.join(elements)}}}"


def _times(us: Sequence[int | None]) -> str:
    known = np.array([0 if one is None else one for one in us], np.int64)
    texts = np.datetime_as_string(known.view("datetime64[us]")).tolist()
    return _array("NULL" if one is None else f"{text}Z" for one, text in zip(us, texts, strict=True))


def _texts(texts: Sequence[str | None]) -> str:
    # codes and units are few and come again and again
    quoted = {text: _quoted(text) for text in set(texts)}
    return _array(quoted[text] for text in texts)


def _quoted(text: str | None) -> str:
    if text is None:
        return "NULL"
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def as_json(read: RegisterRead) -> bytes:
    """One value for the inbox, with every digit."""
    return json.dumps({
        "obis": read.obis,
        "attribute": read.attribute,
        "read_us": read.read_us,
        "meter_us": read.meter_us,
        "value": None if read.value is None else str(read.value),
        "text": read.text,
        "unit": read.unit,
        "quality": int(read.quality),
        "from_float": read.from_float,
    }).encode()  # fmt: skip
