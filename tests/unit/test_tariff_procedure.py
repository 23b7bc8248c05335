"""A tariff program at one simulated meter, with links that break and processes that die between any two.

No link is between them: what the meter's objects answer comes at once, and the clock of both is the test's.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from concentrator_sim.calendar import SPECIAL_DAYS, TariffBook
from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.object_model import MANAGEMENT_CLIENT
from headend.drivers.contract import Target
from headend.drivers.dlms.commands.tariff import TariffCommands
from headend.programs.contract import Also, Failed, Finished, Later, Outcome, Task, Unfit
from headend.programs.tariffs.procedure import TariffProcedure
from headend.store.errors import ConflictError
from protocols.dlms import axdr
from protocols.dlms.apdu.fields import AttributeItem
from protocols.dlms.cosem import Attribute, Method
from protocols.dlms.cosem import special_days as specials_of
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.errors import LinkClosed
from schemas.meter import Meter, MeterState
from schemas.model import load_model
from schemas.programs.tariff import TariffProgram
from schemas.tariff.calendar import CalendarSpecial, Compiled
from tests.integration.programs.tariffs import program

NOW = datetime(2026, 11, 30, 16, 0, tzinfo=UTC)
MODEL = load_model("headend-sim")


class Died(BaseException):
    """A process ended here."""


class Session:
    """What a meter's objects answer. ``breaks`` at one effect, from 1, before it or behind it."""

    def __init__(self, meter: SimulatedMeter, clock: "Clock") -> None:
        self._meter, self._clock = meter, clock
        self.effects: list[str] = []
        self.breaks: tuple[int, str] | None = None

    async def get_many(self, asked: Any) -> Any:
        device = self._meter.management
        return tuple(
            device.model.read(AttributeItem(one), device, MANAGEMENT_CLIENT, self._clock.seconds)
            for one in asked
        )

    async def set(self, attribute: Attribute, raw: bytes) -> None:
        self._effect(f"{attribute.class_id}/{attribute.index}", before=True)
        device = self._meter.management
        done = device.model.write(attribute, raw, device, MANAGEMENT_CLIENT, self._clock.seconds)
        assert done is DataAccessResult.SUCCESS
        self._effect("", before=False)

    async def action(self, method: Method, raw: bytes | None = None) -> None:
        self._effect(f"{method.class_id}/method {method.index}", before=True)
        device = self._meter.management
        done = device.model.invoke(method, raw, device, MANAGEMENT_CLIENT, self._clock.seconds)
        assert done.result is ActionResult.SUCCESS
        self._effect("", before=False)

    def _effect(self, what: str, *, before: bool) -> None:
        place = (len(self.effects) + before, "before" if before else "behind")
        if self.breaks == place:
            self.breaks = None
            raise LinkClosed("it was not sent" if before else "the answer was lost")
        if before:
            self.effects.append(what)


class Clock:
    """What both see."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    @property
    def seconds(self) -> int:
        return int(self.now.timestamp())


class Kept:
    """A journal as the database keeps it: it survives whoever writes it. ``dies`` behind so many writings."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}
        self.phases: dict[str, str] = {}
        self.written: list[tuple[str, str]] = []
        self.dies: int | None = None

    @property
    def facts(self) -> Mapping[str, Any]:
        return self.known

    def is_intended(self, step: str) -> bool:
        return self.phases.get(step) == "intended"

    def is_done(self, step: str) -> bool:
        return self.phases.get(step) == "done"

    def must_yield(self) -> bool:
        return False

    async def intend(self, step: str, also: Also | None = None, /, **facts: Any) -> None:
        self._write(step, "intended", facts)

    async def done(self, step: str, also: Also | None = None, /, **facts: Any) -> None:
        self._write(step, "done", facts)

    async def note(self, what: str, also: Also | None = None, /, **facts: Any) -> None:
        self._write(what, "noted", facts)

    def _write(self, step: str, phase: str, facts: Mapping[str, Any]) -> None:
        self.known |= facts
        if phase != "noted":
            self.phases[step] = phase
        self.written.append((step, phase))
        if self.dies == len(self.written):
            self.dies = None
            raise Died


