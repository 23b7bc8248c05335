"""GET /health: whether this process can do its work. Open to all, so it tells nothing else."""

import asyncio
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict

from api.errors import Unavailable, responses
from api.services import Services, services

router = APIRouter(tags=["health"])

#: Seconds. A probe that waits longer is answered by its own deadline.
DEADLINE_S: Final = 3.0


class Health(BaseModel):
    """All is well; anything else is a problem with status 503."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ok"}]})

    status: Literal["ok"] = "ok"


@router.get("/health", summary="Whether the service works", responses=responses(503))
async def health(house: Annotated[Services, Depends(services)]) -> Health:
    """Asks the database for one row. No token needed."""
    try:
        async with asyncio.timeout(DEADLINE_S), house.pool.connection() as connection:
            await connection.execute("SELECT 1")
    except TimeoutError as exc:
        raise Unavailable(f"the database did not answer within {DEADLINE_S:g} s") from exc
    return Health()
