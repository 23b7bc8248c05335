"""Tariff programs over MQTT: the schema, what a device answers and counts, and what becomes of a program.

No device of a maker speaks this convention; both ends are ours, so each is held to the schema by itself.
"""

import asyncio
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.tariff_talk import DEFAULT, ProgramBook, TariffTalk
from headend.drivers.commands.tariff import TariffConversation
from headend.drivers.contract import Feature
from headend.drivers.mqtt.driver import Answer, MqttDriver
from headend.programs.contract import Failed, Finished, Later, Outcome, Task
from headend.programs.tariffs.procedure import TariffProcedure
from protocols.errors import LinkClosed, LinkTimeout, LocalProtocolError, PeerRefused, RemoteProtocolError
from protocols.mqtt import messages, tariffs
from schemas.model import ModelError
from schemas.mqtt_model import load_mqtt_model
from schemas.programs.tariff import TariffProgram
from schemas.tariff.calendar import (
    Calendar,
    CalendarDay,
    CalendarSeason,
    CalendarSpecial,
    CalendarSwitch,
    CalendarWeek,
    Compiled,
)
from schemas.tariff.explain import explain
from schemas.tariff_message import TariffRefused, TariffTold, json_schema
from tests.contract.subjects import meter
from tests.integration.programs.tariffs import program
from tests.unit.test_tariff_procedure import Died, Kept, Remembered, _target

ASK = "headend/tariff/m"
TOLD = "headend/tariff-told/m"
NOW = datetime(2026, 11, 30, 16, 0, tzinfo=UTC)
AT = datetime(2027, 1, 31, 23, 0, tzinfo=UTC)  # the 1st of February in Berlin
DAY = {"number": 1, "switches": [{"start": "00:00", "tariff": 1}]}
WEEK = {"name": "w", "days": [1] * 7}
LATE = {"start": "24:00", "tariff": 1}
TABLES = {
    "name": "x",
    "seasons": [{"name": "s", "start": "01-01", "week": "w"}],
    "weeks": [WEEK],
    "days": [DAY],
}


class Line:
    """An `Exchange` with one simulated meter at its other end. What it says passes ``spoil``; ``breaks`` at
    one of its requests with an effect, from 1: before the device has it, or behind it."""

    def __init__(self) -> None:
        self.meter = SimulatedMeter(1, 4)
        self.talk = TariffTalk(self.meter)
        self.now = NOW
        self.effects: list[str] = []
        self.answers: list[Answer] = []
        self.spoil: Any = lambda answer: [Answer(TOLD, answer, False)]
        self.breaks: tuple[int, str] | None = None

    @property
    def book(self) -> ProgramBook:
        return self.meter.part(ProgramBook)

    @asynccontextmanager
    async def asking(self, *answers: str) -> Any:
        assert TOLD in answers
        yield self

    async def publish(self, topic: str, payload: bytes) -> None:
        assert topic == ASK
        request = json.loads(payload)
        if "until" in request:
            self.effects.append(f"{request['format'].split('-')[1][:-2]} {request.get('at', '')}".strip())
        broken = None if self.breaks is None or "until" not in request else self.breaks
        if broken == (len(self.effects), "before"):
            self.breaks = None
            self.effects.pop()
            raise LinkClosed("it was not sent")
        answer = self.talk.answer(payload, self.now.timestamp())
        if broken == (len(self.effects), "behind"):
            self.breaks = None
            raise LinkClosed("the answer was lost")
        if answer is not None:
            self.answers += self.spoil(answer)

    async def next(self) -> Answer:
        if not self.answers:
            await asyncio.Event().wait()
        return self.answers.pop(0)


@asynccontextmanager
async def talking(line: Line) -> Any:
    driver = MqttDriver(line, now=lambda: line.now)
    way = (await driver.prepare([meter(1, "headend-batch-meter", "mqtt:m")]))[1]
    async with driver.open(way, answer_s=0.05) as conversation:
        assert isinstance(conversation, TariffConversation)
        yield conversation


class Scene:
    """One device, one program, and as many visits as it takes."""

    def __init__(self, applied: TariffProgram | None = None) -> None:
        self.line, self.journal, self.history = Line(), Kept(), Remembered()
        self.program = applied or program()
        self.procedure = TariffProcedure(self.history, now=lambda: self.line.now)

    async def visit(self) -> Outcome:
        task = Task(1, _target("headend-batch-meter"), self.program, "test", self.line.now)
        async with talking(self.line) as conversation:
            return await self.procedure.apply(conversation, task, self.journal)  # type: ignore[arg-type]

    async def to_the_end(self) -> Outcome:
        for _ in range(20):
            self.line.now += timedelta(seconds=1)
            try:
                outcome = await self.visit()
            except (Died, LinkClosed):
                continue
            if not isinstance(outcome, Later):
                return outcome
            self.line.now = max(self.line.now, outcome.at)
        raise AssertionError("it never ends")


