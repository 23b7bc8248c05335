"""API tokens by their administrators. A secret is shown once, when its token is made, and stored nowhere."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, ConfigDict, Field

from api.auth import Admin, actor
from api.errors import BadValue, NotFound, responses
from api.services import Services, services
from api.shapes import Name
from api.strict_json import StrictRoute
from api.times import Instant, rfc3339
from headend.store import audit, tokens
from headend.store.errors import UnknownError
from headend.store.tokens import Scope, Token

router = APIRouter(tags=["tokens"], route_class=StrictRoute)

_EXAMPLE: Final[dict[str, Any]] = {
    "id": 3,
    "name": "billing",
    "scopes": ["read"],
    "created_at": "2026-03-01T08:00:00Z",
    "expires_at": None,
    "revoked_at": None,
    "last_used_at": None,
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

    @staticmethod
    def fields(token: Token) -> dict[str, Any]:
        times = ("created_at", "expires_at", "revoked_at", "last_used_at")
        told = {name: None if (at := getattr(token, name)) is None else rfc3339(at) for name in times}
        return {"id": token.token_id, "name": token.name, "scopes": list(token.scopes), **told}


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


@router.get("/tokens", summary="All tokens, without their secrets", responses=responses(400, 401, 403, 503))
async def list_tokens(_token: Admin, house: Annotated[Services, Depends(services)]) -> TokenList:
    """Oldest first, revoked ones too."""
    async with house.pool.connection() as connection:
        found = await tokens.list_all(connection)
    return TokenList(tokens=[TokenModel.model_validate(TokenModel.fields(one)) for one in found])


@router.post(
    "/tokens", summary="Make a token", status_code=201, responses=responses(400, 401, 403, 413, 422, 503)
)
async def create_token(
    token: Admin, house: Annotated[Services, Depends(services)], body: TokenBody
) -> TokenMade:
    """The answer holds the secret; it cannot be had again."""
    if body.expires_at is not None and body.expires_at <= house.clock():
        raise BadValue.field("/expires_at", "lies in the past; leave it out for a token without an end")
    async with house.pool.connection() as connection:
        made = await tokens.create(connection, name=body.name, scopes=body.scopes, expires_at=body.expires_at)
        await audit.record(
            connection,
            actor=actor(token),
            action="token.create",
            object_=f"token:{made.token.token_id}",
            detail=body.model_dump(mode="json"),
        )
    return TokenMade.model_validate({**TokenModel.fields(made.token), "token": made.secret})


@router.delete(
    "/tokens/{token_id}",
    summary="Revoke a token",
    status_code=204,
    responses=responses(400, 401, 403, 404, 422, 503),
)
async def revoke_token(
    token: Admin,
    house: Annotated[Services, Depends(services)],
    token_id: Annotated[int, Path(ge=1, le=2**31 - 1, description="the token's number", examples=[3])],
) -> None:
    """It ends at once; revoking it again has no effect."""
    async with house.pool.connection() as connection:
        try:
            await tokens.revoke(connection, token_id, now=house.clock())
        except UnknownError as exc:
            raise NotFound(f"no token has the number {token_id}") from exc
        await audit.record(connection, actor=actor(token), action="token.revoke", object_=f"token:{token_id}")
