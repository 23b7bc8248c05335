"""The ingest pipeline: merging, acknowledging after commit, a bad batch alone, a database that is away."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from psycopg import OperationalError, errors

from headend.ingest import pipeline as pipeline_module
from headend.ingest.pipeline import Pipeline, PipelineClosed
from headend.store.errors import RefusedError
from headend.store.settlement import Settlement
from headend.store.writer import UnknownMeter, Written
from schemas.reading import Channel, ChannelLayout, ReadingBatch, concatenate

_IMPORT = ChannelLayout((Channel("active_import", "1-0:1.8.0*255", 0, "Wh"), None, None, None))
_EXPORT = ChannelLayout((None, Channel("active_export", "1-0:2.8.0*255", 0, "Wh"), None, None))


def batch(meter: int, rows: int = 2, layout: ChannelLayout = _IMPORT, source: str = "test") -> ReadingBatch:
    n = np.arange(rows)
    return ReadingBatch(
        meter_id=np.full(rows, meter, np.int32),
        profile=np.ones(rows, np.int16),
        start_us=n * 900_000_000,
        period_s=np.full(rows, 900, np.int32),
        stamp_us=(n + 1) * 900_000_000,
        amr_status=np.zeros(rows, np.int64),
        clock_status=np.zeros(rows, np.int16),
        quality=np.zeros(rows, np.int16),
        fragment=np.zeros(rows, np.int8),
        layout=np.zeros(rows, np.int16),
        values=np.arange(rows * 4, dtype=np.int64).reshape(rows, 4),
        valid=np.ones((rows, 4), np.bool_),
        layouts=(layout,),
        covered_us=((meter, 1, 0, rows * 900_000_000),),
        source=source,
    )


Run = Callable[[Coroutine[Any, Any, Any]], Any]


class Store:
    """Takes batches, or refuses them as told."""

    def __init__(self) -> None:
        self.written: list[ReadingBatch] = []
        self.away = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def write(self, one: ReadingBatch, _: Settlement) -> Written:
        await self.gate.wait()
        if self.away:
            self.away -= 1
            raise OperationalError("the database system is shutting down")
        if 13 in one.meter_id:
            raise UnknownMeter([13])
        self.written.append(one)
        return Written(len(self.written), new=len(one))


def test_concatenation_keeps_rows_and_makes_equal_layouts_one() -> None:
    merged = concatenate([batch(1), batch(2, 3, _EXPORT), batch(3, 1)], source="three")
    assert merged.meter_id.tolist() == [1, 1, 2, 2, 2, 3]
    assert merged.layouts == (_IMPORT, _EXPORT)
    assert merged.layout.tolist() == [0, 0, 1, 1, 1, 0]
    assert [one[0] for one in merged.covered_us] == [1, 2, 3]
    assert merged.values[2].tolist() == [0, 1, 2, 3]
    assert merged.source == "three"


def test_nothing_cannot_be_concatenated() -> None:
    with pytest.raises(ValueError, match="nothing"):
        concatenate([], source="none")


async def test_small_batches_share_a_transaction_and_are_acknowledged_after_it() -> None:
    store = Store()
    store.gate.clear()
    async with Pipeline(store.write, linger_s=0) as pipeline:
        futures = [await pipeline.submit(batch(meter)) for meter in (1, 2, 3)]
        await asyncio.sleep(0)
        assert not any(future.done() for future in futures)
        store.gate.set()
        done = await asyncio.gather(*futures)
    assert [one.new for one in done] == [6, 6, 6]
    assert len(store.written) == 1
    assert pipeline.totals.batches == 3
    assert pipeline.totals.written.new == 6


async def test_a_merge_holds_no_more_rows_than_allowed_and_keeps_the_order() -> None:
    store = Store()
    async with Pipeline(store.write, merge_rows=4, linger_s=0) as pipeline:
        for meter in range(1, 6):
            await pipeline.submit(batch(meter))
    assert [one.meter_id.tolist() for one in store.written] == [[1, 1, 2, 2], [3, 3, 4, 4], [5, 5]]


async def _spread(store: Store, count: int, every_s: float) -> list[int]:
    """Batches at a steady rate; how many each transaction took."""
    async with Pipeline(store.write) as pipeline:
        for meter in range(20, 20 + count):
            await pipeline.submit(batch(meter, rows=1))
            await asyncio.sleep(every_s)
    return [len(one) for one in store.written]


def test_where_many_come_transactions_wait_for_more(run_virtual: Run) -> None:
    merges = run_virtual(_spread(Store(), 1_000, 0.001))
    assert 3 <= len(merges) <= 4  # one each 0.4 s
    assert max(merges) <= 450


def test_where_few_come_none_waits_longer_than_it_must(run_virtual: Run) -> None:
    async def main() -> None:
        loop, waits = asyncio.get_running_loop(), []
        async with Pipeline(Store().write) as pipeline:
            for meter in range(20, 40):
                began = loop.time()
                await (await pipeline.submit(batch(meter)))
                waits.append(loop.time() - began)
                await asyncio.sleep(0.01)
        assert max(waits) <= 0.051

    run_virtual(main())


def test_what_is_urgent_overtakes_what_waits_and_what_is_being_written(run_virtual: Run) -> None:
    async def main() -> None:
        written: list[int] = []

        async def write(one: ReadingBatch, settlement: Settlement) -> Written:
            await asyncio.sleep(0.0 if 99 in one.meter_id else 5.0)
            written.append(int(one.meter_id[0]))
            return Written(1, new=len(one))

        async with Pipeline(write, merge_rows=2) as pipeline:
            slow = [await pipeline.submit(batch(meter)) for meter in (1, 2, 3)]
            await asyncio.sleep(1)
            began = asyncio.get_running_loop().time()
            await (await pipeline.submit(batch(99), urgent=True))
            assert asyncio.get_running_loop().time() - began < 0.01
            assert written == [99]
            assert pipeline.waiting == 2
            await asyncio.gather(*slow)
        assert written == [99, 1, 2, 3]

    run_virtual(main())


async def test_what_is_urgent_is_written_or_failed_at_the_end_too() -> None:
    store = Store()
    async with Pipeline(store.write) as pipeline:
        done = await pipeline.submit(batch(1), urgent=True)
    assert (await done).new == 2
    store.gate.clear()
    async with Pipeline(store.write, drain_s=0.01) as pipeline:
        late = [await pipeline.submit(batch(meter), urgent=meter > 1) for meter in (1, 2, 3)]
    for one in late:
        with pytest.raises(PipelineClosed):
            await one
    with pytest.raises(PipelineClosed):
        await pipeline.submit(batch(1), urgent=True)


async def test_a_bad_batch_fails_alone() -> None:
    store = Store()
    async with Pipeline(store.write, linger_s=0) as pipeline:
        good, bad, other = [await pipeline.submit(batch(meter)) for meter in (1, 13, 2)]
        with pytest.raises(UnknownMeter):
            await bad
        assert (await good).new == (await other).new == 2
    assert [one.meter_id[0] for one in store.written] == [1, 2]
    assert pipeline.totals.refused == 1


@pytest.mark.parametrize(
    "error",
    [
        errors.NumericValueOutOfRange,
        errors.CheckViolation,
        errors.InternalError_,
        errors.FeatureNotSupported,
        errors.UndefinedColumn,
        errors.ProgramLimitExceeded,  # operational to psycopg, yet no waiting cures it
    ],
)
async def test_what_the_database_refuses_fails_alone_and_loudly(
    error: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    store = Store()

    async def write(one: ReadingBatch, _: Settlement) -> Written:
        if 7 in one.meter_id:
            raise error("no\nDETAIL: 7")
        return await store.write(one, _)

    async with Pipeline(write, linger_s=0) as pipeline:
        good, bad, other = [await pipeline.submit(batch(meter)) for meter in (1, 7, 2)]
        with pytest.raises(RefusedError, match=r"no$") as told:
            await bad
        assert (await good).new == (await other).new == 2
        assert not pipeline.task.done()
    assert isinstance(told.value.__cause__, error)
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert (pipeline.totals.refused, pipeline.totals.retries) == (1, 0)


async def test_a_defect_of_ours_ends_the_task() -> None:
    async def write(_: ReadingBatch, __: Settlement) -> Written:
        raise KeyError("layout")

    async with Pipeline(write, linger_s=0) as pipeline:
        future = await pipeline.submit(batch(1))
        with pytest.raises(PipelineClosed):
            await future
        with pytest.raises(KeyError):
            await pipeline.task


async def test_a_database_that_is_away_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline_module.random, "uniform", lambda low, high: 0.0)
    store = Store()
    store.away = 3
    async with Pipeline(store.write, linger_s=0) as pipeline:
        done = await (await pipeline.submit(batch(1)))
    assert done.new == 2
    assert pipeline.totals.retries == 3


async def test_a_full_queue_makes_submitters_wait() -> None:
    store = Store()
    store.gate.clear()
    async with Pipeline(store.write, room=1, merge_rows=1, linger_s=0) as pipeline:
        await pipeline.submit(batch(1))
        await asyncio.sleep(0)  # taken by the writer
        await pipeline.submit(batch(2))
        third = asyncio.create_task(pipeline.submit(batch(3)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not third.done()
        store.gate.set()
        await (await third)
    assert len(store.written) == 3


async def test_closing_fails_what_the_database_did_not_take_in_time() -> None:
    store = Store()
    store.gate.clear()
    async with Pipeline(store.write, linger_s=0, merge_rows=1, drain_s=0.01) as pipeline:
        first = await pipeline.submit(batch(1))
        second = await pipeline.submit(batch(2))
    for future in (first, second):
        with pytest.raises(PipelineClosed):
            await future
    with pytest.raises(PipelineClosed):
        await pipeline.submit(batch(3))
