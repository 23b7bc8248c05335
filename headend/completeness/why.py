"""Why a meter is late: from what is stored about it to what holds it, when it is tried next, and what to do.

`verdict` is a pure function. What holds a meter is looked at from the outside in: its life, its address, its
connection, the breakers of line, station and meter, its concentrator's grace, its place in its lane; the
first of these is what somebody has to change, and all that hold are told.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from headend.completeness.stages import STAGES
from headend.store import network, why
from headend.store.sql import Connection
from headend.store.why import Facts
from schemas.address import AddressError, LinkAddress
from schemas.failure import Stage
from schemas.meter import Meter, MeterState
from schemas.model import ModelError
from schemas.models import load_any
from schemas.network import NOWHERE

#: How far back missing intervals are looked for.
LOOK_BACK: Final = timedelta(days=35)
#: What has ended within this time and was not tried in vain is not late: the night is yet to come.
FRESH: Final = timedelta(hours=24)
#: The driver of concentrators that store and forward.
_STATION: Final = "dlms-station"


@dataclass(frozen=True, slots=True)
class Hold:
    """One thing that keeps the meter's intervals away; ``until`` None: until somebody does something, or it
    cannot be known. ``kind`` is one word for scripts."""

    kind: str
    text: str
    until: datetime | None = None
    advice: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the meter is late, and in one sentence why. ``stage`` is where it failed last and ``meaning``
    what that says; ``next_try_at`` None: nobody will try. ``advice`` in the order in which to do it."""

    late: bool
    summary: str
    stage: Stage | None
    meaning: str | None
    holds: tuple[Hold, ...]
    next_try_at: datetime | None
    advice: tuple[str, ...]


def verdict(facts: Facts) -> Verdict:
    """The verdict of these facts."""
    holds = tuple(_holds(facts))
    missing, lost = (sum(getattr(one, name) for one in facts.curves) for name in ("open", "lost"))
    stage = _stage(facts)
    if facts.curves and not missing:
        rest = f"; {lost} intervals are lost: the meter was asked and has them not" if lost else ""
        return Verdict(False, f"nothing is missing{rest}", None, None, (), None, ())
    late = _is_late(facts, stage, holds)
    meaning, remedy = (None, None) if stage is None else STAGES[stage]
    advice = [one.advice for one in holds if one.advice is not None]
    if remedy is not None:
        advice.append(remedy)
    if stage is Stage.CIPHER and not facts.keys:
        advice.insert(0, "no key of this meter is stored: import its keys (headend keys)")
    return Verdict(
        late,
        _summary(facts, missing, late, stage, meaning, holds),
        stage,
        meaning,
        holds,
        _next_try(facts, holds),
        tuple(dict.fromkeys(advice)),
    )


def _stage(facts: Facts) -> Stage | None:
    """Where it failed last: of the newest attempt, else of what waits or ended, else of a breaker."""
    if facts.attempts:
        told = facts.attempts[0].stage
    else:
        ended = () if facts.ended is None else (facts.ended,)
        told = next((one.stage for one in (*facts.requests, *ended, *facts.breakers) if one.stage), None)
    return None if told is None else Stage(told)


def _is_late(facts: Facts, stage: Stage | None, holds: tuple[Hold, ...]) -> bool:
    if facts.meter.state is not MeterState.COMMISSIONED:
        return False
    first = min((one.first_open for one in facts.curves if one.first_open is not None), default=None)
    if any(one.kind == "forwarded" for one in holds):
        return False
    return stage is not None or facts.gap is not None or (first is not None and first < facts.now - FRESH)


def _holds(facts: Facts) -> Iterator[Hold]:
    meter, now = facts.meter, facts.now
    if meter.state is not MeterState.COMMISSIONED:
        yield Hold(
            "life",
            f"the meter is {meter.state} since {meter.state_since:%F}: only commissioned meters are read",
            advice="move it to commissioned when it is in service",
        )
        return
    if not facts.curves:
        yield Hold(
            "nothing expected",
            f"nothing is expected of it: its model {meter.model} has no load curve that can be read, or it "
            "was commissioned only now",
            advice="check its model, and its installations if it has any",
        )
        return
    recalls = {one.recall for one in facts.curves if one.open}
    if "stored" not in recalls:
        yield _comes_by_itself(facts, recalls)
        return
    if meter.address is None:
        yield Hold("no address", "it has no address: nobody can dial it", advice="give it an address")
        return
    if meter.address.startswith("inbound:") and facts.worker is None:
        yield Hold(
            "away",
            "it dials in, and is not connected to any process",
            advice="check power and SIM, and the address that the meter dials (listen_inbound)",
        )
    yield from _breakers(facts)
    first = min(one.first_open for one in facts.curves if one.first_open is not None)
    if facts.forwards and first + timedelta(seconds=facts.forwarded_s) > now:
        yield Hold(
            "forwarded",
            f"its concentrator {facts.place.station} keeps its load curve and may yet hand it on",
            first + timedelta(seconds=facts.forwarded_s),
        )
    yield from _waiting(facts)


