"""The HTTP application: slices, middleware, OpenAPI. Made from services, without any global state."""

from importlib.metadata import version
from typing import Any, Final

from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute

from api import errors, health, metrics
from api.accounts import endpoints as accounts
from api.announcements import endpoints as announcements
from api.approvals import endpoints as approvals
from api.audit import endpoints as audit
from api.campaigns import course as campaign_course
from api.campaigns import endpoints as campaigns
from api.campaigns import steering as campaign_steering
from api.clocks import endpoints as clocks
from api.completeness import endpoints as completeness
from api.docs import endpoints as docs
from api.events import endpoints as events
from api.firmware import endpoints as firmware
from api.groups import endpoints as groups
from api.jobs import endpoints as jobs
from api.keys import endpoints as keys
from api.links import endpoints as links
from api.load_curves import endpoints as load_curves
from api.meters import endpoints as meters
from api.meters import why
from api.middleware import AddressLimit, BodyLimit, CleanText, SecureHeaders
from api.network import endpoints as network
from api.parameters import only_known
from api.points import endpoints as points
from api.programs import endpoints as programs
from api.quarantine import endpoints as quarantine
from api.reads import endpoints as reads
from api.registers import endpoints as registers
from api.schedules import endpoints as schedules
from api.services import Services
from api.session import endpoints as session
from api.session import oidc
from api.switching import endpoints as switching
from api.tags import endpoints as tags
from api.tariffs import endpoints as tariffs
from api.tokens import endpoints as tokens
from api.workers import endpoints as workers

_DESCRIPTION: Final = (
    "Smart meters, their load curves, registers and events. Send 'Authorization: Bearer <token>'; scopes are "
    "read < operate < admin, a person's token has what his roles allow of them. Browsers log in by POST "
    "/api/v1/session. Times are RFC 3339 with an offset, ranges are half-open [from, to), values are "
    "decimal strings exactly as metered. Every refusal is a problem of RFC 9457."
)
_SLICES: Final = (
    meters,
    why,
    load_curves,
    registers,
    events,
    reads,
    schedules,
    groups,
    tags,
    tariffs,
    jobs,
    programs,
    campaigns,
    campaign_course,
    campaign_steering,
    approvals,
    points,
    network,
    announcements,
    links,
    quarantine,
    clocks,
    completeness,
    switching,
    workers,
    firmware,
    audit,
    tokens,
    session,
    oidc,
    keys,
    accounts,
)


def _operation_id(route: APIRoute) -> str:
    return route.name


def create_app(services: Services) -> FastAPI:
    """The application over ``services``, which the caller opens before serving and closes after."""
    app = FastAPI(
        title="Headend",
        version=version("headend"),
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        generate_unique_id_function=_operation_id,
    )
    app.state.services = services
    app.include_router(health.router)
    app.include_router(metrics.router(public=services.metrics_public))
    for one in _SLICES:
        app.include_router(one.router, prefix="/api/v1", dependencies=[Depends(only_known)])
    app.include_router(docs.router)
    errors.install(app)
    app.add_middleware(BodyLimit)
    app.add_middleware(CleanText)
    app.add_middleware(AddressLimit)
    app.add_middleware(
        SecureHeaders
    )  # added last, it is the outermost: it dresses the refusals of the others too
    _tell_problems(app)
    return app


def _tell_problems(app: FastAPI) -> None:
    """OpenAPI says what is sent: problems as application/problem+json, and no other form of refusal."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            for item in document["paths"].values():
                for operation in item.values():
                    if "401" in operation["responses"]:  # whoever is known is counted
                        operation["responses"].setdefault("429", _too_many(operation["responses"]["401"]))
                    for status, answer in operation["responses"].items():
                        if status >= "400" and "content" in answer:
                            (told,) = answer["content"].values()
                            answer["content"] = {errors.PROBLEM_JSON: told}
            for unused in ("HTTPValidationError", "ValidationError"):
                document["components"]["schemas"].pop(unused, None)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _too_many(like: dict[str, Any]) -> dict[str, Any]:
    return {**like, "content": dict(like["content"]), "description": "Too Many Requests"}
