"""The cookie of a browser's session, and what tells a page of ours from another's.

The CSRF token is an HMAC under the session's secret: it needs no store, is bound to this one session, and a
page that cannot read our answers cannot know it. Beside it the browser's own word is heard where it gives
one: Sec-Fetch-Site, Origin.
"""

import hashlib
import hmac
from datetime import datetime
from typing import Final

from fastapi import Request, Response

SECURE: Final = "__Host-headend"
#: Over plain http, where browsers keep no cookie of the other kind.
PLAIN: Final = "headend"
CSRF_HEADER: Final = "X-CSRF-Token"
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1"})


def is_https(request: Request) -> bool:
    """Whether the browser came by https: by the server's own word, or that of a proxy on this host."""
    return request.url.scheme == "https"


def is_local(request: Request) -> bool:
    """Whether it came from this host."""
    return request.client is not None and request.client.host in _LOOPBACK


def session(request: Request) -> str | None:
    """The secret of the session that the browser brings. Over https only the cookie that no other host, and
    no plain http, can have planted."""
    return request.cookies.get(SECURE if is_https(request) else PLAIN)


def give(request: Request, response: Response, secret: str, *, now: datetime, until: datetime) -> None:
    """Have the browser keep a session."""
    secure = is_https(request)
    response.set_cookie(
        SECURE if secure else PLAIN,
        secret,
        max_age=max(1, int((until - now).total_seconds())),
        path="/",
        secure=secure,
        httponly=True,
        samesite="strict",
    )


def take(request: Request, response: Response) -> None:
    """Have the browser forget it."""
    secure = is_https(request)
    response.delete_cookie(
        SECURE if secure else PLAIN, path="/", secure=secure, httponly=True, samesite="strict"
    )


def csrf_token(secret: str) -> str:
    """What goes with every change that this session makes."""
    return hmac.digest(secret.encode(), b"headend csrf", hashlib.sha256).hex()


def is_csrf_token(secret: str, given: str | None) -> bool:
    """In constant time."""
    return hmac.compare_digest(csrf_token(secret).encode(), (given or "").encode())


def foreign(request: Request) -> str | None:
    """Why the request is of another's page, as its browser says; None where it says nothing of the kind."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None and site not in {"same-origin", "none"}:
        return f"the browser says that it was sent by another site's page (Sec-Fetch-Site: {site[:32]})"
    origin = request.headers.get("Origin")
    own = f"{request.url.scheme}://{request.headers.get('Host', '')}"
    if origin is not None and origin.lower() != own.lower():
        return "the browser says that it was sent by a page of another origin (Origin)"
    return None
