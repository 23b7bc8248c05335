"""GET /metrics: figures for Prometheus, with a token of scope read, or open to all if the settings say so."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends
from fastapi.responses import PlainTextResponse
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from api.auth import Reader
from api.errors import responses
from api.services import Services, services

_EXAMPLE: Final = 'headend_conversations_total{driver="dlms",outcome="answered"} 4711.0\n'


class _Figures(PlainTextResponse):
    media_type = "text/plain"

    def init_headers(self, headers: object = None) -> None:
        """Prometheus asks for the version of its format in the type."""
        super().init_headers({"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})


async def _metrics(house: Annotated[Services, Depends(services)]) -> PlainTextResponse:
    """What this process has done since it started, in Prometheus' text format. No figure is of one meter."""
    return _Figures(house.metrics())


async def _metrics_with_token(
    token: Reader, house: Annotated[Services, Depends(services)]
) -> PlainTextResponse:
    """What this process has done since it started, in Prometheus' text format. No figure is of one meter."""
    return _Figures(house.metrics())


def router(*, public: bool) -> APIRouter:
    """The one operation; ``public``: without a token, so that it answers while the database is away."""
    made = APIRouter(tags=["metrics"])
    made.add_api_route(
        "/metrics",
        _metrics if public else _metrics_with_token,
        name="metrics",
        summary="Figures for Prometheus",
        response_class=_Figures,
        responses={
            200: {"content": {"text/plain": {"example": _EXAMPLE}}},
            **(responses(500) if public else responses(401, 403, 503)),
        },
    )
    return made
