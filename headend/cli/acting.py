"""Who acts on the command line, and whether he may: the rules of the API for the same change.

Somebody who is logged in (`headend login`), or a token (HEADEND_TOKEN), acts with what it may do; else the
host does. A refusal is in the audit trail, as the command's act with ``.refused``.
"""

from collections.abc import Collection

from headend.cli.terminal import CommandError
from headend.foundation import Base
from headend.people.identity import cli_principal
from headend.store import areas, audit, jobs, meters
from headend.store.sql import Connection
from schemas.people import Permission, Principal, lacking


async def acting(
    connection: Connection,
    opened: Base,
    what: str,
    object_: str,
    *,
    needs: Permission = Permission.OPERATE,
    on: Collection[int] | None = None,
) -> Principal:
    """Who acts, if he may do ``what`` (as the trail names it) to ``object_``.

    It takes the permission ``needs`` everywhere; ``on``: over these meters, by number. Outside of a
    transaction. Raises CommandError (audited), NotLoggedIn.
    """
    who = await cli_principal(connection, opened.settings)
    why = await _why_not(connection, who, needs, on)
    if why is not None:
        await refuse(connection, who, what, object_, why)
    return who


async def acting_on(
    connection: Connection, opened: Base, names: Collection[str], what: str, object_: str
) -> Principal:
    """The same of an operator, over the meters with these asset ids; names that nobody has are not looked
    at."""
    found = await meters.find(connection, asset_ids=list(names))
    numbers = [one.meter_id for one in found]
    return await acting(connection, opened, what, object_, on=numbers)


async def acting_on_job(connection: Connection, opened: Base, job_id: int) -> Principal:
    """Who cancels a job, if he may: within areas his own, and those that ask nobody else."""
    who = await cli_principal(connection, opened.settings)
    limits = who.at(Permission.OPERATE).areas
    if who.may(Permission.OPERATE) and limits is not None:
        job = await jobs.find(connection, job_id)
        if job is None or job.actor == who.actor:
            return who
        if await jobs.is_within(connection, job_id, await areas.within(connection, limits)):
            return who
    why = await _why_not(connection, who, Permission.OPERATE, None)
    if why is not None:
        await refuse(connection, who, "job.cancelled", f"job:{job_id}", why)
    return who


async def refuse(connection: Connection, who: Principal, what: str, object_: str, why: str) -> None:
    """Audit that he may not, and tell him. Raises CommandError."""
    await audit.record(
        connection, actor=who.actor, action=f"{what}.refused", object_=object_[:300], detail={"reason": why}
    )
    await connection.commit()
    raise CommandError(f"{why}; you are {who.actor}")


async def _why_not(
    connection: Connection, who: Principal, permission: Permission, on: Collection[int] | None
) -> str | None:
    if not who.may(permission):
        return lacking(permission)
    limits = who.at(permission).areas
    if limits is None:
        return None
    named = ", ".join(sorted(limits)) or "no area"
    if on is None:
        return f"you are limited to {named}, and this goes beyond: it takes a role that is limited to no area"
    own = (await areas.within(connection, limits)).meters
    beyond = sum(one not in own for one in on)
    return f"you are limited to {named}, and of {len(on)} meters {beyond} are elsewhere" if beyond else None
