"""What commands that change meters share: a program is put forward, approved or waited for, and followed.

`headend switch disconnect`, `headend clock sync` and their like are a program and a choice of meters; the
rest is here, and the same for all of them.
"""

from typing import Final
from uuid import uuid4

from headend.approvals.policy import Policy
from headend.approvals.proposing import NotPermitted, Proposed, put_forward, refusals_audited
from headend.cli.campaign_follow import follow as followed
from headend.cli.campaign_view import (
    BAD,
    approval_card,
    approval_json,
    campaign_json,
    meter_json,
    meter_table,
    state_of,
    tell_meter,
    waves_table,
)
from headend.cli.shell import base
from headend.cli.terminal import CommandError, out, print_json
from headend.clock import utc_now
from headend.foundation import Base
from headend.house import procedures_of
from headend.moment.feed import SMALL
from headend.people.identity import cli_principal
from headend.programs.proposal import PlanError
from headend.store import campaign_views
from headend.store.approvals import Approval, ApprovalState
from headend.store.campaign_views import Named
from schemas.campaign import CampaignState, Plan
from schemas.program import Program

#: Exit status where a second person has to approve first.
WAITS: Final = 3
_SHOWN: Final = 20


async def submit(
    program: Program,
    plan: Plan,
    *,
    title: str,
    name: str | None = None,
    follow: bool = True,
    as_json: bool = False,
) -> int:
    """Put the program forward for the meters of the plan (`campaign_options.plan` makes one of options), and
    follow it to its end; the exit status.

    0: every meter is as it shall be. 1: some are not, or it was stopped. 3: it waits for a second person, and
    nothing was sent. Opens the database by itself. Raises CommandError where he may not, and as
    `headend.approvals.proposing.put_forward`.
    """
    async with base() as opened:
        return await submit_in(opened, program, plan, title=title, name=name, follow=follow, as_json=as_json)


async def submit_in(
    opened: Base,
    program: Program,
    plan: Plan,
    *,
    title: str,
    name: str | None = None,
    follow: bool = True,
    as_json: bool = False,
) -> int:
    """The same, over a database that is open."""
    made = await _put_forward(opened, program, plan, title=title, name=name or title)
    number = made.campaign.campaign_id
    own = made.approval if made.approval.state is ApprovalState.WAITING else None
    mass = made.mass if made.mass is not None and made.mass.state is ApprovalState.WAITING else None
    told = {"campaign": number, "state": made.campaign.state} | {
        name: None if one is None else approval_json(one)
        for name, one in (("approval", own), ("mass_approval", mass))
    }
    if own is not None:
        if as_json:
            print_json(told)
        else:
            out.print(approval_card(own))
            out.print(
                f"campaign {number} waits for another person, and nothing is sent before: "
                f"headend approvals approve {own.approval_id}"
            )
            _tell_mass(mass)
        return WAITS
    if not as_json:
        _tell_mass(mass)
    if not follow:
        if as_json:
            print_json(told)
        else:
            out.print(f"campaign {number} is {made.campaign.state}: headend campaign follow {number}")
        return 0
    return await follow_to_end(opened, number, as_json=as_json)


def _tell_mass(waiting: Approval | None) -> None:
    if waiting is not None:
        out.print(approval_card(waiting))
        out.print(
            f"it is a mass disconnection: until another person approves of that beside, no more than "
            f"{waiting.shown['allowed_an_hour']:,} customers are disconnected within an hour: "
            f"headend approvals approve {waiting.approval_id}"
        )


async def follow_to_end(opened: Base, number: int, *, as_json: bool = False) -> int:
    """Follow a campaign until it ends or is stopped, and tell what came of it; the exit status as of
    `submit`."""
    ended: list[Named] = []

    def on_meter(one: Named) -> None:
        ended.append(one)

    last = await followed(opened, number, on_meter, quiet=as_json)
    if last is None:
        raise CommandError(f"no campaign has the number {number}")
    if last.total > SMALL:  # of so many nobody told one by one
        async with opened.pool.connection() as connection:
            ended = await campaign_views.named(connection, number, limit=_SHOWN, states=BAD)
    if as_json:
        print_json(campaign_json(last) | {"meters": [meter_json(one) for one in ended]})
    elif last.total == 1 and ended:
        out.print(meter_table(ended[0]))
    else:
        for one in ended:
            tell_meter(one)
        out.print(waves_table(last))
    if not as_json:
        out.print(f"campaign {number} is {state_of(last.campaign)}")
    is_good = last.campaign.state is CampaignState.DONE and not any(last.totals.get(one) for one in BAD)
    return 0 if is_good else 1


async def _put_forward(opened: Base, program: Program, plan: Plan, *, title: str, name: str) -> Proposed:
    async with opened.pool.connection() as connection:
        principal = await cli_principal(connection, opened.settings)
    try:
        async with refusals_audited(opened.pool.connection, principal, program) as connection:
            return await put_forward(
                connection,
                program,
                plan,
                name=name,
                title=title,
                procedures=procedures_of(opened),
                principal=principal,
                policy=Policy.of(opened.settings),
                correlation_id=uuid4().hex,
                now=utc_now(),
            )
    except NotPermitted as error:
        raise CommandError(f"{error}; you are {principal.actor}") from error
    except PlanError as error:
        raise CommandError("\n".join(one.reason for one in error.wrong[:_SHOWN])) from error
