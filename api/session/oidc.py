"""The way in by the provider of identities (OpenID Connect), for browsers."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import RedirectResponse

from api import cookies
from api.errors import NotFound, Unauthorized, Unavailable, responses
from api.services import Services, services
from api.session.endpoints import check_way
from headend.people.oidc import PATIENCE, Arrived, Provider, ProviderAway, Refused

router = APIRouter(tags=["session"])

_BACK: Final = "/api/v1/session/oidc"
_AWAY: Final = {"Retry-After": "30"}
Text = Annotated[str | None, Query(max_length=4096)]


@router.get(
    _BACK.removeprefix("/api/v1"),
    summary="Log in at the provider of identities",
    status_code=303,
    response_class=RedirectResponse,
    responses=responses(400, 403, 404, 422, 429, 503),
)
async def begin_oidc(request: Request, house: Annotated[Services, Depends(services)]) -> Response:
    """Sends the browser there; it comes back to ``/session/oidc/callback``. 404 without a provider."""
    check_way(request, house)
    try:
        begun = await _provider(house).begin(house.pool.connection, now=house.clock())
    except ProviderAway as error:
        raise Unavailable(str(error), headers=_AWAY) from error
    answer = RedirectResponse(begun.url, 303)
    # Lax: the provider's page sends the browser back.
    answer.set_cookie(
        _cookie(request),
        begun.binding,
        max_age=int(PATIENCE.total_seconds()),
        path=_BACK,
        secure=cookies.is_https(request),
        httponly=True,
        samesite="lax",
    )
    return answer


@router.get(
    f"{_BACK.removeprefix('/api/v1')}/callback",
    summary="Come back from the provider of identities",
    status_code=303,
    response_class=RedirectResponse,
    responses=responses(400, 401, 403, 404, 422, 429, 503),
)
async def finish_oidc(
    request: Request,
    house: Annotated[Services, Depends(services)],
    state: Annotated[str, Query(max_length=4096, description="as it was sent there")],
    code: Annotated[Text, Query(description="what the tokens are had for")] = None,
    error: Annotated[Text, Query(description="why the provider refused")] = None,
    error_description: Annotated[Text, Query(description="the same in its words; not shown")] = None,
    iss: Annotated[Text, Query(description="who answers (RFC 9207)")] = None,
    session_state: Annotated[Text, Query(description="not used")] = None,
    scope: Annotated[Text, Query(description="not used")] = None,
) -> Response:
    """The session comes as a cookie, and the browser goes to the API's description. An account is made at the
    first log-in; it has the roles that the provider's claims are worth here, else none."""
    check_way(request, house)
    came = Arrived(
        state=state,
        code=code,
        error=error,
        issuer=iss,
        binding=request.cookies.get(_cookie(request)),
        address=None if request.client is None else request.client.host,
        user_agent=request.headers.get("User-Agent"),
    )
    now = house.clock()
    try:
        issued = await _provider(house).finish(house.pool.connection, house.people, came, now=now)
    except Refused as refused:
        raise Unauthorized(str(refused), headers={"WWW-Authenticate": 'Session realm="headend"'}) from refused
    except ProviderAway as away:
        raise Unavailable(str(away), headers=_AWAY) from away
    answer = RedirectResponse("/docs", 303)
    answer.delete_cookie(_cookie(request), path=_BACK)
    cookies.give(request, answer, issued.secret, now=now, until=issued.expires_at)
    return answer


def _provider(house: Services) -> Provider:
    if house.oidc is None:
        raise NotFound(
            "no provider of identities is set up: oidc_issuer names one; POST /api/v1/session logs in"
        )
    return house.oidc


def _cookie(request: Request) -> str:
    return "__Secure-headend-oidc" if cookies.is_https(request) else "headend-oidc"
