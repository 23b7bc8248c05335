"""One campaign: by its number, for whoever may see it, and as it is told."""

from typing import Annotated, Final

from fastapi import Path, Query, Response

from api.campaigns.models import CampaignDetail
from api.errors import responses
from api.meters.lookup import meters_within
from api.services import Services
from headend.approvals.campaigns import subject_of
from headend.moment.campaign_feed import look
from headend.store import approvals, campaigns
from headend.store.errors import UnknownError
from headend.store.sql import Connection
from schemas.people import Principal

READ: Final = responses(400, 401, 403, 404, 422, 503)
Number = Annotated[int, Path(ge=1, le=2**63 - 1, description="the campaign's number", examples=[12])]
After = Annotated[str | None, Query(max_length=512, description="cursor of the last page")]


async def known(connection: Connection, campaign_id: int, asking: Principal) -> None:
    """404 where there is none, and, told alike, where not all of its meters are in the areas of who asks."""
    within = await meters_within(connection, asking)
    if within is not None and not await campaigns.is_within(connection, campaign_id, within):
        raise UnknownError(f"no campaign has the number {campaign_id}")
    await campaigns.find(connection, campaign_id)


async def told(house: Services, response: Response, number: int) -> CampaignDetail:
    """As of now, with its approval and the ETag for what is done to it next."""
    async with house.pool.connection() as connection:
        found = await look(connection, number)
        approval = await approvals.newest(connection, subject_of(number))
    response.headers["ETag"] = tag(found.campaign.version)
    return CampaignDetail.with_approval(found, approval)


def tag(version: int) -> str:
    """The ETag of a campaign in this version."""
    return f'"{version}"'
