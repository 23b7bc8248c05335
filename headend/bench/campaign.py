"""A campaign of a benchmark: its policy asks for nobody, for whoever runs a benchmark owns the field."""

from typing import Final

from headend.approvals.policy import Policy
from headend.approvals.proposing import put_forward
from headend.bench.night.county import County
from headend.clock import utc_now
from headend.house import procedures_of
from schemas.campaign import Plan
from schemas.people import Permission, Principal
from schemas.program import Program

_BENCH: Final = Principal("bench", frozenset(Permission))


async def begun(land: County, program: Program, plan: Plan) -> int:
    """Put it forward, approved of by the policy; its number. Raises as `put_forward`."""
    async with land.pool.connection() as connection:
        made = await put_forward(
            connection, program, plan, name="bench", title="bench", procedures=procedures_of(land.base),
            principal=_BENCH, policy=Policy(frozenset()), correlation_id="bench", now=utc_now(),
        )  # fmt: skip
    return made.campaign.campaign_id
