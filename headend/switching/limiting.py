"""How a limit of the load is set: written where it differs, read back, and repeated without harm."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from headend.clock import utc_now
from headend.drivers.commands.limit import Limitable, LoadLimit
from headend.drivers.contract import Conversation, Feature, Target
from headend.programs.contract import Barred, Failed, Finished, Journal, Outcome, Task
from headend.session.access import Connect
from headend.store.sql import Connection
from headend.switching.features import Features, why_not
from headend.switching.rules import Rules
from protocols.errors import DataAccessRefused, LocalProtocolError
from schemas.program import Program, ProgramKind
from schemas.programs.switch import LimitProgram

_STEP: Final = "limit"


class LimitProcedure:
    """The `headend.programs.contract.Guarded` of limits.

    All that it writes are values: written twice they are the same, and a crash in between costs a second
    look. A limit for a time begins when it is first sent; that moment is remembered, and is not moved by
    trying again.
    """

    kind = ProgramKind.LIMIT

    def __init__(
        self, connect: Connect, features: Features, rules: Rules, *, now: Callable[[], datetime] = utc_now
    ) -> None:
        self._connect = connect
        self._features = features
        self._rules = rules
        self._now = now

    def unfit(self, program: Program, target: Target) -> str | None:
        """See `Procedure`."""
        return why_not(self._features, target, Feature.LIMIT, "limiter that this head-end knows")

    async def forbidden(
        self, connection: Connection, program: Program, meters: Sequence[int], now: datetime
    ) -> Mapping[int, str]:
        """See `Guarded`."""
        return await self._rules.forbidden(connection, program, meters, now)

    async def admit(self, connection: Connection, task: Task) -> None:
        """See `Guarded`."""
        await self._rules.admit(connection, task, ProgramKind.LIMIT)

    async def apply(self, conversation: Conversation, task: Task, journal: Journal) -> Outcome:
        """See `Procedure`."""
        program = task.program
        if not isinstance(program, LimitProgram):
            raise TypeError(f"{program.kind} is no limit")
        if not isinstance(conversation, Limitable):
            raise LocalProtocolError("its language limits no load")
        before = await conversation.read_limit()
        known = journal.facts.get("begins")
        if _is_so(program, before, None if known is None else datetime.fromisoformat(known)):
            told = journal.is_intended(_STEP) or journal.is_done(_STEP)
            if journal.is_intended(_STEP):
                await journal.done(_STEP)
            return Finished({"after": _plain(before)}, changed=told)
        if program.for_s is not None and not before.groups:
            return Failed(
                "the meter is in no group of emergency profiles, and takes none: write attribute 9 of its "
                "limiter by a parameters program",
                {"before": _plain(before)},
            )
        # whole seconds, as meters count
        begins = self._now().replace(microsecond=0) if known is None else datetime.fromisoformat(known)
        try:
            await journal.intend(_STEP, begins=begins.isoformat(), before=_plain(before))
        except Barred as barred:
            await self._rules.refused(self._connect, task, ProgramKind.LIMIT, barred)
            raise
        try:
            if program.for_s is None:
                await conversation.limit(program.watts, program.over_s)
            else:
                await conversation.limit_for(
                    program.watts, program.over_s, before.groups[0], begins, program.for_s
                )
        except DataAccessRefused as refused:
            await journal.note("refused", refusal=refused.reason)
            return Failed(
                f"the meter refused: {refused.reason}; what was written before stays",
                {"before": _plain(before), "after": _plain(await conversation.read_limit())},
            )
        after = await conversation.read_limit()
        await journal.done(_STEP)
        proof = {"before": _plain(before), "after": _plain(after)}
        if _is_so(program, after, begins):
            return Finished(proof)
        return Failed("the meter took the limit and holds another: compare what was read back", proof)


def _is_so(program: LimitProgram, found: LoadLimit, begins: datetime | None) -> bool:
    if program.over_s is not None and found.over_s != program.over_s:
        return False
    if program.for_s is None:
        return found.normal == program.watts
    return (
        begins is not None
        and found.emergency == program.watts
        and found.for_s == program.for_s
        and found.group in found.groups
        and found.begins is not None
        and abs(found.begins - begins) < timedelta(seconds=1)
    )


def _plain(found: LoadLimit) -> dict[str, Any]:
    return {
        "active_w": str(found.active),
        "normal_w": str(found.normal),
        "emergency_w": str(found.emergency),
        "over_s": found.over_s,
        "begins": None if found.begins is None else found.begins.isoformat(),
        "for_s": found.for_s,
        "group": found.group,
    }
