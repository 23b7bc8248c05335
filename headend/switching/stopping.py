"""The emergency stop of all switching, and its end.

::

    stop ── latch set, committed ──▶ nothing is sent any more ──▶ campaigns stopped, to be resumed one by one
    allow ── by another person ────▶ latch off; campaigns stay as they are until they are resumed
"""

from typing import Final

from headend.programs import control
from headend.session.access import Connect
from headend.store import audit, switching
from headend.store.errors import ConflictError
from headend.store.switching import Halt
from schemas.people import Permission, Principal, lacking
from schemas.program import ProgramKind

_OBJECT: Final = "switching"
_KINDS: Final = (ProgramKind.SWITCH, ProgramKind.LIMIT)


class MayNot(Exception):
    """Who asks is not one who may: who may instead."""


async def stop(connect: Connect, principal: Principal, reason: str) -> list[int]:
    """Stop all switching now; the campaigns that are stopped with it.

    The latch is committed first, by itself: from then on nothing is sent, whatever becomes of the rest. Asked
    again while it holds, it stops campaigns that have begun to go on. Raises MayNot (audited).
    """
    await _permitted(connect, principal, "stop")
    async with connect() as connection, connection.transaction():
        await switching.turn(connection)
        await switching.stop(connection, reason=reason, actor=principal.actor, account=principal.account)
        await audit.record(
            connection,
            actor=principal.actor,
            action="switching.stop",
            object_=_OBJECT,
            detail={"reason": reason},
        )
    async with connect() as connection, connection.transaction():
        return await control.halt_all(connection, _KINDS, actor=principal.actor, reason=reason)


async def allow(connect: Connect, principal: Principal, reason: str) -> Halt:
    """Allow switching again; the stop that held. Campaigns that it stopped are resumed one by one.

    Raises MayNot where he has not the permission or is not another than who stopped it (audited),
    ConflictError where nothing is stopped.
    """
    await _permitted(connect, principal, "allow")
    why: str | None = None
    async with connect() as connection, connection.transaction():
        await switching.turn(connection)
        held = await switching.halt(connection)
        if held is None:
            raise ConflictError("switching is not stopped")
        why = _why_not(held, principal)
        if why is None:
            await switching.allow(connection, held.halt_id, actor=principal.actor)
        await audit.record(
            connection,
            actor=principal.actor,
            action="switching.allow" if why is None else "switching.refused",
            object_=_OBJECT,
            detail={"reason": reason, "stop": held.reason} | ({} if why is None else {"why": why}),
        )
    if why is not None:
        raise MayNot(why)
    return held


async def _permitted(connect: Connect, principal: Principal, what: str) -> None:
    limits = principal.at(Permission.STOP).areas
    if not principal.may(Permission.STOP):
        why = lacking(Permission.STOP)
    elif limits is not None:
        why = (
            f"it is for all customers, and you are limited to {', '.join(sorted(limits)) or 'no area'}: "
            "pause the campaigns there, or ask somebody who has the permission everywhere"
        )
    else:
        return
    async with connect() as connection, connection.transaction():
        await audit.record(
            connection,
            actor=principal.actor,
            action="switching.refused",
            object_=_OBJECT,
            detail={"what": what, "why": why},
        )
    raise MayNot(why)


def _why_not(held: Halt, principal: Principal) -> str | None:
    if principal.account is None:
        return (
            "who allows switching again is a person with an account: the host's command line and tokens of "
            "nobody cannot; `headend login`, or a token of the person"
        )
    if principal.account == held.account or principal.actor == held.actor:
        return "who stopped switching cannot allow it again: another person with the permission has to"
    return None
