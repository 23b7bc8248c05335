"""Bodies in which each name stands once. JSON leaves open which of two values counts, and a proxy, a log or a
person may have read the other one.
"""

import json
from collections.abc import Callable, Coroutine
from typing import Any, Final

from fastapi import Request, Response
from fastapi.routing import APIRoute

#: Characters of a name that a refusal repeats.
_TOLD: Final = 64


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise json.JSONDecodeError(f"the name {name[:_TOLD]!r} is given twice in one object", "", 0)
        found[name] = value
    return found


class _StrictRequest(Request):
    """A request whose body is refused where an object has a name twice."""

    async def json(self) -> Any:
        """The body. Raises JSONDecodeError, which FastAPI tells as json_invalid."""
        return json.loads(await self.body(), object_pairs_hook=_once)


class StrictRoute(APIRoute):
    """The class of every route that takes a body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """As FastAPI's, over a `_StrictRequest`."""
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return strict
