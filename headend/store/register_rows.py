"""Register values made ready for their table: which can be held, which came twice, as parameters, as JSON."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Final

from headend.store import rows
from schemas.reading import Quality, RegisterRead

#: How long before and after it a push is recognised as the same again; each 7 days are one more chunk to ask.
#: After: the clocks of two head-ends differ.
SAME_PUSH_BEFORE: Final = timedelta(days=31)
SAME_PUSH_AFTER: Final = timedelta(days=1)


def fits(read: RegisterRead) -> bool:
    """Whether PostgreSQL can hold it: no NUL and no half surrogate in a text, times that a clock may show."""
    for text in (read.text, read.unit, read.obis):
        if text is not None and ("\0" in text or any("\ud800" <= letter <= "\udfff" for letter in text)):
            return False
    if read.value is not None and not read.value.is_finite():
        return False
    times = (read.read_us,) if read.meter_us is None else (read.read_us, read.meter_us)
    return all(rows.EARLIEST_US <= us < rows.LATEST_US for us in times)


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
    """As the parallel lists of insert_registers, with the bounds within which a push is the same again."""
    pushed = [read.read_us for read in reads if read.quality is Quality.PUSHED] or [rows.EARLIEST_US]
    return {
        "read_at": [rows.moment(read.read_us) for read in reads],
        "meter_time": [None if read.meter_us is None else rows.moment(read.meter_us) for read in reads],
        "meters": [read.meter_id for read in reads],
        "attributes": [read.attribute for read in reads],
        "qualities": [int(read.quality) for read in reads],
        "obis": [read.obis for read in reads],
        "units": [read.unit for read in reads],
        "values": [read.value for read in reads],
        "texts": [read.text for read in reads],
        "floats": [read.from_float for read in reads],
        "since": rows.moment(min(pushed)) - SAME_PUSH_BEFORE,
        "until": rows.moment(max(pushed)) + SAME_PUSH_AFTER,
    }


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
