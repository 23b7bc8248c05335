"""What a concentrator keeps of its meters, and the logical device in which it offers that to a head-end.

The objects are those of `protocols.dlms.store_forward`. A meter's shelf holds its load profile from one
quarter to another; what the concentrator missed it fetches when it reaches the meter again, as far back as
its shelf goes. Rows that were overwritten before they were released are counted as lost.
"""

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Final

from concentrator_sim import profile
from concentrator_sim.concentrator import Member
from concentrator_sim.generator import moment_of, quarter_of
from concentrator_sim.meter import LogicalDevice, SimulatedMeter
from concentrator_sim.object_model import MANAGEMENT_CLIENT, Asked, CosemObject, Device, ObjectModel, Value
from concentrator_sim.objects import COMMON
from concentrator_sim.profile import Rows
from concentrator_sim.shapes import QUARTER_S
from concentrator_sim.station import Bus
from protocols.dlms import axdr, cosem, store_forward
from protocols.dlms.cosem import Attribute, ClassId, ScalerUnit
from protocols.dlms.enums import DataAccessResult
from protocols.dlms.obis import Obis
from protocols.dlms.store_forward import Column, Entry, Kept, Reached
from protocols.errors import RemoteProtocolError

#: Number of the load profile that these meters have.
PROFILE: Final = 1
#: A meter that was missed so often one after the other is told to be silent.
MISSES: Final = 3

_WH, _VARH = 30, 32
#: The columns of what is kept of each meter.
LAYOUT: Final = tuple(
    Column(capture, None if n < 2 else ScalerUnit(0, _WH if n < 4 else _VARH))
    for n, capture in enumerate(profile.CAPTURE_OBJECTS)
)
_POLL_BYTES: Final = 64


class Shelf:
    """What is kept of one meter: quarters [first, end) but for ``holes``."""

    __slots__ = (
        "capacity",
        "end",
        "first",
        "holes",
        "lost",
        "member",
        "misses",
        "reached",
        "since_s",
        "slot",
    )

    def __init__(self, slot: int, member: Member, capacity: int, now_s: int) -> None:
        self.slot = slot
        self.member = member
        self.capacity = capacity
        self.end = quarter_of(now_s) + 1
        self.first = max(0, self.end - capacity)
        self.holes: set[int] = set()
        self.lost = 0
        self.misses = 0
        self.reached = Reached.YES
        self.since_s = now_s

    @property
    def rows(self) -> int:
        """How many are kept."""
        return max(0, self.end - self.first - len(self.holes))

    def poll(self, now_s: int) -> None:
        """Fetch what is new, if the meter is reached."""
        member = self.member
        if member.is_dead or member.route.send(_POLL_BYTES, now_s) is None:
            self.misses += 1
            if self.misses >= MISSES and self.reached is Reached.YES:
                self.reached, self.since_s = Reached.SILENT, now_s
            return
        self.misses = 0
        if self.reached is Reached.SILENT:
            self.reached, self.since_s = Reached.YES, now_s
        member.meter.live_until(now_s)
        held = profile.window(now_s, member.meter.entries)
        self.holes.update(range(self.end, held.first))  # the meter itself has them no more
        self.end = max(self.end, held.first + held.length)
        over = self.end - self.first - self.capacity
        if over > 0:
            dropped = range(self.first, self.first + over)
            self.lost += over - len(self.holes.intersection(dropped))
            self._drop(self.first + over)

    def release(self, until: int) -> None:
        """Forget the quarters before ``until``."""
        if until > self.first:
            self._drop(min(until, self.end))

    def _drop(self, first: int) -> None:
        self.first = first
        self.holes = {quarter for quarter in self.holes if quarter >= first}

    def kept(self) -> Kept:
        """As the directory tells it."""
        present = [quarter for quarter in range(self.first, self.end) if quarter not in self.holes]
        oldest, newest = (_moment(present[0]), _moment(present[-1])) if present else (None, None)
        return Kept(PROFILE, 0, QUARTER_S, len(present), oldest, newest, self.lost)

    def buffer(self, asked: Asked) -> Value:
        """The buffer, or what the selection asks of it."""
        held = Rows(self.first, max(0, self.end - self.first))
        rows = held if asked.selection is None else profile.select(held, asked.selection, 0)
        if isinstance(rows, DataAccessResult):
            return rows
        return self.span(rows)

    def span(self, rows: Rows) -> bytes:
        """Those of ``rows`` that are kept, as an A-XDR array."""
        meter = self.member.meter
        holes = sorted(hole for hole in self.holes if rows.first <= hole < rows.first + rows.length)
        if not holes:
            return profile.encode(rows, meter.consumption, meter.deviation_min)
        pieces, first = [], rows.first
        for hole in [*holes, rows.first + rows.length]:
            if hole > first:
                pieces.append(rows._replace(first=first, length=hole - first))
            first = hole + 1
        body = b"".join(_rows_of(piece, self.member) for piece in pieces)
        return b"\x01" + axdr.encode_length(rows.length - len(holes)) + body


