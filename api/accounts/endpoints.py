"""Accounts of people, by their administrators. Credentials of others are set on the host alone: whoever
could set them here could approve of what he asked for himself.
"""

import secrets
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from api import paging
from api.auth import allowed
from api.errors import responses
from api.services import Services, services
from api.shapes import Limit
from api.strict_json import StrictRoute
from api.times import rfc3339
from headend.people import changes
from headend.people.role_change import ask_roles
from headend.store import accounts
from headend.store.accounts import Account
from schemas.people import LOGIN_PATTERN, AccountState, Grant, Permission, Principal
from schemas.text import Name

router = APIRouter(tags=["accounts"], route_class=StrictRoute)

_EXAMPLE: Final[dict[str, Any]] = {
    "login": "alice",
    "account": 5,
    "title": "Alice Example",
    "state": "active",
    "roles": ["operator:north", "viewer"],
    "second_factor_since": "2026-03-01T08:00:00Z",
    "has_password": True,
    "oidc_issuer": None,
    "created_at": "2026-02-01T08:00:00Z",
}

LoginPath = Annotated[
    str, Path(pattern=LOGIN_PATTERN, max_length=64, description="the account's login", examples=["alice"])
]
People = Annotated[Principal, Depends(allowed(Permission.PEOPLE))]


def _grant(text: str) -> str:
    return str(Grant.parse(text))


GrantText = Annotated[str, Field(min_length=1, max_length=160), AfterValidator(_grant)]


class AccountModel(BaseModel):
    """An account, without its secrets."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    login: str
    account: int = Field(description="its number, as in the audit trail")
    title: str = Field(description="how the person is called")
    state: AccountState
    roles: list[str] = Field(description="role, or role:area (a group's name or a station's code)")
    second_factor_since: str | None
    has_password: bool
    oidc_issuer: str | None = Field(description="the provider of identities that it logs in by")
    created_at: str

    @staticmethod
    def fields(one: Account) -> dict[str, Any]:
        return {
            "login": one.login,
            "account": one.account_id,
            "title": one.title,
            "state": one.state,
            "roles": [str(grant) for grant in one.grants],
            "second_factor_since": None if one.totp_since is None else rfc3339(one.totp_since),
            "has_password": one.has_password,
            "oidc_issuer": one.oidc_issuer,
            "created_at": rfc3339(one.created_at),
        }

    @classmethod
    def of(cls, one: Account) -> "AccountModel":
        return cls.model_validate(cls.fields(one))


class AccountPage(BaseModel):
    """Accounts in order of logins; ``next`` is the cursor of the next page, null on the last."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"accounts": [_EXAMPLE], "next": None}]})

    accounts: list[AccountModel]
    next: str | None


class AccountBody(BaseModel):
    """An account to make."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"login": "alice", "title": "Alice Example"}]}
    )

    login: Annotated[str, Field(pattern=LOGIN_PATTERN, max_length=64)]
    title: Name


class AccountMade(AccountModel):
    """An account just made; ``password`` is shown this once and changed at the first log-in."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**_EXAMPLE, "password": "Zb3k..."}]})

    password: str


class StateBody(BaseModel):
    """Whether it may log in."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"state": "disabled"}]})

    state: AccountState


class RolesBody(BaseModel):
    """All roles that it shall have."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"roles": ["operator:north", "viewer"]}]}
    )

    roles: list[GrantText] = Field(max_length=200)


