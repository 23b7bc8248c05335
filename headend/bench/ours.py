"""Our client under measurement: ``python -m headend.bench.ours``, asked as `headend.bench.worker` says.

What is measured is the product's own path: the decoder as drivers call it, and whole sessions by
`MeterSession` and `DlmsReader` over TCP, to a ReadingBatch.
"""

import asyncio
import datetime as dt
import gc
import itertools
import os
import resource
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Final

import uvloop

from headend.bench import payload, worker
from headend.drivers.dlms.reader import DlmsReader
from headend.keys.counters import CounterBlocks
from headend.session.client import MeterSession
from headend.session.counters import KeyCounters
from headend.session.deadlines import Deadlines
from headend.session.plan import SessionPlan, plan_session
from headend.store.sql import Connection
from protocols.dlms import wrapper
from protocols.dlms.apdu.fields import Raw
from protocols.dlms.apdu.get import GetResponseNormal, decode_response
from protocols.dlms.profile_buffer import decode_buffer, decode_buffers
from protocols.dlms.profile_columns import BufferLayout, Column, ProfileColumns, Role
from protocols.dlms.security import Key, PeerCounter
from schemas.address import LinkAddress
from schemas.config import Settings
from schemas.meter import KeyPurpose
from schemas.model import MeterModel, load_model
from schemas.reading import ReadingBatch

#: Meters, and sessions at a time: as many as the collector has by default.
CONCURRENCY: Final[int] = Settings.model_fields["collector_concurrency"].default
_BATCH: Final = 1_000
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_LAYOUT_COLUMNS: Final = (Column(Role.CLOCK), Column(Role.STATUS), *(Column(Role.VALUE),) * 4)
_SINCE: Final = payload.FIRST - payload.PERIOD
_UNTIL: Final = payload.LAST


# ---- decoding -------------------------------------------------------------------------------------


