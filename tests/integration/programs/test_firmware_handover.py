"""An image is handed to a concentrator once for all its meters.

How a concentrator takes an image for its meters, and tells how far each of them is, no standard says. The
objects here are of our own convention (`protocols.dlms.distribution`), named by the concentrator's model; the
concentrator is our simulator's. What its meters are asked for afterwards is class 18 alone.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from concentrator_sim.dlms_station import DlmsStation
from concentrator_sim.image import Counts, ImageStore, Troubles, simulated_image
from headend.programs import waves
from headend.programs.firmware.procedure import FirmwareProcedure
from headend.store import campaigns, programs
from headend.store.campaign_meters import CampaignMeter
from headend.store.campaigns import Campaign
from protocols.dlms.cosem.image_transfer import TransferStatus
from schemas.campaign import CampaignState, MeterProgress
from schemas.job import Selection
from schemas.programs.firmware import Through
from tests.integration.programs.field import Works
from tests.integration.programs.test_firmware import IMAGE, PATIENT, PLAN, SIZE, field, packed, uploaded

BLOCK = PLAN["block_size"]
BLOCKS = -(-SIZE // BLOCK)


@asynccontextmanager
async def behind(dsn: str, meters: int = 3, **scenario: Any) -> AsyncIterator[Works]:
    """So many meters behind one concentrator that distributes, over a quick wire."""
    station = {
        "kind": "store_and_forward", "meters": meters, "models": ("hls5",), "link": "ethernet",
        **scenario.pop("station", {}),
    }  # fmt: skip
    image = {**PLAN, "restart_s": 0, **scenario.pop("image", {})}
    async with field(dsn, meters=0, stations=[station], image=image, **scenario) as here:
        yield here


def concentrator(here: Works) -> DlmsStation:
    (found,) = here.field.stations
    assert isinstance(found, DlmsStation)
    return found


def handed(here: Works) -> Counts:
    """What came of images to the concentrator itself."""
    return concentrator(here).head.part(ImageStore).counts


def stores(here: Works) -> dict[int, ImageStore]:
    """The meters' memories, by number."""
    members = concentrator(here).concentrator.members.values()
    return {here.meters[one.meter.serial]: one.meter.part(ImageStore) for one in members}


def by_meter(found: list[CampaignMeter]) -> dict[int, CampaignMeter]:
    return {one.meter_id: one for one in found}


async def ways(here: Works, campaign: Campaign) -> Mapping[str, int]:
    """What whoever approves is told of the way."""
    procedure = next(one for one in here.house.procedures if isinstance(one, FirmwareProcedure))
    async with here.house.base.pool.connection() as connection:
        program = await programs.find(connection, campaign.program_id)
        return await procedure.ways(connection, program.content, campaign.campaign_id)


async def test_an_image_crosses_the_link_once_for_all_its_meters(embedded_database: Any) -> None:
    """Two campaigns, each of another image for two of four meters: one image after the other, each once."""
    async with behind(embedded_database.dsn, 4) as here:
        names, numbers = sorted(here.meters), []
        for version, meters in (("2.0.0", names[:2]), ("3.0.0", names[2:])):
            image = simulated_image(version, SIZE)
            manifest = {"identifier": version.encode().hex(), "version_to": version}
            program = await uploaded(here, packed(image, signature=image[-32:].hex(), **manifest))
            plan = PATIENT.model_copy(update={"selection": Selection(meters=tuple(meters))})
            campaign = await here.propose(program, plan)
            await here.approve(campaign.campaign_id)
            await here.advance(campaign.campaign_id)
            numbers.append(campaign.campaign_id)
        found = [one for number in numbers for one in await here.ended(number)]
        assert [one.state for one in found] == [MeterProgress.DONE] * 4, [one.reason for one in found]
        assert handed(here) == (2 * BLOCKS, 0, 0, 2)
        assert {one.counts for one in stores(here).values()} == {Counts(BLOCKS, 0, 0, 1)}
        assert concentrator(here).distributor.sent == 4 * BLOCKS
        for one, version in zip(found, ("2.0.0", "2.0.0", "3.0.0", "3.0.0"), strict=True):
            assert one.proof is not None
            assert {name: one.proof[name] for name in ("through", "blocks_sent", "version")} == {
                "through": "DC-0001", "blocks_sent": 0, "version": version,
            }  # fmt: skip
            assert one.proof["held"][0]["signature"] == simulated_image(version, SIZE)[-32:].hex()
            steps = [(step.step, step.phase) for step in await here.steps(one.campaign_id, one.meter_id)]
            assert ("distribute", "intended") in steps
            assert ("initiate", "intended") not in steps
        ((node,),) = here.rows("SELECT station FROM station_images")
        own = [step.step for step in await here.steps(numbers[0], -node) if step.phase == "done"]
        assert own[:4] == ["enable", "initiate", "verify", "distribute"]
        assert len(own) < 8  # nothing is written for a block


async def test_through_the_meters_where_that_is_asked_for(embedded_database: Any) -> None:
    async with behind(embedded_database.dsn, 1) as here:
        campaign = await here.propose(await uploaded(here, packed(), through=Through.METERS), PATIENT)
        assert (await ways(here, campaign))["meters_directly"] == 1
        await here.approve(campaign.campaign_id)
        (memory,) = stores(here).values()
        async with asyncio.timeout(20):
            while memory.version != "2.0.0":
                await here.advance(campaign.campaign_id)
                await asyncio.sleep(0.05)
        assert (handed(here), memory.counts) == (Counts(), Counts(BLOCKS, 0, 0, 1))


