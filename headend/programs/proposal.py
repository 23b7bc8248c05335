"""A campaign is proposed: its meters are found, checked, dealt to waves, and put under one digest.

The digest is of the program, the plan and the meters with their waves: whoever approves approves of exactly
that, and any change of it is another campaign.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime

from headend.drivers.contract import Target
from headend.drivers.targets import targets_of
from headend.jobs.forwarding import station_targets
from headend.programs.contract import Guarded, Procedure
from headend.store import audit, campaigns, programs, selection
from headend.store.campaigns import Campaign, Placed
from headend.store.errors import ConflictError
from headend.store.sql import Connection
from schemas.campaign import Plan
from schemas.program import Program, ProgramKind, canonical, digest
from schemas.programs.clock import ClockProgram


class EmptySelection(ConflictError):
    """The campaign would be for no meter."""


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
) -> Campaign:
    """Store the campaign, in state ``proposed``; nothing is sent yet. In a transaction.

    Raises EmptySelection where no commissioned meter is meant, and ConflictError where none of them is fit.
    """
    by_kind: Mapping[ProgramKind, Procedure] = {one.kind: one for one in procedures}
    procedure = by_kind.get(ProgramKind(program.kind))
    if procedure is None:
        raise ConflictError(f"programs of kind {program.kind} are not applied here")
    targets = await _targets(connection, program, plan, now)
    meant = list(targets)
    forbidden: Mapping[int, str] = {}
    if isinstance(procedure, Guarded):
        forbidden = await procedure.forbidden(connection, program, meant, now)
    placed = [
        Placed(number, 1, forbidden.get(number) or procedure.unfit(program, targets[number]))
        for number in meant
    ]
    if all(one.unfit is not None for one in placed):
        raise ConflictError(f"none of the {len(placed)} meters is fit for it: {placed[0].unfit}")
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


async def _targets(connection: Connection, program: Program, plan: Plan, now: datetime) -> dict[int, Target]:
    """Whom the campaign is for, by number: a concentrator has the negative number of its node. Raises
    EmptySelection."""
    if isinstance(program, ClockProgram) and program.of == "concentrators":
        nodes = [node for node, _ in await selection.stations(connection, plan.selection)]
        if not nodes:
            raise EmptySelection(
                "the selection has no concentrator that can be called: `headend network show`"
            )
        return {-node: target for node, target in (await station_targets(connection, nodes)).items()}
    meant = await selection.meters(connection, plan.selection, at=now)
    if not meant:
        raise EmptySelection("the selection has no commissioned meter: look at it with `headend meters list`")
    return {one.meter.meter_id: one for one in await targets_of(connection, meant)}


def digest_of(program: Program, plan: Plan, placed: Sequence[Placed]) -> bytes:
    """SHA-256 of the program, the plan, and the meters with their waves: what people approve of."""
    plain = {
        "program": digest(program).hex(),
        "plan": plan.model_dump(mode="json"),
        "meters": [[one.meter_id, one.wave, one.unfit] for one in sorted(placed)],
    }
    return hashlib.sha256(canonical(plain)).digest()
