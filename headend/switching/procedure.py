"""How a meter's breaker is switched: looked at first, told once, looked at again.

::

    read ── as it shall be ──────────────────────────────▶ unchanged (or done, where it was told before)
      │ └── its mode has no way there ───────────────────▶ failed: what to change
      ▼
    intended ─ told ─ read ── as it shall be ────────────▶ done
                        └──── not yet: looked at again, then failed: it is stuck

A crash or a lost answer between *intended* and *done* needs no memory: the state tells whether it happened.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from headend.clock import utc_now
from headend.drivers.commands.switch import Breaker, Control, Remote, Switchable
from headend.drivers.contract import Conversation, Feature, Target
from headend.programs.contract import Barred, Failed, Finished, Journal, Later, Outcome, Task
from headend.session.access import Connect
from headend.store import switching
from headend.store.sql import Connection
from headend.store.switching import BreakerState
from headend.switching.features import Features, why_not
from headend.switching.rules import Rules
from protocols.dlms.enums import ActionResult
from protocols.errors import (
    ActionRefused,
    ExceptionResponse,
    LocalProtocolError,
    PeerRefused,
    ServiceRefused,
)
from schemas.program import Program, ProgramKind
from schemas.programs.switch import SwitchAction, SwitchProgram

_STEP: Final = "switch"
#: A breaker that was told and has not moved is looked at again so often, so much later.
_LOOKS: Final = 3
SETTLES: Final = timedelta(seconds=5)
_BUTTON: Final = "ready for reconnection, waits for the customer's button"


class SwitchProcedure:
    """The `headend.programs.contract.Guarded` of switching.

    Args:
        connect: gives a database connection: where breakers stand is remembered.
        features: what meters of a model can.
        rules: what stands before each sending.
    """

    kind = ProgramKind.SWITCH

    def __init__(self, connect: Connect, features: Features, rules: Rules) -> None:
        self._connect = connect
        self._features = features
        self._rules = rules

    def unfit(self, program: Program, target: Target) -> str | None:
        """See `Procedure`."""
        return why_not(self._features, target, Feature.SWITCH, "breaker that this head-end knows")

    async def forbidden(
        self, connection: Connection, program: Program, meters: Sequence[int], now: datetime
    ) -> Mapping[int, str]:
        """See `Guarded`."""
        return await self._rules.forbidden(connection, program, meters, now)

    async def admit(self, connection: Connection, task: Task) -> None:
        """See `Guarded`."""
        await self._rules.admit(connection, task, _program(task).action)

    async def apply(self, conversation: Conversation, task: Task, journal: Journal) -> Outcome:
        """See `Procedure`."""
        if not isinstance(conversation, Switchable):
            raise LocalProtocolError("its language switches no breakers")
        program = _program(task)
        before = await self._read(conversation, task)
        if _is_so(program.action, before):
            return await self._as_it_shall_be(before, journal)
        if journal.is_done(_STEP):  # told, and it said yes
            return await self._again(before, journal)
        remote = _remote(program.action, before)
        if remote is None:
            return Failed(_why_none(program.action, before), {"before": _plain(before)})
        try:
            await journal.intend(_STEP, before=_plain(before), sent=remote)
        except Barred as barred:
            await self._rules.refused(self._connect, task, program.action, barred)
            raise
        try:
            await conversation.switch(remote)
        except PeerRefused as refused:
            if _may_pass(refused):
                raise
            await journal.note("refused", refusal=refused.reason)
            return Failed(f"the meter refused: {refused.reason}", {"before": _plain(before)})
        await journal.done(_STEP, looks=0)
        after = await self._read(conversation, task)
        if _is_so(program.action, after):
            return Finished(_proof(journal.facts, after))
        return await self._again(after, journal)

    async def _as_it_shall_be(self, breaker: Breaker, journal: Journal) -> Outcome:
        """It was so already, or it became so by what was sent in an earlier visit."""
        told = journal.is_intended(_STEP) or journal.is_done(_STEP)
        if journal.is_intended(_STEP):
            await journal.done(_STEP)
        return Finished(_proof(journal.facts, breaker), changed=told)

    async def _again(self, breaker: Breaker, journal: Journal) -> Outcome:
        """It was told and has not moved: it has a little time."""
        looks = int(journal.facts.get("looks", 0)) + 1
        if looks < _LOOKS:
            await journal.note("looked", looks=looks)
            return Later(utc_now() + SETTLES, "the breaker was told, and has not moved yet")
        return Failed(
            "the breaker is stuck: it was told, the meter said yes, and the customer is "
            f"{'still connected' if breaker.output else 'not connected'} (control: {breaker.control}); "
            "send somebody to look at it",
            _proof(journal.facts, breaker),
        )

    async def _read(self, conversation: Switchable, task: Task) -> Breaker:
        found = await conversation.read_breaker()
        async with self._connect() as connection:
            await switching.was_read(
                connection,
                task.meter_id,
                BreakerState(utc_now(), found.output, found.control, found.mode),
            )
        return found


def _program(task: Task) -> SwitchProgram:
    if not isinstance(task.program, SwitchProgram):
        raise TypeError(f"{task.program.kind} is no switching")
    return task.program


def _is_so(action: SwitchAction, breaker: Breaker) -> bool:
    connected = breaker.control is Control.CONNECTED and breaker.output
    ready = breaker.control is Control.READY and not breaker.output
    match action:
        case SwitchAction.DISCONNECT:
            return breaker.control is Control.DISCONNECTED and not breaker.output
        case SwitchAction.ARM:
            return connected or ready
        case _:  # ready is as far as it gets where nothing leads on from there
            return connected or (ready and Remote.RECONNECT not in breaker.becomes)


def _remote(action: SwitchAction, breaker: Breaker) -> Remote | None:
    """What is to be sent; None where the meter's mode has no way from here."""
    match action:
        case SwitchAction.DISCONNECT:
            wanted: tuple[Remote, ...] = (Remote.DISCONNECT,)
        case SwitchAction.ARM:
            wanted = (Remote.ARM,)
        case SwitchAction.RECONNECT:
            wanted = (Remote.RECONNECT, Remote.ARM)
    return next((one for one in wanted if one in breaker.becomes), None)


