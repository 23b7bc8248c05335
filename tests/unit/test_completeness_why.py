"""Why a meter is late: each case of the verdict."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from headend.completeness.stages import STAGES
from headend.completeness.why import Verdict, verdict
from headend.store.link_states import LinkState
from headend.store.why import AttemptFacts, CurveFacts, EndedRequest, Facts, GapFacts, OpenRequest
from schemas.failure import Stage
from schemas.meter import Meter, MeterState
from schemas.network import Place

NOW = datetime(2026, 3, 3, 8, tzinfo=UTC)
HOUR = timedelta(hours=1)
METER = Meter(
    7, "M-7", "headend-sim", None, None, "tcp://192.0.2.1:4059", None, None, MeterState.COMMISSIONED,
    NOW - timedelta(days=90), NOW, NOW,
)  # fmt: skip
#: Two days are missing.
CURVE = CurveFacts(1, "stored", 900, 3360, 3168, 0, 192, NOW - 48 * HOUR, NOW - 48 * HOUR)
FACTS = Facts(NOW, METER, Place(), lane="lot:0", curves=(CURVE,))


def told(**changed: Any) -> Verdict:
    return verdict(replace(FACTS, **changed))


def meter(**changed: Any) -> Meter:
    return replace(METER, **changed)


def curve(**changed: Any) -> tuple[CurveFacts, ...]:
    return (CURVE._replace(**changed),)


def request(**changed: Any) -> tuple[OpenRequest, ...]:
    known = OpenRequest(
        1,
        40,
        "scheduled",
        "night",
        "lot:0",
        20,
        0,
        5,
        NOW - HOUR,
        NOW + HOUR,
        NOW + 2 * HOUR,
        None,
        None,
        3,
        "w-1",
    )
    return (known._replace(**changed),)


def attempt(stage: Stage | None, reason: str = "so it is") -> tuple[AttemptFacts, ...]:
    return (AttemptFacts(NOW - HOUR, 2000, 0, 1, stage, "link", reason, "w-1"),)


def breaker(kind: str, until: datetime = NOW + HOUR) -> tuple[LinkState, ...]:
    return (LinkState(kind, "7", NOW - 50 * HOUR, until, 5, 2, "timeout", "nothing came"),)


def kinds(said: Verdict) -> list[str]:
    return [one.kind for one in said.holds]


def test_a_meter_that_lacks_nothing_is_not_late() -> None:
    said = told(curves=curve(open=0, first_open=None), attempts=attempt(Stage.TIMEOUT))
    assert (said.late, said.summary, said.holds) == (False, "nothing is missing", ())
    lost = told(curves=curve(open=0, lost=4, first_open=None))
    assert (lost.late, "4 intervals are lost" in lost.summary) == (False, True)


@pytest.mark.parametrize("state", [one for one in MeterState if one is not MeterState.COMMISSIONED])
def test_only_commissioned_meters_are_late(state: MeterState) -> None:
    said = told(meter=meter(state=state), curves=())
    assert (said.late, kinds(said), said.next_try_at) == (False, ["life"], None)
    assert state.value in said.summary


def test_a_meter_of_which_nothing_is_expected() -> None:
    said = told(curves=())
    assert (said.late, kinds(said)) == (False, ["nothing expected"])
    assert "check its model, and its installations if it has any" in said.advice


def test_what_ended_lately_and_was_not_tried_in_vain_is_not_late_yet() -> None:
    fresh = curve(open=12, first_open=NOW - 3 * HOUR)
    assert not told(curves=fresh, schedule="night", next_run_at=NOW + HOUR).late
    assert told(curves=fresh, attempts=attempt(Stage.TIMEOUT)).late
    assert told(curves=fresh, gap=GapFacts(NOW - 3 * HOUR, 0, NOW, None, "not_asked", None, 1)).late
    assert told().late


def test_a_meter_without_an_address() -> None:
    said = told(meter=meter(address=None))
    assert (said.late, kinds(said), said.next_try_at) == (True, ["no address"], None)
    assert said.advice[0] == "give it an address"


def test_a_meter_that_dials_in() -> None:
    away = told(meter=meter(address="inbound:"), requests=request(holder=None))
    assert kinds(away) == ["away", "lane"]
    assert kinds(told(meter=meter(address="inbound:"), worker="w-1", requests=request())) == ["lane"]


@pytest.mark.parametrize(("recall", "kind"), [("pushed", "pushed"), ("sampled", "sampled")])
def test_what_comes_by_itself_or_is_sampled_cannot_be_asked_for(recall: str, kind: str) -> None:
    said = told(curves=curve(recall=recall))
    assert (said.late, kinds(said)) == (True, [kind])
    assert "ends at 2026-03-01 08:00Z" in said.holds[0].text
    assert "nothing has come yet" in told(curves=curve(recall=recall, present_until=None)).holds[0].text


@pytest.mark.parametrize("kind", ["meter", "station", "line"])
def test_what_is_silent_is_only_probed_and_puts_off_the_next_try(kind: str) -> None:
    said = told(breakers=breaker(kind), requests=request(), place=Place(3, "DC-3"))
    assert kinds(said)[0] == f"silent {kind}"
    assert said.holds[0].until == said.next_try_at == NOW + HOUR
    name = {"meter": "M-7", "station": "DC-3", "line": "7"}[kind]
    assert f"headend links reset {kind} {name}" in said.advice[0]


def test_what_its_concentrator_may_yet_hand_on_is_not_late() -> None:
    said = told(
        curves=curve(open=40, first_open=NOW - 10 * HOUR),
        forwards=True,
        forwarded_s=86_400,
        place=Place(3, "DC-3"),
    )
    assert (said.late, kinds(said)[0], said.holds[0].until) == (False, "forwarded", NOW + 14 * HOUR)
    assert told(forwards=True, forwarded_s=86_400).late


def test_a_request_that_waits_its_turn() -> None:
    waits = told(requests=request())
    assert "3 requests are before it in lot:0, at work: w-1" in waits.holds[0].text
    assert waits.next_try_at == NOW
    unheld = told(requests=request(holder=None))
    assert "nobody works at its lane lot:0" in unheld.holds[0].text
    assert "headend workers" in unheld.advice[0]


def test_a_request_that_backs_off() -> None:
    said = told(requests=request(attempts=2, next_at=NOW + HOUR), attempts=attempt(Stage.CONNECT))
    assert (kinds(said), said.next_try_at) == (["back-off"], NOW + HOUR)
    assert "attempt 3 of 5" in said.holds[0].text
    assert said.advice == (STAGES[Stage.CONNECT].remedy,)


@pytest.mark.parametrize(
    ("state", "text"), [("failed", "was given up"), ("expired", "did not have its turn")]
)
def test_a_request_that_has_ended_in_vain_and_the_gap_that_it_left(state: str, text: str) -> None:
    ended = EndedRequest("scheduled", "night", state, NOW - HOUR, 5, "timeout", "nothing came")
    gap = GapFacts(NOW - 48 * HOUR, 2, NOW + 3 * HOUR, None, "timeout", "nothing came", 1)
    said = told(ended=ended, gap=gap, schedule="night", next_run_at=NOW + 9 * HOUR)
    assert text in said.holds[0].text
    assert (said.stage, said.next_try_at) == (Stage.TIMEOUT, NOW + 3 * HOUR)


def test_a_meter_that_nobody_asks() -> None:
    said = told()
    assert (kinds(said), said.next_try_at, said.stage) == (["not asked"], None, None)
    assert "headend schedules" in said.advice[0]


@pytest.mark.parametrize("stage", list(Stage))
def test_each_stage_has_a_meaning_and_something_to_do(stage: Stage) -> None:
    said = told(attempts=attempt(stage), requests=request(), keys=("encryption",))
    assert (said.stage, said.meaning) == (stage, STAGES[stage].meaning)
    assert STAGES[stage].meaning in said.summary
    assert said.advice == (STAGES[stage].remedy,)


def test_a_meter_without_a_key_needs_its_keys_first() -> None:
    assert (
        told(attempts=attempt(Stage.CIPHER), requests=request()).advice[0].startswith("no key of this meter")
    )
