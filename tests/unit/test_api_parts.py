"""The small parts of the API: times, cursors, tags, decimals, limits of bodies, problems of exchanges."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, TypeAdapter, ValidationError

from api import errors, etag, paging
from api.errors import BadValue
from api.middleware import BodyLimit, CleanText, SecureHeaders
from api.shapes import Exact, Name, ObisText
from api.times import half_open, instant, micros, parse, rfc3339
from headend.store.errors import ConflictError, UnavailableError, UnknownError
from schemas.failure import Stage


class Body(BaseModel):
    text: Name


@pytest.fixture
def app() -> FastAPI:
    app = FastAPI()
    errors.install(app)
    app.add_middleware(BodyLimit, limit=100)
    app.add_middleware(CleanText)
    app.add_middleware(SecureHeaders)

    @app.post("/echo")
    async def echo(body: Body) -> Body:
        return body

    return app


def client(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://headend")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-01T00:00:00Z", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01t00:00z", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01T00:00:00+00:00", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01T00:00:00-05:30", datetime(2026, 3, 1, 5, 30, tzinfo=UTC)),
        ("2026-03-01T00:00:00.000001Z", datetime(2026, 3, 1, 0, 0, 0, 1, tzinfo=UTC)),
    ],
)
def test_instants(text: str, expected: datetime) -> None:
    assert instant(text, "from") == expected
    assert instant(text, "from").tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    ["", "now", "2026-03-01", "20260301T000000Z", "2026-W09-7T00:00:00Z", "2026-03-01T24:00:00Z",
     "2026-03-01T00:00:60Z", "2026-13-01T00:00:00Z", "2026-03-01T00:00:00+25:00", "0001-01-01T00:00:00+01:00",
     "9999-12-31T23:59:59-01:00",
     "2026-03-01T00:00:00", "2026-03-01T00:00:00 01:00", "٢٠٢٦-03-01T00:00:00Z"],
)  # fmt: skip
def test_bad_instants(text: str) -> None:
    with pytest.raises(BadValue) as caught:
        instant(text, "from")
    assert caught.value.places[0].parameter == "from"


@given(st.text(max_size=40))
def test_any_text_is_an_instant_or_refused(text: str) -> None:
    try:
        assert parse(text).tzinfo is UTC
    except ValueError:
        pass


@given(st.datetimes(timezones=st.just(UTC)))
def test_instants_round_trip(moment: datetime) -> None:
    assert parse(rfc3339(moment)) == moment
    assert micros(round((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))) is not None


def test_ranges_are_half_open_and_bounded() -> None:
    day = timedelta(days=1)
    assert half_open("2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z").end == datetime(2026, 3, 2, tzinfo=UTC)
    assert half_open("2026-03-01T00:00:00Z", "2026-03-02T00:00:00Z", longest=day)
    with pytest.raises(BadValue, match="at most 1 days"):
        half_open("2026-03-01T00:00:00Z", "2026-03-02T00:00:01Z", longest=day)


@given(st.lists(st.text(max_size=20) | st.integers(-(2**40), 2**40), max_size=4))
def test_cursors_round_trip(position: list[Any]) -> None:
    cursor = paging.encode(position)
    if all(not isinstance(p, str) or p.isprintable() for p in position):
        assert paging.decode(cursor, *(type(p) for p in position)) == position


@given(st.text(max_size=60))
def test_any_cursor_is_ours_or_refused(text: str) -> None:
    try:
        assert isinstance(paging.decode(text, str)[0], str)
    except BadValue:
        pass


def test_tags() -> None:
    tag = etag.strong("a", 1, None)
    assert tag == etag.strong("a", 1, None) != etag.strong("a", 1, 0)
    assert etag.matches(tag, tag)
    assert etag.matches(f'"x" , W/{tag}', tag)
    assert etag.matches("*", tag)
    assert not etag.matches(None, tag)
    assert not etag.matches(tag.strip('"'), tag)


@pytest.mark.parametrize("bad", [1.5, True, "NaN", "Infinity", "1e999", "9" * 41, "one", None, []])
def test_decimals_that_are_not_exact(bad: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Exact).validate_python(bad)


def test_decimals_and_names() -> None:
    assert TypeAdapter(Exact).validate_python("0.000").as_tuple() == Decimal("0.000").as_tuple()
    assert TypeAdapter(Exact).validate_python(0) == 0
    assert TypeAdapter(ObisText).validate_python("1.8.0") == TypeAdapter(ObisText).validate_python(
        "1-0:1.8.0*255"
    )
    for bad in ("", " a", "a ", "a\0b", "a\nb", "x" * 129):
        with pytest.raises(ValidationError):
            TypeAdapter(Name).validate_python(bad)
    assert TypeAdapter(Name).validate_python("a b") == "a b"
    assert TypeAdapter(Name).validate_python("a") == "a"


async def test_a_declared_body_over_the_limit(app: FastAPI) -> None:
    async with client(app) as http:
        fits = await http.post("/echo", json={"text": "x" * 80})
        over = await http.post("/echo", json={"text": "x" * 100})
    assert fits.status_code == 200
    assert over.status_code == 413
    assert over.headers["content-type"] == "application/problem+json"
    assert "at most 100 bytes" in over.json()["detail"]
    assert over.headers["x-content-type-options"] == "nosniff"


async def test_a_streamed_body_over_the_limit(app: FastAPI) -> None:
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b'"' * 50

    async with client(app) as http:
        answer = await http.post("/echo", content=body(), headers={"content-type": "application/json"})
    assert answer.status_code == 413
    assert answer.json()["type"] == "/problems/body-too-large"
    assert sent == 3, "what is over the limit is not read"


async def test_nul_and_broken_json(app: FastAPI) -> None:
    async with client(app) as http:
        assert (await http.get("/a%00b")).status_code == 400
        assert (await http.get("/a?q=%00")).status_code == 400
        broken = await http.post("/echo", content=b"{", headers={"content-type": "application/json"})
        wrong = await http.post("/echo", json={"text": 5})
        surrogate = await http.post(
            "/echo", content=b'{"text": "\\ud800"}', headers={"content-type": "application/json"}
        )
        missing = await http.get("/nothing")
        method = await http.get("/echo")
    assert (broken.status_code, broken.json()["type"]) == (400, "/problems/bad-request")
    assert wrong.json()["errors"] == [{"pointer": "/text", "detail": "Input should be a valid string"}]
    assert surrogate.status_code == 422
    assert (missing.status_code, missing.headers["content-type"]) == (404, "application/problem+json")
    assert (method.status_code, method.headers["allow"]) == (405, "POST")
    for answer in (broken, wrong, surrogate, missing, method):
        assert answer.json()["status"] == answer.status_code
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("raised", "status", "fault", "stage"),
    [
        (errors.MeterFailed(Stage.TIMEOUT, "no answer", "link"), 504, "link", "timeout"),
        (errors.MeterFailed(Stage.CONNECT, "refused", "link"), 502, "link", "connect"),
        (errors.MeterFailed(Stage.GATEWAY, "no", "link"), 502, "link", "gateway"),
        (errors.MeterFailed(Stage.ACCESS, "no", "peer"), 502, "peer", "access"),
        (errors.MeterFailed(Stage.DECODE, "bad", "peer"), 502, "peer", "decode"),
        (errors.MeterFailed(Stage.CIPHER, "tag", "peer"), 502, "peer", "cipher"),
        (errors.MeterFailed(Stage.SETTINGS, "no address", "ours"), 409, "ours", "settings"),
        (UnknownError("no meter"), 404, None, None),
        (ConflictError("taken"), 409, None, None),
        (UnavailableError("secret dsn"), 503, None, None),
        (RuntimeError("secret"), 500, None, None),
    ],
)
async def test_what_fails_is_told_and_how(
    app: FastAPI, raised: Exception, status: int, fault: str | None, stage: str | None
) -> None:
    @app.get("/fail")
    async def fail() -> None:
        raise raised

    async with client(app) as http:
        answer = await http.get("/fail")
    body = answer.json()
    assert (answer.status_code, body["status"]) == (status, status)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (body.get("fault"), body.get("stage")) == (fault, stage)
    assert "secret" not in answer.text
