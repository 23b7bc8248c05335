"""API tokens: each person's own, and all of them for administrators. A secret is shown once, when its token
is made, and stored nowhere.

Whoever has an account makes tokens of that account and of no other: with one of somebody else's he could
approve of what he asked for himself, and with one of nobody's do what his roles do not allow.
"""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from api.auth import Anybody, Caller, allowed
from api.errors import BadValue, Forbidden, NotFound, responses
from api.services import Services, services
from api.shapes import Name
from api.strict_json import StrictRoute
from api.times import Instant, rfc3339
from headend.store import audit, tokens
from headend.store.errors import UnknownError
from headend.store.tokens import Scope, Token
from schemas.people import Permission

router = APIRouter(tags=["tokens"], route_class=StrictRoute)

_EXAMPLE: Final[dict[str, Any]] = {
    "id": 3,
    "name": "billing",
    "scopes": ["read"],
    "created_at": "2026-03-01T08:00:00Z",
    "expires_at": None,
    "revoked_at": None,
    "last_used_at": None,
    "account": None,
}


class TokenModel(BaseModel):
    """A token without its secret."""

    id: int
    name: str
    scopes: list[Scope]
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None = Field(description="to the minute")
    account: int | None = Field(description="number of the account whose it is; null: nobody's")

    @staticmethod
    def fields(token: Token) -> dict[str, Any]:
        times = ("created_at", "expires_at", "revoked_at", "last_used_at")
        told = {name: None if (at := getattr(token, name)) is None else rfc3339(at) for name in times}
        return {
            "id": token.token_id,
            "name": token.name,
            "scopes": list(token.scopes),
            "account": token.account_id,
            **told,
        }


class TokenList(BaseModel):
    """All tokens, oldest first, revoked ones too."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"tokens": [_EXAMPLE]}]})

    tokens: list[TokenModel]


class TokenBody(BaseModel):
    """A token to make; each scope includes those before it: read, operate, admin."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"name": "billing", "scopes": ["read"], "expires_at": "2027-03-01T00:00:00Z"}]
        },
    )

    name: Name
    scopes: list[Scope] = Field(min_length=1, max_length=3)
    expires_at: Instant | None = None


class TokenMade(TokenModel):
    """A token just made; ``token`` is its secret, shown this once."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_EXAMPLE, "token": "hdnd_..."}]})

    token: str


async def _keeper(request: Request, asking: Anybody, house: Annotated[Services, Depends(services)]) -> Caller:
    """A person within his session, for his own; whoever else, if he may see to people."""
    if asking.session is None:
        await allowed(Permission.PEOPLE)(request, asking, house)
    return asking


Keeper = Annotated[Caller, Depends(_keeper)]


@router.get("/tokens", summary="Tokens, without their secrets", responses=responses(400, 401, 403, 503))
async def list_tokens(asking: Keeper, house: Annotated[Services, Depends(services)]) -> TokenList:
    """Oldest first, revoked ones too: all for whoever sees to people, else one's own."""
    async with house.pool.connection() as connection:
        found = await tokens.list_all(connection)
    if not asking.principal.may(Permission.PEOPLE):
        found = [one for one in found if one.account_id == asking.principal.account]
    return TokenList(tokens=[TokenModel.model_validate(TokenModel.fields(one)) for one in found])


@router.post(
    "/tokens", summary="Make a token", status_code=201, responses=responses(400, 401, 403, 413, 422, 503)
)
async def create_token(
    asking: Keeper, house: Annotated[Services, Depends(services)], body: TokenBody
) -> TokenMade:
    """The answer holds the secret; it cannot be had again. One's own token may do what both its scopes and
    one's roles allow, as long as one has them, and approves of nothing."""
    if body.expires_at is not None and body.expires_at <= house.clock():
        raise BadValue.field("/expires_at", "lies in the past; leave it out for a token without an end")
    _check_is_proved(asking, house)
    async with house.pool.connection() as connection:
        made = await tokens.create(
            connection,
            name=body.name,
            scopes=body.scopes,
            expires_at=body.expires_at,
            account_id=asking.principal.account,
        )
        await audit.record(
            connection,
            actor=asking.principal.actor,
            action="token.create",
            object_=f"token:{made.token.token_id}",
            detail=body.model_dump(mode="json"),
        )
    return TokenMade.model_validate({**TokenModel.fields(made.token), "token": made.secret})


def _check_is_proved(asking: Caller, house: Services) -> None:
    """A token is worth what its owner proved when he made it."""
    opened = asking.session
    if opened is None:
        if asking.principal.account is not None:
            raise Forbidden("a person's tokens are made within a session, not by another token: log in")
        return
    unproved = [one for one in opened.grants if one.role in house.people.second_factor_roles]
    if opened.must_change or (unproved and not opened.session.second_factor):
        raise Forbidden(
            "change the password, and show a second factor, before making tokens: POST "
            "/api/v1/session/password, /api/v1/session/totp"
        )


@router.delete(
    "/tokens/{token_id}",
    summary="Revoke a token",
    status_code=204,
    responses=responses(400, 401, 403, 404, 422, 503),
)
async def revoke_token(
    asking: Keeper,
    house: Annotated[Services, Depends(services)],
    token_id: Annotated[int, Path(ge=1, le=2**31 - 1, description="the token's number", examples=[3])],
) -> None:
    """It ends at once; revoking it again has no effect."""
    principal = asking.principal
    async with house.pool.connection() as connection:
        try:
            token = await tokens.get(connection, token_id)
        except UnknownError as exc:
            raise NotFound(f"no token has the number {token_id}") from exc
        if not principal.may(Permission.PEOPLE) and token.account_id != principal.account:
            raise NotFound(f"no token of yours has the number {token_id}")
        await tokens.revoke(connection, token_id, now=house.clock())
        await audit.record(
            connection, actor=principal.actor, action="token.revoke", object_=f"token:{token_id}"
        )
