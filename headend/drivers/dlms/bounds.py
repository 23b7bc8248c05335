"""How a range of a profile's buffer is asked for: its bounds as the meter's own clock writes them."""

import datetime as dt
from typing import Final

from protocols.dlms.cosem_time import CosemDateTime
from protocols.dlms.enums import DataAccessResult
from schemas.model import MeterModel

#: Refusals that other bounds may help with.
BOUNDS_REFUSED: Final = frozenset(
    {
        DataAccessResult.TYPE_UNMATCHED,
        DataAccessResult.SCOPE_OF_ACCESS_VIOLATED,
        DataAccessResult.OTHER_REASON,
    }
)


def stamp(moment: dt.datetime, model: MeterModel) -> CosemDateTime:
    """A bound as the meter's own clock writes it: many meters compare without regard to the deviation."""
    clock = model.clock
    zone = clock.zone
    if zone is None:
        return CosemDateTime.from_utc(moment)
    told = CosemDateTime.from_zone(
        moment, zone, follows_dst=clock.follows_dst, deviation=clock.deviation != "unspecified"
    )
    if clock.deviation == "inverted" and told.deviation_min is not None:
        return CosemDateTime(told.date, told.time, -told.deviation_min, told.status)
    return told