def _rows_of(rows: Rows, member: Member) -> bytes:
    raw = profile.encode(rows, member.meter.consumption, member.meter.deviation_min)
    return raw[1 + len(axdr.encode_length(rows.length)) :]


def _moment(quarter: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(moment_of(quarter), dt.UTC)


class StoreForward(ObjectModel):
    """The objects of a concentrator that keeps its meters' load profiles. ``clock`` gives Unix seconds,
    ``further`` are other objects that it has."""

    def __init__(
        self,
        members: Sequence[Member],
        clock: Callable[[], int],
        *,
        shelf_rows: int,
        further: Sequence[CosemObject] = (),
    ) -> None:
        now_s = clock()
        self.shelves = {
            slot: Shelf(slot, member, shelf_rows, now_s) for slot, member in enumerate(members, 1)
        }
        self.releases = 0
        super().__init__(
            (
                *COMMON,
                _data(store_forward.DIRECTORY, self._directory),
                _data(store_forward.LAYOUTS, lambda asked: store_forward.encode_layouts([LAYOUT])),
                _data(store_forward.RELEASE, lambda asked: axdr.encode(axdr.array(()))),
                *further,
            )
        )

    def own(self, head: SimulatedMeter) -> Bus:
        """The logical devices of a concentrator that is secured as ``head`` is."""
        return {1: LogicalDevice(head, 1, head.name, self)}

    def write(
        self, attribute: Attribute, value: bytes, device: Device, client_sap: int, now_s: int
    ) -> DataAccessResult:
        """A release, all of it or nothing; the rest as its objects say."""
        if attribute != store_forward.RELEASE or client_sap != MANAGEMENT_CLIENT:
            return super().write(attribute, value, device, client_sap, now_s)
        try:
            releases = store_forward.decode_release(value)
        except RemoteProtocolError:
            return DataAccessResult.TYPE_UNMATCHED
        if any(one.slot not in self.shelves or one.profile != PROFILE for one in releases):
            return DataAccessResult.OBJECT_UNDEFINED
        for one in releases:
            self.shelves[one.slot].release(quarter_of(int(one.stamp.timestamp())) + 1)
            self.releases += 1
        return DataAccessResult.SUCCESS

    def _find(self, attribute: Attribute) -> CosemObject | DataAccessResult:
        place = store_forward.slot_of(attribute.obis)
        if place is None:
            return super()._find(attribute)
        slot, number = place
        shelf = self.shelves.get(slot)
        if shelf is None or number != PROFILE:
            return DataAccessResult.OBJECT_UNDEFINED
        if attribute.class_id != ClassId.PROFILE_GENERIC:
            return DataAccessResult.OBJECT_CLASS_INCONSISTENT
        found = _profile(attribute.obis, shelf)
        if attribute.index != 1 and attribute.index not in found.attributes:
            return DataAccessResult.OBJECT_UNDEFINED
        return found

    def _directory(self, asked: Asked) -> Value:
        for shelf in self.shelves.values():
            shelf.poll(asked.now_s)
        return store_forward.encode_directory(_entry(shelf) for shelf in self.shelves.values())


def _entry(shelf: Shelf) -> Entry:
    member = shelf.member
    return Entry(
        shelf.slot,
        member.meter.serial,
        member.meter.system_title,
        member.meter.mode.model,
        member.address,
        member.link,
        member.hops,
        member.quality,
        member.via,
        shelf.reached,
        dt.datetime.fromtimestamp(shelf.since_s, dt.UTC),
        (shelf.kept(),),
    )


def _data(attribute: Attribute, read: Callable[[Asked], Value]) -> CosemObject:
    return CosemObject(attribute.class_id, 0, attribute.obis, {attribute.index: read})


def _profile(name: Obis, shelf: Shelf) -> CosemObject:
    def constant(data: axdr.Data) -> Callable[[Asked], Value]:
        return lambda asked: axdr.encode(data)

    return CosemObject(
        ClassId.PROFILE_GENERIC,
        1,
        name,
        {
            cosem.PROFILE_BUFFER: shelf.buffer,
            cosem.PROFILE_CAPTURE_OBJECTS: constant(axdr.array(column.capture.encode() for column in LAYOUT)),
            cosem.PROFILE_CAPTURE_PERIOD: constant(axdr.u32(QUARTER_S)),
            cosem.PROFILE_SORT_METHOD: constant(axdr.enum(cosem.SortMethod.FIFO)),
            cosem.PROFILE_SORT_OBJECT: constant(LAYOUT[0].capture.encode()),
            cosem.PROFILE_ENTRIES_IN_USE: constant(axdr.u32(shelf.rows)),
            cosem.PROFILE_ENTRIES: constant(axdr.u32(shelf.capacity)),
        },
        selectors={cosem.PROFILE_BUFFER: (cosem.BY_RANGE,)},
    )
