"""Reads meters over DLMS/COSEM into ReadingBatches: load curves here, single registers in `registers`."""

import datetime as dt
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from headend.drivers.intervals import ProfileShape, to_batch
from headend.drivers.profile_check import Shapes, ask_facts, profile_of
from headend.drivers.registers import ClassOfObis, RegisterReadout, read_registers
from headend.session.client import MeterSession
from protocols.dlms import axdr, cosem
from protocols.dlms.apdu.fields import Selection
from protocols.dlms.cosem import (
    BY_ENTRY,
    BY_RANGE,
    PROFILE_BUFFER,
    PROFILE_ENTRIES_IN_USE,
    Attribute,
    ClassId,
    EntryDescriptor,
    RangeDescriptor,
)
from protocols.dlms.cosem_time import CosemDateTime
from protocols.dlms.enums import DataAccessResult
from protocols.dlms.obis import Obis
from protocols.dlms.profile_buffer import decode_buffer
from protocols.dlms.profile_columns import ProfileColumns
from protocols.errors import DataAccessRefused, LocalProtocolError, RemoteProtocolError
from schemas.model import LoadProfile, MeterModel
from schemas.reading import ReadingBatch

log = logging.getLogger(__name__)

#: Meters whose profiles have been checked and are remembered: a county of 154,000.
MAX_METERS: Final = 200_000
#: A range that ends this close to now is covered only up to the last row that came: the meter's clock may
#: be slow, or the row not yet captured. What ended earlier and is not in the answer does not exist.
FRESH: Final = dt.timedelta(hours=24)

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_US: Final = dt.timedelta(microseconds=1)
_DAY: Final = dt.timedelta(days=1)
#: Entries asked for beyond those that the time would need: fragments, and the one being captured.
_ENTRY_SLACK: Final = 8
#: Refusals that other bounds may help with.
_BOUNDS_REFUSED: Final = frozenset(
    {
        DataAccessResult.TYPE_UNMATCHED,
        DataAccessResult.SCOPE_OF_ACCESS_VIOLATED,
        DataAccessResult.OTHER_REASON,
    }
)


def utc_now() -> dt.datetime:
    """The head-end's clock, aware."""
    return dt.datetime.now(dt.UTC)


