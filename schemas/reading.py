"""ReadingBatch: one struct of numpy columns, the one currency between drivers, ingest and store.

A batch is what one exchange with a meter (or one push, or one file) brought. Values are the meter's own
integers; the power of ten, unit and kind of each column are in the row's `ChannelLayout`. Nothing here is a
float.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.event import MeterEvent

I8 = npt.NDArray[np.int64]
I4 = npt.NDArray[np.int32]
I2 = npt.NDArray[np.int16]
I1 = npt.NDArray[np.int8]
Bool = npt.NDArray[np.bool_]

#: The quantities that have a column of their own in interval_reads, in column order.
INTERVAL_QUANTITIES: Final = ("active_import", "active_export", "reactive_import", "reactive_export")

#: "No status word came with the row" in `amr_status` and `clock_status`: a status of 0 is a status, and so
#: is 0xFFFFFFFF.
NO_STATUS: Final = -1


class Quality(IntEnum):
    """How a value came to be. Stored with each row, told by the API as the lower-case name."""

    MEASURED = 0  # read from the meter's own profile or register
    PUSHED = 1  # sent by the meter on its own
    SAMPLED = 2  # taken by the head-end near the boundary
    MANUAL = 3  # typed in by a person
    HANDHELD = 4  # read on site with a hand-held unit
    ESTIMATED = 5
    BILLING = 6  # kept by the meter at the end of a billing period


class Fragment(IntEnum):
    """Why a row cannot stand at its interval's key. Such rows are kept in interval_fragments."""

    NONE = 0
    OFF_GRID = 1  # stamp is not a multiple of the capture period (clock set, power failure)
    REPEATED = 2  # a second row with the same stamp in one buffer


class Kind(StrEnum):
    """Whether a channel's values are register readings at the interval's end, or amounts of the interval."""

    CUMULATIVE = "cumulative"
    INTERVAL = "interval"


@dataclass(frozen=True, slots=True)
class Channel:
    """One column of a profile: exact value = integer x 10**scaler in `unit`.

    ``obis`` is the logical name in its written form ``1-0:1.8.0*255``; ``unit`` the DLMS unit's symbol
    (``Wh``); ``modulus`` the raw value at which a cumulative register rolls over, None where the profile does
    not tell.
    """

    quantity: str
    obis: str
    scaler: int
    unit: str
    kind: Kind = Kind.CUMULATIVE
    modulus: int | None = None

    def exact(self, raw: int) -> Decimal:
        """The value with every digit the meter sent."""
        return Decimal(raw).scaleb(self.scaler)


@dataclass(frozen=True, slots=True)
class ChannelLayout:
    """What the four value columns of a row mean. None where the meter's profile has no such channel."""

    channels: tuple[Channel | None, Channel | None, Channel | None, Channel | None]


