"""No key of a rotation shows anywhere: not in the database, API, logs, audit, journal or what is printed."""

import asyncio
import base64
import logging
from contextlib import AsyncExitStack
from typing import Any

import httpx
import pytest

from api.app import create_app
from api.services import Services
from concentrator_sim.key_slots import KeySlots, Mishap
from headend.clock import utc_now
from headend.drivers.contract import Target
from headend.keys.seal import load_sealer
from headend.moment.moment import Moment
from headend.store import key_generations, meters, tokens
from headend.store.tokens import Scope
from schemas.programs.keys import ORDER, KeysProgram
from tests.integration.programs.field import Works, works

ALL = KeysProgram(purposes=ORDER)


def spellings(secret: bytes) -> set[bytes]:
    """A secret as it could come to be written."""
    written = {secret.hex(), secret.hex().upper(), secret.hex(" "), repr(secret)[2:-1]}
    plain = {base64.b64encode(secret), base64.urlsafe_b64encode(secret), secret}
    return {one.encode() for one in written} | {one.rstrip(b"=") for one in plain}


async def tables(here: Works) -> bytes:
    """Every row of every table as PostgreSQL writes it: bytes in hexadecimal digits."""
    found = []
    async with here.house.base.pool.connection() as connection:
        cursor = await connection.execute(
            "SELECT quote_ident(table_name) FROM information_schema.tables WHERE table_schema = 'public' "
            "AND table_type = 'BASE TABLE'"
        )
        for (name,) in await cursor.fetchall():
            rows = await connection.execute(f"SELECT one::text FROM {name} one".encode())
            found += [row.encode() for (row,) in await rows.fetchall()]
    return b"\n".join(found)


async def answers(here: Works, campaign_id: int) -> bytes:
    """Every GET of the API, to an administrator."""
    base, found = here.house.base, []
    async with AsyncExitStack() as stack:
        moment = Moment.of(base.pool, base.settings, load_sealer(base.settings), clock=utc_now)
        app = create_app(Services(base.pool, moment))
        async with base.pool.connection() as connection:
            token = (await tokens.create(connection, name="all", scopes=list(Scope))).secret
        client = await stack.enter_async_context(
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app),
                base_url="http://test",
                headers={"Authorization": f"Bearer {token}"},
                timeout=5,
            )
        )
        told = 0
        for path, item in app.openapi()["paths"].items():
            if "get" not in item or path.endswith(("/stream", "/follow")) or "events" in path.split("/")[-1]:
                continue
            whole = path.replace("{asset_id}", here.simulated().serial)
            whole = whole.replace("{campaign_id}", str(campaign_id)).replace("{number}", str(campaign_id))
            if "{" in whole:
                continue
            answer = await client.get(whole)
            told += answer.status_code == 200
            found.append(answer.content)
        assert told > 10
        figures = (await client.get("/api/v1/keys")).json()
        assert figures["meters"] == 2
        assert (figures["in_doubt"], figures["with_former"]) == (1, 1)
    return b"\n".join(found)


async def test_no_key_of_a_rotation_is_seen(
    embedded_database: Any, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    settings = {"response_timeout_s": 0.3}
    async with works(embedded_database.dsn, meters=2, settings=settings) as here:
        before = [here.simulated(n).keys for n in range(2)]
        here.simulated(1).part(KeySlots).mishaps = [Mishap.NOT_TAKEN]
        campaign = await here.propose(ALL)
        await here.approve(campaign.campaign_id)
        await here.advance(campaign.campaign_id)
        both = (
            "SELECT DISTINCT generation FROM key_generations "
            "WHERE sent_at IS NOT NULL OR generation = 'former' ORDER BY 1"
        )
        async with asyncio.timeout(30):
            while here.rows(both) != [("former",), ("pending",)]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        numbers = list(here.meters.values())
        async with here.house.base.pool.connection() as connection:
            vault = await here.house.base.vault()
            pending = await vault.pending_many(connection, numbers)
            found = [await meters.get(connection, one) for one in numbers]
            stored = await key_generations.pending_of(connection, numbers)
        reaches = await here.house.access.prepare([Target(one) for one in found])
        shown = [caplog.text, repr(pending), repr(reaches), repr(stored), repr(vault), repr(before)]
        shown += [repr(vars(record)) for record in caplog.records]
        for number in numbers:
            shown += [repr(one) for one in await here.steps(campaign.campaign_id, number)]
        text = "\n".join([*shown, *capfd.readouterr()]).encode()
        text += await tables(here) + await answers(here, campaign.campaign_id)
        secrets = {
            key.reveal()
            for keys in (*before, *(here.simulated(n).keys for n in range(2)))
            for key in (keys.encryption, keys.authentication, keys.master)
            if key is not None
        } | {key.reveal() for one in pending.values() for key in one.keys.values()}
        assert len(secrets) == 6 + 3 + 3, "of each meter the old and the new ones"
        assert here.simulated().serial.encode() in text
        assert b"keys.changed" in text
        leaked = [spelling for secret in secrets for spelling in spellings(secret) if spelling in text]
        assert leaked == []