class DlmsDriver:
    """Stateless but for what it has learnt of meters: their profiles' columns, and which bounds they take."""

    def __init__(self, *, now: Callable[[], dt.datetime] = utc_now) -> None:
        self._now = now
        self._shapes = Shapes()
        self._checked: OrderedDict[tuple[int, int], tuple[MeterModel, ProfileShape]] = OrderedDict()
        self._forms: dict[str, int] = {}
        self._classes = ClassOfObis()

    # ---- load curves --------------------------------------------------------------------------------

    async def read_load_curve(
        self,
        session: MeterSession,
        meter_id: int,
        model: MeterModel,
        number: int,
        start: dt.datetime,
        end: dt.datetime,
    ) -> ReadingBatch:
        """The intervals of profile ``number`` that begin in [start, end); both aware.

        The day [00:00, 24:00) of 15 minutes is asked as stamps 00:15 to 24:00, both included. Rows that the
        meter sends beyond that are kept too; coverage is claimed as asked, and no further than the meter
        can know.

        Raises:
            LocalProtocolError: no such profile, naive or reversed times.
            DataAccessRefused: the meter does not give the buffer. And as `MeterSession.get`.
        """
        if start.utcoffset() is None or end.utcoffset() is None:
            raise LocalProtocolError("a load curve is read between aware times")
        if start >= end:
            raise LocalProtocolError(f"a load curve from {start} to {end} has no length")
        profile = profile_of(model, number)
        shape = await self._shape(session, meter_id, model, profile)
        since, until = _on_grid(start, shape, up=True), _on_grid(end, shape, up=False)
        source = f"dlms {session.plan.address}"
        if since >= until:
            return to_batch(shape, decode_buffer(b"\x01\x00", shape.buffer), meter_id, source=source)
        read = self._by_entry if model.quirks.range_by_entry else self._by_range
        raw, complete = await read(session, model, profile, shape, since, until)
        try:
            columns = decode_buffer(raw, shape.buffer)
        except RemoteProtocolError:
            # Configured anew since we looked? Then its columns are others; else it is the error it seems.
            before = shape
            self._checked.pop((meter_id, number), None)
            shape = await self._shape(session, meter_id, model, profile)
            if shape is before:
                raise
            columns = decode_buffer(raw, shape.buffer)
        covered = self._covered(columns, since, until) if complete else None
        return to_batch(
            shape, columns, meter_id, covered_us=() if covered is None else (covered,), source=source
        )

    async def _shape(
        self, session: MeterSession, meter_id: int, model: MeterModel, profile: LoadProfile
    ) -> ProfileShape:
        """The meter's columns, asked for once and then remembered."""
        key = (meter_id, profile.number)
        known = self._checked.get(key)
        if known is not None and known[0] is model:
            self._checked.move_to_end(key)
            return known[1]
        shape = self._shapes.of(model, profile, await ask_facts(session, model, profile))
        self._checked[key] = (model, shape)
        if len(self._checked) > MAX_METERS:
            self._checked.popitem(last=False)
        return shape

    async def _by_range(
        self,
        session: MeterSession,
        model: MeterModel,
        profile: LoadProfile,
        shape: ProfileShape,
        since: dt.datetime,
        until: dt.datetime,
    ) -> tuple[bytes, bool]:
        """The buffer between two stamps. Where a meter refuses the bounds, they are written in another
        form, and last an hour wider; the form that its model takes is remembered.
        """
        attribute = Attribute(ClassId.PROFILE_GENERIC, Obis.parse(profile.obis), PROFILE_BUFFER)
        low, high = since + dt.timedelta(seconds=shape.period_s), until
        hour = dt.timedelta(hours=1)
        forms = ((low, high, False), (low, high, True), (low - hour, high + hour, False))
        first = self._forms.get(model.name, 0)
        for form in (first, *(other for other in range(len(forms)) if other != first)):
            lower, upper, tagged = forms[form]
            descriptor = RangeDescriptor.between(
                _stamp(lower, model), _stamp(upper, model), tagged_date_time=tagged
            )
            try:
                raw = await session.get(attribute, Selection(BY_RANGE, axdr.encode(descriptor.encode())))
            except DataAccessRefused as exc:
                if exc.result not in _BOUNDS_REFUSED:
                    raise
                refusal = exc
            else:
                self._forms[model.name] = form
                return raw, True
        raise refusal

    async def _by_entry(
        self,
        session: MeterSession,
        model: MeterModel,
        profile: LoadProfile,
        shape: ProfileShape,
        since: dt.datetime,
        until: dt.datetime,
    ) -> tuple[bytes, bool]:
        """The newest entries back to ``since``, for meters that refuse ranges; twice as many while they do
        not reach. Complete when they reach, or are all that there are.
        """
        name = Obis.parse(profile.obis)
        counted = await session.get(Attribute(ClassId.PROFILE_GENERIC, name, PROFILE_ENTRIES_IN_USE))
        in_use = cosem.entries(axdr.decode_exact(counted))
        if in_use == 0:
            return b"\x01\x00", True
        attribute = Attribute(ClassId.PROFILE_GENERIC, name, PROFILE_BUFFER)
        period = dt.timedelta(seconds=shape.period_s)
        wanted = max(0, (self._now() - since) // period) + _ENTRY_SLACK
        oldest_us = (since + period - _EPOCH) // _US
        while True:
            wanted = min(wanted, in_use)
            if shape.buffer.descending:  # newest first
                entries = EntryDescriptor(1, wanted)
            else:
                entries = EntryDescriptor(in_use - wanted + 1, in_use)
            raw = await session.get(attribute, Selection(BY_ENTRY, axdr.encode(entries.encode())))
            if wanted == in_use:
                return raw, True
            columns = decode_buffer(raw, shape.buffer)
            if len(columns) and int(columns.stamp_us.min()) <= oldest_us:
                return raw, True
            wanted *= 2

    def _covered(
        self, columns: ProfileColumns, since: dt.datetime, until: dt.datetime
    ) -> tuple[int, int] | None:
        """The range that was asked for and answered, in microseconds; None where that is nothing."""
        since_us, until_us = (since - _EPOCH) // _US, (until - _EPOCH) // _US
        if until > self._now() - FRESH:
            stamps = columns.stamp_us
            here = stamps[stamps <= until_us]
            until_us = int(here.max()) if len(here) else since_us
            until_us = min(until_us, (self._now() - _EPOCH) // _US)
        return (since_us, until_us) if since_us < until_us else None

    # ---- registers ----------------------------------------------------------------------------------

    async def read_registers(
        self, session: MeterSession, meter_id: int, model: MeterModel, obis: Sequence[str] = ()
    ) -> RegisterReadout:
        """Values of these OBIS codes now (none: those that the model names), and what was refused of them.

        Raises LocalProtocolError for what is no OBIS code, and as `MeterSession.get`.
        """
        return await read_registers(session, meter_id, model, obis, self._classes, self._now)


def _on_grid(moment: dt.datetime, shape: ProfileShape, *, up: bool) -> dt.datetime:
    """``moment`` moved to the profile's grid: counted from local midnight where the zone is known."""
    step = min(dt.timedelta(seconds=shape.period_s), _DAY)
    zone = shape.buffer.zone or dt.UTC
    local = moment.astimezone(zone)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    past = (local.replace(tzinfo=None) - midnight) % step
    if not past:
        return moment.astimezone(dt.UTC)
    # In elapsed time, so that a clock change within the step does not move the result off the grid twice.
    below = moment.astimezone(dt.UTC) - past
    return below + step if up else below


def _stamp(moment: dt.datetime, model: MeterModel) -> CosemDateTime:
    """A bound as the meter's own clock writes it: many meters compare without regard to the deviation."""
    clock = model.clock
    zone = clock.zone
    if zone is None:
        return CosemDateTime.from_utc(moment)
    stamp = CosemDateTime.from_zone(
        moment, zone, follows_dst=clock.follows_dst, deviation=clock.deviation != "unspecified"
    )
    if clock.deviation == "inverted" and stamp.deviation_min is not None:
        return CosemDateTime(stamp.date, stamp.time, -stamp.deviation_min, stamp.status)
    return stamp
