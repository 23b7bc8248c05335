"""Meters are given another program, over real sockets: as it should go, and as it goes."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from concentrator_sim.image import ImageStore, Troubles, simulated_image
from headend.drivers.dlms.commands.firmware import ImageCommands
from headend.firmware.package import Manifest, pack
from headend.firmware.upload import upload
from headend.store.errors import ConflictError
from schemas.campaign import CampaignState, MeterProgress
from schemas.programs.firmware import FirmwareProgram
from tests.integration.programs.field import EVERYBODY, Works, works

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
TRUSTED = KEY.public_key().public_bytes_raw().hex()
SIZE = 8_192
IMAGE = simulated_image("2.0.0", SIZE)
PATIENT = EVERYBODY.model_copy(
    update={"retry": EVERYBODY.retry.model_copy(update={"attempts": 100}), "stop_percent": 100}
)
QUICK_BREAKERS = {"breaker_first_s": 0.1, "breaker_longest_s": 0.2}
PLAN = {"block_size": 500, "restart_s": 1}


def packed(image: bytes = IMAGE, **manifest: Any) -> bytes:
    told = {
        "identifier": b"SIM-2.0.0".hex(), "models": ("headend-sim-hls5",), "versions_from": ("1.*",),
        "version_to": "2.0.0", "image_sha256": hashlib.sha256(image).hexdigest(), "image_size": len(image),
        "created_at": datetime(2026, 11, 1, tzinfo=UTC), **manifest,
    }  # fmt: skip
    return pack(Manifest(**told), image, KEY)


async def uploaded(here: Works, data: bytes, **program: Any) -> FirmwareProgram:
    async with here.house.base.pool.connection() as connection, connection.transaction():
        package = await upload(connection, data, [TRUSTED], actor="test")
    return FirmwareProgram(package=package.digest, **program)


@asynccontextmanager
async def field(dsn: str, **scenario: Any) -> AsyncIterator[Works]:
    settings = {"firmware_keys": [TRUSTED], "response_timeout_s": 1.0, **scenario.pop("settings", {})}
    async with works(dsn, settings=settings, **{"image": PLAN, **scenario}) as here:
        yield here


def store(here: Works, n: int = 0) -> ImageStore:
    return here.simulated(n).part(ImageStore)


async def test_twelve_meters_over_a_bad_link_and_no_block_twice(embedded_database: Any) -> None:
    faults = [{"kind": "loss", "chance": 0.025}, {"kind": "request_loss", "chance": 0.025}]
    async with field(
        embedded_database.dsn,
        meters=12,
        faults=faults,
        settings={"response_timeout_s": 0.3, "answer_shortest_s": 0.2, **QUICK_BREAKERS},
    ) as here:
        program = await uploaded(here, packed())
        found = await here.apply(program, PATIENT)
        assert [one.state for one in found] == [MeterProgress.DONE] * 12, [one.reason for one in found]
        counts = here.field.images()
        assert counts.again_told == counts.again_untold == 0
        assert counts.initiated >= 12
        assert {store(here, n).version for n in range(12)} == {"2.0.0"}
        assert found[0].proof["version"] == "2.0.0"
        assert found[0].proof["held"] == [
            {"size": SIZE, "identification": b"SIM-2.0.0".hex(), "signature": IMAGE[-32:].hex()}
        ]
        assert here.rows("SELECT DISTINCT version FROM meter_versions ORDER BY 1") == [("1.0.0",), ("2.0.0",)]
        steps = [one.step for one in await here.steps(found[0].campaign_id, found[0].meter_id)]
        assert len(steps) < 40  # nothing is written for a block
        again = await here.apply(program, PATIENT)
        assert {one.state for one in again} == {MeterProgress.UNCHANGED}
        assert here.field.images() == counts


async def test_what_does_not_fit_is_not_touched(embedded_database: Any) -> None:
    async with field(embedded_database.dsn, meters=2) as here:
        for wrong, why in [
            ({"versions_from": ("1.4.*",)}, "the meter has 1.0.0"),
            ({"hardware": ("SIM-B",)}, "hardware SIM-A"),
        ]:
            found = await here.apply(await uploaded(here, packed(**wrong)))
            assert {one.state for one in found} == {MeterProgress.INCOMPATIBLE}
            assert why in str(found[0].reason)
        program = await uploaded(here, packed(models=("headend-sim",)))
        with pytest.raises(ConflictError, match="for headend-sim, not for headend-sim-hls5"):
            await here.propose(program)
        past = (await uploaded(here, packed())).model_copy(
            update={"activate_at": datetime(2026, 1, 1, tzinfo=UTC)}
        )
        with pytest.raises(ConflictError, match="is past"):
            await here.propose(past)
        with pytest.raises(ConflictError, match="was uploaded"):
            await here.propose(FirmwareProgram(package="00" * 32))
        assert here.field.images().initiated == 0


async def test_a_package_that_was_changed_in_the_database_is_not_sent(embedded_database: Any) -> None:
    async with field(embedded_database.dsn, meters=1) as here:
        program = await uploaded(here, packed())
        async with here.house.base.pool.connection() as connection:
            await connection.execute(
                b"UPDATE firmware_packages SET data = set_byte(data, 900, get_byte(data, 900) # 1)"
            )
        with pytest.raises(ConflictError, match="signature does not hold"):
            await here.propose(program)


@pytest.mark.parametrize("forgets", [0, 1])
async def test_a_power_cut_in_mid_image(embedded_database: Any, forgets: int) -> None:
    plan = {**PLAN, "forgets_every": forgets, "verify_s": 1}
    async with field(embedded_database.dsn, meters=1, image=plan) as here:
        cut = {"restarts": 0}
        memory = store(here)
        count = -(-SIZE // 500)

        def refuses(now: float) -> bool:
            if not cut["restarts"] and memory.counts.blocks >= 7:
                cut["restarts"] = 1
            return False

        memory.troubles = Troubles(flash_refuses=refuses, restarts=lambda now: cut["restarts"])
        (found,) = await here.apply(await uploaded(here, packed()))
        assert (found.state, memory.version) == (MeterProgress.DONE, "2.0.0"), found.reason
        assert (memory.counts.initiated, memory.counts.again_told) == (1 + forgets, 0)
        assert memory.counts.blocks == count + (8 if forgets else 0)


async def test_a_link_that_lets_everything_through_but_blocks_is_given_up(
    embedded_database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: Any) -> bool:
        return False

    monkeypatch.setattr(ImageCommands, "send_block", lost)
    image = simulated_image("2.0.0", 1_000)
    async with field(embedded_database.dsn, meters=1) as here:
        (found,) = await here.apply(await uploaded(here, packed(image)))
        assert found.state is MeterProgress.FAILED
        assert found.reason == (
            "given up after the last attempt: 2 blocks are sent and do not arrive: "
            "see whether the link carries messages of 500 bytes"
        )
        assert store(here).counts == (0, 0, 0, 1)


async def test_memory_that_is_worn(embedded_database: Any) -> None:
    async with field(embedded_database.dsn, meters=3) as here:
        refused, spoilt = {"left": 3}, {"left": 1}

        def once(left: dict[str, int]) -> Any:
            def strikes(now: float) -> bool:
                left["left"] -= 1
                return left["left"] >= 0

            return strikes

        store(here, 0).troubles = Troubles(flash_refuses=once(refused))
        store(here, 1).troubles = Troubles(flash_spoils=once(spoilt))
        store(here, 2).troubles = Troubles(flash_spoils=lambda now: True)
        found = {one.meter_id: one for one in await here.apply(await uploaded(here, packed()), PATIENT)}
        by_place = [found[here.meters[here.simulated(n).serial]] for n in range(3)]
        assert [one.state for one in by_place] == [
            MeterProgress.DONE,
            MeterProgress.DONE,
            MeterProgress.FAILED,
        ]
        assert "found the image wrong 2 times" in str(by_place[2].reason)
        assert [store(here, n).counts.initiated for n in range(3)] == [1, 2, 2]
        assert here.field.images().again_told == 0


async def test_activation_at_a_moment_by_the_meters_own_clock(embedded_database: Any) -> None:
    async with field(embedded_database.dsn, meters=2) as here:
        moment = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=5)
        program = await uploaded(here, packed(), activate_at=moment)
        found = await here.apply(program)
        assert {one.state for one in found} == {MeterProgress.DONE}
        steps = {one.step for one in await here.steps(found[0].campaign_id, found[0].meter_id)}
        assert "schedule" in steps
        assert "activate" not in steps


async def test_a_campaign_goes_on_with_what_another_began(embedded_database: Any) -> None:
    """The same package: nothing is initiated, no block sent again. Another in between: all of it is."""
    async with field(embedded_database.dsn, meters=1) as here:
        memory = store(here)
        memory.troubles = Troubles(flash_refuses=lambda now: memory.counts.blocks >= 5)
        program = await uploaded(here, packed())
        assert [one.state for one in await here.apply(program, PATIENT)] == [MeterProgress.FAILED]
        assert memory.counts == (5, 0, 0, 1)
        other = simulated_image("3.0.0", SIZE)
        manifest = {"version_to": "3.0.0", "identifier": "33", "versions_from": ()}
        memory.troubles = Troubles(flash_refuses=lambda now: memory.counts.blocks >= 7)
        assert [
            one.state for one in await here.apply(await uploaded(here, packed(other, **manifest)), PATIENT)
        ] == [MeterProgress.FAILED]
        assert (memory.counts.blocks, memory.counts.initiated) == (7, 2)
        memory.troubles = Troubles(flash_refuses=lambda now: memory.counts.blocks >= 10)
        await here.apply(program, PATIENT)
        assert (memory.counts.blocks, memory.counts.initiated) == (10, 3)
        memory.troubles = Troubles()
        (found,) = await here.apply(program)
        assert (found.state, memory.version) == (MeterProgress.DONE, "2.0.0")
        assert (memory.counts.initiated, memory.counts.again_told) == (3, 0)
        assert memory.counts.blocks == 7 + -(-SIZE // 500)


async def test_a_campaign_whose_canaries_brick_stops_before_the_first_wave(embedded_database: Any) -> None:
    settings = {**QUICK_BREAKERS, "answer_shortest_s": 0.2}
    async with field(embedded_database.dsn, meters=6, faults=[{"kind": "brick"}], settings=settings) as here:
        plan = EVERYBODY.model_copy(update={"canaries": 2})
        campaign = await here.propose(await uploaded(here, packed()), plan)
        await here.approve(campaign.campaign_id)
        async with asyncio.timeout(40):
            while (await here.advance(campaign.campaign_id)).state is not CampaignState.STOPPED:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        standing = {one.meter_id: one for one in await here.standing(campaign.campaign_id)}
        canaries = [one for one in standing.values() if one.wave == 0]
        assert len(canaries) == 2
        assert {one.state for one in canaries} <= {
            MeterProgress.FAILED,
            MeterProgress.UNSURE,
            MeterProgress.OPEN,
        }
        assert {one.state for one in standing.values() if one.wave > 0} == {MeterProgress.WAITING}
        touched = [n for n in range(6) if here.simulated(n).part_if_any(ImageStore).counts.initiated]
        assert {here.meters[here.simulated(n).serial] for n in touched} <= {one.meter_id for one in canaries}
        assert touched
