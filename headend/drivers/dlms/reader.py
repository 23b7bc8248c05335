"""Reads meters over DLMS/COSEM into ReadingBatches: load curves here, single registers in `registers`."""

import datetime as dt
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

from headend.clock import utc_now
from headend.drivers.contract import RegisterReadout
from headend.drivers.dlms.bounds import BOUNDS_REFUSED, stamp
from headend.drivers.dlms.intervals import ProfileShape, to_batch
from headend.drivers.dlms.profile_check import Shapes, profile_of
from headend.drivers.dlms.registers import ClassOfObis, read_registers
from headend.session.client import MeterSession
from protocols.dlms import axdr, cosem
from protocols.dlms.apdu.fields import Selection
from protocols.dlms.cosem import (
    BY_ENTRY,
    BY_RANGE,
    PROFILE_ENTRIES_IN_USE,
    Attribute,
    ClassId,
    EntryDescriptor,
    RangeDescriptor,
)
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

#: Ranges whose requests are kept written.
MAX_WINDOWS: Final = 256

#: Forms of a range's bounds, in the order of trying.
_FORMS: Final = 3
_TAGGED: Final = 1
_WIDER: Final = 2
_NO_ROWS: Final = b"\x01\x00"
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_US: Final = dt.timedelta(microseconds=1)
_DAY: Final = dt.timedelta(days=1)
#: Entries asked for beyond those that the time would need: fragments, and the one being captured.
_ENTRY_SLACK: Final = 8


