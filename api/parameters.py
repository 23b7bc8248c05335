"""Unknown query parameters are refused: to ignore a misspelt one is to answer another question."""

from fastapi import Request
from fastapi.dependencies.models import Dependant

from api.errors import BadValue, Place


async def only_known(request: Request) -> None:
    """A dependency of every operation. Raises BadValue naming what is known."""
    dependant = getattr(request.scope.get("route"), "dependant", None)
    if not isinstance(dependant, Dependant):
        return
    known = _names(dependant)
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        may_be = f"known are {', '.join(sorted(known))}" if known else "this operation has none"
        places = [Place(parameter=name, detail=f"no such query parameter; {may_be}") for name in unknown]
        raise BadValue(f"{', '.join(unknown)}: no such query parameter; {may_be}", places=places)


def _names(dependant: Dependant) -> frozenset[str]:
    own = frozenset(field.alias for field in dependant.query_params)
    return own.union(*(_names(part) for part in dependant.dependencies))
