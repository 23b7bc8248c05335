"""What holds for every request, whatever its path: a bound on the body, clean text, headers that tie
browsers' hands.

Pure ASGI, so that streamed answers stay streams and bodies are counted as they come.
"""

from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import BadRequest, TooLarge, TooMany, problem
from api.services import services

#: Bytes. The largest legitimate body, an exchange with all its registers, is a few kilobytes.
MAX_BODY: Final = 1 << 20
#: A network of 154,000 meters is 7.3 MB. The operation asks for the token before it reads.
MAX_IMPORT: Final = 32 << 20
#: What has this limit: imports, and firmware packages.
_LARGE: Final = frozenset({"/api/v1/network/imports", "/api/v1/firmware"})

_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}
#: Two years (RFC 6797), for this host alone: others of its domain are not ours to bind.
_HTTPS_ONLY: Final = "max-age=63072000"


class BodyLimit:
    """413 for a body over ``limit`` bytes: by Content-Length before a byte is read, else while it streams.

    Imports and firmware have a limit of their own.
    """

    def __init__(self, app: ASGIApp, limit: int = MAX_BODY) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = MAX_IMPORT if scope["path"] in _LARGE else self.limit
        detail = f"send at most {limit} bytes; split the work over several requests"
        declared = Request(scope).headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > limit:
            answer = problem(
                Request(scope),
                status=TooLarge.status,
                slug=TooLarge.slug,
                title=TooLarge.title,
                detail=detail,
                headers={"Connection": "close"},
            )
            await answer(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > limit:
                # The one exception that the framework lets through while it reads a body.
                raise HTTPException(TooLarge.status, detail)
            return message

        await self.app(scope, counted, send)


class CleanText:
    """400 for NUL in path or query: no name holds one, and PostgreSQL's text cannot."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and ("\0" in scope["path"] or b"%00" in scope["query_string"]):
            answer = problem(
                Request(scope),
                status=BadRequest.status,
                slug=BadRequest.slug,
                title=BadRequest.title,
                detail="path or query contains the character NUL (%00); remove it",
            )
            await answer(scope, receive, send)
            return
        await self.app(scope, receive, send)


class AddressLimit:
    """429 for an address that asks too often, before anything is looked at."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        if scope["type"] == "http" and client is not None:
            try:
                services(Request(scope)).limits.of_address(client[0])
            except TooMany as error:
                answer = problem(
                    Request(scope),
                    status=error.status,
                    slug=error.slug,
                    title=error.title,
                    detail=error.detail,
                    headers=error.headers,
                )
                await answer(scope, receive, send)
                return
        await self.app(scope, receive, send)


class SecureHeaders:
    """Headers on every answer; ``Cache-Control: no-store`` unless the operation says otherwise, and what
    binds browsers to https where they came by it."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
                if scope.get("scheme") == "https":
                    headers["Strict-Transport-Security"] = _HTTPS_ONLY
            await send(message)

        await self.app(scope, receive, dressed)
