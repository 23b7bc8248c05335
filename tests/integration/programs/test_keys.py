"""Keys are rotated on simulated meters through the whole head-end: every suite, mode and mishap."""

from typing import Any

import pytest

from concentrator_sim.key_slots import KeySlots, Mishap
from headend.drivers.contract import Target
from headend.store import meters
from schemas.campaign import MeterProgress
from schemas.meter import KeyPurpose
from schemas.programs.keys import KeysProgram
from tests.integration.programs.field import Works, works

ALL = KeysProgram(purposes=(KeyPurpose.ENCRYPTION, KeyPurpose.AUTHENTICATION, KeyPurpose.MASTER))
MODES = ("hls5", "hls5-suite1", "hls5-suite2", "hls5-dedicated", "hls5-general", "hls5-wrapped")


def slots(here: Works, n: int = 0) -> KeySlots:
    return here.simulated(n).part(KeySlots)


async def read(here: Works, n: int = 0) -> None:
    """As any reading does: it must always get through."""
    async with here.house.base.pool.connection() as connection:
        (meter,) = await meters.find(connection, asset_ids=[here.simulated(n).serial])
    reach = await here.house.access.prepare_one(Target(meter))
    async with here.house.drivers.of(meter.model).open(reach) as conversation:
        found = await conversation.read_registers(["1-0:1.8.0*255"])
    assert found.batch.registers


async def stored(here: Works, n: int = 0) -> dict[KeyPurpose, bytes]:
    """The keys that the head-end takes for the meter's."""
    number = here.meters[here.simulated(n).serial]
    async with here.house.base.pool.connection() as connection:
        vault = await here.house.base.vault()
        found = await vault.get(connection, number)
        assert number not in await vault.pending_many(connection, [number])
    return {purpose: key.reveal() for purpose, key in found.items()}


def held(here: Works, n: int = 0) -> dict[KeyPurpose, bytes]:
    """The keys that the meter has."""
    keys = here.simulated(n).keys
    assert keys.encryption is not None
    assert keys.authentication is not None
    assert keys.master is not None
    return {
        KeyPurpose.ENCRYPTION: keys.encryption.reveal(),
        KeyPurpose.AUTHENTICATION: keys.authentication.reveal(),
        KeyPurpose.MASTER: keys.master.reveal(),
    }


async def test_all_keys_are_rotated_of_every_kind_of_meter(embedded_database: Any) -> None:
    """Suites 0 to 2, service-specific, dedicated, general, wrapped; over TCP, HDLC and UDP; the answer under
    the old keys and under the new ones."""
    async with works(embedded_database.dsn, meters=33, mix="all") as here:
        ciphered = [n for n in range(33) if here.simulated(n).mode.ciphered]
        assert {here.simulated(n).mode.name for n in ciphered} == set(MODES)
        before = {n: held(here, n) for n in ciphered}
        for n in ciphered:
            slots(here, n).answers_new = n % 2 == 1
        found = {one.meter_id: one for one in await here.apply(ALL)}
        for n in range(33):
            one = found[here.meters[here.simulated(n).serial]]
            if n not in ciphered:
                assert one.state is MeterProgress.INCOMPATIBLE
                continue
            assert one.state is MeterProgress.DONE, (here.simulated(n).mode.name, one.reason)
            assert one.proof is not None
            assert one.proof["answer"] == "accepted"
            assert held(here, n) == await stored(here, n)
            assert all(key != before[n][purpose] for purpose, key in held(here, n).items())
            long = here.simulated(n).mode.name == "hls5-suite2"
            assert {len(key) for key in held(here, n).values()} == {32 if long else 16}
            await read(here, n)


@pytest.mark.parametrize("answers_new", [False, True])
@pytest.mark.parametrize("security", ["hls5", "hls5-wrapped"])
@pytest.mark.parametrize(
    ("mishap", "state"),
    [
        (Mishap.ANSWER_LOST, MeterProgress.DONE),
        (Mishap.REQUEST_LOST, MeterProgress.DONE),
        (Mishap.SECOND_REFUSED, MeterProgress.FAILED),
    ],
)
async def test_whatever_goes_wrong_the_meter_is_reached(
    embedded_database: Any, mishap: Mishap, state: MeterProgress, security: str, answers_new: bool
) -> None:
    quick = {"response_timeout_s": 0.3}
    async with works(embedded_database.dsn, meters=1, security=security, settings=quick) as here:
        slots(here).mishaps.append(mishap)
        slots(here).answers_new = answers_new
        before = held(here)
        (found,) = await here.apply(ALL)
        assert found.state is state, found.reason
        assert held(here) == await stored(here)
        after = held(here)
        if state is MeterProgress.DONE:
            assert all(after[purpose] != before[purpose] for purpose in after)
        else:
            changed = {purpose for purpose in after if after[purpose] != before[purpose]}
            # where not even the refusal could be deciphered, the master key was given once more, by itself
            alone = KeyPurpose.AUTHENTICATION if answers_new and security == "hls5" else KeyPurpose.MASTER
            assert changed == {KeyPurpose.ENCRYPTION, KeyPurpose.MASTER} - {alone}
            assert "took its new key for encryption and " in (found.reason or "")
            assert f"not for {KeyPurpose.AUTHENTICATION}" in (found.reason or "")
        await read(here)
