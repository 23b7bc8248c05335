"""Tariff programs as a procedure: which meters they fit, and the day numbers that the new calendar gets at
each."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from headend.clock import utc_now
from headend.drivers.commands.tariff import TariffConversation, limits_of
from headend.drivers.contract import Conversation, Target
from headend.programs.contract import Finished, Journal, Outcome, Task, Unfit
from headend.programs.tariffs.history import History
from headend.programs.tariffs.visit import MOST_TOLD, Visit, proof
from headend.store.errors import ConflictError
from headend.store.sql import Connection
from protocols.errors import LocalProtocolError
from schemas.model import ModelError
from schemas.model.tariff import TariffLimits
from schemas.models import load_any
from schemas.program import Program, ProgramKind
from schemas.programs.tariff import TariffProgram
from schemas.tariff.calendar import compiled, day_numbers, meaning
from schemas.tariff.check import check
from schemas.tariff.document import TariffDocument
from schemas.tariff.finding import errors_in


class TariffProcedure:
    """The `headend.programs.contract.Guarded` procedure of tariff programs."""

    kind: ProgramKind = ProgramKind.TARIFF

    def __init__(
        self,
        history: History,
        *,
        profile_folders: tuple[Path, ...] = (),
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._history = history
        self._folders = profile_folders
        self._now = now

    def unfit(self, program: Program, target: Target) -> str | None:
        """What of the program the meter's model does not take."""
        document = _document(program)
        try:
            limits = self._limits(target)
        except ModelError as error:
            return str(error)
        if limits is None:
            return f"meter model {target.meter.model} says nothing of tariffs: it needs a section [tariff]"
        wrong = errors_in(check(document, limits=limits))
        return "; ".join(map(str, wrong[:MOST_TOLD])) or None

    async def forbidden(
        self, connection: Connection, program: Program, meters: Sequence[int], now: datetime
    ) -> Mapping[int, str]:
        """No meter. Raises ConflictError where the program's activation is past already: a meter that is
        reached late activates at once, a campaign that begins late was not meant so."""
        wrong = [one for one in check(_document(program), now=now) if one.path == ("activation",)]
        if wrong:
            raise ConflictError("; ".join(map(str, wrong)))
        return {}

    async def admit(self, connection: Connection, task: Task) -> None:
        """Always: nothing counts before it is proven."""

    async def apply(self, conversation: Conversation, task: Task, journal: Journal) -> Outcome:
        """As far as one visit gets: see `headend.programs.tariffs.visit`."""
        if not isinstance(conversation, TariffConversation):
            raise LocalProtocolError(f"{task.target.meter.asset_id}: its language knows no tariff programs")
        limits = self._limits(task.target)
        if limits is None:
            return Unfit("its model says nothing of tariffs")
        document, known = _document(task.program), journal.facts.get("numbers")
        has = await conversation.read_tariff(None if known is None else known.values())
        if known is None:
            stored = has.stored
            taken = stored.numbers
            numbers = day_numbers(document, limits, taken)
            as_meant = conversation.tariff_as_stored(compiled(document, limits, numbers))
            if has.active.name == as_meant.calendar.name and meaning(*stored) == meaning(*as_meant):
                await self._history.began(task.meter_id, stored, task.now, task.campaign_id, exact=False)
                return Finished(proof(stored), changed=False)
            await self._history.found(task.meter_id, stored, task.now)
            await journal.note("numbers", numbers=numbers, apart=taken.isdisjoint(numbers.values()))
        work = Visit(conversation, task, journal, document, limits, has, self._now)
        outcome = await work.go_on()
        if isinstance(outcome, Finished):
            began = datetime.fromisoformat(journal.facts["activated"])
            await self._history.began(task.meter_id, work.wanted, began, task.campaign_id, exact=True)
        return outcome

    def _limits(self, target: Target) -> TariffLimits | None:
        return limits_of(load_any(target.meter.model, self._folders))


def _document(program: Program) -> TariffDocument:
    if not isinstance(program, TariffProgram):
        raise TypeError(f"a program of kind {program.kind} is no tariff program")
    return program.document