class DlmsReader:
    """Stateless but for what it has learnt of meters: their profiles' columns, and which bounds they take."""

    def __init__(self, *, now: Callable[[], dt.datetime] = utc_now) -> None:
        self._now = now
        self._shapes = Shapes()
        self._checked: OrderedDict[tuple[int, int], tuple[MeterModel, ProfileShape, float]] = OrderedDict()
        self._windows: OrderedDict[tuple[int, dt.datetime, dt.datetime], _Window] = OrderedDict()
        self._forms: dict[str, int] = {}
        self._classes = ClassOfObis()

    def forget(self, meter_id: int) -> None:
        """Its profiles were written to: they are looked at again."""
        for key in [one for one in self._checked if one[0] == meter_id]:
            del self._checked[key]

    # ---- load curves --------------------------------------------------------------------------------

    async def read_load_curve(
        self,
        session: MeterSession,
        meter_id: int,
        model: MeterModel,
        number: int,
        start: dt.datetime,
        end: dt.datetime,
        *,
        as_of: float = 0.0,
    ) -> ReadingBatch:
        """The intervals of profile ``number`` that begin in [start, end); both aware.

        The day [00:00, 24:00) of 15 minutes is asked as stamps 00:15 to 24:00, both included. Rows that the
        meter sends beyond that are kept too; coverage is claimed as asked, and no further than the meter
        can know. What is remembered of its columns counts for the same ``as_of`` alone: when our record
        of the meter was last changed (Unix seconds), by whichever process.

        Raises:
            LocalProtocolError: no such profile, naive or reversed times.
            DataAccessRefused: the meter does not give the buffer. And as `MeterSession.get`.
        """
        if start.utcoffset() is None or end.utcoffset() is None:
            raise LocalProtocolError("a load curve is read between aware times")
        if start >= end:
            raise LocalProtocolError(f"a load curve from {start} to {end} has no length")
        profile = profile_of(model, number)
        shape = await self._shape(session, meter_id, model, profile, as_of)
        try:
            return await self._read(session, meter_id, model, shape, start, end)
        except RemoteProtocolError:
            # Configured anew since we looked? Then its columns are others; else it is the error it seems.
            if not session.is_usable:
                raise
            self._checked.pop((meter_id, number), None)
            now = await self._shape(session, meter_id, model, profile, as_of)
            if now is shape:
                raise
            return await self._read(session, meter_id, model, now, start, end)

    async def _read(
        self,
        session: MeterSession,
        meter_id: int,
        model: MeterModel,
        shape: ProfileShape,
        start: dt.datetime,
        end: dt.datetime,
    ) -> ReadingBatch:
        window = self._window(shape, model, start, end)
        if window.since >= window.until:
            columns, covered = decode_buffer(_NO_ROWS, shape.buffer), None
        elif model.quirks.range_by_entry:
            columns = await self._by_entry(session, shape, window)
            covered = self._covered(columns, window)
        else:
            columns = await self._by_range(session, model, shape, window)
            covered = self._covered(columns, window)
        return to_batch(
            shape,
            columns,
            meter_id,
            covered_us=() if covered is None else (covered,),
            source=session.plan.label,
        )

    def _window(
        self, shape: ProfileShape, model: MeterModel, start: dt.datetime, end: dt.datetime
    ) -> "_Window":
        """The range on the profile's grid; a night asks all meters for the same one."""
        key = (id(shape), start, end)
        window = self._windows.get(key)
        if window is None:
            since, until = _on_grid(start, shape, up=True), _on_grid(end, shape, up=False)
            window = self._windows[key] = _Window(shape, model, since, until)
            if len(self._windows) > MAX_WINDOWS:
                self._windows.popitem(last=False)
        return window

    async def _shape(
        self, session: MeterSession, meter_id: int, model: MeterModel, profile: LoadProfile, as_of: float
    ) -> ProfileShape:
        """The meter's columns, asked for once and then remembered."""
        key = (meter_id, profile.number)
        known = self._checked.get(key)
        if known is not None and known[0] is model and known[2] == as_of:
            self._checked.move_to_end(key)
            return known[1]
        shape = await self._shapes.ask(session, model, profile)
        self._checked[key] = (model, shape, as_of)
        if len(self._checked) > MAX_METERS:
            self._checked.popitem(last=False)
        return shape

    async def _by_range(
        self, session: MeterSession, model: MeterModel, shape: ProfileShape, window: "_Window"
    ) -> ProfileColumns:
        """The rows between two stamps.

        Where a meter refuses the bounds, they are written in another form, and last an hour wider; the form
        that its model takes is remembered.
        """
        first = self._forms.get(model.name, 0)
        for form in (first, *(other for other in range(_FORMS) if other != first)):
            try:
                raw = await session.get(shape.attribute, window.selection(form))
            except DataAccessRefused as exc:
                if exc.result not in BOUNDS_REFUSED:
                    raise
                refusal = exc
            else:
                self._forms[model.name] = form
                return decode_buffer(raw, shape.buffer)
        raise refusal

    async def _by_entry(
        self, session: MeterSession, shape: ProfileShape, window: "_Window"
    ) -> ProfileColumns:
        """The newest rows back to the range's start, for meters that refuse ranges.

        Twice as many are asked for until they reach it, or are all that there are.
        """
        name = shape.attribute.obis
        counted = await session.get(Attribute(ClassId.PROFILE_GENERIC, name, PROFILE_ENTRIES_IN_USE))
        in_use = cosem.entries(axdr.decode_exact(counted))
        if in_use == 0:
            return decode_buffer(_NO_ROWS, shape.buffer)
        period = dt.timedelta(seconds=shape.period_s)
        wanted = max(0, (self._now() - window.since) // period) + _ENTRY_SLACK
        oldest_us = (window.since + period - _EPOCH) // _US
        while True:
            wanted = min(wanted, in_use)
            if shape.buffer.descending:  # newest first
                entries = EntryDescriptor(1, wanted)
            else:
                entries = EntryDescriptor(in_use - wanted + 1, in_use)
            raw = await session.get(shape.attribute, Selection(BY_ENTRY, axdr.encode(entries.encode())))
            columns = decode_buffer(raw, shape.buffer)
            if wanted == in_use or (len(columns) and int(columns.stamp_us.min()) <= oldest_us):
                return columns
            wanted *= 2

    def _covered(self, columns: ProfileColumns, window: "_Window") -> tuple[int, int] | None:
        """The range that was asked for and answered, in microseconds; None where that is nothing."""
        since_us, until_us = window.since_us, window.until_us
        now = self._now()
        if window.until > now - FRESH:
            stamps = columns.stamp_us
            here = stamps[stamps <= until_us]
            until_us = int(here.max()) if len(here) else since_us
            until_us = min(until_us, (now - _EPOCH) // _US)
        return (since_us, until_us) if since_us < until_us else None

    # ---- registers ----------------------------------------------------------------------------------

    async def read_registers(
        self, session: MeterSession, meter_id: int, model: MeterModel, obis: Sequence[str] = ()
    ) -> RegisterReadout:
        """Values of these OBIS codes now (none: those that the model names), and what was refused of them.

        Raises LocalProtocolError for what is no OBIS code, and as `MeterSession.get`.
        """
        return await read_registers(session, meter_id, model, obis, self._classes, self._now)


class _Window:
    """One range of one shape: its ends on the grid, and the selections that ask for it, written once."""

    __slots__ = ("_model", "_selections", "shape", "since", "since_us", "until", "until_us")

    def __init__(
        self, shape: ProfileShape, model: MeterModel, since: dt.datetime, until: dt.datetime
    ) -> None:
        self.shape = shape  # held, so that its identity stays its own
        self.since, self.until = since, until
        self.since_us, self.until_us = (since - _EPOCH) // _US, (until - _EPOCH) // _US
        self._model = model
        self._selections: list[Selection | None] = [None] * _FORMS

    def selection(self, form: int) -> Selection:
        """The bounds as octet-strings (0), as date-times (1), as octet-strings an hour wider (2)."""
        found = self._selections[form]
        if found is None:
            wider = dt.timedelta(hours=1) if form == _WIDER else dt.timedelta()
            low = self.since + dt.timedelta(seconds=self.shape.period_s) - wider
            descriptor = RangeDescriptor.between(
                stamp(low, self._model),
                stamp(self.until + wider, self._model),
                tagged_date_time=form == _TAGGED,
            )
            found = self._selections[form] = Selection(BY_RANGE, axdr.encode(descriptor.encode()))
        return found


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
