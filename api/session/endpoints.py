"""A person's own session. Its cookie is HttpOnly and SameSite=Strict; whatever changes anything by it needs
the CSRF token that ``GET /session`` tells."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response

from api import cookies
from api.auth import Anybody, Caller
from api.errors import BadCsrf, BadValue, Conflict, Forbidden, TooMany, Unauthorized, responses
from api.services import Services, services
from api.session.models import (
    LogIn,
    NewPassword,
    Password,
    RecoveryCodes,
    TotpCode,
    TotpRemoval,
    TotpSecret,
    Who,
)
from api.strict_json import StrictRoute
from headend.people import login, own
from headend.people.identity import principal_of_session
from headend.people.login import Ask, BadCredentials, CodeNeeded
from headend.people.passwords import WeakPassword
from headend.people.second_factor import NoMasterKey
from headend.people.throttle import Throttled
from headend.store.sessions import OpenSession, SessionKind

router = APIRouter(tags=["session"], route_class=StrictRoute)
_CHALLENGE = {"WWW-Authenticate": 'Session realm="headend"'}


@router.post(
    "/session",
    summary="Log in",
    status_code=201,
    responses=responses(400, 401, 403, 409, 413, 422, 429, 503),
)
async def log_in(
    request: Request, response: Response, house: Annotated[Services, Depends(services)], body: LogIn
) -> Who:
    """The session comes as a cookie. 401 does not say what was not right; 429 when to try again. Where the
    account has a second factor and no code was sent, the 401's type is ``/problems/code-needed``."""
    check_way(request, house)
    now = house.clock()
    former = cookies.session(request)
    ask = Ask(
        login=body.login,
        password=body.password,
        code=body.code,
        kind=SessionKind.BROWSER,
        address=None if request.client is None else request.client.host,
        user_agent=request.headers.get("User-Agent"),
    )
    try:
        issued = await login.log_in(house.pool.connection, house.people, ask, now=now)
    except BadCredentials as error:
        raise Unauthorized(str(error), headers=_CHALLENGE) from error
    except CodeNeeded as error:
        raise _CodeNeeded(str(error), headers=_CHALLENGE) from error
    except NoMasterKey as error:
        raise Conflict(str(error)) from error
    except Throttled as error:
        raise TooMany(str(error), headers={"Retry-After": str(error.after_s)}) from error
    if former is not None:
        await _leave(house, former)
    cookies.give(request, response, issued.secret, now=now, until=issued.expires_at)
    found = await _found(house, issued.secret)
    if found is None:
        raise Unauthorized("the session ended as it began: log in again", headers=_CHALLENGE)
    return Who.of(found)


@router.get("/session", summary="Who am I, and what may I do", responses=responses(400, 401, 403, 503))
async def who_am_i(asking: Anybody) -> Who:
    """Of a session or of a token. For browsers with the CSRF token."""
    return Who.of(asking)


@router.delete("/session", summary="Log out", status_code=204, responses=responses(400, 401, 403, 503))
async def log_out(
    request: Request, response: Response, asking: Anybody, house: Annotated[Services, Depends(services)]
) -> None:
    """The session ends at once, wherever its secret has got to."""
    if asking.session is None:
        raise Forbidden("a token is no session: DELETE /api/v1/tokens/{id} revokes it")
    async with house.pool.connection() as connection:
        await login.log_out(
            connection, asking.session.session.session_id, actor=asking.principal.actor, now=house.clock()
        )
    cookies.take(request, response)


@router.post(
    "/session/password",
    summary="Change one's own password",
    status_code=204,
    responses=responses(400, 401, 403, 413, 422, 429, 503),
)
async def change_password(
    asking: Anybody, house: Annotated[Services, Depends(services)], body: NewPassword
) -> None:
    """All other sessions of the account end."""
    opened = _opened(asking)
    async with _told():
        try:
            await own.change_password(
                house.pool.connection, house.people, opened, body.current, body.new, now=house.clock()
            )
        except WeakPassword as error:
            raise BadValue.field("/new", str(error)) from error


@router.post(
    "/session/totp",
    summary="Begin with a second factor",
    status_code=201,
    responses=responses(400, 401, 403, 409, 413, 422, 429, 503),
)
async def begin_totp(
    asking: Anybody, house: Annotated[Services, Depends(services)], body: Password
) -> TotpSecret:
    """One-time passwords by time (RFC 6238). It holds once a code has confirmed it."""
    async with _told():
        made = await own.begin_totp(
            house.pool.connection, house.people, _opened(asking), body.password, now=house.clock()
        )
    return TotpSecret(secret=made.secret, uri=made.uri)


@router.post(
    "/session/totp/confirm",
    summary="Confirm the second factor",
    responses=responses(400, 401, 403, 409, 413, 422, 429, 503),
)
async def confirm_totp(
    asking: Anybody, house: Annotated[Services, Depends(services)], body: TotpCode
) -> RecoveryCodes:
    """It is asked for from now on, and counts as shown in this session; all others end."""
    async with _told():
        codes = await own.confirm_totp(
            house.pool.connection, house.people, _opened(asking), body.code, now=house.clock()
        )
    return RecoveryCodes(recovery_codes=codes)


@router.post(
    "/session/totp/remove",
    summary="Do without a second factor",
    status_code=204,
    responses=responses(400, 401, 403, 409, 413, 422, 429, 503),
)
async def remove_totp(
    asking: Anybody, house: Annotated[Services, Depends(services)], body: TotpRemoval
) -> None:
    """Roles that need one count no longer; all sessions end, this one too."""
    async with _told():
        await own.remove_totp(
            house.pool.connection, house.people, _opened(asking), body.password, body.code, now=house.clock()
        )


def _opened(asking: Caller) -> OpenSession:
    if asking.session is None:
        raise Forbidden("a token has no password and no second factor: log in")
    return asking.session


@asynccontextmanager
async def _told() -> AsyncIterator[None]:
    """Inside, what was shown may be wrong, or come too soon."""
    try:
        yield
    except BadCredentials as error:
        raise Forbidden("password or code is not right") from error
    except Throttled as error:
        raise TooMany(str(error), headers={"Retry-After": str(error.after_s)}) from error


class _CodeNeeded(Unauthorized):
    slug, title = "code-needed", "The second factor is missing"


def check_way(request: Request, house: Services) -> None:
    """A password comes over https, or does not leave the host; and no other site's page sends it."""
    if not (cookies.is_https(request) or cookies.is_local(request) or house.people.plain_http):
        raise Forbidden(
            "log in over https: whoever sees this connection reads the password. A proxy that ends TLS tells "
            "us so by X-Forwarded-Proto; HEADEND_SESSION_PLAIN_HTTP=true allows http"
        )
    if (why := cookies.foreign(request)) is not None:
        raise BadCsrf(why)


async def _leave(house: Services, secret: str) -> None:
    """The session that the browser had before: nobody goes on with it."""
    former = await _found(house, secret)
    if former is not None and former.session is not None:
        async with house.pool.connection() as connection:
            await login.log_out(
                connection, former.session.session.session_id, actor=former.principal.actor, now=house.clock()
            )


async def _found(house: Services, secret: str) -> Caller | None:
    async with house.pool.connection() as connection:
        found = await principal_of_session(
            connection,
            secret,
            SessionKind.BROWSER,
            now=house.clock(),
            second_factor_roles=house.people.second_factor_roles,
        )
    return None if found is None else Caller(found[0], found[1], secret)