def request(form: str, **told: Any) -> bytes:
    until = {} if form in ("state", "told", "refused") else {"until": int(NOW.timestamp())}
    return json.dumps({"format": f"headend.tariff-{form}.1", "id": "a-request", **until, **told}).encode()


def answered(talk: TariffTalk, payload: bytes, now: datetime = NOW) -> Any:
    return tariffs.decode(talk.answer(payload, now.timestamp()) or b"")


def test_the_published_schema_is_that_of_the_classes() -> None:
    published = json.loads((files("schemas") / "tariff.schema.json").read_text("utf-8"))
    assert published == json.loads(json.dumps(json_schema())), "run python -m schemas.tariff_message"


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"{", "JSON"),
        (request("none"), "does not match"),
        (request("state", more=1), "more"),
        (request("activate", at="soon"), "at"),
        (request("activate"), "at"),
        (request("write", program={**TABLES, "days": [DAY, DAY]}), "two days"),
        (request("write", program={**TABLES, "weeks": [{**WEEK, "days": [2] * 7}]}), "day 2 is used"),
        (request("write", program={**TABLES, "weeks": []}), "a week that is not there"),
        (request("write", program={**TABLES, "special_days": [{"date": "13-01", "day": 1}]}), "special_days"),
        (request("write", program={**TABLES, "days": [{"number": 1, "switches": [LATE]}]}), "days"),
        (request("told", active=TABLES, activates_at=1), "nothing that waits"),
    ],
)  # fmt: skip
def test_what_is_not_of_the_schema_says_why(payload: bytes, why: str) -> None:
    with pytest.raises(RemoteProtocolError, match=why):
        tariffs.decode(payload)


NAMES = st.text("abcdefgh", min_size=1, max_size=8)
NUMBERS = st.integers(0, 255)


@st.composite
def compiled(draw: st.DrawFn) -> Compiled:
    numbers = draw(st.lists(NUMBERS, min_size=1, max_size=4, unique=True))
    some = st.sampled_from(numbers)
    switch = st.builds(CalendarSwitch, st.integers(0, 1439), st.integers(0, 65535), st.just(""))
    days = [CalendarDay(n, tuple(draw(st.lists(switch, max_size=4)))) for n in numbers]
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    weeks = [CalendarWeek(name, draw(st.tuples(*[some] * 7))) for name in names]
    starts = draw(st.lists(st.dates(), max_size=4))
    seasons = [
        CalendarSeason(draw(NAMES), one.month, one.day, draw(st.sampled_from(names))) for one in starts
    ]
    dates = draw(st.lists(st.tuples(st.dates(), st.booleans()), max_size=4))
    specials = {
        (None if yearly else one.year, one.month, one.day): CalendarSpecial(
            None if yearly else one.year, one.month, one.day, draw(some)
        )
        for one, yearly in dates
    }
    calendar = Calendar(draw(NAMES), tuple(seasons), tuple(weeks), tuple(days))
    return Compiled(calendar, tuple(specials.values()))


@settings(max_examples=50, deadline=None)
@given(compiled())
def test_tables_come_back_as_they_were_sent(wanted: Compiled) -> None:
    told = TariffTold(id="a-request", active=tariffs.tables_of(wanted))
    found = tariffs.decode(messages.encode(told))
    assert isinstance(found, TariffTold)
    back = tariffs.compiled_of(found.active)
    assert back.calendar == wanted.calendar.ordered()
    assert sorted(back.specials, key=str) == sorted(wanted.specials, key=str)


def test_what_the_form_has_no_room_for_is_not_sent() -> None:
    calendar = DEFAULT.calendar
    (season,), (day,) = calendar.seasons, calendar.days
    with pytest.raises(ValueError, match="one year"):
        tariffs.tables_of(Compiled(calendar._replace(seasons=(season._replace(year=2027),)), ()))
    other = day._replace(switches=(CalendarSwitch(0, 1, "0-0:10.0.101*255"),))
    with pytest.raises(ValueError, match="another table"):
        tariffs.tables_of(Compiled(calendar._replace(days=(other,)), ()))


@given(st.binary(max_size=80) | st.dictionaries(st.text(max_size=9), NUMBERS).map(json.dumps).map(str.encode))
def test_any_payload_is_a_message_or_refused(payload: bytes) -> None:
    try:
        tariffs.decode(payload)
    except RemoteProtocolError:
        assert TariffTalk(SimulatedMeter(1, 1)).answer(payload, 0) is None


