"""The clock column of a load profile, many rows at once: every octet of a date-time checked, then UTC."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from protocols.dlms.cosem_time import DEVIATION_LIMIT_MIN, DEVIATION_UNSPECIFIED
from protocols.dlms.profile_columns import NO_STATUS, BufferLayout, to_utc_us
from protocols.errors import RemoteProtocolError

_MONTH_DAYS: Final = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_DAYS_BEFORE: Final = np.array([0, 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334])
_DAYS_TO_1970: Final = 719_163


@dataclass(slots=True)
class Stamps:
    """Clock columns of some rows."""

    stamp_us: npt.NDArray[np.int64]
    deviation_min: npt.NDArray[np.int16]
    clock_status: npt.NDArray[np.int16]


def stamps_of(octets: npt.NDArray[np.int64], rows: int, layout: BufferLayout) -> Stamps | None:
    """Stamps of (n, 12) date-time octets that are buffers of ``rows`` rows; None where one is not plain."""
    local_us = _local_us(octets)
    if local_us is None:
        return None
    deviation = ((octets[:, 9] << 8) | octets[:, 10]).astype(np.int16)
    clock_status = np.where(octets[:, 11] == 0xFF, NO_STATUS, octets[:, 11]).astype(np.int16)
    open_deviation = deviation == DEVIATION_UNSPECIFIED
    if not (open_deviation | (np.abs(deviation.astype(np.int64)) <= DEVIATION_LIMIT_MIN)).all():
        return None
    if not open_deviation.any():
        minute_us = -60_000_000 if layout.inverted_deviation else 60_000_000
        return Stamps(local_us + deviation * np.int64(minute_us), deviation, clock_status)
    # Without deviations the order of a buffer's own rows counts, so each buffer is settled by itself.
    utc: list[int] = []
    try:
        for at in range(0, len(octets), rows):
            part = slice(at, at + rows)
            utc += to_utc_us(
                layout, local_us[part].tolist(), deviation[part].tolist(), clock_status[part].tolist()
            )
    except RemoteProtocolError:
        return None  # the general decoder names the row
    return Stamps(np.array(utc, np.int64), deviation, clock_status)


def _local_us(octets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64] | None:
    """Wall-clock microseconds since 1970 of (n, 12) date-time octets; None: one is open or out of range."""
    year = (octets[:, 0] << 8) | octets[:, 1]
    month, day, weekday, hour, minute, second, hundredths = octets[:, 2:9].T
    if not ((year >= 1) & (year <= 9999) & (month >= 1) & (month <= 12)).all():
        return None
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    last_day = _MONTH_DAYS[month] + (leap & (month == 2))
    plain = (
        (day >= 1)
        & (day <= last_day)
        & (((weekday >= 1) & (weekday <= 7)) | (weekday == 0xFF))
        & (hour <= 23)
        & (minute <= 59)
        & (second <= 59)
        & ((hundredths <= 99) | (hundredths == 0xFF))
    )
    if not plain.all():
        return None
    years = year - 1
    days = years * 365 + years // 4 - years // 100 + years // 400 + _DAYS_BEFORE[month] + day
    days += (leap & (month > 2)) - _DAYS_TO_1970
    seconds = days * 86_400 + hour * 3_600 + minute * 60 + second
    micros: npt.NDArray[np.int64] = seconds * 1_000_000 + np.where(hundredths == 0xFF, 0, hundredths) * 10_000
    return micros
