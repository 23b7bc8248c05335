"""A ReadingBatch into the database: in one transaction, exactly once, and fast where it is all new.

The path: a batches row; the layouts' ids; the coverage of every meter and profile locked in order; what lies
outside of the coverage straight into interval_reads by binary COPY; what lies inside, and all of it after a
key violation, through a staging table; fragments; registers; events; coverage; one change row per run of
intervals.
A batch that brings nothing new is rolled back: it leaves no trace, not even its batches row.

Locks are always taken in this order: layouts (by their text), coverage (by meter and profile), fragments,
registers (by key), events (by identity). Rows of one meter and profile are only written under the lock on its
coverage.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg_pool import AsyncConnectionPool

from headend.store import events, layouts, register_rows, rows
from headend.store.merge import Row, Verdict, merge
from headend.store.pool import Pool
from headend.store.settlement import NOTHING, Settlement
from headend.store.sql import Connection, load
from schemas.reading import INTERVAL_QUANTITIES, Channel, ChannelLayout, Kind, ReadingBatch, RegisterRead

_QUERIES: Final = load("writer")
_NO_TIME: Final = "time outside of 1990 to 2200"
#: How often a batch is tried that PostgreSQL chose as a deadlock's victim.
_ATTEMPTS: Final = 3
#: Layout ids that are committed, for each pool: they never change.
_KNOWN_LAYOUTS: "WeakKeyDictionary[Pool, dict[ChannelLayout, int]]" = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Written:
    """What came of a batch, in rows; ``batch_id`` is None when it brought nothing new and left no trace.

    ``repeated`` rows were there already. ``fragments``, ``registers`` and ``events`` count new ones.
    ``quarantined`` are kept in the inbox, with the reason: a time no clock shows, a text PostgreSQL cannot
    hold, a second value for a register at one moment.
    """

    batch_id: int | None
    new: int = 0
    completed: int = 0
    corrected: int = 0
    repeated: int = 0
    fragments: int = 0
    registers: int = 0
    quarantined: int = 0
    covered: int = 0
    events: int = 0

    def plus(self, other: "Written") -> "Written":
        """Both counted together, under the other's ``batch_id``."""
        counted = {
            name: getattr(self, name) + getattr(other, name) for name in self.__slots__ if name != "batch_id"
        }
        return Written(other.batch_id, **counted)


class UnknownMeter(LookupError):
    """A batch names meters that are not in the database. ``meter_ids`` says which."""

    def __init__(self, meter_ids: Sequence[int]) -> None:
        super().__init__(f"no such meter: {', '.join(map(str, meter_ids))}")
        self.meter_ids = tuple(meter_ids)


async def write(where: Pool | Connection, batch: ReadingBatch, settlement: Settlement = NOTHING) -> Written:
    """Store a batch in one transaction: all of it, or nothing; with it what ``settlement`` says.

    Writing the same batch again has no effect. With a connection that is in a transaction already, the batch
    is a part of that. Raises ValueError for a batch that contradicts itself, UnknownMeter, LaneLost for
    leases that are lost, and psycopg.Error.
    """
    rows.check(batch)
    if not isinstance(where, AsyncConnectionPool):
        return await _settled(_Writing(where, batch, {}), settlement)
    known = _KNOWN_LAYOUTS.setdefault(where, {})
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            async with where.connection() as connection:
                writing = _Writing(connection, batch, known)
                written = await _settled(writing, settlement)
            if written.batch_id is not None:
                known.update(writing.layout_ids)
            return written
        except (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure):
            if attempt == _ATTEMPTS:
                raise
    raise AssertionError("unreachable")


async def _settled(writing: "_Writing", settlement: Settlement) -> Written:
    """The batch between the two ends of its settlement; one that holds nothing costs nothing."""
    await settlement.begin(writing.connection)
    written = Written(None) if writing.is_empty else await writing.run()
    await settlement.end(writing.connection)
    return written