def test_the_model_says_what_it_takes(tmp_path: Any) -> None:
    driver = MqttDriver()
    assert Feature.TARIFF in driver.features("headend-batch-meter")
    assert Feature.TARIFF not in driver.features("tasmota")
    (tmp_path / "mqtt").mkdir()
    (tmp_path / "mqtt/deaf.toml").write_text(
        'inherit = "headend-batch-meter"\ntitle = "deaf"\n[tariff]\nanswer = "headend/tariff/{identity}"\n'
    )
    with pytest.raises(ModelError, match="elsewhere"):
        load_mqtt_model("deaf", (tmp_path,))


# ---- the device --------------------------------------------------------------------------------------------


def test_a_program_waits_whole_and_then_counts() -> None:
    talk = TariffTalk(SimulatedMeter(1, 1))
    assert answered(talk, request("activate", at="now")) == TariffRefused(
        id="a-request", reason="nothing waits"
    )
    told = answered(talk, request("write", program=TABLES))
    assert (told.active.name, told.passive.name, told.activates_at) == ("DAYNIGHT", "x", None)
    at = int(NOW.timestamp()) + 60
    assert answered(talk, request("activate", at=at)).activates_at == at
    assert answered(talk, request("activate", at="never")).activates_at is None
    answered(talk, request("activate", at=at))
    told = answered(talk, request("write", program={**TABLES, "name": "y"}))  # it disarms
    assert (told.passive.name, told.activates_at) == ("y", None)
    answered(talk, request("activate", at=at))
    told = answered(talk, request("state"), NOW + timedelta(seconds=60))
    assert (told.active.name, told.passive, told.activates_at) == ("y", None, None)


def test_what_comes_too_late_has_no_effect() -> None:
    """As from a broker that kept it while the device was away."""
    talk = TariffTalk(SimulatedMeter(1, 1))
    answered(talk, request("write", program=TABLES))
    late = answered(talk, request("activate", at="now"), NOW + timedelta(seconds=1))
    assert late == TariffRefused(id="a-request", reason="it came too late")
    assert answered(talk, request("state")).active.name == "DAYNIGHT"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"seasons": []}, "nothing would count"),
        ({"days": [{"number": 1, "switches": []}]}, "nothing would count"),
        ({"days": [{**DAY, "number": n} for n in range(1, 34)]}, "at most 32 days"),
        ({"seasons": [{"name": "s", "start": "02-30", "week": "w"}]}, "'02-30' is no date"),
    ],
)  # fmt: skip
def test_a_device_says_what_it_does_not_take(changed: Any, why: str) -> None:
    talk = TariffTalk(SimulatedMeter(1, 1))
    assert why in answered(talk, request("write", program={**TABLES, **changed})).reason
    assert answered(talk, request("state")).passive is None


async def test_registers_count_where_the_program_says() -> None:
    scene = Scene()
    scene.line.now += timedelta(days=4)  # a Friday
    assert isinstance(await scene.to_the_end(), Finished)
    book, since = scene.line.book, int(scene.line.now.timestamp())
    document = scene.program.document.model_copy(update={"zone": "Etc/GMT-1"})  # the meter knows no summer
    expected = [0, 0, 0, 0]
    for n in range(6 * 24 * 3):
        begin, end = since + 600 * n, since + 600 * (n + 1)
        for at, until in (
            (begin, end - end % 600),
            (end - end % 600, end),
        ):  # switches are on full ten minutes
            used = book._ledger._consumption.at(0, until) - book._ledger._consumption.at(0, at)
            expected[explain(document, datetime.fromtimestamp(at, UTC)).tariff - 1] += used
    counted = [b - a for a, b in zip(book.registers(since), book.registers(since + 3 * 86_400), strict=True)]
    assert counted == expected
    assert min(counted[:3]) > 0


# ---- the procedure -----------------------------------------------------------------------------------------


async def test_it_is_written_proven_activated_and_kept() -> None:
    scene = Scene()
    outcome = await scene.to_the_end()
    assert isinstance(outcome, Finished)
    assert (outcome.proof["name"], len(outcome.proof["special_days"])) == ("THREE", 2)
    assert scene.line.effects == ["write", "activate now"]
    assert [row[:2] for row in scene.history.rows] == [("found", "DAYNIGHT"), ("began", "THREE")]
    again = Scene()
    again.line, scene.line.effects = scene.line, []
    outcome = await again.visit()
    assert isinstance(outcome, Finished)
    assert (outcome.changed, scene.line.effects) == (False, [])


