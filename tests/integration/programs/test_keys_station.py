"""A concentrator that is talked with under keys of its own is given new ones, and hands on what it keeps."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from concentrator_sim.key_slots import KeySlots, Mishap
from headend.cli.main import app
from headend.house import House
from headend.programs import waves
from headend.programs.proposal import propose
from headend.store import approvals, campaign_meters, campaigns, meters
from headend.store.approvals import ApprovalState
from headend.store.errors import ConflictError
from schemas.campaign import CampaignState, MeterProgress, Plan
from schemas.job import Selection
from schemas.meter import KeyPurpose
from schemas.people import Permission, Principal
from schemas.programs.keys import ORDER, KeysProgram
from tests.integration.programs.field import RETRY
from tests.integration.test_stations import Station, house_with, one_round

OF_ALL = KeysProgram(of="concentrators", purposes=ORDER)


async def proposed(house: House) -> campaigns.Campaign:
    async with house.base.pool.connection() as connection:
        return await propose(
            connection, OF_ALL, Plan(selection=Selection(meters=("DC-1",)), retry=RETRY), name="t", title="t",
            procedures=house.procedures, actor="test", correlation_id="c", now=datetime.now(UTC),
        )  # fmt: skip


async def rotated(house: House) -> campaign_meters.CampaignMeter:
    campaign = await proposed(house)
    number = campaign.campaign_id
    async with house.base.pool.connection() as connection:
        await approvals.add(
            connection, subject=f"campaign:{number}", needs=Permission.APPROVE, digest=campaign.digest,
            shown={}, principal=Principal("test", frozenset()), expires_at=datetime.now(UTC),
            state=ApprovalState.APPROVED, decided_by="somebody else",
        )  # fmt: skip
        await campaigns.move(connection, number, CampaignState.APPROVED, before=[CampaignState.PROPOSED])
    async with house.at_work("test") as crew, asyncio.timeout(30):
        running = asyncio.create_task(crew.run(drain_s=5))
        while True:
            async with house.base.pool.connection() as connection:
                await waves.advance(connection, number, datetime.now(UTC))
                (found,) = await campaign_meters.page(connection, number, limit=2)
            if found.ended_at is not None:
                break
            await asyncio.sleep(0.02)
        running.cancel()
        await asyncio.wait([running])
    return found


@pytest.mark.parametrize("mishap", [None, Mishap.ANSWER_LOST])
async def test_it_has_new_keys_and_is_read_under_them(embedded_database: Any, mishap: Mishap | None) -> None:
    station = Station(mode="hls5")
    station.port = await station.concentrator.listen()
    data = station.meters_csv(with_station=True)
    async with house_with(embedded_database.dsn, station, meters_csv=data) as house:
        slots = station.head.part(KeySlots)
        slots.mishaps = [] if mishap is None else [mishap]
        before = slots.keys
        found = await rotated(house)
        assert found.state is MeterProgress.DONE, found.reason
        assert found.meter_id < 0
        for name in ("encryption", "authentication", "master"):
            assert getattr(slots.keys, name) != getattr(before, name)
        async with house.base.pool.connection() as connection:
            device = await meters.by_asset(connection, "DC-1")
            vault = await house.base.vault()
            assert await vault.pending_many(connection, [device.meter_id]) == {}
            assert (await vault.get(connection, device.meter_id))[KeyPurpose.MASTER] == slots.keys.master
        outcome = await one_round(house)
        assert (outcome.failure, outcome.released) == (None, 3)


async def test_by_command_line_it_waits_for_a_second_person(
    embedded_database: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HEADEND_DATABASE_URL", embedded_database.dsn)
    monkeypatch.setenv("HEADEND_MASTER_KEY", "42" * 32)
    station = Station(mode="hls5")
    station.port = await station.concentrator.listen()
    data = station.meters_csv(with_station=True)
    async with house_with(embedded_database.dsn, station, meters_csv=data):
        rotate = ("keys", "rotate", "--meter", "DC-1")
        done = await asyncio.to_thread(CliRunner().invoke, app, [*rotate, "--concentrators"])
        assert done.exit_code == 3, done.output
        assert "campaign 1 waits for another person" in " ".join(done.output.split())
        none = await asyncio.to_thread(CliRunner().invoke, app, list(rotate))
        assert none.exit_code == 1, none.output
        assert "concentrators are meant by `of` (--concentrators)" in " ".join(none.output.split())


async def test_one_whose_keys_are_not_stored_is_refused_with_what_to_do(embedded_database: Any) -> None:
    station = Station(mode="hls5")
    async with house_with(embedded_database.dsn, station) as house:
        with pytest.raises(ConflictError, match="no keys of concentrator DC-1 are stored: import it under"):
            await proposed(house)
