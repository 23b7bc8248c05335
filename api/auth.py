"""Who asks, and whether he may: bearer tokens, sessions of browsers, permissions, areas.

Every operation under /api/v1 names what it needs, and says whether it minds areas. One that does not is
refused to whoever is limited to some: what nobody thought of shows nothing, and does nothing, elsewhere.
"""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Annotated, Final

from fastapi import Depends, Request
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer

from api import cookies
from api.errors import BadCsrf, Forbidden, Unauthorized
from api.refusals import SAFE, of_known, of_minute, of_unknown
from api.services import Services, services
from headend.people.identity import former_actor, principal_of_session, principal_of_token, scope_for
from headend.store import sessions
from headend.store.sessions import OpenSession, SessionKind
from schemas.people import ROLES, Permission, Principal, lacking

_BEARER: Final = HTTPBearer(
    auto_error=False, description="A token of `headend token create`, as `Authorization: Bearer <token>`"
)
_COOKIE: Final = APIKeyCookie(
    name=cookies.SECURE,
    scheme_name="Session",
    auto_error=False,
    description="The cookie of `POST /api/v1/session`. What changes anything needs the header `X-CSRF-Token` "
    f"too. Over plain http, on the host itself, the cookie is `{cookies.PLAIN}`",
)
_CHALLENGE: Final = 'Bearer realm="headend"'


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. ``session`` where he came by one, ``secret`` being its secret."""

    principal: Principal
    session: OpenSession | None = None
    secret: str = field(default="", repr=False)


async def caller(
    request: Request,
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
    _cookie: Annotated[str | None, Depends(_COOKIE)],
    house: Annotated[Services, Depends(services)],
) -> Caller:
    """Who asks. 401 says only that what he brought is not good, never why: a guesser learns nothing."""
    if ended := house.refusals.ended(house.clock()):
        async with house.pool.connection() as connection:
            for one in ended:
                await of_minute(connection, one)
    secret: str | None
    if given is not None:
        secret = given.credentials
        found = await _by_bearer(house, secret)
        refused = "the token is unknown, expired or revoked: `headend token create` makes another"
        challenge = f'{_CHALLENGE}, error="invalid_token"'
    else:
        secret = cookies.session(request)
        if secret is None:
            await _audit_unknown(request, house, None)
            raise Unauthorized(
                "send a token: 'Authorization: Bearer <token>'; `headend token create` makes one. Browsers "
                "log in by POST /api/v1/session",
                headers={"WWW-Authenticate": _CHALLENGE},
            )
        found = await _by_session(house, secret, SessionKind.BROWSER)
        refused = "the session is over: log in again by POST /api/v1/session"
        challenge = _CHALLENGE
    if found is None:
        await _audit_unknown(request, house, secret)
        raise Unauthorized(refused, headers={"WWW-Authenticate": challenge})
    house.limits.of_principal(found.principal)
    if given is None and request.method not in SAFE:
        await _check_csrf(request, house, found)
    return found


async def _by_bearer(house: Services, secret: str) -> Caller | None:
    if secret.startswith(sessions.PREFIX):
        return await _by_session(house, secret, SessionKind.CLI)
    async with house.pool.connection() as connection:
        found = await principal_of_token(connection, secret, now=house.clock())
    return None if found is None else Caller(found)


async def _by_session(house: Services, secret: str, kind: SessionKind) -> Caller | None:
    async with house.pool.connection() as connection:
        found = await principal_of_session(
            connection,
            secret,
            kind,
            now=house.clock(),
            second_factor_roles=house.people.second_factor_roles,
        )
    return None if found is None else Caller(found[0], found[1], secret)


async def _check_csrf(request: Request, house: Services, asking: Caller) -> None:
    """A cookie is sent by whichever page asks; the header is not."""
    why = cookies.foreign(request)
    if why is None and not cookies.is_csrf_token(asking.secret, request.headers.get(cookies.CSRF_HEADER)):
        why = f"{cookies.CSRF_HEADER} is not that of this session: send the csrf_token of GET /api/v1/session"
    if why is not None:
        await _audit_refused(request, house, asking.principal, "CSRF")
        raise BadCsrf(why)


async def _audit_refused(request: Request, house: Services, asking: Principal, why: str) -> None:
    """What changes nothing is not recorded: readers ask thousands of times."""
    if request.method in SAFE:
        return
    async with house.pool.connection() as connection:
        await of_known(connection, request, asking.actor, why)


async def _audit_unknown(request: Request, house: Services, secret: str | None) -> None:
    """The same, of whoever brought nothing that is good."""
    if request.method in SAFE:
        return
    async with house.pool.connection() as connection:
        former = None if secret is None else await former_actor(connection, secret)
        await of_unknown(connection, request, former, house.refusals, now=house.clock())


def allowed(*any_of: Permission, limited: bool = False) -> Callable[..., Awaitable[Principal]]:
    """A dependency: the caller, if he has one of these permissions, ``areas`` being where he has those of
    them that he has. Whoever is limited to areas is refused unless ``limited``: then the operation minds
    `Principal.areas` itself.
    """
    needed = " or ".join(any_of)
    scope = scope_for(any_of)

    async def check(
        request: Request,
        asking: Annotated[Caller, Depends(caller)],
        house: Annotated[Services, Depends(services)],
    ) -> Principal:
        principal = asking.principal
        if not principal.permissions.intersection(any_of):
            await _audit_refused(request, house, principal, f"needs {needed}")
            raise Forbidden(
                f"{lacking(*any_of)}{_what_is_missing(asking, any_of)}",
                headers={
                    "WWW-Authenticate": f'{_CHALLENGE}, error="insufficient_scope", scope="{scope.value}"'
                },
            )
        narrowed = principal.at(*(one for one in any_of if principal.may(one)))
        if narrowed.areas is not None and not limited:
            await _audit_refused(request, house, principal, "limited to areas")
            raise Forbidden(
                f"{principal.actor} is limited to {', '.join(sorted(narrowed.areas)) or 'no area'}, and this "
                "goes beyond: it takes a role that is limited to no area"
            )
        return narrowed

    return check


def _what_is_missing(asking: Caller, any_of: Collection[Permission]) -> str:
    opened = asking.session
    if opened is None:
        return "; the token's scopes, or the roles of its owner, do not have it"
    if opened.must_change:
        return "; change the password first: POST /api/v1/session/password"
    if not opened.session.second_factor and any(
        ROLES[one.role].intersection(any_of) for one in opened.grants
    ):
        return "; roles that need a second factor count once it was shown: POST /api/v1/session/totp"
    return f"; the roles of {opened.login} do not have it"


#: Dependencies: the caller, if he may read, operate or administer everywhere.
Reader = Annotated[Principal, Depends(allowed(Permission.READ))]
Operator = Annotated[Principal, Depends(allowed(Permission.OPERATE))]
Admin = Annotated[Principal, Depends(allowed(Permission.ADMINISTER))]
#: The same of operations that mind `Principal.areas`.
ReaderWithin = Annotated[Principal, Depends(allowed(Permission.READ, limited=True))]
OperatorWithin = Annotated[Principal, Depends(allowed(Permission.OPERATE, limited=True))]
#: Whoever has a session, whatever he may do: to look at himself, to prove more, to leave.
Anybody = Annotated[Caller, Depends(caller)]


def actor(principal: Principal) -> str:
    """Who acts, as the audit log names it: ``token:3 nightly``, ``account:5 alice``."""
    return principal.actor
