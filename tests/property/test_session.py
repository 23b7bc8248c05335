"""Whatever bytes come: a channel gives APDUs or an error of the tree; rows keep their time."""

import asyncio
import datetime as dt
from zoneinfo import ZoneInfo

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headend.drivers.dlms.intervals import intervals_of
from headend.session.channel import UdpWrapperChannel, WrapperChannel
from headend.session.deadlines import Deadlines
from headend.session.hdlc import HdlcChannel
from headend.transport.memory import memory_pair
from protocols.dlms import wrapper
from protocols.dlms.profile_columns import BufferLayout, Column, ProfileColumns, Role
from protocols.errors import CommunicationError
from schemas.model import Hdlc
from schemas.reading import Fragment

MEDIUM = settings(max_examples=60, deadline=None)
FRAMES = st.builds(wrapper.encode, st.integers(0, 3), st.integers(0, 3), st.binary(min_size=1, max_size=40))
PIECES = st.lists(st.one_of(st.binary(min_size=1, max_size=60), FRAMES), max_size=8)


def drive(kind, pieces, *, datagrams=False):
    """Feed the pieces, close, and read until an error ends it; the APDUs that came."""

    async def main():
        loop = asyncio.get_running_loop()
        ours, theirs = memory_pair(datagrams=datagrams)
        channel = kind(ours)
        for piece in pieces:
            theirs.write(piece)
        theirs.close()
        apdus = []
        try:
            await channel.open(loop.time() + 5)
            while True:
                apdus.append(await channel.receive(loop.time() + 5))
        except CommunicationError:
            return apdus

    return asyncio.run(main())


def wrapped(stream):
    return WrapperChannel(stream, client=1, server=2, deadlines=Deadlines())


@MEDIUM
@given(PIECES)
def test_wrapper_over_a_stream(pieces):
    drive(wrapped, pieces)


@MEDIUM
@given(PIECES)
def test_wrapper_over_datagrams(pieces):
    expected = []
    for piece in pieces:
        frame = getattr(wrapper.parse(piece), "frame", None)
        if (
            frame is not None
            and (frame.source, frame.destination) == (2, 1)
            and len(piece) == len(frame.apdu) + 8
        ):
            expected.append(frame.apdu)
    kind = lambda stream: UdpWrapperChannel(stream, client=1, server=2, deadlines=Deadlines())  # noqa: E731
    assert drive(kind, pieces, datagrams=True) == expected


@MEDIUM
@given(PIECES)
def test_hdlc(pieces):
    kind = lambda stream: HdlcChannel(  # noqa: E731
        stream, client=16, server=1, parameters=Hdlc(), deadlines=Deadlines()
    )
    assert drive(kind, pieces) == []


@MEDIUM
@given(st.lists(st.binary(min_size=1, max_size=200), max_size=6), st.data())
def test_cut_anywhere_the_same_apdus_come(apdus, data):
    stream = b"".join(wrapper.encode(2, 1, apdu) for apdu in apdus)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert drive(wrapped, [piece for piece in pieces if piece]) == apdus


PERIODS = st.sampled_from([60, 300, 900, 1800, 3600, 86400])
ZONES = st.sampled_from([None, "Europe/Berlin", "Asia/Kolkata", "America/St_Johns"])


@MEDIUM
@given(
    period_s=PERIODS,
    zone=ZONES,
    steps=st.lists(st.integers(-3, 3), min_size=1, max_size=30),
    jitter=st.lists(st.integers(0, 5), min_size=30, max_size=30),
    descending=st.booleans(),
)
def test_rows_on_the_grid_stand_once_and_the_others_are_fragments(period_s, zone, steps, jitter, descending):
    layout = BufferLayout(
        (Column(Role.CLOCK), Column(Role.VALUE)),
        period_s,
        descending=descending,
        zone=None if zone is None else ZoneInfo(zone),
    )
    base = dt.datetime(2026, 6, 1, tzinfo=dt.UTC if zone is None else ZoneInfo(zone))
    east_min = int(base.utcoffset().total_seconds()) // 60
    first = int(base.timestamp()) * 1_000_000
    offsets = np.cumsum(np.array(steps, np.int64)) * period_s * 1_000_000
    stamps = first + offsets + np.array(jitter[: len(steps)], np.int64) // 5 * 7_000_000
    n = len(stamps)
    columns = ProfileColumns(
        stamps,
        np.full(n, -east_min, np.int16),
        np.zeros(n, np.int16),
        None,
        np.zeros((n, 1), np.int64),
        np.ones((n, 1), np.bool_),
    )
    start, fragment = intervals_of(columns, layout)
    on_grid = (stamps - first) % (period_s * 1_000_000) == 0
    assert ((fragment == Fragment.OFF_GRID) == ~on_grid).all()
    kept = fragment == Fragment.NONE
    assert len(set(start[kept].tolist())) == int(kept.sum()) == len(set(stamps[on_grid].tolist()))
    if period_s <= 3600:
        assert (stamps[on_grid] - start[on_grid] == period_s * 1_000_000).all()
        assert (start[~on_grid] < stamps[~on_grid]).all()
        assert (stamps[~on_grid] < start[~on_grid] + period_s * 1_000_000).all()
