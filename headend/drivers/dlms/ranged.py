"""Buffers of short profiles (event logs, billing periods), by time, in a form that their meters take."""

import datetime as dt
from typing import Final

from headend.drivers.dlms.bounds import BOUNDS_REFUSED, stamp
from headend.session.client import MeterSession
from protocols.dlms import axdr, cosem
from protocols.dlms.apdu.fields import Selection
from protocols.dlms.axdr import Data
from protocols.dlms.cosem import BY_RANGE, Attribute, ClassId, RangeDescriptor
from protocols.dlms.obis import Obis
from protocols.errors import DataAccessRefused, RemoteProtocolError
from schemas.model import MeterModel

#: Forms of a range's bounds, in the order of trying: octet-strings, date-times, no bounds at all.
_FORMS: Final = (False, True, None)


class RangedBuffers:
    """Remembers which form of bounds the meters of a model take."""

    def __init__(self) -> None:
        self._forms: dict[str, int] = {}

    async def read(
        self, session: MeterSession, model: MeterModel, obis: Obis, since: dt.datetime, until: dt.datetime
    ) -> bytes:
        """The rows of the profile with a stamp in [since, until], aware, as raw A-XDR.

        Where the meter refuses the bounds, they are written in another form, and at last left out: such
        profiles are short. Raises as `MeterSession.get`.
        """
        attribute = Attribute(ClassId.PROFILE_GENERIC, obis, cosem.PROFILE_BUFFER)
        for form in range(self._forms.get(model.name, 0), len(_FORMS)):
            try:
                raw = await session.get(attribute, _selection(model, since, until, _FORMS[form]))
            except DataAccessRefused as exc:
                if exc.result not in BOUNDS_REFUSED:
                    raise
                refusal = exc
            else:
                self._forms[model.name] = form
                return raw
        raise refusal


def moment_of(data: Data, model: MeterModel) -> dt.datetime | None:
    """A stamp of the meter's clock in UTC; None where it is not a whole moment."""
    clock = model.clock
    try:
        return cosem.clock_time(
            data,
            zone=clock.zone,
            follows_dst=clock.follows_dst,
            inverted_deviation=clock.deviation == "inverted",
        )
    except RemoteProtocolError:
        return None


def _selection(
    model: MeterModel, since: dt.datetime, until: dt.datetime, tagged: bool | None
) -> Selection | None:
    if tagged is None:
        return None
    bounds = RangeDescriptor.between(stamp(since, model), stamp(until, model), tagged_date_time=tagged)
    return Selection(BY_RANGE, axdr.encode(bounds.encode()))
