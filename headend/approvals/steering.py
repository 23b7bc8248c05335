"""What people do to a campaign that is there: pause it, let it go on, end it. Who may not is told, and
audited."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from headend.approvals import four_eyes
from headend.approvals.campaigns import subject_of
from headend.programs import control
from headend.session.access import Connect
from headend.store import areas, audit, campaigns, programs
from headend.store.campaigns import Campaign
from headend.store.sql import Connection
from schemas.people import OF_PROGRAM, Permission, Principal


class Steering(StrEnum):
    """What is done to it."""

    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"


_CONTROL: Final = {
    Steering.PAUSE: control.pause,
    Steering.RESUME: control.resume,
    Steering.ABORT: control.abort,
}


class MayNot(Exception):
    """He has not the permission that it takes."""


class ChangedSince(Exception):
    """The campaign is not as it was when it was looked at."""


@dataclass(frozen=True, slots=True)
class Steer:
    """What shall be done to which campaign, and why. ``version``: that of the campaign that was looked at;
    None: whatever it is now."""

    campaign_id: int
    what: Steering
    reason: str
    version: int | None = None


async def steer(connect: Connect, asked: Steer, principal: Principal) -> Campaign:
    """Do it; the campaign as it is then.

    It takes the permission of the campaign's kind; to pause or to end it, that of the emergency stop will do.
    Whoever has it in areas alone, moves campaigns for none but their meters, as these are now.
    Raises MayNot (audited), ChangedSince, UnknownError, ConflictError.
    """
    number = asked.campaign_id
    async with connect() as connection:
        campaign = await campaigns.lock(connection, number)
        kind = (await programs.find(connection, campaign.program_id)).kind
        enough = {OF_PROGRAM[kind]} if asked.what is Steering.RESUME else {OF_PROGRAM[kind], Permission.STOP}
        why = await _why_not(connection, number, asked.what, enough, principal)
        if why is None:
            if asked.version is not None and asked.version != campaign.version:
                raise ChangedSince(f"campaign {number} was changed since it was looked at: look again")
            done = await _CONTROL[asked.what](connection, number, actor=principal.actor, reason=asked.reason)
            if asked.what is Steering.ABORT:
                why = f"the campaign was ended: {asked.reason}"
                await four_eyes.void(connection, subject_of(number), reason=why, actor=principal.actor)
            return done
        await audit.record(
            connection,
            actor=principal.actor,
            action="campaign.refused",
            object_=subject_of(number),
            detail={"asked": asked.what, "why": why},
        )
    raise MayNot(why)


async def _why_not(
    connection: Connection, number: int, what: Steering, enough: set[Permission], principal: Principal
) -> str | None:
    has = [one for one in enough if principal.may(one)]
    if not has:
        return f"to {what} this needs the permission {' or '.join(sorted(enough))}"
    limits: set[str] = set()
    for permission in has:
        names = principal.at(permission).areas
        if names is None or await campaigns.is_within(
            connection, number, (await areas.within(connection, names)).meters
        ):
            return None
        limits |= names
    return (
        f"its meters lie outside of {', '.join(sorted(limits)) or 'any area'}, to which you are limited: ask "
        f"somebody of that area to {what} it"
    )
