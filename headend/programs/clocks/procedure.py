"""The program of clocks: to which models it can be applied, and which meters are told the time together."""

from collections.abc import Callable, Mapping
from datetime import datetime

from headend.clock import utc_now
from headend.drivers.commands.clock import ClockConversation
from headend.drivers.contract import Conversation, Feature, Target
from headend.drivers.registry import Drivers
from headend.programs.clocks.line import not_alone
from headend.programs.clocks.turn import Turn
from headend.programs.contract import Journal, Outcome, Reach, Task, Unfit
from headend.session.access import Connect
from headend.store import lines
from headend.store.sql import Connection
from schemas.model import ModelError
from schemas.program import Program, ProgramKind
from schemas.programs.clock import ClockProgram


class ClockProcedure:
    """The `headend.programs.contract.Joint` procedure of clocks.

    Args:
        connect: gives a database connection.
        drivers: know models' features and load curves.
        now: aware, UTC.
    """

    kind = ProgramKind.CLOCK

    def __init__(self, connect: Connect, drivers: Drivers, *, now: Callable[[], datetime] = utc_now) -> None:
        self._connect = connect
        self._drivers = drivers
        self._now = now

    def unfit(self, program: Program, target: Target) -> str | None:
        """Where the model's clock cannot be changed."""
        model = target.meter.model
        try:
            features = self._drivers.of(model).features(model)
        except ModelError as error:
            return str(error)
        return None if Feature.CLOCK in features else f"clocks of model {model} cannot be changed"

    async def reach(
        self, connection: Connection, program: Program, targets: Mapping[int, Target]
    ) -> Mapping[int, Reach]:
        """See `Joint`: meters that are told the time with their line, where all of the line is meant."""
        models = {one.meter.model for one in targets.values()}
        told = {model for model in models if self._is_told_with_its_line(model)}
        mine = {
            number: lines.line_of(one.meter.address or "")
            for number, one in targets.items()
            if one.meter.model in told
        }
        there = await lines.meters(connection, set(mine.values())) if mine else {}
        found = {}
        for number, line in mine.items():
            outside = [str(one) for one in there.get(line, ()) if one.meter_id not in targets]
            found[number] = Reach(line, not_alone(outside) if outside else None)
        return found

    def _is_told_with_its_line(self, model: str) -> bool:
        try:
            return Feature.LINE_CLOCK in self._drivers.of(model).features(model)
        except ModelError:
            return False

    async def apply(self, conversation: Conversation, task: Task, journal: Journal) -> Outcome:
        """See `Procedure`."""
        program = task.program
        if not isinstance(program, ClockProgram):
            raise TypeError(f"not a program for clocks: {type(program).__name__}")
        if not isinstance(conversation, ClockConversation):
            return Unfit(f"clocks of model {task.target.meter.model} cannot be changed")
        turn = Turn(self._connect, self._drivers, self._now, conversation, task, program, journal)
        return await turn.take()
