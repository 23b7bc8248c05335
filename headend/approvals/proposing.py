"""A campaign is put forward: proposed, and approved by the policy or left to a second person.

::

    key claimed ─> campaign with its meters ─> what is shown of it ─> approval ─> commit
        └ in use: the campaign that came of it, and nothing is made
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from headend.approvals import four_eyes
from headend.approvals.campaigns import CampaignSubject, shown, subject_of
from headend.approvals.policy import Policy
from headend.programs.contract import AtStations, Procedure
from headend.programs.proposal import EmptySelection, OutsideArea, PlanError, propose
from headend.session.access import Connect
from headend.store import approvals, audit, campaign_views, campaigns
from headend.store.approvals import Approval, ApprovalState
from headend.store.campaigns import Campaign
from headend.store.errors import ConflictError
from headend.store.sql import Connection
from headend.switching.mass import why_mass
from headend.switching.rules import MASS, mass_subject
from schemas.campaign import Plan
from schemas.people import OF_PROGRAM, Principal, lacking
from schemas.program import Program, ProgramKind


@dataclass(frozen=True, slots=True)
class Key:
    """What makes a repeated proposal the same campaign: a key of whoever asks, for what has this SHA-256."""

    key: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Proposed:
    """The campaign, and how it was approved or waits for it. ``is_new`` false: an earlier proposal with the
    same key made it."""

    campaign: Campaign
    approval: Approval
    mass: Approval | None = None  # of a mass disconnection, which has an approval of its own
    is_new: bool = True


class KeyReused(Exception):
    """The key was used within the last day, by the same person or program, for something else."""


class NotPermitted(Exception):
    """He may not ask for programs of this kind, or not for these meters."""


@asynccontextmanager
async def refusals_audited(
    connect: Connect, principal: Principal, program: Program
) -> AsyncIterator[Connection]:
    """The transaction to put a program forward in. Where that is refused it is rolled back, and the refusal
    is audited in another; a plan that cannot be is a mistake, and no refusal."""
    try:
        async with connect() as connection:
            yield connection
    except (PlanError, EmptySelection):
        raise
    except (NotPermitted, ConflictError) as error:
        async with connect() as connection:
            await audit_refusal(connection, principal, program, str(error))
        raise


async def put_forward(
    connection: Connection,
    program: Program,
    plan: Plan,
    *,
    name: str,
    title: str,
    procedures: Sequence[Procedure],
    principal: Principal,
    policy: Policy,
    correlation_id: str,
    now: datetime,
    key: Key | None = None,
) -> Proposed:
    """Propose it, and ask for its approval where the policy wants that. In a transaction, which is to be
    rolled back where this raises.

    Raises NotPermitted, KeyReused, and as `headend.programs.proposal.propose`.
    """
    kind = ProgramKind(program.kind)
    if not principal.may(OF_PROGRAM[kind]):
        raise NotPermitted(lacking(OF_PROGRAM[kind]))
    if key is not None:
        claimed = await campaign_views.claim(connection, principal.actor, key.key, key.digest, now=now)
        if claimed is not None:
            return await _again(connection, claimed, key)
    try:
        campaign = await propose(
            connection,
            program,
            plan,
            name=name,
            title=title,
            procedures=procedures,
            actor=principal.actor,
            correlation_id=correlation_id,
            now=now,
            areas=principal.at(OF_PROGRAM[kind]).areas,
        )
    except OutsideArea as error:
        raise NotPermitted(str(error)) from error
    if key is not None:
        await campaign_views.bind(connection, principal.actor, key.key, campaign.campaign_id)
    told = await shown(connection, campaign)
    procedure = next(one for one in procedures if one.kind is kind)
    if isinstance(procedure, AtStations):
        told["ways"] = dict(await procedure.ways(connection, program, campaign.campaign_id))
    approval = await four_eyes.ask(
        connection,
        subject_of(campaign.campaign_id),
        campaign.digest,
        told,
        principal,
        needs=OF_PROGRAM[kind],
        policy=policy,
        kind=kind,
        now=now,
    )
    mass = None
    too_many = await why_mass(connection, program, policy.disconnections_per_hour, now)
    if too_many is not None:
        mass = await four_eyes.ask(
            connection,
            mass_subject(campaign.campaign_id),
            campaign.digest,
            {"title": campaign.title, "campaign": campaign.campaign_id, **too_many},
            principal,
            needs=OF_PROGRAM[kind],
            policy=policy,
            kind=MASS,
            now=now,
        )
    if approval.state is ApprovalState.APPROVED:
        await CampaignSubject().approved(connection, approval)
        campaign = await campaigns.find(connection, campaign.campaign_id)
    return Proposed(campaign, approval, mass)


async def audit_refusal(connection: Connection, principal: Principal, program: Program, why: str) -> None:
    """Somebody asked for what he may not have."""
    await audit.record(
        connection,
        actor=principal.actor,
        action="campaign.refused",
        object_=f"program:{program.kind}",
        detail={"why": why},
    )


async def _again(connection: Connection, claimed: campaign_views.Claimed, key: Key) -> Proposed:
    if claimed.digest != key.digest:
        raise KeyReused(f"was used for another proposal, which became campaign {claimed.campaign_id}")
    campaign = await campaigns.find(connection, claimed.campaign_id)
    approval = await approvals.newest(connection, subject_of(campaign.campaign_id))
    if approval is None:
        raise ConflictError(f"campaign {campaign.campaign_id} was never put before anybody")
    mass = await approvals.newest(connection, mass_subject(campaign.campaign_id))
    return Proposed(campaign, approval, mass, is_new=False)