class Remembered:
    """The history."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str, datetime]] = []

    async def found(self, meter_id: int, stored: Compiled, at: datetime) -> None:
        self.rows.append(("found", stored.calendar.name, at))

    async def began(
        self, meter_id: int, stored: Compiled, at: datetime, campaign_id: int, *, exact: bool
    ) -> None:
        self.rows.append(("began" if exact else "was there", stored.calendar.name, at))


def _target(model: str) -> Target:
    state = MeterState.COMMISSIONED
    return Target(Meter(7, "M", model, None, None, "tcp://h:1", None, None, state, NOW, NOW, NOW))


class Scene:
    """One meter, one program, and as many visits as it takes."""

    def __init__(self, applied: TariffProgram | None = None, model: Any = MODEL) -> None:
        self.clock = Clock()
        self.meter = SimulatedMeter(1, 4)
        self.session = Session(self.meter, self.clock)
        self.journal, self.history = Kept(), Remembered()
        self.program = applied or program()
        self.talk = TariffCommands(self.session, model)  # type: ignore[arg-type]
        self.procedure = TariffProcedure(self.history, now=lambda: self.clock.now)
        target = _target("headend-sim")
        self.task = lambda: Task(1, target, self.program, "test", self.clock.now)

    async def visit(self) -> Outcome:
        return await self.procedure.apply(self.talk, self.task(), self.journal)  # type: ignore[arg-type]

    async def to_the_end(self) -> Outcome:
        """Visits, each a second behind the one before, whatever broke it."""
        for _ in range(20):
            self.clock.now += timedelta(seconds=1)
            try:
                outcome = await self.visit()
            except (Died, LinkClosed):
                continue
            if not isinstance(outcome, Later):
                return outcome
            self.clock.now = max(self.clock.now, outcome.at)
        raise AssertionError("it never ends")

    def registers(self) -> tuple[int, ...]:
        return self.meter.part(TariffBook).registers(self.clock.seconds)


WRITTEN = ["20/9", "20/8", "20/7", "20/6", "20/method 1", "11/2"]
JOURNAL = 7


async def test_it_is_written_proven_activated_and_kept() -> None:
    scene = Scene()
    outcome = await scene.to_the_end()
    assert isinstance(outcome, Finished)
    assert outcome.proof["name"] == "THREE"
    assert scene.session.effects == WRITTEN
    assert len(scene.journal.written) == JOURNAL
    assert [row[:2] for row in scene.history.rows] == [("found", "DAYNIGHT"), ("began", "THREE")]
    has = await scene.talk.read_tariff()
    assert has.active.numbers == {2, 3}  # the default calendar's day is 1
    assert has.specials == (CalendarSpecial(None, 12, 25, 3), CalendarSpecial(2027, 3, 26, 3))
    again = Scene()
    again.meter, again.session, again.talk = scene.meter, scene.session, scene.talk
    outcome = await again.visit()
    assert isinstance(outcome, Finished)
    assert not outcome.changed
    assert scene.session.effects == WRITTEN
    assert again.history.rows[0][:2] == ("was there", "THREE")


@pytest.mark.parametrize("where", ["before", "behind"])
@pytest.mark.parametrize("effect", range(1, len(WRITTEN) + 1))
async def test_a_link_that_breaks_at_any_effect_leaves_nothing_to_be_done_twice(
    effect: int, where: str
) -> None:
    scene = Scene()
    scene.session.breaks = (effect, where)
    outcome = await scene.to_the_end()
    assert scene.session.breaks is None, "it was to break"
    assert isinstance(outcome, Finished)
    assert scene.session.effects == WRITTEN
    assert [row[:2] for row in scene.history.rows] == [("found", "DAYNIGHT"), ("began", "THREE")]


@pytest.mark.parametrize("writing", range(1, JOURNAL + 1))
async def test_a_process_that_dies_behind_any_step_leaves_nothing_to_be_done_twice(writing: int) -> None:
    scene = Scene()
    scene.journal.dies = writing
    outcome = await scene.to_the_end()
    assert scene.journal.dies is None
    assert isinstance(outcome, Finished)
    assert scene.session.effects == WRITTEN
    assert scene.history.rows[-1][:2] == ("began", "THREE")


AT = datetime(2027, 1, 31, 23, 0, tzinfo=UTC)  # the 1st of February in Berlin


async def test_it_waits_for_its_time_and_is_confirmed_behind_it() -> None:
    scene = Scene(program(AT))
    first = await scene.visit()
    assert isinstance(first, Later)
    assert timedelta(seconds=30) <= first.at - AT <= timedelta(seconds=120)
    assert scene.session.effects == ["20/9", "20/8", "20/7", "20/6", "11/2", "20/10"]
    has = await scene.talk.read_tariff()
    assert (has.active.name, has.activates_at) == ("DAYNIGHT", AT)
    # Christmas comes before the activation: only the 26th of March is there already
    assert has.specials == (CalendarSpecial(2027, 3, 26, 3),)
    scene.clock.now = AT - timedelta(seconds=1)
    assert isinstance(await scene.visit(), Later)
    before = scene.registers()
    scene.clock.now = first.at
    outcome = await scene.visit()
    assert isinstance(outcome, Finished)
    assert outcome.proof["active_since"] == AT.isoformat()
    assert scene.session.effects[-1] == "11/2"
    assert len(scene.session.effects) == 7
    assert scene.history.rows[-1] == ("began", "THREE", AT)
    has = await scene.talk.read_tariff()
    assert [one[:3] for one in has.specials] == [(None, 12, 25), (2027, 3, 26)]
    scene.clock.now = datetime(2027, 2, 1, 12, 0, tzinfo=UTC)  # a Monday, half-peak since 06:00
    used = [after - one for after, one in zip(scene.registers(), before, strict=True)]
    assert used[2] > 0
    assert used[1] > 0
    assert used[0] == used[3] == 0


async def test_old_special_days_stay_until_the_activation() -> None:
    scene = Scene(program(AT))
    device, name = scene.meter.management, Attribute(11, SPECIAL_DAYS, 2)
    old = [(None, 12, 24), (None, 12, 25), (None, 7, 1), (2027, 3, 26)]
    raw = axdr.encode(
        specials_of.entries(
            specials_of.SpecialDayEntry(n, specials_of.CosemDate(*date), 1) for n, date in enumerate(old)
        )
    )
    device.model.write(name, raw, device, MANAGEMENT_CLIENT, scene.clock.seconds)
    assert isinstance(await scene.visit(), Later)
    has = await scene.talk.read_tariff()
    assert has.specials == (
        CalendarSpecial(None, 12, 24, 1),
        CalendarSpecial(None, 12, 25, 1),
        CalendarSpecial(2027, 3, 26, 3),
    )


async def test_where_numbers_do_not_suffice_special_days_come_with_the_activation() -> None:
    limits = MODEL.tariff
    assert limits is not None
    narrow = limits.model_copy(update={"day_ids": (1, 2)})
    model = MODEL.model_copy(update={"tariff": narrow})
    scene = Scene(program(AT), model)
    scene.procedure._limits = lambda target: narrow  # type: ignore[method-assign]
    assert isinstance(await scene.visit(), Later)
    assert (await scene.talk.read_tariff()).specials == ()
    scene.clock.now = AT + timedelta(minutes=2)
    assert isinstance(await scene.visit(), Finished)
    assert len((await scene.talk.read_tariff()).specials) == 2


async def test_a_calendar_that_is_about_to_be_activated_is_disarmed_before_it_is_written_over() -> None:
    scene = Scene(program(AT))
    await scene.visit()
    scene.journal, scene.program = Kept(), program(name="OTHER")
    scene.session.effects.clear()
    outcome = await scene.to_the_end()
    assert isinstance(outcome, Finished)
    assert scene.session.effects[0] == "20/10"
    scene.clock.now = AT + timedelta(days=1)
    assert (await scene.talk.read_tariff()).active.name == "OTHER"


async def test_a_meter_that_does_not_activate_is_told_after_a_while() -> None:
    scene = Scene(program(AT))
    assert isinstance(await scene.visit(), Later)
    await scene.talk.disarm_tariff()  # as a meter that forgets it
    scene.clock.now = AT + timedelta(minutes=1)
    assert isinstance(await scene.visit(), Later)
    scene.clock.now = AT + timedelta(minutes=21)
    outcome = await scene.visit()
    assert isinstance(outcome, Failed)
    assert "name is 'DAYNIGHT', not 'THREE'" in outcome.reason


async def test_a_meter_that_stores_wrongly_is_never_activated() -> None:
    scene = Scene()
    scene.meter.part(TariffBook).is_wrong = lambda: True
    outcome = await scene.to_the_end()
    assert isinstance(outcome, Failed)
    assert "day 2 has 21:15 -> script 2; day 2 has not 21:00 -> script 2" in outcome.reason
    assert outcome.proof["differences"] == ["day 2 has 21:15 -> script 2", "day 2 has not 21:00 -> script 2"]
    assert "20/method 1" not in scene.session.effects
    assert (await scene.talk.read_tariff()).active.name == "DAYNIGHT"


@pytest.mark.parametrize(
    ("selectors", "told"),
    [
        ({1: 1, 2: 2, 3: 9}, "has no script 9"),
        ({1: 2, 2: 1, 3: 3}, "script 1 counts energy of tariff 1, not 2"),
    ],
)
async def test_scripts_and_masks_of_the_meter_are_checked(selectors: dict[int, int], told: str) -> None:
    limits = MODEL.tariff
    assert limits is not None
    other = limits.model_copy(update={"selectors": selectors})
    scene = Scene(model=MODEL.model_copy(update={"tariff": other}))
    scene.procedure._limits = lambda target: other  # type: ignore[method-assign]
    outcome = await scene.visit()
    assert isinstance(outcome, Unfit)
    assert told in outcome.reason
    assert scene.session.effects == []


async def test_an_activation_in_the_past_is_no_campaign() -> None:
    scene = Scene(program(AT))
    connection: Any = None
    assert await scene.procedure.forbidden(connection, scene.program, [7], AT - timedelta(seconds=1)) == {}
    with pytest.raises(ConflictError, match="is past: name a time to come"):
        await scene.procedure.forbidden(connection, scene.program, [7], AT)


async def test_a_meter_that_is_reached_late_activates_at_once() -> None:
    scene = Scene(program(AT))
    scene.clock.now = AT + timedelta(hours=3)
    assert isinstance(await scene.visit(), Finished)
    assert scene.history.rows[-1] == ("began", "THREE", scene.clock.now)


def test_what_a_model_does_not_take_is_unfit() -> None:
    scene = Scene()
    target = scene.task().target
    assert scene.procedure.unfit(scene.program, target) is None
    assert "longer than the 8 characters" in (
        scene.procedure.unfit(program(name="MUCHTOOLONG"), target) or ""
    )
    assert "says nothing of tariffs" in (scene.procedure.unfit(scene.program, _target("idis")) or "")
