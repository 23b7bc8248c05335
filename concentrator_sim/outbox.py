"""What an MQTT concentrator has to say, sans-I/O: its meters' load curves in numbered batches, kept until the
head-end has them.

Each meter's rows go into the first batch after the meter was reached, so that rows come late and complete
over bad links; beside them are the tariff registers of a meter that was given a tariff program. A batch that
does not fit the buffer any more is declared lost, and so is one that is asked for and gone.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from concentrator_sim import billing
from concentrator_sim.generator import QUANTITIES, moment_of, quarter_of
from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.shapes import QUARTER_S
from concentrator_sim.tariff_talk import ProgramBook
from schemas.batch import (
    Batch,
    BatchAck,
    BatchChannel,
    BatchEvent,
    BatchLost,
    BatchMessage,
    BatchRegister,
    BatchRequest,
    Series,
)
from schemas.event import EventLog, EventMeaning

_UNITS: Final = ("Wh", "Wh", "varh", "varh")
LAYOUT: Final = tuple(
    BatchChannel(obis=f"1-0:{code}*255", unit=unit) for code, unit in zip(QUANTITIES, _UNITS, strict=True)
)
#: Values of one batch at most: about half a megabyte.
_MOST_VALUES: Final = 60_000
#: Rounds that a meter is missed one after the other until the concentrator reports it as silent.
MISSES: Final = 3


@dataclass(slots=True)
class Fetched:
    """How far a meter's rows were fetched: ``next`` is the quarter that the next row ends with."""

    meter: SimulatedMeter
    next: int
    misses: int = 0


@dataclass(slots=True)
class _Kept:
    batch: Batch
    sent_s: int


class Outbox:
    """The batches of concentrator ``name``, numbered from 0 in this ``run``.

    ``first`` is the quarter from whose end on rows are told, ``at_most`` how many quarters of a meter go into
    one batch, ``capacity`` how many batches are kept.
    """

    def __init__(
        self,
        name: str,
        run: str,
        meters: Sequence[SimulatedMeter],
        *,
        first: int,
        at_most: int,
        capacity: int,
    ) -> None:
        self._name = name
        self._run = run
        self._at_most = max(1, min(at_most, _MOST_VALUES // (len(LAYOUT) * max(1, len(meters)))))
        self._capacity = capacity
        self._next = 0
        self._kept: OrderedDict[int, _Kept] = OrderedDict()
        self._silent: list[SimulatedMeter] = []
        self.fetched = {meter.serial: Fetched(meter, first) for meter in meters}

    def __len__(self) -> int:
        """Batches that are kept."""
        return len(self._kept)

    @property
    def sequence(self) -> int:
        """Number of the next batch."""
        return self._next

    def missed(self, serial: str) -> None:
        """A meter was not reached in this round."""
        fetched = self.fetched[serial]
        fetched.misses += 1
        if fetched.misses == MISSES:
            self._silent.append(fetched.meter)

    def round(self, reached: Sequence[str], now_s: int) -> list[BatchMessage]:
        """Batches of all that the meters ``reached`` have that was not fetched yet, and what that loses."""
        for serial in reached:
            self.fetched[serial].misses = 0
        newest, out = quarter_of(now_s), list[BatchMessage]()
        while any(self.fetched[serial].next <= newest for serial in reached) or self._silent:
            series = tuple(self._series(reached, newest))
            events = tuple(_silence(meter, now_s) for meter in self._silent)
            self._silent.clear()
            registers = [one for rows in series for one in self._tariffs(rows)]
            out.append(self._keep(series, tuple(registers), events, now_s))
            out += self._overflow()
        return out

    def _series(self, reached: Sequence[str], newest: int) -> Iterator[Series]:
        for serial in reached:
            fetched = self.fetched[serial]
            count = min(self._at_most, newest + 1 - fetched.next)
            if count <= 0:
                continue
            columns = fetched.meter.consumption.quarters(range(len(LAYOUT)), fetched.next, count)
            yield Series(
                meter=serial,
                period_s=QUARTER_S,
                stamps=tuple(moment_of(fetched.next + n) for n in range(count)),
                values=tuple(tuple(column.tolist()) for column in columns),
            )
            fetched.next += count

    def _tariffs(self, rows: Series) -> Iterator[BatchRegister]:
        """What a meter that was given a tariff program has counted by tariff at its last row."""
        book = self.fetched[rows.meter].meter.part_if_any(ProgramBook)
        if book is not None:
            at_s = rows.stamps[-1]
            for obis, value in zip(billing.TARIFFS, book.registers(at_s), strict=True):
                yield BatchRegister(meter=rows.meter, obis=str(obis), value=str(value), unit="Wh", time=at_s)

    def _keep(
        self,
        series: tuple[Series, ...],
        registers: tuple[BatchRegister, ...],
        events: tuple[BatchEvent, ...],
        now_s: int,
    ) -> Batch:
        batch = Batch(
            format="headend.batch.1",
            concentrator=self._name,
            run=self._run,
            sequence=self._next,
            sent=now_s,
            layouts=(LAYOUT,) if series else (),
            series=series,
            registers=registers,
            events=events,
        )
        self._kept[self._next] = _Kept(batch, now_s)
        self._next += 1
        return batch

    def _overflow(self) -> list[BatchMessage]:
        gone = []
        while len(self._kept) > self._capacity:
            gone.append(self._kept.popitem(last=False)[0])
        return self._lost(gone)

    def drop_all(self) -> list[BatchMessage]:
        """The buffer is full of other things: all that is kept is gone."""
        gone = list(self._kept)
        self._kept.clear()
        return self._lost(gone)

    def acknowledged(self, ack: BatchAck) -> None:
        """The head-end has these for good."""
        if self._is_ours(ack):
            for number in [one for one in self._kept if ack.first <= one <= ack.last]:
                del self._kept[number]

    def asked(self, request: BatchRequest) -> list[BatchMessage]:
        """These again, and what of them is gone. What was never sent is not answered."""
        if not self._is_ours(request):
            return []
        wanted = range(request.first, min(request.last, self._next - 1) + 1)
        again: list[BatchMessage] = [self._kept[number].batch for number in wanted if number in self._kept]
        return again + self._lost([number for number in wanted if number not in self._kept])

    def waiting(self, now_s: int, since_s: int = 0) -> list[BatchMessage]:
        """Batches that were sent ``since_s`` seconds ago and are not acknowledged: to be sent again."""
        due = [kept for kept in self._kept.values() if now_s - kept.sent_s >= since_s]
        for kept in due:
            kept.sent_s = now_s
        return [kept.batch for kept in due]

    def _is_ours(self, message: BatchAck | BatchRequest) -> bool:
        return message.concentrator == self._name and message.run == self._run

    def _lost(self, numbers: Sequence[int]) -> list[BatchMessage]:
        spans: list[tuple[int, int]] = []
        for number in numbers:
            if spans and number == spans[-1][1] + 1:
                spans[-1] = (spans[-1][0], number)
            else:
                spans.append((number, number))
        return [
            BatchLost(
                format="headend.batch-lost.1",
                concentrator=self._name,
                run=self._run,
                first=first,
                last=last,
            )
            for first, last in spans
        ]


def _silence(meter: SimulatedMeter, now_s: int) -> BatchEvent:
    return BatchEvent(meter=meter.serial, time=now_s, log=EventLog.STATION, meaning=EventMeaning.METER_SILENT)
