"""On-demand reads without a database: forecasts, signatures, destinations, patience, who is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from headend.keys.seal import MasterKey, Sealer, SealError
from headend.moment import destination
from headend.moment.delivery import Patience
from headend.moment.destination import BadDestination
from headend.moment.progress import progress
from headend.moment.secrets import NoSecret, WebhookSecrets
from headend.moment.signature import is_genuine, sign
from headend.moment.watch import Watch
from headend.store.errors import UnavailableError
from headend.store.jobs import Counts, Job
from headend.store.notices import Notice
from headend.store.results import Tally
from headend.store.webhooks import Webhook, WebhookState
from schemas.job import JobKind, Retry

NOW = datetime(2026, 3, 1, 8, tzinfo=UTC)


def job(**changed: Any) -> Job:
    told: dict[str, Any] = {
        "job_id": 1, "kind": JobKind.ON_DEMAND, "schedule_id": None, "run_at": None, "title": "t", "work": (),
        "retry": Retry(), "priority": 5, "deadline": NOW, "drop_dead": NOW, "actor": "a",
        "correlation_id": "c",
        "created_at": NOW - timedelta(minutes=10), "ended_at": None, "cancelled_at": None,
    }  # fmt: skip
    return Job(**(told | changed))


@pytest.mark.parametrize(
    ("made", "counts", "lately", "eta"),
    [
        (timedelta(minutes=10), Counts(open=120, done=500), 60, timedelta(seconds=120)),
        (timedelta(seconds=10), Counts(open=50, done=5), 5, timedelta(seconds=100)),
        (timedelta(0), Counts(open=1, done=1), 1, timedelta(milliseconds=1)),
        (timedelta(minutes=10), Counts(open=120, done=500), 0, None),
        (timedelta(minutes=10), Counts(done=500), 60, None),
        (timedelta(minutes=10), Counts(open=10**9), 1, None),
    ],
)
def test_a_job_is_done_at_the_rate_of_the_last_minute(
    made: timedelta, counts: Counts, lately: int, eta: timedelta | None
) -> None:
    found = progress(job(created_at=NOW - made), Tally(counts, lately), now=NOW)
    assert found.eta == (None if eta is None else NOW + eta)


def test_an_ended_job_has_no_forecast() -> None:
    assert progress(job(ended_at=NOW), Tally(Counts(open=1), 1), now=NOW).eta is None


# ---- signatures -----------------------------------------------------------------------------------------


def test_a_signature_is_what_openssl_says() -> None:
    """printf '1772352000.{"a":1}' | openssl dgst -sha256 -hmac 'sixteen or more bytes'"""
    header = sign("sixteen or more bytes", b'{"a":1}', at_s=1772352000)
    assert header == "t=1772352000,v1=1bd6c5d4378c67e588a285c3a6a1b2296cb89de895092e757a6471a68d54140d"


@given(st.binary(max_size=64), st.binary(max_size=64), st.integers(0, 10**10))
def test_a_signature_is_of_this_body_and_secret_alone(body: bytes, other: bytes, at_s: int) -> None:
    header = sign("s" * 16, body, at_s=at_s)
    assert is_genuine("s" * 16, body, header, now_s=at_s + 300)
    assert is_genuine("s" * 16, body, f"v9=00,{header}", now_s=at_s - 300), "other schemes are passed over"
    assert is_genuine("s" * 16, other, header, now_s=at_s) == (other == body)
    assert not is_genuine("t" * 16, body, header, now_s=at_s)
    assert not is_genuine("s" * 16, body, header, now_s=at_s + 301), "an old one"
    assert not is_genuine("s" * 16, body, header.replace("t=", f"t={at_s + 1},t="), now_s=at_s)
    assert not is_genuine("s" * 16, body, header.replace(f"t={at_s}", f"t={at_s + 1}"), now_s=at_s)


@pytest.mark.parametrize(
    "header", ["", "t=", "t=,v1=", "v1=00", "t=1", "t=-1,v1=00", "t=²,v1=00", "t=1,v1=ü"]
)
def test_rubbish_is_no_signature(header: str) -> None:
    assert not is_genuine("s" * 16, b"", header, now_s=1)


# ---- destinations ---------------------------------------------------------------------------------------

HOSTS = ("receiver.lan", "127.0.0.1:9000", "::1")


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hook?token=1",
        "https://93.184.216.34:8443/x",
        "http://receiver.lan/x",
        "http://receiver.lan:8080/x",
        "http://127.0.0.1:9000/x",
        "http://[::1]/x",
    ],
)
def test_where_webhooks_may_go(url: str) -> None:
    assert destination.check(url, HOSTS).hostname


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/x",
        "http://127.0.0.1:9001/x",
        "https://127.0.0.1/x",
        "https://10.1.2.3/x",
        "https://169.254.169.254/latest",
        "https://[::ffff:10.0.0.1]/x",
        "https://[fe80::1%25eth0]/x",
        "https://224.0.0.1/x",
        "https://user:geheim@example.com/x",
        "https://example.com/x#part",
        "https://example.com:99999/x",
        "https://example.com:0/x",
        "https:///x",
        "ftp://example.com/x",
        "file:///etc/passwd",
        "https://example.com/a b",
        "https://exämple.com/x",
        "https://example.com/" + "x" * 2048,
        "",
    ],
)
def test_where_webhooks_may_not_go(url: str) -> None:
    with pytest.raises(BadDestination) as refused:
        destination.check(url, HOSTS)
    assert "geheim" not in str(refused.value)


async def test_a_name_that_leads_inside_is_refused_when_it_is_called() -> None:
    with pytest.raises(BadDestination, match="public network"):
        await destination.resolve("https://localhost/x", HOSTS)
    assert await destination.resolve("https://localhost/x", ("localhost",)) in {"127.0.0.1", "::1"}


def test_a_query_is_not_shown() -> None:
    assert destination.shown("https://example.com/x?token=1") == "https://example.com/x"


# ---- secrets and patience -------------------------------------------------------------------------------


def webhook(**changed: Any) -> Webhook:
    told: dict[str, Any] = {
        "job_id": 1, "url": "https://example.com/?u=1", "secret": None, "sealed_by": None,
        "state": WebhookState.WAITING, "attempts": 1, "next_at": NOW, "last_at": None, "last_status": None,
        "last_reason": None,
    }  # fmt: skip
    return Webhook(**(told | changed))


def test_a_secret_is_sealed_and_dark() -> None:
    sealer = Sealer(MasterKey(bytes(32)))
    secrets = WebhookSecrets(sealer, SecretStr("the settings' own one"))
    new = secrets.sealed("https://example.com/", SecretStr("a secret of sixteen"))
    assert b"sixteen" not in (new.secret or b"")
    stored = webhook(secret=new.secret, sealed_by=new.sealed_by)
    assert secrets.opened(stored) == "a secret of sixteen"
    assert secrets.opened(webhook()) == "the settings' own one"
    assert "example" not in repr(new) + repr(stored)
    with pytest.raises(SealError):
        WebhookSecrets(Sealer(MasterKey(b"1" * 32)), None).opened(stored)
    with pytest.raises(SealError):
        WebhookSecrets(None, None).opened(stored)
    with pytest.raises(NoSecret):
        WebhookSecrets(sealer, None).sealed("https://example.com/", None)
    with pytest.raises(NoSecret):
        WebhookSecrets(None, None).sealed("https://example.com/", SecretStr("a secret of sixteen"))


@given(st.integers(1, 1000), st.floats(0, 1, exclude_max=True))
def test_pauses_grow_up_to_a_bound_and_are_drawn(attempts: int, chance: float) -> None:
    patience = Patience()
    pause = patience.pause(attempts, chance).total_seconds()
    bound = min(3600.0, 5.0 * 2 ** min(attempts - 1, 20))
    assert bound / 2 - 1e-5 <= pause <= bound + 1e-5


# ---- who waits ------------------------------------------------------------------------------------------


async def test_who_waits_is_told_and_a_lost_connection_is_made_anew() -> None:
    """Whoever waits when the connection is made anew looks: what was told meanwhile is lost."""
    notices: asyncio.Queue[Notice | None] = asyncio.Queue()
    listened = 0

    @asynccontextmanager
    async def listen() -> AsyncIterator[AsyncIterator[Notice]]:
        nonlocal listened
        listened += 1

        async def told() -> AsyncIterator[Notice]:
            while (notice := await notices.get()) is not None:
                yield notice
            raise UnavailableError("lost")

        yield told()

    watch = Watch(lambda: None, listen)  # type: ignore[arg-type, return-value]
    task = asyncio.create_task(watch.run())
    try:
        with watch.of(7) as mine, watch.of(8) as other:
            for waiter in (mine, other):  # the connection is made
                await asyncio.wait_for(waiter.wait(3600), 5)
            notices.put_nowait(Notice("headend_jobs", "7"))
            await asyncio.wait_for(mine.wait(3600), 5)
            assert not other._changed.is_set()
            notices.put_nowait(None)
            await asyncio.wait_for(other._changed.wait(), 5)
            assert listened == 2
        assert not watch._waiters
    finally:
        task.cancel()
        await asyncio.wait([task])
