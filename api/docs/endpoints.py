"""GET /docs, to which GET / leads: a page of our own; the usual ones load scripts from a network."""

from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Response
from fastapi.responses import RedirectResponse

router = APIRouter(include_in_schema=False)

_TYPES: Final = {
    "index.html": "text/html; charset=utf-8",
    "docs.js": "text/javascript; charset=utf-8",
    "docs.css": "text/css; charset=utf-8",
}


def _page(name: str) -> Response:
    body = (files("api.docs") / "static" / name).read_bytes()
    return Response(body, media_type=_TYPES[name], headers={"Cache-Control": "no-cache"})


@router.get("/")
async def root() -> Response:
    """Whoever opens the address that `headend run` prints wants the page. Relative, for a proxy before us."""
    return RedirectResponse("docs")


@router.get("/docs")
async def index() -> Response:
    """The page."""
    return _page("index.html")


@router.get("/docs/docs.js")
async def script() -> Response:
    """Its script: the page's policy allows no inline one."""
    return _page("docs.js")


@router.get("/docs/docs.css")
async def style() -> Response:
    """Its style."""
    return _page("docs.css")
