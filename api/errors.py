"""Every refusal leaves as RFC 9457 problem details; HTTP status codes exist in this package only.

``type`` is a relative reference (``/problems/<slug>``) resolved against the server, ``title`` is the same for
each problem of a type, ``detail`` says what to change, ``errors`` lists the places (JSON pointer of the body,
or the name of the parameter). Problems of an exchange with a meter add ``fault`` (ours, peer, link) and
``stage``.
"""

import http
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.routing import compile_path

from headend.store.errors import ConflictError, UnavailableError, UnknownError
from schemas.failure import Stage
from schemas.meter import LifeCycleError

log = logging.getLogger(__name__)

PROBLEM_JSON: Final = "application/problem+json"

#: When to come back, in seconds.
_LATER: Final = {"Retry-After": "5"}


class Place(BaseModel):
    """What is wrong, and where: ``pointer`` into the body, ``parameter`` of path, query or header."""

    pointer: str | None = Field(default=None, description="JSON pointer (RFC 6901) into the request's body")
    parameter: str | None = Field(default=None, description="name of the path, query or header parameter")
    detail: str


class Problem(BaseModel):
    """RFC 9457 problem details, as sent with media type application/problem+json."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "/problems/bad-request-value",
                    "title": "A value of the request cannot be used",
                    "status": 422,
                    "detail": "from: '2026-03-01T00:00:00' has no UTC offset; append Z or +01:00",
                    "instance": "/api/v1/meters/SIM00000001/load-curve",
                    "errors": [
                        {
                            "parameter": "from",
                            "detail": "'2026-03-01T00:00:00' has no UTC offset; append Z or +01:00",
                        }
                    ],
                }
            ]
        }
    )

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: list[Place] | None = None
    fault: str | None = Field(
        default=None, description="whose fault a failed exchange is: ours, peer or link"
    )
    stage: Stage | None = Field(default=None, description="where an exchange with a meter failed")


class ApiError(Exception):
    """A refusal by this API. ``slug`` and ``title`` name the type of problem, ``detail`` this case of it."""

    status = 500
    slug = "internal-error"
    title = "The server failed"

    def __init__(
        self, detail: str, *, places: Sequence[Place] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.places = tuple(places)
        self.headers = dict(headers or {})


class BadValue(ApiError):
    """422: a parameter or a field of the body holds what cannot be used."""

    status, slug, title = 422, "bad-request-value", "A value of the request cannot be used"

    @classmethod
    def parameter(cls, name: str, detail: str) -> "BadValue":
        return cls(f"{name}: {detail}", places=[Place(parameter=name, detail=detail)])

    @classmethod
    def field(cls, pointer: str, detail: str) -> "BadValue":
        return cls(f"{pointer}: {detail}", places=[Place(pointer=pointer, detail=detail)])


class BadRequest(ApiError):
    """400: the request as such cannot be understood."""

    status, slug, title = 400, "bad-request", "The request cannot be understood"


class Unauthorized(ApiError):
    """401: no token or session, or one that is unknown, expired or revoked; which of these is not told."""

    status, slug, title = 401, "unauthorized", "A valid token, session or log-in is needed"


class Forbidden(ApiError):
    """403: who asks is known, and may not do this, or not here."""

    status, slug, title = 403, "missing-scope", "The token lacks a scope, or the person a role"


class BadCsrf(ApiError):
    """403: the session is good, and the request may be another site's doing."""

    status, slug, title = 403, "csrf", "The request is not known to come from our own page"


class TooMany(ApiError):
    """429: too many requests, or too many log-ins that failed."""

    status, slug, title = 429, "too-many-requests", "Too many requests"


class FourEyes(ApiError):
    """403: it takes another person, or one with an account."""

    status, slug, title = 403, "four-eyes", "Another person has to decide"


class NotFound(ApiError):
    """404: no such meter, point or token."""

    status, slug, title = 404, "not-found", "There is no such thing"


class Conflict(ApiError):
    """409: the request is well formed and at odds with what is stored."""

    status, slug, title = 409, "conflict", "The request contradicts the present state"


class Stale(ApiError):
    """412: what the caller looked at has changed since."""

    status, slug, title = 412, "changed-since", "The thing was changed by somebody else"


class Unavailable(ApiError):
    """503: the database cannot be had now."""

    status, slug, title = 503, "unavailable", "The service cannot work at present"


class NoAnswer(ApiError):
    """504: nobody came to the meter in time."""

    status, slug, title = 504, "meter-timeout", "The meter did not answer in time"


class MeterFailed(ApiError):
    """A conversation with a meter has failed: the status follows from its stage."""

    def __init__(self, stage: Stage | None, detail: str, fault: str | None) -> None:
        super().__init__(detail)
        self.status, self.slug, self.title = _FAILED.get(stage, (500, ApiError.slug, ApiError.title))
        self.stage, self.fault = stage, fault


class TooLarge(ApiError):
    """413: the body is over the limit."""

    status, slug, title = 413, "body-too-large", "The request's body is too large"


_LINK: Final = (502, "meter-link", "The link to the meter failed")
_REFUSED: Final = (502, "meter-refused", "The meter refused")
_SECURITY: Final = (502, "meter-security", "The meter's protection does not hold")
#: Status, slug and title of a failed conversation: peer's and link's faults are a gateway's.
_FAILED: Final[Mapping[Stage | None, tuple[int, str, str]]] = {
    Stage.DNS: _LINK,
    Stage.CONNECT: _LINK,
    Stage.GATEWAY: _LINK,
    Stage.TIMEOUT: (NoAnswer.status, NoAnswer.slug, NoAnswer.title),
    Stage.ASSOCIATION: _REFUSED,
    Stage.ACCESS: _REFUSED,
    Stage.COUNTER: _SECURITY,
    Stage.CIPHER: _SECURITY,
    Stage.DECODE: (502, "meter-protocol", "The meter's answer breaks the protocol"),
    Stage.SETTINGS: (409, "meter-settings", "The meter cannot be read as it is set up here"),
}


