"""Keys are rotated on simulated meters through the whole head-end: every suite, mode and mishap."""

import dataclasses
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from concentrator_sim.key_slots import KeySlots, Mishap
from concentrator_sim.meter import SimulatedMeter
from headend.drivers.contract import Target
from headend.keys.seal import MasterKey, Sealer
from headend.keys.vault import Vault
from headend.programs import keys
from headend.store import campaigns, key_generations, meters
from protocols.dlms.security import Key, PeerCounter
from schemas.campaign import CampaignState, MeterProgress
from schemas.job import Selection
from schemas.meter import KeyPurpose
from schemas.programs.keys import ORDER, KeysProgram
from tests.integration.programs.field import EVERYBODY, Works, works

ALL = KeysProgram(purposes=ORDER)
MODES = ("hls5", "hls5-suite1", "hls5-suite2", "hls5-dedicated", "hls5-general", "hls5-wrapped")


def slots(here: Works, n: int = 0) -> KeySlots:
    return here.simulated(n).part(KeySlots)


def execute(here: Works, statement: str) -> None:
    with psycopg.connect(here.dsn) as connection:
        connection.execute(statement.encode())


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
    has = here.simulated(n).keys
    assert has.encryption is not None
    assert has.authentication is not None
    assert has.master is not None
    return {
        KeyPurpose.ENCRYPTION: has.encryption.reveal(),
        KeyPurpose.AUTHENTICATION: has.authentication.reveal(),
        KeyPurpose.MASTER: has.master.reveal(),
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


@pytest.mark.parametrize(
    "mishap", [None, Mishap.ANSWER_LOST, Mishap.REQUEST_LOST], ids=["well", "answer lost", "request lost"]
)
@pytest.mark.parametrize("security", ["hls5", "hls5-wrapped"])
async def test_the_master_key_by_itself(embedded_database: Any, mishap: Mishap | None, security: str) -> None:
    quick = {"response_timeout_s": 0.3}
    async with works(embedded_database.dsn, meters=1, security=security, settings=quick) as here:
        slots(here).mishaps = [] if mishap is None else [mishap]
        before = held(here)
        (found,) = await here.apply(KeysProgram(purposes=(KeyPurpose.MASTER,)))
        assert found.state is MeterProgress.DONE, found.reason
        after = held(here)
        assert after == await stored(here)
        assert {purpose for purpose in after if after[purpose] != before[purpose]} == {KeyPurpose.MASTER}
        (found,) = await here.apply(KeysProgram())
        assert found.state is MeterProgress.DONE, "the new master key wraps"
        assert held(here)[KeyPurpose.MASTER] == after[KeyPurpose.MASTER]


async def test_a_meter_that_accepts_and_goes_on_with_its_old_keys(
    embedded_database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may change at any time: both stay known, until another rotation is through."""
    monkeypatch.setattr(keys, "_BETWEEN_LOOKS", timedelta(0))
    async with works(embedded_database.dsn, meters=1) as here:
        slots(here).mishaps = [Mishap.NOT_TAKEN]
        before = held(here)
        (found,) = await here.apply(ALL)
        assert found.state is MeterProgress.FAILED
        assert "accepted new keys and goes on with its former ones" in (found.reason or "")
        number = here.meters[here.simulated().serial]
        async with here.house.base.pool.connection() as connection:
            vault = await here.house.base.vault()
            late = (await vault.pending_many(connection, [number]))[number]
        await read(here)
        meter = here.simulated()
        slots(here).keys = dataclasses.replace(
            meter.keys,
            encryption=late.keys[KeyPurpose.ENCRYPTION],
            authentication=late.keys[KeyPurpose.AUTHENTICATION],
            master=late.keys[KeyPurpose.MASTER],
        )
        meter.rekeyed(slots(here).peer())
        await read(here)
        (found,) = await here.apply(ALL)
        assert found.state is MeterProgress.DONE, found.reason
        assert held(here) == await stored(here)
        assert held(here)[KeyPurpose.ENCRYPTION] != before[KeyPurpose.ENCRYPTION]


async def test_without_its_master_key_a_meter_is_left_alone(embedded_database: Any) -> None:
    async with works(embedded_database.dsn, meters=1) as here:
        execute(here, "DELETE FROM meter_keys WHERE purpose = 'master'")
        (found,) = await here.apply(KeysProgram())
        assert found.state is MeterProgress.INCOMPATIBLE
        assert "its key for master is not stored" in (found.reason or "")
        assert "headend meters import" in (found.reason or "")
        assert slots(here).transfers == 0


async def test_keys_that_were_never_sent_are_forgotten(embedded_database: Any) -> None:
    """The head-end died between storing and sending, and its campaign never went on."""
    async with works(embedded_database.dsn, meters=2) as here:
        first, second = (here.meters[here.simulated(n).serial] for n in range(2))
        aborted = await here.propose(ALL)
        async with here.house.base.pool.connection() as connection:
            vault = await here.house.base.vault()
            for number in (first, second):
                made = {purpose: Key(bytes(range(16))) for purpose in ORDER}
                await vault.add_pending(
                    connection, number, made, campaign_id=aborted.campaign_id, actor="test"
                )
            await key_generations.tidy(connection, before=datetime(2000, 1, 1, tzinfo=UTC))
            assert set(await vault.pending_many(connection, [first, second])) == {first, second}
        only = EVERYBODY.model_copy(update={"selection": Selection(meters=(here.simulated().serial,))})
        (found,) = await here.apply(ALL, only)  # the next visit decides
        assert found.state is MeterProgress.DONE
        assert held(here) == await stored(here)
        assert held(here)[KeyPurpose.ENCRYPTION] != bytes(range(16))
        async with here.house.base.pool.connection() as connection:
            await campaigns.move(
                connection, aborted.campaign_id, CampaignState.ABORTED, before=[CampaignState.PROPOSED]
            )
            await key_generations.tidy(connection, before=datetime(2000, 1, 1, tzinfo=UTC))
            assert await vault.pending_many(connection, [first, second]) == {}


async def test_a_meter_that_counts_on_through_the_change(embedded_database: Any) -> None:
    """Its counter object goes on where the old key was, far beyond what a stranger may make us jump."""
    async with works(embedded_database.dsn, meters=1) as here:
        far = 2_000_000_000
        execute(here, f"UPDATE invocation_counters SET next_value = {far}")
        execute(
            here,
            "INSERT INTO invocation_counters SELECT key_id, '\\x4845440000000001', 2000000000 "
            "FROM meter_keys "
            "WHERE purpose = 'encryption' ON CONFLICT DO NOTHING",
        )
        meter = here.simulated()
        rekeyed = meter.rekeyed

        def counting_on(client_counter: PeerCounter) -> None:
            client_counter.last = meter.last_client_counter
            rekeyed(client_counter)

        SimulatedMeter.rekeyed, kept = lambda _, counter: counting_on(counter), SimulatedMeter.rekeyed  # type: ignore[method-assign, assignment]
        try:
            (found,) = await here.apply(KeysProgram())
        finally:
            SimulatedMeter.rekeyed = kept  # type: ignore[method-assign]
        assert found.state is MeterProgress.DONE, found.reason
        assert meter.last_client_counter > far
        await read(here)


async def test_the_head_ends_master_key_is_changed_while_keys_are_pending(embedded_database: Any) -> None:
    async with works(embedded_database.dsn, meters=1) as here:
        number = here.meters[here.simulated().serial]
        made = {purpose: Key(bytes(range(16))) for purpose in ORDER}
        async with here.house.base.pool.connection() as connection:
            vault = await here.house.base.vault()
            await vault.add_pending(connection, number, made, campaign_id=None, actor="test")
            old, new = (MasterKey.from_hex(one * 32, where="test") for one in ("42", "43"))
            both = await Vault.open(connection, Sealer(new, [old]))
            await both.rotate(connection, actor="test")
            alone = await Vault.open(connection, Sealer(new))
            found = await alone.pending_many(connection, [number])
        assert found[number].keys == made
