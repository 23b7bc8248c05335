"""The API's server with clients that say nothing, speak slowly, or talk rubbish."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from headend import serving

GUARD_S = 30.0


async def _hello(scope: Any, receive: Any, send: Any) -> None:
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


@asynccontextmanager
async def _serving() -> AsyncIterator[tuple[serving.Server, int]]:
    listener = serving.listen("127.0.0.1", 0)
    server = serving.make_server(_hello)
    task = asyncio.create_task(server.serve([listener]))
    try:
        yield server, listener.getsockname()[1]
    finally:
        server.should_exit = True
        async with asyncio.timeout(GUARD_S):
            await task
        listener.close()


async def _request(
    port: int, head: bytes = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
) -> bytes:
    async with asyncio.timeout(GUARD_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head)
        answer = await reader.read()
        writer.close()
        return answer


async def _ended(reader: asyncio.StreamReader) -> bytes:
    async with asyncio.timeout(GUARD_S):
        try:
            return await reader.read()
        except ConnectionError:
            return b""


async def test_a_thousand_idle_connections_a_slow_sender_and_rubbish_harm_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving, "HEAD_S", 1.0)
    async with _serving() as (server, port):
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(1_000)]
        slow_reader, slow_writer = await asyncio.open_connection("127.0.0.1", port)

        async def dribble() -> None:
            for byte in b"GET / HTTP/1.1\r\nX: " + b"x" * 4_000:
                slow_writer.write(bytes((byte,)))
                await asyncio.sleep(0.01)

        dribbling = asyncio.create_task(dribble())
        rubbish = await _request(port, bytes(range(256)) * 100)
        assert rubbish.startswith((b"HTTP/1.1 400", b""))
        assert (await _request(port)).endswith(b"hello")
        assert await _ended(slow_reader) == b""  # hung up on, however it kept sending
        for reader, _ in idle:
            assert await _ended(reader) == b""
        assert (await _request(port)).endswith(b"hello")
        dribbling.cancel()
        await asyncio.wait([dribbling])
        for _, writer in [*idle, (slow_reader, slow_writer)]:
            writer.close()
        async with asyncio.timeout(GUARD_S):
            while server.server_state.connections:  # noqa: ASYNC110 - uvicorn tells nobody
                await asyncio.sleep(0.01)


async def test_a_body_that_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "BODY_S", 0.3)
    async with _serving() as (_, port):
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nonly this"
        assert not (await _request(port, head)).endswith(b"hello")


async def test_a_request_that_takes_its_time_to_be_answered_is_not_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving, "HEAD_S", 0.2)
    asked = asyncio.Event()

    async def slow_app(scope: Any, receive: Any, send: Any) -> None:
        asked.set()
        await asyncio.sleep(0.6)
        await _hello(scope, receive, send)

    listener = serving.listen("127.0.0.1", 0)
    server = serving.make_server(slow_app)
    task = asyncio.create_task(server.serve([listener]))
    assert (await _request(listener.getsockname()[1])).endswith(b"hello")
    assert asked.is_set()
    server.should_exit = True
    await task
    listener.close()


async def test_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "MAX_CONNECTIONS", 5)
    async with _serving() as (server, port):
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
        async with asyncio.timeout(GUARD_S):
            while len(server.server_state.connections) < 5:  # noqa: ASYNC110 - uvicorn tells nobody
                await asyncio.sleep(0.01)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert await _ended(reader) == b""
        for _, one in [*held, (reader, writer)]:
            one.close()


async def test_several_requests_of_one_connection_each_have_their_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving, "HEAD_S", 0.5)
    async with _serving() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(4):
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            async with asyncio.timeout(GUARD_S):
                answer = await reader.readuntil(b"hello")
            assert answer.startswith(b"HTTP/1.1 200")
            await asyncio.sleep(0.2)
        writer.close()


def test_an_address_in_use_is_told() -> None:
    with serving.listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(serving.AddressInUse, match=f"cannot listen on 127.0.0.1:{port}"):
            serving.listen("127.0.0.1", port)