async def test_a_concentrator_whose_keys_nobody_has_passes_through(embedded_database: Any) -> None:
    async with behind(embedded_database.dsn, 1) as here:
        async with here.house.base.pool.connection() as connection:
            await connection.execute(
                b"UPDATE network_nodes SET model = 'headend-dc-hls5' WHERE model = 'headend-dc'"
            )
        (found,) = await here.apply(await uploaded(here, packed()), PATIENT)
        assert found.state is MeterProgress.DONE, found.reason
        assert (handed(here), found.proof["through"]) == (Counts(), None)
        assert "its concentrator cannot be talked with" in found.proof["distribution_failed"]


async def test_only_the_canary_gets_it_first_and_what_it_finds_wrong_stops_all(
    embedded_database: Any,
) -> None:
    """Its memory keeps a bit wrong each time: the meter itself finds that, and nobody else is touched."""
    async with behind(embedded_database.dsn) as here:
        memories = stores(here)
        canary = min(memories)
        memories[canary].troubles = Troubles(flash_spoils=lambda now: True)
        name = next(name for name, number in here.meters.items() if number == canary)
        campaign = await here.propose(
            await uploaded(here, packed()),
            PATIENT.model_copy(update={"canary_meters": (name,), "stop_percent": 0}),
        )
        assert await ways(here, campaign) == {
            "concentrators": 1, "meters_through_them": 3, "meters_directly": 0,
        }  # fmt: skip
        await here.approve(campaign.campaign_id)
        async with asyncio.timeout(40):
            while (await here.advance(campaign.campaign_id)).state is not CampaignState.STOPPED:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        standing = by_meter(await here.standing(campaign.campaign_id))
        found = standing.pop(canary)
        assert found.state is MeterProgress.FAILED
        assert "the meter found the image wrong 2 times" in str(found.reason)
        assert found.facts["distribution_failed"] == (
            "DC-0001 could not give it the image: it found the image wrong"
        )
        assert memories[canary].version == "1.0.0"
        assert {one.state for one in standing.values()} == {MeterProgress.WAITING}
        assert {memories[number].counts for number in standing} == {Counts()}
        assert handed(here) == (BLOCKS, 0, 0, 1)


async def test_meters_that_it_cannot_serve_hold_nobody_up(embedded_database: Any) -> None:
    """One refuses a block of the concentrator's and is given the image directly; one dies."""
    async with behind(embedded_database.dsn, settings={"breaker_first_s": 0.05}) as here:
        memories = stores(here)
        refuses, dies, well = sorted(memories)
        left = [1]

        def once(now: float) -> bool:
            return bool(left and left.pop())

        memories[refuses].troubles = Troubles(flash_refuses=once)
        (member,) = [
            one
            for one in concentrator(here).concentrator.members.values()
            if here.meters[one.meter.serial] == dies
        ]
        concentrator(here).concentrator.patience_s = 0.02
        head = concentrator(here).head.part(ImageStore)

        def when_it_has_come(now: float) -> bool:
            member.is_dead = True
            return False

        head.troubles = Troubles(flash_refuses=when_it_has_come)
        plan = PATIENT.model_copy(
            update={"retry": PATIENT.retry.model_copy(update={"attempts": 2, "longest_s": 0.1})}
        )
        found = by_meter(await here.apply(await uploaded(here, packed()), plan))
        assert found[well].state is MeterProgress.DONE, found[well].reason
        assert found[well].proof["through"] == "DC-0001"
        assert found[refuses].state is MeterProgress.DONE, found[refuses].reason
        assert found[refuses].proof["through"] is None
        assert "it refuses block 0" in found[refuses].proof["distribution_failed"]
        assert found[dies].state is MeterProgress.FAILED
        assert found[dies].facts["distribution_failed"] == (
            "DC-0001 could not give it the image: it does not answer"
        )
        assert handed(here) == (BLOCKS, 0, 0, 1)


async def test_a_campaign_that_is_aborted_is_withdrawn_from_the_concentrator(embedded_database: Any) -> None:
    async with behind(embedded_database.dsn, station={"rate_bps": 20_000}) as here:
        campaign = await here.propose(await uploaded(here, packed()), PATIENT)
        await here.approve(campaign.campaign_id)
        number = campaign.campaign_id
        async with asyncio.timeout(40):
            while concentrator(here).distributor.sent < 2:
                await here.advance(number)
                await asyncio.sleep(0.02)
        async with here.house.base.pool.connection() as connection:
            running = await campaigns.lock(connection, number)
            await waves.stand_still(connection, running, CampaignState.STOPPED, "test", datetime.now(UTC))
            await campaigns.move(connection, number, CampaignState.ABORTED, before=[CampaignState.STOPPED])
        async with asyncio.timeout(20):
            while here.rows("SELECT FROM station_shares WHERE ended_at IS NULL"):
                await here.advance(number)
                await asyncio.sleep(0.05)
        await here.advance(number)
        sent = concentrator(here).distributor.sent
        assert {one.state for one in await here.standing(number)} == {MeterProgress.CANCELLED}
        await asyncio.sleep(0.5)
        assert concentrator(here).distributor.sent == sent
        statuses = [one.status for one in stores(here).values()]
        assert statuses.count(TransferStatus.INITIATED) == 1
        assert TransferStatus.VERIFICATION_SUCCESSFUL not in statuses


async def test_another_signature_is_not_activated(embedded_database: Any) -> None:
    async with field(embedded_database.dsn, meters=1) as here:
        (found,) = await here.apply(await uploaded(here, packed(signature="00ff")), PATIENT)
        assert found.state is MeterProgress.FAILED
        assert f"names 00ff as the signature of its image, the meter tells {IMAGE[-32:].hex()}" in str(
            found.reason
        )
        memory = here.simulated().part(ImageStore)
        assert (memory.version, memory.counts.initiated) == ("1.0.0", 1)
