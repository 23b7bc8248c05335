"""A store-and-forward concentrator, simulated, asked by our own session over real sockets."""

import dataclasses
import datetime as dt
from contextlib import asynccontextmanager

import numpy as np
import pytest

from concentrator_sim.concentrator import Concentrator, Member
from concentrator_sim.generator import moment_of, quarter_of
from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.security import MODES
from concentrator_sim.store_forward import MISSES, StoreForward
from headend.drivers.dlms import station
from headend.drivers.dlms.profile_check import Shapes
from headend.drivers.dlms.station import Ask, StationConversation, covered_by_rows
from headend.session.client import MeterSession
from headend.session.plan import plan_session
from protocols.dlms import axdr, store_forward
from protocols.dlms.cosem import PROFILE_ENTRIES_IN_USE, Attribute, ClassId
from protocols.dlms.obis import Obis
from protocols.dlms.store_forward import Reached, Release
from protocols.errors import DataAccessRefused, RemoteProtocolError
from schemas.address import GatewayAddress, LinkAddress
from schemas.model import load_model

NOW = dt.datetime(2026, 3, 10, 12, 7, tzinfo=dt.UTC)
NEWEST = dt.datetime(2026, 3, 10, 12, 0, tzinfo=dt.UTC)
QUARTER = dt.timedelta(minutes=15)
METER = load_model("headend-sim")
ROWS = 96


class Clock:
    def __init__(self):
        self.now = NOW

    def __call__(self):
        return int(self.now.timestamp())


class Field:
    """Three meters behind a concentrator that stores ``ROWS`` rows of each."""

    def __init__(self, meters=3, rows=ROWS):
        self.clock = Clock()
        self.members = [
            Member(
                SimulatedMeter(1, n, MODES["none"]), GatewayAddress(0, bytes((n,))), quality=70 + n, hops=n
            )
            for n in range(1, meters + 1)
        ]
        self.store = StoreForward(self.members, self.clock, shelf_rows=rows)
        head = SimulatedMeter(1, 999, MODES["none"], max_pdu=0xFFFF)
        self.concentrator = Concentrator(self.store.own(head), self.members, self.clock)

    @asynccontextmanager
    async def talk(self, model="headend-dc", more=""):
        port = await self.concentrator.listen()
        plan = plan_session(load_model(model), LinkAddress.parse(f"tcp://127.0.0.1:{port}{more}"), {})
        try:
            async with MeterSession(plan) as session:
                yield StationConversation(session, load_model("headend-dc"), Shapes())
        finally:
            await self.concentrator.stop()

    def truth(self, n, stamps):
        quarters = [quarter_of(int(stamp.timestamp())) for stamp in stamps]
        consumption = self.members[n].meter.consumption
        return [[int(consumption.at(k, moment_of(q))) for k in range(4)] for q in quarters]


def ask_all(entry, meter_id=0, **changes):
    kept = entry.kept[0]
    return dataclasses.replace(
        Ask(meter_id or entry.slot, METER, entry.slot, kept, kept.oldest - QUARTER, kept.newest), **changes
    )


def stamps_of(batch):
    return [dt.datetime.fromtimestamp(us / 1e6, dt.UTC) for us in batch.stamp_us.tolist()]


async def test_the_directory_tells_the_meters_and_what_is_kept():
    field = Field()
    async with field.talk() as talk:
        entries = await talk.directory()
    assert [entry.identity for entry in entries] == [member.meter.serial for member in field.members]
    one = entries[0]
    assert one.address == field.members[0].address
    assert one.system_title == field.members[0].meter.system_title
    assert (one.kind, one.hops, one.quality) == ("headend-sim", 1, 71)
    kept = one.kept[0]
    assert (kept.profile, kept.period_s, kept.rows, kept.lost) == (1, 900, ROWS, 0)
    assert (kept.oldest, kept.newest) == (NEWEST - (ROWS - 1) * QUARTER, NEWEST)


async def test_rows_of_many_meters_come_in_one_fetch_as_the_meters_have_them():
    field = Field()
    async with field.talk() as talk:
        entries = await talk.directory()
        answers = await talk.fetch([ask_all(entry) for entry in entries])
    for n, (ask, batch) in enumerate(answers):
        assert ask.slot == n + 1
        assert len(batch) == ROWS
        assert set(batch.meter_id.tolist()) == {n + 1}
        assert batch.values.tolist() == field.truth(n, stamps_of(batch))
        assert batch.layouts[0].channels[0].unit == "Wh"
        ((meter, profile, since, until),) = batch.covered_us
        assert (meter, profile) == (n + 1, 1)
        assert (until - since) == ROWS * 900 * 1_000_000


async def test_a_part_is_asked_by_its_stamps():
    field = Field()
    async with field.talk() as talk:
        (entry, *_) = await talk.directory()
        since = NEWEST - 4 * QUARTER
        ((_, batch),) = await talk.fetch([ask_all(entry, since=since, until=NEWEST - QUARTER)])
    assert stamps_of(batch) == [NEWEST - n * QUARTER for n in (3, 2, 1)]