class RolesAnswer(BaseModel):
    """The account as it is now, and the number of the approval that waits; null: it has these roles."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"account": _EXAMPLE, "approval": 17}]})

    account: AccountModel
    approval: int | None


@router.get("/accounts", summary="Accounts, paged", responses=responses(400, 401, 403, 422, 503))
async def list_accounts(
    _people: People,
    house: Annotated[Services, Depends(services)],
    request: Request,
    response: Response,
    limit: Limit = 100,
    after: Annotated[str | None, Query(max_length=512, description="cursor of the last page")] = None,
) -> AccountPage:
    """In order of logins. ``next`` in the answer and the Link header lead to the next page."""
    last = None if after is None else paging.decode(after, str)[0]
    async with house.pool.connection() as connection:
        found = await accounts.page(connection, limit=limit + 1, after=last)
    page = found[:limit]
    cursor = paging.encode([page[-1].login]) if len(found) > limit else None
    paging.link_next(request, response, cursor)
    return AccountPage(accounts=[AccountModel.of(one) for one in page], next=cursor)


@router.post(
    "/accounts",
    summary="Make an account",
    status_code=201,
    responses=responses(400, 401, 403, 409, 413, 422, 503),
)
async def create_account(
    people: People, house: Annotated[Services, Depends(services)], body: AccountBody
) -> AccountMade:
    """Without roles. The answer holds a first password, which its owner changes before anything else."""
    password = secrets.token_urlsafe(15)
    async with house.pool.connection() as connection:
        made = await changes.create(
            connection,
            house.people,
            login=body.login,
            title=body.title,
            password=password,
            must_change=True,
            actor=people.actor,
            now=house.clock(),
        )
    return AccountMade.model_validate({**AccountModel.fields(made), "password": password})


@router.get("/accounts/{login}", summary="One account", responses=responses(400, 401, 403, 404, 422, 503))
async def get_account(
    _people: People, house: Annotated[Services, Depends(services)], login: LoginPath
) -> AccountModel:
    """Without its secrets."""
    async with house.pool.connection() as connection:
        return AccountModel.of(await accounts.by_login(connection, login))


@router.patch(
    "/accounts/{login}",
    summary="Lock an account, disable it, or let it in again",
    responses=responses(400, 401, 403, 404, 409, 413, 422, 503),
)
async def change_account(
    people: People, house: Annotated[Services, Depends(services)], login: LoginPath, body: StateBody
) -> AccountModel:
    """Locked or disabled, its sessions end, its tokens do nothing, at once. Never the last administrator."""
    async with house.pool.connection() as connection:
        account = await accounts.by_login(connection, login)
        await changes.set_state(connection, account, body.state, actor=people.actor, now=house.clock())
        return AccountModel.of(await accounts.by_login(connection, login))


@router.put(
    "/accounts/{login}/roles",
    summary="Ask for other roles of an account",
    responses={
        202: {"model": RolesAnswer, "description": "A second person has to approve"},
        **responses(400, 401, 403, 404, 409, 413, 422, 503),
    },
)
async def change_roles(
    people: People,
    house: Annotated[Services, Depends(services)],
    response: Response,
    login: LoginPath,
    body: RolesBody,
) -> RolesAnswer:
    """These and no others. 202: it has them once a second person approves, by /api/v1/approvals; 409 where
    another change waits, or an area is neither a group nor a station."""
    async with house.pool.connection() as connection:
        account = await accounts.by_login(connection, login)
        waiting = await ask_roles(
            connection,
            account,
            [Grant.parse(one) for one in body.roles],
            people,
            policy=house.policy,
            now=house.clock(),
        )
        now = await accounts.by_login(connection, login)
    response.status_code = 200 if waiting is None else 202
    return RolesAnswer(
        account=AccountModel.of(now), approval=None if waiting is None else waiting.approval_id
    )


@router.delete(
    "/accounts/{login}/sessions",
    summary="End all sessions of an account",
    status_code=204,
    responses=responses(400, 401, 403, 404, 422, 503),
)
async def end_sessions(
    people: People, house: Annotated[Services, Depends(services)], login: LoginPath
) -> None:
    """At once. Its tokens are revoked one by one."""
    async with house.pool.connection() as connection:
        account = await accounts.by_login(connection, login)
        await changes.end_sessions(connection, account, actor=people.actor, now=house.clock())