#: Columns of a batch that concatenate as they are, in the order of its fields.
_PLAIN_COLUMNS: Final = (
    "meter_id", "profile", "start_us", "period_s", "stamp_us", "amr_status", "clock_status", "quality",
    "fragment",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ReadingBatch:
    """Columns of equal length n; all times are microseconds since 1970-01-01 UTC.

    ``start_us`` is the start of the interval [start, start + period_s), ``stamp_us`` the meter's own stamp
    (for DLMS the END of the capture period). ``values[i, k]`` is the raw integer of quantity k, meaningful
    where ``valid[i, k]``. ``layout[i]`` indexes ``layouts``. ``covered_us`` are the half-open ranges
    (meter_id, profile, from, to) that the source was asked for and answered completely: what is not in a row
    there does not exist at the source. ``registers`` and ``events`` came with it and are stored with it.
    """

    meter_id: I4
    profile: I2
    start_us: I8
    period_s: I4
    stamp_us: I8
    amr_status: I8
    clock_status: I2
    quality: I2
    fragment: I1
    layout: I2
    values: I8
    valid: Bool
    layouts: tuple[ChannelLayout, ...]
    covered_us: tuple[tuple[int, int, int, int], ...] = ()
    source: str = ""
    registers: "tuple[RegisterRead, ...]" = field(default=())
    events: tuple[MeterEvent, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.meter_id)
        if not (
            n == len(self.profile) == len(self.start_us) == len(self.period_s) == len(self.stamp_us)
            == len(self.amr_status) == len(self.clock_status) == len(self.quality) == len(self.fragment)
            == len(self.layout)
        ):  # fmt: skip
            rows = {name: len(getattr(self, name)) for name in (*_PLAIN_COLUMNS, "layout")}
            raise ValueError(f"the columns of a ReadingBatch are not of one length: {rows}")
        if self.values.shape != (n, len(INTERVAL_QUANTITIES)) or self.valid.shape != self.values.shape:
            raise ValueError(f"ReadingBatch.values/valid must be ({n}, {len(INTERVAL_QUANTITIES)})")

    def __len__(self) -> int:
        return len(self.meter_id)


class RegisterRead(NamedTuple):
    """One value of any OBIS code, outside the load curve: exact decimal or text, never both.

    ``read_us`` is the head-end's time of reading, of `Quality.BILLING` the end of the billing period;
    ``meter_us`` the meter's own time where it gave one.
    ``from_float``: the meter sent a float32 or float64, and ``value`` is the shortest decimal that reads back
    as its bits: digits beyond the float's precision were never measured.
    """

    meter_id: int
    obis: str
    attribute: int
    read_us: int
    meter_us: int | None
    value: Decimal | None
    text: str | None
    unit: str | None
    quality: Quality = Quality.MEASURED
    from_float: bool = False


def concatenate(batches: Sequence[ReadingBatch], *, source: str) -> ReadingBatch:
    """One batch of all rows, in order; equal layouts become one. Raises ValueError for no batches."""
    if not batches:
        raise ValueError("there is nothing to concatenate")
    places: dict[ChannelLayout, int] = {}
    seen: dict[int, int] = {}  # by identity: meters of a kind share one, and hashing it takes long
    layout = []
    for batch in batches:
        remap = []
        for one in batch.layouts:
            place = seen.get(id(one))
            if place is None:
                place = seen[id(one)] = places.setdefault(one, len(places))
            remap.append(place)
        same = remap == list(range(len(remap)))
        layout.append(batch.layout if same else np.array(remap, dtype=np.int16)[batch.layout])
    plain: dict[str, Any] = {
        name: np.concatenate([getattr(batch, name) for batch in batches]) for name in _PLAIN_COLUMNS
    }
    return ReadingBatch(
        **plain,
        layout=np.concatenate(layout),
        values=np.concatenate([batch.values for batch in batches]),
        valid=np.concatenate([batch.valid for batch in batches]),
        layouts=tuple(places),
        covered_us=tuple(itertools.chain.from_iterable(batch.covered_us for batch in batches)),
        source=source,
        registers=tuple(itertools.chain.from_iterable(batch.registers for batch in batches)),
        events=tuple(itertools.chain.from_iterable(batch.events for batch in batches)),
    )


def registers_only(
    registers: Sequence[RegisterRead], *, source: str, events: Sequence[MeterEvent] = ()
) -> ReadingBatch:
    """A batch of register readings, or events, without any interval."""
    wide = (0, len(INTERVAL_QUANTITIES))
    return ReadingBatch(
        meter_id=np.empty(0, np.int32),
        profile=np.empty(0, np.int16),
        start_us=np.empty(0, np.int64),
        period_s=np.empty(0, np.int32),
        stamp_us=np.empty(0, np.int64),
        amr_status=np.empty(0, np.int64),
        clock_status=np.empty(0, np.int16),
        quality=np.empty(0, np.int16),
        fragment=np.empty(0, np.int8),
        layout=np.empty(0, np.int16),
        values=np.empty(wide, np.int64),
        valid=np.empty(wide, np.bool_),
        layouts=(),
        source=source,
        registers=tuple(registers),
        events=tuple(events),
    )