def _why_none(action: SwitchAction, breaker: Breaker) -> str:
    """Whose fault, and what to change."""
    if breaker.output != (breaker.control is Control.CONNECTED):
        return (
            f"its control is {breaker.control} and the customer is "
            f"{'connected' if breaker.output else 'not connected'}: the breaker is stuck or was moved by "
            "hand; send somebody to look at it"
        )
    if action is SwitchAction.ARM and Remote.RECONNECT in breaker.becomes:
        return (
            f"in its control mode {breaker.mode} a remote reconnection connects at once, and the customer "
            "has no button: reconnect it, or set another control mode (1, 3, 5 or 6) by a parameters program"
        )
    return (
        f"in its control mode {breaker.mode} nothing leads from {breaker.control} to that: set another "
        "control mode (attribute 4 of its Disconnect Control) by a parameters program"
    )


def _may_pass(refused: PeerRefused) -> bool:
    """Whether the same again may be granted."""
    if isinstance(refused, ActionRefused):
        return refused.result == ActionResult.TEMPORARY_FAILURE
    return isinstance(refused, ExceptionResponse | ServiceRefused)


def _plain(breaker: Breaker) -> dict[str, Any]:
    return {"output": breaker.output, "control": breaker.control.value, "mode": breaker.mode}


def _proof(facts: Mapping[str, Any], breaker: Breaker) -> dict[str, Any]:
    proof: dict[str, Any] = {"after": _plain(breaker)}
    proof.update({key: facts[key] for key in ("before", "sent") if key in facts})
    if breaker.control is Control.READY:
        proof["waits_for"] = _BUTTON
    return proof
