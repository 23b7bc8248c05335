"""Clock: its time and its zone."""

import datetime as dt
from zoneinfo import ZoneInfo

from protocols.dlms.axdr import Data
from protocols.dlms.cosem.forms import date_time, integer_of
from protocols.errors import RemoteProtocolError


def clock_time(
    data: Data, *, zone: ZoneInfo | None = None, follows_dst: bool = True, inverted_deviation: bool = False
) -> dt.datetime:
    """Attribute time of a Clock as an aware UTC moment; see `CosemDateTime.to_utc`."""
    stamp = date_time(data)
    if stamp is None:
        raise RemoteProtocolError("the clock has no time")
    return stamp.to_utc(zone=zone, follows_dst=follows_dst, inverted_deviation=inverted_deviation)


def minutes(data: Data) -> int:
    """Attribute time_zone of a Clock: UTC - local standard time, in minutes."""
    return integer_of(data, "time_zone")