def _comes_by_itself(facts: Facts, recalls: set[str]) -> Hold:
    newest = max((one.present_until for one in facts.curves if one.present_until is not None), default=None)
    last = "nothing has come yet" if newest is None else f"the last that came ends at {newest:%F %R}Z"
    if "sampled" in recalls:
        return Hold(
            "sampled",
            f"it keeps no load curve: it is read around each boundary, or never; {last}",
            advice="see that the service runs, and that its line answers (headend links show)",
        )
    return Hold(
        "pushed",
        f"its readings come by themselves and cannot be asked for; {last}",
        advice="check the device and its way to the broker or listener; headend quarantine and headend inbox "
        "show what came and could not be stored",
    )


def _breakers(facts: Facts) -> Iterator[Hold]:
    names = {"station": f"its concentrator {facts.place.station}", "meter": "the meter", "line": "its line"}
    for one in facts.breakers:
        name = facts.meter.asset_id if one.kind == "meter" else facts.place.station or one.id
        if one.kind == "line":
            name = one.id
        yield Hold(
            f"silent {one.kind}",
            f"{names.get(one.kind, one.kind)} has not answered since {one.since:%F %T}Z: {one.reason}; it is "
            "only probed",
            one.until,
            f"when it is mended: headend links reset {one.kind} {name}",
        )


def _waiting(facts: Facts) -> Iterator[Hold]:
    for one in facts.requests[:1]:
        of = "" if one.allowed is None else f" of {one.allowed}"
        if one.next_at > facts.now:
            yield Hold(
                "back-off", f"{one.title}: attempt {one.attempts + 1}{of} waits for its turn", one.next_at
            )
        elif one.holder is None:
            yield Hold(
                "lane",
                f"{one.title}: nobody works at its lane {one.lane} now, {one.before} requests are before it",
                advice="see that a worker runs (headend workers)",
            )
        else:
            yield Hold(
                "lane",
                f"{one.title}: {one.before} requests are before it in {one.lane}, at work: {one.holder}",
            )
        return
    if facts.ended is not None and facts.ended.state in ("failed", "expired"):
        what = "was given up" if facts.ended.state == "failed" else "did not have its turn in time"
        yield Hold(facts.ended.state, f"{facts.ended.title} {what} after {facts.ended.attempts} attempts")
    if facts.gap is None and facts.next_run_at is None:
        yield Hold(
            "not asked",
            "nobody asks for it: no request, no open gap, and no schedule has asked it yet",
            advice="make a schedule that selects it (headend schedules), or read it now (headend read)",
        )


def _next_try(facts: Facts, holds: tuple[Hold, ...]) -> datetime | None:
    """The earliest that somebody means to try, put off by what is only probed."""
    if any(one.kind in ("life", "no address", "pushed", "nothing expected") for one in holds):
        return None
    wanted = [max(one.next_at, facts.now) for one in facts.requests]
    if not wanted:
        gap = None if facts.gap is None else facts.gap.next_try_at
        wanted = [max(one, facts.now) for one in (gap, facts.next_run_at) if one is not None]
    bars = [one.until for one in holds if one.kind.startswith("silent") and one.until is not None]
    return max([min(wanted), *bars]) if wanted else None


def _summary(
    facts: Facts,
    missing: int,
    late: bool,
    stage: Stage | None,
    meaning: str | None,
    holds: tuple[Hold, ...],
) -> str:
    if not facts.curves or facts.meter.state is not MeterState.COMMISSIONED:
        return holds[0].text
    first = min(one.first_open for one in facts.curves if one.first_open is not None)
    what = f"{missing} intervals since {first:%F %R}Z are missing"
    if not late:
        return f"{what}; that is not late yet"
    if meaning is not None and stage is not None:
        return f"{what}: {meaning} ({stage})"
    return f"{what}: {holds[0].text}" if holds else what


async def why_late(
    connection: Connection,
    meter: Meter,
    *,
    now: datetime,
    forwarded_s: float,
    profile_folders: tuple[Path, ...] = (),
) -> tuple[Facts, Verdict]:
    """The facts about a meter, and their verdict. ``forwarded_s``: how long a concentrator that stores and
    forwards has, until its meter is asked itself."""
    place = (await network.places(connection, [meter.meter_id])).get(meter.meter_id, NOWHERE)
    found = await why.facts(
        connection,
        meter,
        place,
        line=_line(meter.address),
        now=now,
        since=now - LOOK_BACK,
        forwards=_forwards(place.station_model, profile_folders),
        forwarded_s=forwarded_s,
    )
    return found, verdict(found)


def _forwards(model: str | None, folders: tuple[Path, ...]) -> bool:
    try:
        return model is not None and load_any(model, folders).driver == _STATION
    except ModelError:
        return False


def _line(address: str | None) -> str | None:
    """A shared line as breakers call it (`headend.links.links.subjects_of`)."""
    try:
        parsed = None if address is None else LinkAddress.parse(address)
    except AddressError:
        return None
    if parsed is None or not parsed.is_shared:
        return None
    where = parsed.device if parsed.host is None else f"{parsed.host}:{parsed.port}"
    return f"{parsed.scheme}:{where}"
