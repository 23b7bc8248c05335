"""Bearer tokens with scopes: read < operate < admin. Every operation under /api/v1 names the one it needs."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Final

from fastapi import Depends
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.errors import Forbidden, Unauthorized
from api.services import Services, services
from headend.store import tokens
from headend.store.tokens import Scope, Token
from schemas.people import Permission, Principal

_BEARER: Final = HTTPBearer(
    auto_error=False, description="A token of `headend token create`, as `Authorization: Bearer <token>`"
)
_CHALLENGE: Final = 'Bearer realm="headend"'


async def _token(
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
    house: Annotated[Services, Depends(services)],
) -> Token:
    """The caller's token. 401 says only that it is not good, never why: a guesser learns nothing."""
    if given is None:
        raise Unauthorized(
            "send a token: 'Authorization: Bearer <token>'; `headend token create` makes one",
            headers={"WWW-Authenticate": _CHALLENGE},
        )
    async with house.pool.connection() as connection:
        found = await tokens.verify(connection, given.credentials, now=house.clock())
    if found is None:
        raise Unauthorized(
            "the token is unknown, expired or revoked; `headend token list` shows those that are valid",
            headers={"WWW-Authenticate": f'{_CHALLENGE}, error="invalid_token"'},
        )
    return found


def _require(scope: Scope) -> Callable[[Token], Awaitable[Token]]:
    async def check(token: Annotated[Token, Depends(_token)]) -> Token:
        if not token.allows(scope):
            raise Forbidden(
                f"this needs the scope {scope.value!r}; the token has {', '.join(sorted(token.scopes))}",
                headers={
                    "WWW-Authenticate": f'{_CHALLENGE}, error="insufficient_scope", scope="{scope.value}"'
                },
            )
        return token

    return check


_OPERATOR: Final = frozenset(Permission) - {Permission.ADMINISTER, Permission.PEOPLE, Permission.AUDIT}
_OF_SCOPES: Final = {
    Scope.READ: frozenset({Permission.READ}),
    Scope.OPERATE: _OPERATOR,
    Scope.ADMIN: frozenset(Permission),
}


def allowed(*any_of: Permission) -> Callable[[Token], Awaitable[Principal]]:
    """A dependency: the caller, if he has one of these permissions."""

    async def check(token: Annotated[Token, Depends(_token)]) -> Principal:
        has: frozenset[Permission] = frozenset().union(*(_OF_SCOPES[scope] for scope in token.scopes))
        if not has.intersection(any_of):
            raise Forbidden(f"this needs the permission {' or '.join(any_of)}")
        return Principal(actor(token), has)

    return check


#: Dependencies: the caller's token, if its scope reaches.
Reader = Annotated[Token, Depends(_require(Scope.READ))]
Operator = Annotated[Token, Depends(_require(Scope.OPERATE))]
Admin = Annotated[Token, Depends(_require(Scope.ADMIN))]


def actor(token: Token) -> str:
    """Who acts, as the audit log names it: ``token:3 nightly``."""
    return f"token:{token.token_id} {token.name}"
