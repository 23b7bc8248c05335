"""What `headend.drivers.contract` promises, of every driver; see `subjects` for how a driver takes part."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from headend.drivers.commands.clock import ClockConversation
from headend.drivers.commands.firmware import Upgradable
from headend.drivers.commands.keys import KeysConversation
from headend.drivers.commands.limit import Limitable
from headend.drivers.commands.parameters import Parametrised
from headend.drivers.commands.switch import Switchable
from headend.drivers.commands.tariff import TariffConversation
from headend.drivers.contract import (
    BillingConversation,
    Conversation,
    Curve,
    Driver,
    Feature,
    Recall,
    Target,
    Way,
)
from protocols.errors import CommunicationError, LinkError, LocalProtocolError
from schemas.address import LinkAddress
from schemas.event import MeterEvent
from schemas.model import ModelError
from schemas.models import load_any
from schemas.reading import INTERVAL_QUANTITIES, Quality, ReadingBatch
from tests.contract.subjects import Subject, subjects

#: How long a silent peer is waited for; the guard only ends a test that would hang.
ANSWER_S = 0.3
GUARD_S = 30.0
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SUBJECTS = subjects()
#: What a conversation is where the model has the feature.
PROTOCOLS: Mapping[Feature, type] = {
    Feature.BILLING: BillingConversation,
    Feature.CLOCK: ClockConversation,
    Feature.FIRMWARE: Upgradable,
    Feature.KEYS: KeysConversation,
    Feature.LIMIT: Limitable,
    Feature.PARAMETERS: Parametrised,
    Feature.SWITCH: Switchable,
    Feature.TARIFF: TariffConversation,
}


@pytest.fixture(params=SUBJECTS)
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    async with SUBJECTS[request.param]() as found:
        yield found


async def way_to(driver: Driver, target: Target) -> Way:
    way = (await driver.prepare([target]))[target.meter.meter_id]
    assert not isinstance(way, Exception), way
    return way


@asynccontextmanager
async def talking(subject: Subject, target: Target | None = None) -> AsyncIterator[Conversation]:
    way = await way_to(subject.driver, subject.target if target is None else target)
    async with asyncio.timeout(GUARD_S), subject.driver.open(way, answer_s=ANSWER_S * 10) as conversation:
        yield conversation


def need(what: object, why: str) -> None:
    if not what:
        pytest.skip(why)


def need_conversation(subject: Subject) -> None:
    need(subject.driver.features(subject.model), "such meters are never asked")


def curve_of(subject: Subject) -> Curve:
    case = subject.curve
    assert case is not None
    return next(one for one in subject.driver.curves(subject.model) if one.number == case.number)


def at(moment_us: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=moment_us)


# ---- what is said without a meter -------------------------------------------------------------------


async def test_a_driver_answers_to_the_names_in_its_models(subject: Subject) -> None:
    assert load_any(subject.model).driver in subject.driver.names
    assert len(set(subject.driver.names)) == len(subject.driver.names)


async def test_a_conversation_can_what_the_model_says(subject: Subject) -> None:
    need_conversation(subject)
    features = subject.driver.features(subject.model)
    async with talking(subject) as conversation:
        lacking = [
            one for one, what in PROTOCOLS.items() if one in features and not isinstance(conversation, what)
        ]
    assert not lacking


async def test_features_and_curves_agree(subject: Subject) -> None:
    for model in (subject.model, *subject.push_models):
        features, curves = subject.driver.features(model), subject.driver.curves(model)
        assert features <= frozenset(Feature)
        assert (Feature.CURVES in features) == any(one.recall is not Recall.PUSHED for one in curves)
        assert len({one.number for one in curves}) == len(curves)
        for curve in curves:
            assert curve.period_s > 0
            if curve.recall is Recall.SAMPLED:
                assert 0 <= 2 * curve.tolerance_s < curve.period_s
            else:
                assert curve.tolerance_s == 0


async def test_a_model_that_is_not_there(subject: Subject) -> None:
    for ask in (subject.driver.features, subject.driver.curves):
        with pytest.raises(ModelError):
            ask("no-such-model")


async def test_each_meter_gets_its_way_or_the_reason_why_it_has_none(subject: Subject) -> None:
    found = await subject.driver.prepare([*subject.impossible, subject.target])
    assert set(found) == {one.meter.meter_id for one in (*subject.impossible, subject.target)}
    for one in subject.impossible:
        assert isinstance(found[one.meter.meter_id], LocalProtocolError), one
    way = found[subject.target.meter.meter_id]
    assert not isinstance(way, Exception), way
    assert way.target == subject.target
    assert isinstance(way.address, LinkAddress)
    assert await subject.driver.prepare([]) == {}


# ---- registers --------------------------------------------------------------------------------------


def told(batch: ReadingBatch) -> dict[str, Decimal | str | None]:
    return {one.obis: one.text if one.value is None else one.value for one in batch.registers}


async def test_registers_come_exact_and_what_is_not_there_is_refused(subject: Subject) -> None:
    need_conversation(subject)
    asked = [*subject.values, subject.absent]
    async with talking(subject) as conversation:
        batch, refusals = await conversation.read_registers(asked)
    assert told(batch) == subject.values
    assert len(batch) == 0
    assert {one.obis for one in refusals} == {subject.absent}
    assert all(one.reason for one in refusals)
    for one in batch.registers:
        assert one.meter_id == subject.target.meter.meter_id
        assert (one.value is None) is not (one.text is None)
        assert not isinstance(one.value, float)


async def test_the_models_registers_are_read_where_none_are_named(subject: Subject) -> None:
    need_conversation(subject)
    async with talking(subject) as conversation:
        batch, _ = await conversation.read_registers()
    found = told(batch)
    assert found
    for obis in set(found) & set(subject.values):
        assert found[obis] == subject.values[obis]


async def test_what_is_no_code_is_our_fault(subject: Subject) -> None:
    need_conversation(subject)
    async with talking(subject) as conversation:
        with pytest.raises(LocalProtocolError):
            await conversation.read_registers(["warmth"])


async def test_conversations_follow_one_another(subject: Subject) -> None:
    need_conversation(subject)
    for _ in range(3):
        async with talking(subject) as conversation:
            first = (await conversation.read_registers(list(subject.values))).batch
            again = (await conversation.read_registers(list(subject.values))).batch
            assert conversation.answers_s
            assert all(one >= 0 for one in conversation.answers_s)
        assert told(first) == told(again) == subject.values


# ---- load curves ------------------------------------------------------------------------------------


async def test_times_without_a_zone_or_reversed_are_our_fault(subject: Subject) -> None:
    need(subject.curve, "no curve can be asked for")
    assert subject.curve is not None
    number = subject.curve.number
    async with talking(subject) as conversation:
        for start, end in (
            (NOON.replace(tzinfo=None), NOON + HOUR),
            (NOON, (NOON + HOUR).replace(tzinfo=None)),
            (NOON + HOUR, NOON),
            (NOON, NOON),
        ):
            with pytest.raises(LocalProtocolError):
                await conversation.read_load_curve(number, start, end)


async def test_a_curve_that_the_model_has_not(subject: Subject) -> None:
    need_conversation(subject)
    numbers = {one.number for one in subject.driver.curves(subject.model)}
    async with talking(subject) as conversation:
        with pytest.raises(LocalProtocolError):
            await conversation.read_load_curve(max(numbers, default=0) + 1, NOON, NOON + HOUR)


async def read_case(subject: Subject, conversation: Conversation) -> ReadingBatch:
    case = subject.curve
    assert case is not None
    if case.now is not None:
        assert subject.set_now is not None
        subject.set_now(case.now)
    return await conversation.read_load_curve(case.number, case.start, case.end)


async def test_a_curve_comes_exact_and_claims_no_more_than_was_asked(subject: Subject) -> None:
    need(subject.curve, "no curve can be asked for")
    case, curve = subject.curve, curve_of(subject)
    assert case is not None
    async with talking(subject) as conversation:
        batch = await read_case(subject, conversation)
    found = {}
    for row in range(len(batch)):
        layout = batch.layouts[batch.layout[row]]
        found[at(int(batch.start_us[row]))] = {
            quantity: channel.exact(int(batch.values[row, column]))
            for column, quantity in enumerate(INTERVAL_QUANTITIES)
            if (channel := layout.channels[column]) is not None and batch.valid[row, column]
        }
    assert found == case.rows
    assert set(batch.meter_id.tolist()) <= {subject.target.meter.meter_id}
    assert set(batch.profile.tolist()) <= {curve.number}
    assert set(batch.period_s.tolist()) <= {curve.period_s}
    for meter_id, profile, since, until in batch.covered_us:
        assert (meter_id, profile) == (subject.target.meter.meter_id, curve.number)
        assert case.start <= at(since) < at(until) <= case.end
    if curve.recall is Recall.SAMPLED:
        assert set(batch.quality.tolist()) == {Quality.SAMPLED}
        ends = batch.start_us + batch.period_s.astype("int64") * 1_000_000
        assert (abs(batch.stamp_us - ends) <= curve.tolerance_s * 1_000_000).all()
        assert [(since, until) for _, _, since, until in batch.covered_us] == list(
            zip(batch.start_us.tolist(), ends.tolist(), strict=True)
        )


async def test_a_sample_counts_for_the_nearest_boundary_or_not_at_all(subject: Subject) -> None:
    need(subject.curve is not None and subject.set_now is not None, "nothing is sampled")
    case, curve = subject.curve, curve_of(subject)
    assert case is not None
    assert case.now is not None
    assert subject.set_now is not None
    need(curve.recall is Recall.SAMPLED, "nothing is sampled")
    boundary = max(case.rows) + timedelta(seconds=curve.period_s)
    since, tolerance = max(case.rows), timedelta(seconds=curve.tolerance_s)
    instant = timedelta(microseconds=1)
    wide = (boundary - 10 * HOUR, boundary + 10 * HOUR)
    async with talking(subject) as conversation:
        for now, (start, end), rows in (
            (boundary - tolerance, wide, 1),
            (boundary + tolerance, wide, 1),
            (boundary - tolerance - instant, wide, 0),
            (boundary + tolerance + instant, wide, 0),
            (boundary, (since, since + instant), 1),
            (boundary, (since + instant, boundary + HOUR), 0),
            (boundary, (since - HOUR, since), 0),
        ):
            subject.set_now(now)
            batch = await conversation.read_load_curve(case.number, start, end)
            assert (len(batch), len(batch.covered_us)) == (rows, rows), now
            assert [at(one) for one in batch.start_us.tolist()] == [since] * rows
            assert [at(one) for one in batch.stamp_us.tolist()] == [now] * rows


async def test_a_curve_that_comes_by_itself_cannot_be_asked_for(subject: Subject) -> None:
    pushed = [one for one in subject.driver.curves(subject.model) if one.recall is Recall.PUSHED]
    need(pushed and subject.driver.features(subject.model), "nothing is pushed, or nobody can be asked")
    async with talking(subject) as conversation:
        with pytest.raises(LocalProtocolError):
            await conversation.read_load_curve(pushed[0].number, NOON, NOON + HOUR)


# ---- events -----------------------------------------------------------------------------------------


async def test_events_come_typed_and_within_what_was_asked(subject: Subject) -> None:
    need_conversation(subject)
    since, until = NOON - 100 * HOUR, NOON
    async with talking(subject) as conversation:
        batch = await conversation.read_events(since, until)
    assert len(batch) == 0
    if Feature.EVENTS not in subject.driver.features(subject.model):
        assert batch.events == ()
    for event in batch.events:
        assert isinstance(event, MeterEvent)
        assert event.meter_id == subject.target.meter.meter_id


# ---- failures ---------------------------------------------------------------------------------------


async def failing(subject: Subject, target: Target) -> CommunicationError:
    way = await way_to(subject.driver, target)
    with pytest.raises(CommunicationError) as caught:
        async with asyncio.timeout(GUARD_S), subject.driver.open(way, answer_s=ANSWER_S) as conversation:
            await conversation.read_registers()
    assert str(caught.value)
    return caught.value


async def works(subject: Subject) -> None:
    async with talking(subject) as conversation:
        assert told((await conversation.read_registers(list(subject.values))).batch) == subject.values


async def test_a_silent_peer_is_the_links_fault_and_harms_nobody_else(subject: Subject) -> None:
    need(subject.silent, "no peer that is silent")
    assert subject.silent is not None
    assert isinstance(await failing(subject, subject.silent), LinkError)
    await works(subject)


async def test_a_peer_that_is_not_there_is_the_links_fault(subject: Subject) -> None:
    need(subject.closed, "no peer that is not there")
    assert subject.closed is not None
    assert isinstance(await failing(subject, subject.closed), LinkError)
    await works(subject)


async def test_a_peer_that_talks_rubbish_is_not_our_fault(subject: Subject) -> None:
    need(subject.garbage, "no peer that talks rubbish")
    assert subject.garbage is not None
    assert not isinstance(await failing(subject, subject.garbage), LocalProtocolError)
    await works(subject)


async def test_who_cancels_a_read_leaves_nothing_behind(subject: Subject) -> None:
    need(subject.silent, "no peer that is silent")
    assert subject.silent is not None
    way = await way_to(subject.driver, subject.silent)
    opened = asyncio.Event()

    async def read() -> None:
        async with subject.driver.open(way, answer_s=GUARD_S) as conversation:
            opened.set()
            await conversation.read_registers()

    task = asyncio.create_task(read())
    opening = asyncio.create_task(opened.wait())
    # some languages are silent already while opening
    await asyncio.wait({task, opening}, timeout=ANSWER_S, return_when=asyncio.FIRST_COMPLETED)
    opening.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    if subject.links is not None:
        async with asyncio.timeout(GUARD_S):
            while subject.links() > subject.kept:  # noqa: ASYNC110 - the peer sees it when it sees it
                await asyncio.sleep(0)
    await works(subject)