def problem(
    request: Request,
    *,
    status: int,
    slug: str,
    title: str,
    detail: str,
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> Response:
    """One problem as a response; ``more`` are extension members, left out where None or empty."""
    body = {
        "type": f"/problems/{slug}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": request.url.path,
        **{name: value for name, value in more.items() if value},
    }
    return JSONResponse(body, status_code=status, headers=dict(headers or {}), media_type=PROBLEM_JSON)


def _pointer(location: Sequence[Any]) -> str:
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in location)


def _within(body: Any, location: Sequence[Any], *, missing: bool) -> list[Any]:
    """The path of an error without what the framework adds to it: the kinds of tagged unions."""
    path: list[Any] = []
    for number, part in enumerate(location):
        is_last = number == len(location) - 1
        if part in body if isinstance(body, dict) else isinstance(body, list) and part in range(len(body)):
            body = body[part]
        elif isinstance(body, dict) and not (is_last and missing):
            continue
        path.append(part)
    return path


def _place(error: Mapping[str, Any], body: Any) -> Place:
    where, *rest = error["loc"]
    detail = str(error["msg"]).removeprefix("Value error, ")  # the framework's word for a check of ours
    if where == "body":
        within = _within(body, rest, missing=error["type"] == "missing")
        return Place(pointer=_pointer(within), detail=detail)
    return Place(parameter=str(rest[0]) if rest else str(where), detail=detail)


def _methods(request: Request) -> str:
    """The methods of a path, of all operations together: the framework tells those of the first alone."""
    found: set[str] = set()
    for template, operations in request.app.openapi()["paths"].items():
        if compile_path(template)[0].match(request.url.path):
            found.update(method.upper() for method in operations)
    return ", ".join(sorted(found))


def install(app: FastAPI) -> None:
    """Register the handlers, so that no refusal leaves in any other form."""

    @app.exception_handler(ApiError)
    async def _api_error(request: Request, exc: ApiError) -> Response:
        return problem(
            request,
            status=exc.status,
            slug=exc.slug,
            title=exc.title,
            detail=exc.detail,
            headers=exc.headers,
            errors=[p.model_dump(exclude_none=True) for p in exc.places],
            **({"fault": exc.fault, "stage": exc.stage} if isinstance(exc, MeterFailed) else {}),
        )

    @app.exception_handler(UnknownError)
    async def _unknown(request: Request, exc: UnknownError) -> Response:
        return await _api_error(request, NotFound(str(exc)))

    @app.exception_handler(ConflictError)
    @app.exception_handler(LifeCycleError)
    async def _conflict(request: Request, exc: Exception) -> Response:
        return await _api_error(request, Conflict(str(exc)))

    @app.exception_handler(UnavailableError)
    async def _unavailable(request: Request, exc: Exception) -> Response:
        log.error("%s %s: no database: %s", request.method, request.url.path, type(exc).__name__)
        return await _api_error(
            request, Unavailable("the database does not answer; try again", headers=_LATER)
        )

    @app.exception_handler(RequestValidationError)
    async def _validation(request: Request, exc: RequestValidationError) -> Response:
        errors = exc.errors()
        if errors and errors[0]["type"] == "json_invalid":
            return problem(
                request,
                status=400,
                slug=BadRequest.slug,
                title=BadRequest.title,
                detail=f"the body is not JSON: {errors[0].get('ctx', {}).get('error', errors[0]['msg'])}",
            )
        places = [_place(e, exc.body) for e in errors]
        return problem(
            request,
            status=422,
            slug=BadValue.slug,
            title=BadValue.title,
            detail="; ".join(f"{p.parameter or p.pointer or 'body'}: {p.detail}" for p in places),
            errors=[p.model_dump(exclude_none=True) for p in places],
        )

    @app.exception_handler(HTTPException)
    async def _http(request: Request, exc: HTTPException) -> Response:
        if exc.status_code == TooLarge.status:  # the limit's way through the framework's reader of bodies
            return await _api_error(request, TooLarge(str(exc.detail)))
        phrase = http.HTTPStatus(exc.status_code).phrase
        headers = dict(exc.headers or {})
        if exc.status_code == 405 and (methods := _methods(request)):
            headers["Allow"] = methods
        allowed = headers.get("Allow", "other methods")
        detail = {
            404: "no such path; /openapi.json lists them all",
            405: f"this path takes {allowed}, not {request.method}",
        }.get(exc.status_code, str(exc.detail))
        return problem(
            request,
            status=exc.status_code,
            slug=phrase.lower().replace(" ", "-"),
            title=phrase,
            detail=detail,
            headers=headers,
        )

    # The outermost boundary: a defect of ours is logged with its trace and told without it.
    @app.exception_handler(Exception)
    async def _defect(request: Request, exc: Exception) -> Response:
        log.error("%s %s failed", request.method, request.url.path, exc_info=exc)
        return problem(
            request,
            status=500,
            slug=ApiError.slug,
            title=ApiError.title,
            detail="an unexpected error; see the log",
        )


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI entries of the problems that an operation can answer with."""
    return {
        status: {
            "model": Problem,
            "description": http.HTTPStatus(status).phrase,
        }
        for status in statuses
    }