async def test_another_special_day_alone_is_another_program() -> None:
    """Also where its tables are the same to the number."""
    narrow = load_mqtt_model("headend-batch-meter").tariff.model_copy(update={"day_ids": (2, 3)})  # type: ignore[union-attr]
    scene = Scene()
    await scene.to_the_end()
    other = Scene(program(special_days=[{"date": "12-24", "day": "rest"}]))
    other.procedure._limits = lambda target: narrow  # type: ignore[method-assign]
    other.line = scene.line
    outcome = await other.to_the_end()
    assert isinstance(outcome, Finished)
    assert outcome.changed
    assert [one[:3] for one in scene.line.book.active.specials] == [(None, 12, 24)]


@pytest.mark.parametrize("where", ["before", "behind"])
@pytest.mark.parametrize("effect", [1, 2])
async def test_a_link_that_breaks_leaves_nothing_to_be_done_twice(effect: int, where: str) -> None:
    scene = Scene()
    scene.line.breaks = (effect, where)
    assert isinstance(await scene.to_the_end(), Finished)
    assert scene.line.breaks is None, "it was to break"
    assert scene.line.effects == ["write", "activate now"]


@pytest.mark.parametrize("writing", range(1, 6))
async def test_a_process_that_dies_behind_any_step_leaves_nothing_to_be_done_twice(writing: int) -> None:
    scene = Scene()
    scene.journal.dies = writing
    assert isinstance(await scene.to_the_end(), Finished)
    assert scene.journal.dies is None
    assert scene.line.effects == ["write", "activate now"]
    assert scene.history.rows[-1][:2] == ("began", "THREE")


async def test_it_waits_for_its_time_with_all_its_special_days() -> None:
    scene = Scene(program(AT))
    assert isinstance(await scene.visit(), Later)
    assert scene.line.effects == ["write", f"activate {int(AT.timestamp())}"]
    assert scene.line.book.active.specials == ()
    scene.line.now = AT + timedelta(minutes=1)
    outcome = await scene.visit()
    assert isinstance(outcome, Finished)
    assert outcome.proof["active_since"] == AT.isoformat()
    assert len(scene.line.book.active.specials) == 2
    assert len(scene.line.effects) == 2  # nothing is left to be written behind it


async def test_what_waits_is_disarmed_and_replaced() -> None:
    scene = Scene(program(AT))
    await scene.visit()
    scene.journal, scene.program, scene.line.effects = Kept(), program(name="OTHER"), []
    assert isinstance(await scene.to_the_end(), Finished)
    assert scene.line.effects == ["activate never", "write", "activate now"]
    scene.line.now = AT + timedelta(days=1)
    async with talking(scene.line) as device:
        assert (await device.read_tariff()).active.name == "OTHER"


async def test_a_device_that_stores_wrongly_is_never_activated() -> None:
    scene = Scene()
    scene.line.book.is_wrong = lambda: True
    outcome = await scene.to_the_end()
    assert isinstance(outcome, Failed)
    assert "day 2 has 21:15 -> script 2; day 2 has not 21:00 -> script 2" in outcome.reason
    assert scene.line.effects == ["write"]


# ---- answers ----------------------------------------------------------------------------------------------


async def test_only_the_device_s_own_fresh_answer_is_taken() -> None:
    line = Line()
    other = messages.encode(TariffTold(id="another-one", active=tariffs.tables_of(DEFAULT)))
    async with talking(line) as device:
        for spoil in (
            lambda answer: [Answer(TOLD, answer, True)],  # retained
            lambda answer: [Answer("headend/tariff-told/n", answer, False)],  # of another meter
            lambda answer: [Answer(TOLD, other, False)],  # to another request
        ):
            line.spoil = spoil
            with pytest.raises(LinkTimeout):
                await device.read_tariff()
        line.spoil = lambda answer: [Answer(TOLD, other, False), Answer(TOLD, answer, False)]
        assert (await device.read_tariff()).active.name == "DAYNIGHT"
        line.spoil = lambda answer: [Answer(TOLD, b"{}", False)]
        with pytest.raises(RemoteProtocolError):
            await device.read_tariff()


async def test_refusals_say_whose_and_why() -> None:
    line = Line()
    async with talking(line) as device:
        with pytest.raises(PeerRefused, match=r"refuses headend.tariff-activate.1: nothing waits"):
            await device.activate_tariff(None)
        with pytest.raises(LocalProtocolError, match="whole seconds"):
            await device.activate_tariff(AT + timedelta(microseconds=1))
        season = DEFAULT.calendar.seasons[0]._replace(year=2027)
        once = Compiled(DEFAULT.calendar._replace(seasons=(season,)), ())
        with pytest.raises(LocalProtocolError, match="one year"):
            await device.write_tariff([], once)
        line.now -= timedelta(hours=1)  # the head-end's clock is slow, or the request was kept
        line.talk = TariffTalk(line.meter, lambda now_s: now_s + 3600)
        with pytest.raises(PeerRefused, match="it came too late"):
            await device.write_tariff([], DEFAULT)