def _rows(columns: ProfileColumns) -> list[payload.Row]:
    status = columns.status
    assert status is not None
    assert columns.valid.all()
    return [
        (stamp // 1_000_000, state, *values)
        for stamp, state, values in zip(
            columns.stamp_us.tolist(), status.tolist(), columns.values.tolist(), strict=True
        )
    ]


def _buffer_of(frame: bytes) -> bytes:
    """From the bytes of a TCP stream to the attribute, as a session does it."""
    reader = wrapper.WrapperReader()
    reader.feed(frame)
    found = reader.next()
    assert isinstance(found, wrapper.WrapperFrame)
    response = decode_response(found.apdu)
    assert isinstance(response, GetResponseNormal)
    assert isinstance(response.result, Raw)
    return response.result.data


def decode(request: Mapping[str, Any]) -> worker.Round:
    """One day of one meter after another, each from its frame."""
    layout = BufferLayout(_LAYOUT_COLUMNS, 900)
    frames = itertools.cycle(
        [payload.frame(payload.get_response(payload.rows(seed))) for seed in range(1, 101)]
    )
    first = decode_buffer(_buffer_of(next(frames)), layout)
    return worker.repeat(
        lambda: decode_buffer(_buffer_of(next(frames)), layout),
        request["seconds"],
        payload.fingerprint(_rows(first)),
    )


def decode_cold(request: Mapping[str, Any]) -> worker.Round:
    """As `decode`, with stamps that were never seen before."""
    layout = BufferLayout(_LAYOUT_COLUMNS, 900)
    days = [payload.FIRST + dt.timedelta(days=n) for n in range(400)]
    frames = itertools.cycle([payload.frame(payload.get_response(payload.rows(1, day))) for day in days])
    first = decode_buffer(_buffer_of(next(frames)), layout)
    return worker.repeat(
        lambda: decode_buffer(_buffer_of(next(frames)), layout),
        request["seconds"],
        payload.fingerprint(_rows(first)),
    )


def decode_batch(request: Mapping[str, Any]) -> worker.Round:
    """A thousand meters' day at a time."""
    layout = BufferLayout(_LAYOUT_COLUMNS, 900)
    frames = [payload.frame(payload.get_response(payload.rows(seed))) for seed in range(1, _BATCH + 1)]
    columns, sizes = decode_buffers([_buffer_of(frame) for frame in frames], layout)
    assert sizes == [payload.ROWS] * _BATCH
    everything = _rows(columns)
    expected = [row for seed in range(1, _BATCH + 1) for row in payload.rows(seed)]
    assert everything == expected
    return worker.repeat(
        lambda: decode_buffers([_buffer_of(frame) for frame in frames], layout),
        request["seconds"],
        payload.fingerprint(everything[: payload.ROWS]),
        each=_BATCH,
    )


# ---- sessions -------------------------------------------------------------------------------------


def _no_database() -> AbstractAsyncContextManager[Connection]:
    raise AssertionError("counters are at hand: the database is never asked")


class _Fleet:
    """Meters that differ in nothing but their number, their port and their keys' objects."""

    def __init__(self, ports: Sequence[int], keys: Mapping[str, str] | None, max_pdu: int) -> None:
        self._ports = ports
        self._keys = keys
        name = "headend-sim" if keys is None else "headend-sim-hls5"
        packaged = load_model(name)
        association = packaged.association.model_copy(update={"max_pdu": max_pdu})
        self.model: MeterModel = packaged.model_copy(update={"association": association})
        title = b"HBENCH__" if keys is None else bytes.fromhex(keys["client_title"])
        self._title = title
        self._counters = CounterBlocks(_no_database, title)

    def plan(self, number: int) -> SessionPlan:
        """How meter ``number`` is reached."""
        client = 16 if self._keys is None else 1
        port = self._ports[number % len(self._ports)]
        address = LinkAddress.parse(f"tcp://127.0.0.1:{port}?client={client}")
        keys: dict[KeyPurpose, Key] = {}
        if self._keys is not None:
            keys = {
                KeyPurpose.ENCRYPTION: Key.from_hex(self._keys["encryption"]),
                KeyPurpose.AUTHENTICATION: Key.from_hex(self._keys["authentication"]),
            }
        return plan_session(self.model, address, keys, self._title)

    def counters(self, number: int) -> KeyCounters:
        """Our counters with meter ``number``: reserved, as a night's are before it begins."""
        key_id = number.to_bytes(8, "big")
        counter = self._counters.counter(key_id)
        if not counter.remaining:
            counter.add(1, 1 << 32)
        return KeyCounters(self._counters, key_id)


def _batch_rows(batch: ReadingBatch) -> list[payload.Row]:
    assert batch.valid.all()
    return [
        (stamp // 1_000_000, state, *values)
        for stamp, state, values in zip(
            batch.stamp_us.tolist(), batch.amr_status.tolist(), batch.values.tolist(), strict=True
        )
    ]


async def _sessions(request: Mapping[str, Any], fleet: _Fleet) -> worker.Round:
    deadlines = Deadlines()
    driver = DlmsReader()
    plans = [fleet.plan(number) for number in range(CONCURRENCY)]

    async def one(number: int) -> ReadingBatch:
        session = MeterSession(
            plans[number],
            counters=fleet.counters(number) if plans[number].uses_counter else None,
            peer_counter=PeerCounter(),
            deadlines=deadlines,
        )
        async with session:
            return await driver.read_load_curve(session, number, fleet.model, 1, _SINCE, _UNTIL)

    fingerprint = ""
    for number in range(len(plans)):  # every meter's profile is known, as it is from its second night on
        fingerprint = payload.fingerprint(_batch_rows(await one(number)))
    return await _side_by_side(one, len(plans), request["seconds"], fingerprint)


async def _side_by_side(
    one: Callable[[int], Awaitable[ReadingBatch]], meters: int, seconds: float, fingerprint: str
) -> worker.Round:
    count = 0
    turn = itertools.count()
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    end = cpu + seconds

    async def lane() -> None:
        nonlocal count
        while time.process_time() < end:
            batch = await one(next(turn) % meters)
            assert len(batch) == payload.ROWS
            count += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(CONCURRENCY):
            group.create_task(lane())
    return worker.Round(
        count=count,
        cpu_s=time.process_time() - cpu,
        wall_s=time.perf_counter() - wall,
        fingerprint=fingerprint,
    )


def session(request: Mapping[str, Any]) -> worker.Round:
    """Whole sessions without ciphering: connect, AARQ, GET by range, RLRQ, close, decode."""
    return uvloop.run(_sessions(request, _Fleet(request["ports"], None, 0xFFFF)))


def ciphered_session(request: Mapping[str, Any]) -> worker.Round:
    """Whole sessions with HLS-GMAC and authenticated encryption, the day in blocks."""
    return uvloop.run(_sessions(request, _Fleet(request["ports"], request["keys"], request["max_pdu"])))


# ---- many associations ----------------------------------------------------------------------------


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - no object besides the one needed
        return int(file.read().split()[1]) * _PAGE


async def _associations(request: Mapping[str, Any]) -> Mapping[str, Any]:
    wanted: int = request["count"]
    fleet = _Fleet(request["ports"], request["keys"], request["max_pdu"])
    deadlines = Deadlines(connect_s=120.0, associate_s=120.0, release_s=120.0)
    driver = DlmsReader()
    opening = asyncio.Semaphore(CONCURRENCY)

    async def open_one(number: int, stack: AsyncExitStack) -> MeterSession:
        async with opening:
            session = MeterSession(
                fleet.plan(number),
                counters=fleet.counters(number) if request["keys"] else None,
                peer_counter=PeerCounter(),
                deadlines=deadlines,
            )
            return await stack.enter_async_context(session)

    async with AsyncExitStack() as stack:
        warm = await open_one(0, stack)
        await driver.read_load_curve(warm, 0, fleet.model, 1, _SINCE, _UNTIL)
        gc.collect()
        before, began = _resident(), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(open_one(number, stack)) for number in range(1, wanted + 1)]
        sessions = [task.result() for task in tasks]
        del tasks
        opened_s = time.perf_counter() - began
        gc.collect()
        after = _resident()
        # They are open: a few of them, first to last, still read.
        for number in range(0, wanted, max(1, wanted // 50)):
            batch = await driver.read_load_curve(sessions[number], number + 1, fleet.model, 1, _SINCE, _UNTIL)
            assert len(batch) == payload.ROWS
        usable = sum(session.is_usable for session in sessions)
    released = sum(session.release_error is None for session in sessions)
    return {
        "open": usable,
        "released": released,
        "bytes_each": (after - before) / wanted,
        "opened_s": opened_s,
        "resident": after,
    }


def associations(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Many associations open at once, and what each of them costs in resident memory."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return uvloop.run(_associations(request))


if __name__ == "__main__":
    worker.serve(
        {
            "decode": decode,
            "decode-cold": decode_cold,
            "decode-batch": decode_batch,
            "session": session,
            "ciphered-session": ciphered_session,
            "associations": associations,
        }
    )