class _Writing:
    """One attempt to write one batch."""

    def __init__(
        self, connection: Connection, batch: ReadingBatch, known: Mapping[ChannelLayout, int]
    ) -> None:
        self.connection = connection
        self._batch = batch
        self._batch_id = 0
        self.layout_ids = {layout: known[layout] for layout in batch.layouts if layout in known}
        self._written = Written(None)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to write."""
        batch = self._batch
        return not (len(batch) or batch.registers or batch.events or batch.covered_us)

    async def run(self) -> Written:
        batch = self._batch
        async with self.connection.transaction():
            total = len(batch) + len(batch.registers) + len(batch.events)
            self._batch_id = await self._number("insert_batch", {"source": batch.source, "rows": total})
            place = rows.sort(batch)
            self._count(repeated=place.repeated)
            await self._need_layouts(batch.layouts)
            layout_ids = np.array([self.layout_ids[layout] for layout in batch.layouts], dtype=np.int32)
            await self._lock(place)
            await self._write_intervals(place.intervals, layout_ids)
            if len(place.fragments):
                await self._write_fragments(place.fragments, place.reasons, layout_ids)
            await self._write_registers()
            await self._write_events()
            await self._quarantine_rows(place.impossible)
            await self._add_coverage()
            done = self._written
            if not any((
                done.new, done.completed, done.corrected, done.fragments, done.registers, done.quarantined,
                done.covered, done.events,
            )):  # fmt: skip
                raise psycopg.Rollback
            self._written = replace(done, batch_id=self._batch_id)
        return self._written

    # --- intervals ---

    async def _write_intervals(self, index: rows.Index, layout_ids: npt.NDArray[np.int32]) -> None:
        if not len(index):
            return
        batch = self._batch
        firsts, lasts = rows.group_bounds(batch, index)
        groups = rows.ranges(batch, index, firsts, lasts)
        met = await self._places("covered_already", groups.parameters())
        direct = np.ones(len(firsts), dtype=np.bool_)
        direct[met] = False
        is_direct = np.repeat(direct, lasts - firsts + 1)
        staged = index[~is_direct]
        if direct.any():
            new = index[is_direct]
            try:
                async with self.connection.transaction():
                    await self._copy("copy_direct", rows.copy_rows(batch, new, layout_ids, self._batch_id))
                runs = rows.ranges(batch, new, *rows.run_bounds(batch, new))
                await self._tell("new", runs)
                self._count(new=len(new))
            except (
                psycopg.errors.UniqueViolation
            ):  # rows that no coverage told of: pushes, or a part of a range
                staged = index
        if len(staged):
            await self._stage(staged, layout_ids)

    async def _stage(self, index: rows.Index, layout_ids: npt.NDArray[np.int32]) -> None:
        batch = self._batch
        await self.connection.execute(_QUERIES["create_staged"])
        await self._copy("copy_staged", rows.copy_rows(batch, index, layout_ids, self._batch_id))
        new = await self._number("insert_staged", {"batch_id": self._batch_id})
        bounds = {
            "since": rows.moment(int(batch.start_us[index].min())),
            "until": rows.moment(int(batch.start_us[index].max())),
        }
        cursor = await self.connection.execute(_QUERIES["differing"], bounds)
        differing = await cursor.fetchall()
        await self.connection.execute(_QUERIES["drop_staged"])
        verdicts = await self._merge(differing) if differing else []
        completed, corrected = verdicts.count(Verdict.COMPLETION), verdicts.count(Verdict.CORRECTION)
        repeated = len(index) - new - completed - corrected
        self._count(new=new, completed=completed, corrected=corrected, repeated=repeated)

    async def _merge(self, differing: Sequence[tuple[Any, ...]]) -> list[Verdict]:
        """Merge staged rows into stored ones; ``differing``: key, stored row and its batch, staged row."""
        meaning = await self._meanings({row[9] for row in differing} | {row[20] for row in differing})
        verdicts: list[Verdict] = []
        changed: list[tuple[Verdict, dict[str, Any], Row]] = []
        for row in differing:
            verdict, merged = merge(_row(row[3:13], meaning), _row(row[14:24], meaning))
            verdicts.append(verdict)
            if verdict is not Verdict.REPEATED:
                changed.append((verdict, {"meter_id": row[0], "profile": row[1], "start": row[2]}, merged))
        await self._need_layouts([merged.layout for _, _, merged in changed])
        corrected = [
            {**key, "batch_id": self._batch_id}
            for verdict, key, _ in changed
            if verdict is Verdict.CORRECTION
        ]
        async with self.connection.cursor() as cursor:
            if corrected:
                await cursor.executemany(_QUERIES["keep_revision"], corrected)
            if changed:
                await cursor.executemany(
                    _QUERIES["replace_row"], [self._replacement(k, m) for _, k, m in changed]
                )
        for kind in (Verdict.COMPLETION, Verdict.CORRECTION):
            of_kind = [(key, merged) for verdict, key, merged in changed if verdict is kind]
            await self._tell(
                kind.value,
                rows.Ranges(
                    [key["meter_id"] for key, _ in of_kind],
                    [key["profile"] for key, _ in of_kind],
                    [rows.microseconds(key["start"]) for key, _ in of_kind],
                    [rows.microseconds(key["start"]) + merged.period_s * 10**6 for key, merged in of_kind],
                ),
            )
        return verdicts

    def _replacement(self, key: Mapping[str, Any], row: Row) -> dict[str, Any]:
        values = dict(zip(INTERVAL_QUANTITIES, row.values, strict=True))
        return {
            **key, **values, "stamp": row.stamp, "batch_id": self._batch_id, "period_s": row.period_s,
            "layout_id": self.layout_ids[row.layout], "amr_status": row.amr_status,
            "clock_status": row.clock_status, "quality": row.quality,
        }  # fmt: skip

    # --- what is beside the intervals ---

    async def _write_fragments(
        self, index: rows.Index, reasons: npt.NDArray[np.int8], layout_ids: npt.NDArray[np.int32]
    ) -> None:
        parameters = rows.fragment_parameters(self._batch, index, reasons, layout_ids)
        new = await self._number("insert_fragments", {**parameters, "batch_id": self._batch_id})
        self._count(fragments=new, repeated=len(index) - new)

    async def _write_registers(self) -> None:
        if not self._batch.registers:
            return
        await self._need_meters({read.meter_id for read in self._batch.registers})
        fit: list[RegisterRead] = []
        unfit: list[RegisterRead] = []
        for read in self._batch.registers:
            (fit if register_rows.fits(read) else unfit).append(read)
        reads = register_rows.without_repeats(fit)
        parameters = {**register_rows.parameters(reads), "batch_id": self._batch_id}
        new = await self._number("insert_registers", parameters)
        conflicts: list[RegisterRead] = []
        if new < len(reads):
            conflicts = [reads[place] for place in await self._places("registers_in_conflict", parameters)]
        self._count(registers=new, repeated=len(fit) - new - len(conflicts))
        await self._quarantine(
            [
                (read.meter_id, register_rows.as_json(read), "text or time that the database cannot hold")
                for read in unfit
            ]
            + [
                (read.meter_id, register_rows.as_json(read), "another value is stored for that moment")
                for read in conflicts
            ]
        )

    async def _write_events(self) -> None:
        told = self._batch.events
        if not told:
            return
        await self._need_meters({one.meter_id for one in told if one.meter_id is not None})
        fit = [one for one in told if events.fits(one)]
        new = await events.insert(self.connection, fit, batch_id=self._batch_id)
        self._count(events=new, repeated=len(fit) - new)
        await self._quarantine([
            (one.meter_id, events.as_json(one), "text, number or time that the database cannot hold")
            for one in told
            if not events.fits(one)
        ])  # fmt: skip

    async def _need_meters(self, meters: set[int]) -> None:
        if unknown := await self._column("unknown_meters", {"meters": rows.integers(sorted(meters))}):
            raise UnknownMeter(unknown)

    async def _quarantine_rows(self, index: rows.Index) -> None:
        await self._quarantine([
            (int(self._batch.meter_id[row]), rows.row_as_json(self._batch, int(row)), _NO_TIME)
            for row in index
        ])  # fmt: skip

    async def _quarantine(self, items: Sequence[tuple[int | None, bytes, str]]) -> None:
        if items:
            parameters = {
                "source": self._batch.source,
                "meters": [meter for meter, _, _ in items],
                "payloads": [payload for _, payload, _ in items],
                "reasons": [reason for _, _, reason in items],
            }
            new = await self._number("quarantine", parameters)
            self._count(quarantined=new, repeated=len(items) - new)

    # --- layouts, coverage, the change feed ---

    async def _need_layouts(self, needed: Iterable[ChannelLayout]) -> None:
        missing = [layout for layout in needed if layout not in self.layout_ids]
        if missing:
            self.layout_ids |= await layouts.ids(self.connection, missing)

    async def _meanings(self, layout_ids: set[int]) -> dict[int, ChannelLayout]:
        cursor = await self.connection.execute(_QUERIES["layouts"], {"layouts": list(layout_ids)})
        return {layout_id: _layout(channels) for layout_id, channels in await cursor.fetchall()}

    async def _lock(self, place: rows.Sorted) -> None:
        batch = self._batch
        touched = np.concatenate([place.intervals, place.fragments])
        pairs = {(meter_id, profile) for meter_id, profile, _, _ in batch.covered_us}
        firsts, _ = rows.group_bounds(batch, touched)
        pairs.update(
            zip(
                batch.meter_id[touched[firsts]].tolist(), batch.profile[touched[firsts]].tolist(), strict=True
            )
        )
        if not pairs:
            return
        ordered = sorted(pairs)
        meters = [meter_id for meter_id, _ in ordered]
        try:
            async with self.connection.transaction():
                await self.connection.execute(
                    _QUERIES["lock_coverage"],
                    {
                        "meters": rows.integers(meters),
                        "profiles": rows.integers(profile for _, profile in ordered),
                    },
                )
        except psycopg.errors.ForeignKeyViolation as error:
            raise UnknownMeter(
                await self._column("unknown_meters", {"meters": sorted(set(meters))})
            ) from error

    async def _add_coverage(self) -> None:
        covered = self._batch.covered_us
        if covered:
            ranges = rows.Ranges(
                [meter_id for meter_id, _, _, _ in covered],
                [profile for _, profile, _, _ in covered],
                [since for _, _, since, _ in covered],
                [until for _, _, _, until in covered],
            )
            cursor = await self.connection.execute(_QUERIES["add_coverage"], ranges.parameters())
            self._count(covered=cursor.rowcount)

    async def _tell(self, kind: str, changed: rows.Ranges) -> None:
        if changed.meters:
            parameters = {**changed.parameters(), "kind": kind, "batch_id": self._batch_id}
            await self.connection.execute(_QUERIES["insert_changes"], parameters)

    # --- plumbing ---

    async def _copy(self, query: str, stream: Iterable[bytes]) -> None:
        async with self.connection.cursor() as cursor, cursor.copy(_QUERIES[query]) as copy:
            for block in stream:
                await copy.write(block)

    async def _number(self, query: str, parameters: Mapping[str, Any]) -> int:
        (number,) = await self._column(query, parameters)
        return number

    async def _places(self, query: str, parameters: Mapping[str, Any]) -> list[int]:
        """Places from 0 that a query with ORDINALITY named."""
        return [place - 1 for place in await self._column(query, parameters)]

    async def _column(self, query: str, parameters: Mapping[str, Any]) -> list[int]:
        cursor = await self.connection.execute(_QUERIES[query], parameters)
        return [value for (value,) in await cursor.fetchall()]

    def _count(self, **more: int) -> None:
        now = self._written
        self._written = replace(now, **{name: getattr(now, name) + number for name, number in more.items()})


def _row(columns: Sequence[Any], meaning: Mapping[int, ChannelLayout]) -> Row:
    stamp, *values, period_s, layout_id, amr_status, clock_status, quality = columns
    return Row(stamp, tuple(values), period_s, meaning[layout_id], amr_status, clock_status, quality)


def _layout(channels: Sequence[Mapping[str, Any] | None]) -> ChannelLayout:
    known = [None if c is None else Channel(**{**c, "kind": Kind(c["kind"])}) for c in channels]
    return ChannelLayout((known[0], known[1], known[2], known[3]))