async def test_a_hole_is_not_covered():
    field = Field()
    hole = quarter_of(int(NEWEST.timestamp())) - 3
    field.store.shelves[1].holes |= {hole, hole - 1}
    async with field.talk() as talk:
        (entry, *_) = await talk.directory()
        assert entry.kept[0].rows == ROWS - 2
        ((_, batch),) = await talk.fetch([ask_all(entry)])
    assert len(batch) == ROWS - 2
    first, second = batch.covered_us
    assert first[3] == moment_of(hole - 2) * 1_000_000
    assert second[2] == moment_of(hole) * 1_000_000
    assert second[3] == int(NEWEST.timestamp()) * 1_000_000


async def test_what_is_released_is_gone_and_the_rest_stays():
    field = Field()
    async with field.talk() as talk:
        await talk.release([Release(1, 1, NEWEST - 2 * QUARTER), Release(2, 1, NEWEST)])
        one, two, three = await talk.directory()
    assert (one.kept[0].rows, one.kept[0].oldest) == (2, NEWEST - QUARTER)
    assert (two.kept[0].rows, two.kept[0].oldest, two.kept[0].newest) == (0, None, None)
    assert three.kept[0].rows == ROWS
    # a release that comes late, or again, gives nothing back and takes nothing away
    async with field.talk() as talk:
        await talk.release([Release(1, 1, NEWEST - 50 * QUARTER)])
        assert (await talk.directory())[0].kept[0].rows == 2


async def test_a_release_of_what_is_not_there_releases_nothing():
    field = Field()
    async with field.talk() as talk:
        with pytest.raises(DataAccessRefused):
            await talk.release([Release(1, 1, NEWEST), Release(9, 1, NEWEST)])
        assert (await talk.directory())[0].kept[0].rows == ROWS


async def test_only_the_management_client_releases():
    field = Field()
    async with field.talk(more="?client=16") as talk:
        with pytest.raises(DataAccessRefused):
            await talk.release([Release(1, 1, NEWEST)])
    assert field.store.shelves[1].rows == ROWS


async def test_a_full_shelf_loses_its_oldest_rows_and_says_so():
    field = Field()
    async with field.talk() as talk:
        field.clock.now += 5 * QUARTER
        (entry, *_) = await talk.directory()
    kept = entry.kept[0]
    assert (kept.rows, kept.lost, kept.newest) == (ROWS, 5, NEWEST + 5 * QUARTER)


async def test_a_meter_that_is_missed_again_and_again_is_silent_until_it_answers():
    field = Field()
    async with field.talk() as talk:
        field.members[1].is_dead = True
        for _ in range(MISSES - 1):
            assert (await talk.directory())[1].reached is Reached.YES
        entry = (await talk.directory())[1]
        assert (entry.reached, entry.since) == (Reached.SILENT, NOW)
        field.members[1].is_dead = False
        field.clock.now += 2 * QUARTER
        entry = (await talk.directory())[1]
        assert (entry.reached, entry.kept[0].newest) == (Reached.YES, NEWEST + 2 * QUARTER)


async def test_one_meters_bad_rows_harm_nobody_else():
    field = Field()
    async with field.talk() as talk:
        entries = await talk.directory()
        kept = dataclasses.replace(entries[1].kept[0], layout=4)
        good, bad, absent = await talk.fetch(
            [
                ask_all(entries[0]),
                ask_all(entries[1], kept=kept),
                ask_all(entries[2], slot=77),
            ]
        )
        assert len(good.result) == ROWS
        assert isinstance(bad.result, RemoteProtocolError)
        assert isinstance(absent.result, DataAccessRefused)
        assert len(await talk.directory()) == 3  # and the session goes on


async def test_a_kept_profile_is_a_profile_generic_for_anybody():
    field = Field()
    async with field.talk() as talk:
        name = store_forward.buffer_name(1, 1)
        attribute = Attribute(ClassId.PROFILE_GENERIC, name, PROFILE_ENTRIES_IN_USE)
        assert axdr.decode_exact(await talk._session.get(attribute)).value == ROWS
        other = Attribute(ClassId.PROFILE_GENERIC, Obis.parse("0-2:199.0.1*255"), 2)
        with pytest.raises(DataAccessRefused):
            await talk._session.get(other)


async def test_rows_that_are_fragments_cover_nothing():
    field = Field()
    async with field.talk() as talk:
        (entry, *_) = await talk.directory()
        ((_, batch),) = await talk.fetch([ask_all(entry)])
    bare = dataclasses.replace(batch, covered_us=(), fragment=np.ones_like(batch.fragment))
    assert covered_by_rows(bare).covered_us == ()


async def test_a_directory_beyond_all_measure_is_refused_unread(monkeypatch):
    field = Field()
    async with field.talk() as talk:
        monkeypatch.setattr(station, "MOST_DIRECTORY", 100)
        with pytest.raises(RemoteProtocolError, match="at most 100 are read"):
            await talk.directory()
