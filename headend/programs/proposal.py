"""A campaign is proposed: its meters are found, checked, dealt to waves, and put under one digest.

The digest is of the program, the plan and the meters with their waves: whoever approves approves of exactly
that, and any change of it is another campaign.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from headend.drivers.contract import Target
from headend.drivers.targets import targets_of
from headend.jobs.forwarding import station_targets
from headend.programs.contract import Guarded, Joint, Procedure, Reach
from headend.programs.dealing import Fit, deal
from headend.programs.windows import opening
from headend.store import audit, campaign_course, campaign_views, campaigns, programs, selection
from headend.store.campaigns import Campaign, Placed
from headend.store.errors import ConflictError
from headend.store.sql import Connection
from schemas.campaign import Plan
from schemas.job import Selection
from schemas.program import Program, ProgramKind, canonical, digest
from schemas.programs.clock import ClockProgram
from schemas.programs.keys import KeysProgram

#: Names of meters that an error tells.
_TOLD: Final = 5
#: Kinds that can be for concentrators themselves.
_OF_CONCENTRATORS: Final = (ClockProgram, KeysProgram)


class EmptySelection(ConflictError):
    """The campaign would be for no meter."""


class OutsideArea(ConflictError):
    """Meters are meant that whoever asks may not act upon."""


class Wrong(NamedTuple):
    """What of a plan cannot be; ``pointer`` is a JSON pointer (RFC 6901) into it."""

    pointer: str
    reason: str

    def __str__(self) -> str:
        return f"{self.pointer}: {self.reason}"


class PlanError(ConflictError):
    """A plan that cannot be carried out: ``wrong`` has every place."""

    def __init__(self, wrong: Sequence[Wrong]) -> None:
        super().__init__("; ".join(map(str, wrong)))
        self.wrong = tuple(wrong)


async def propose(
    connection: Connection,
    program: Program,
    plan: Plan,
    *,
    name: str,
    title: str,
    procedures: Sequence[Procedure],
    actor: str,
    correlation_id: str,
    now: datetime,
    areas: frozenset[str] | None = None,
) -> Campaign:
    """Store the campaign, in state ``proposed``; nothing is sent yet. In a transaction.

    ``areas``: groups and stations that whoever asks is limited to. Raises PlanError for times that cannot be
    and names that nobody has, EmptySelection where no commissioned meter is meant, OutsideArea, and
    ConflictError where no meter is fit or another campaign of the kind is at one of them.
    """
    kind = ProgramKind(program.kind)
    by_kind: Mapping[ProgramKind, Procedure] = {one.kind: one for one in procedures}
    procedure = by_kind.get(kind)
    if procedure is None:
        raise ConflictError(f"programs of kind {kind} are not applied here")
    wrong = check_times(plan, now) + [
        Wrong(f"/selection{one.pointer}", one.reason)
        for one in await selection.unknown(connection, plan.selection)
    ]
    if wrong:
        raise PlanError(wrong)
    targets = await _targets(connection, program, plan, now)
    await _check_areas(connection, targets, areas, now)
    unfit = {number: procedure.unfit(program, target) for number, target in targets.items()}
    if isinstance(procedure, Guarded):
        unfit |= await procedure.forbidden(connection, program, list(targets), now)
    reach: Mapping[int, Reach] = {}
    if isinstance(procedure, Joint):
        reach = await procedure.reach(connection, program, targets)
        unfit |= {number: one.forbidden for number, one in reach.items() if unfit[number] is None}
    placed = _place(program, plan, targets, unfit, {number: one.together for number, one in reach.items()})
    fit = [one.meter_id for one in placed if one.unfit is None]
    if not fit:
        name = targets[placed[0].meter_id].meter.asset_id
        more = f", and none of the {len(placed) - 1:,} others is" if len(placed) > 1 else ""
        raise ConflictError(f"{name} is not fit for it{more}: {placed[0].unfit}")
    await _check_free(connection, targets, fit, kind)
    program_id = await programs.add(connection, name, program, actor=actor)
    number = await campaigns.create(
        connection,
        program_id=program_id,
        title=title,
        plan=plan,
        digest=digest_of(program, plan, placed),
        meters=placed,
        actor=actor,
        correlation_id=correlation_id,
    )
    await audit.record(
        connection,
        actor=actor,
        action="campaign.propose",
        object_=f"campaign:{number}",
        detail={"program": program_id, "kind": program.kind, "meters": len(placed)},
    )
    return await campaigns.find(connection, number)


def digest_of(program: Program, plan: Plan, placed: Sequence[Placed]) -> bytes:
    """SHA-256 of the program, the plan, and the meters with their waves: what people approve of."""
    plain = {
        "program": digest(program).hex(),
        "plan": plan.model_dump(mode="json"),
        "meters": [[one.meter_id, one.wave, one.unfit] for one in sorted(placed)],
    }
    return hashlib.sha256(canonical(plain)).digest()


async def digest_now(connection: Connection, campaign: Campaign) -> bytes:
    """The digest of a campaign that has not begun, made anew from all that is stored of it."""
    stored = await programs.find(connection, campaign.program_id)
    placed = await campaign_views.placed(connection, campaign.campaign_id)
    return digest_of(stored.content, campaign.plan, placed)


def check_times(plan: Plan, now: datetime) -> list[Wrong]:
    """What is wrong with when the campaign shall begin; ``now`` aware."""
    if plan.starts_at is not None and plan.starts_at <= now:
        return [
            Wrong(
                "/starts_at",
                f"{plan.starts_at:%F %R%z} is past: name a later time, or none to begin as soon as it is "
                "approved",
            )
        ]
    begin = plan.starts_at or now
    try:
        opens = opening(plan.window, begin)
    except ValueError as error:
        return [Wrong("/window", str(error))]
    if opens >= begin + timedelta(seconds=plan.expires_s):
        return [
            Wrong(
                "/window",
                f"it opens at {opens:%F %R}Z, and the campaign expires after "
                f"{timedelta(seconds=plan.expires_s)}: widen the window, or let it expire later",
            )
        ]
    return []


async def _targets(connection: Connection, program: Program, plan: Plan, now: datetime) -> dict[int, Target]:
    """Whom the campaign is for, by number: a concentrator has the negative number of its node. Raises
    EmptySelection."""
    if isinstance(program, _OF_CONCENTRATORS) and program.of == "concentrators":
        nodes = [node for node, _ in await selection.stations(connection, plan.selection)]
        if not nodes:
            raise EmptySelection(
                "the selection has no concentrator that can be called: `headend network show`"
            )
        return {-node: target for node, target in (await station_targets(connection, nodes)).items()}
    meant = await selection.meters(connection, plan.selection, at=now)
    if not meant:
        also = isinstance(program, _OF_CONCENTRATORS)
        raise EmptySelection(
            "the selection has no commissioned meter: look at it with `headend meters list`, and commission "
            "those that are meant" + ("; concentrators are meant by `of` (--concentrators)" if also else "")
        )
    return {one.meter.meter_id: one for one in await targets_of(connection, meant)}


def _place(
    program: Program,
    plan: Plan,
    targets: Mapping[int, Target],
    unfit: Mapping[int, str | None],
    together: Mapping[int, str],
) -> list[Placed]:
    """The meters in their waves; those that are not fit stand in the first. Raises PlanError."""
    fit = [
        Fit(number, one.meter.model, one.place.station_id, together.get(number))
        for number, one in targets.items()
        if unfit[number] is None
    ]
    waves = deal(
        fit,
        canaries=plan.canaries,
        named=_named_canaries(plan, targets, unfit),
        shares=plan.waves,
        seed=hashlib.sha256(digest(program) + canonical(plan.model_dump(mode="json"))).digest(),
    )
    return [
        Placed(number, waves.get(number, 1), unfit[number], one.place.station_id)
        for number, one in targets.items()
    ]


def _named_canaries(
    plan: Plan, targets: Mapping[int, Target], unfit: Mapping[int, str | None]
) -> frozenset[int]:
    by_name = {one.meter.asset_id: number for number, one in targets.items()} if plan.canary_meters else {}
    wrong = []
    for place, name in enumerate(plan.canary_meters):
        number = by_name.get(name)
        if number is None:
            wrong.append(
                Wrong(f"/canary_meters/{place}", f"{name!r} is no commissioned meter of the selection")
            )
        elif (why := unfit[number]) is not None:
            wrong.append(Wrong(f"/canary_meters/{place}", f"{name!r} is not fit for it: {why}"))
    if wrong:
        raise PlanError(wrong)
    return frozenset(by_name[name] for name in plan.canary_meters)


async def _check_areas(
    connection: Connection, targets: Mapping[int, Target], areas: frozenset[str] | None, now: datetime
) -> None:
    if areas is None:
        return
    names = tuple(sorted(areas))
    inside: set[int] = set()
    for area in (Selection(groups=names), Selection(stations=names)) if names else ():
        inside.update(await selection.meters(connection, area, at=now))
        inside.update(-node for node, _ in await selection.stations(connection, area))
    outside = [one.meter.asset_id for number, one in targets.items() if number not in inside]
    if outside:
        raise OutsideArea(
            f"{_some(outside)} lie outside of {', '.join(names) or 'any area'}, to which you are limited: "
            "narrow the selection, or ask somebody of that area"
        )


async def _check_free(
    connection: Connection, targets: Mapping[int, Target], fit: Sequence[int], kind: ProgramKind
) -> None:
    """Two programs of a kind at one meter would each undo what the other does."""
    taken = await campaign_course.taken(connection, fit, kind)
    if taken:
        numbers = sorted(set(taken.values()))
        raise ConflictError(
            f"{_some([targets[one].meter.asset_id for one in sorted(taken)])} have a part in another {kind} "
            f"campaign that goes on ({', '.join(map(str, numbers[:_TOLD]))}): wait for its end, or abort it"
        )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _TOLD} more" if len(names) > _TOLD else ""
    return f"meters {', '.join(names[:_TOLD])}{more}"
