"""Campaigns for people and for scripts: a table of waves and states, meters with their proofs, what is
approved."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from rich.table import Table

from headend.cli.terminal import out
from headend.moment.campaign_feed import CampaignProgress
from headend.store.approvals import Approval
from headend.store.campaign_views import Named
from headend.store.campaigns import Campaign
from schemas.campaign import MeterProgress

#: What a person has to look at.
BAD: Final = (MeterProgress.FAILED, MeterProgress.UNSURE, MeterProgress.CANCELLED)


def wave_name(wave: int) -> str:
    """As people call it."""
    return "canaries" if wave == 0 else f"wave {wave}"


def state_of(campaign: Campaign) -> str:
    """Its state, and why."""
    return f"{campaign.state}" + (f": {campaign.reason}" if campaign.reason else "")


def waves_table(found: CampaignProgress) -> Table:
    """Waves x states."""
    states = [one for one in MeterProgress if one in found.totals]
    table = Table("wave", *[one.value for one in states], "meters")
    for wave, counts in sorted(found.waves.items()):
        told = [f"{counts.get(one, 0):,}" if counts.get(one) else "" for one in states]
        table.add_row(wave_name(wave), *told, f"{sum(counts.values()):,}")
    if len(found.waves) > 1:
        totals = found.totals
        table.add_section()
        table.add_row("all", *[f"{totals[one]:,}" for one in states], f"{found.total:,}")
    return table


def tell_meter(one: Named) -> None:
    """A line for one of many."""
    meter = one.meter
    stage = "" if meter.stage is None else f" {meter.stage}"
    why = f": {meter.reason}" if meter.reason else ""
    style = "red" if meter.state in BAD else None
    out.print(f"{one.name}  {meter.state}{stage}{why}", style=style, soft_wrap=True)


def meter_table(one: Named) -> Table:
    """What came of a single meter, with its proof."""
    meter = one.meter
    table = Table("", one.name, show_header=True)
    table.add_row("state", meter.state)
    if meter.stage is not None:
        table.add_row("stage", meter.stage)
    if meter.reason:
        table.add_row("reason", meter.reason)
    for name, value in lines(meter.proof or {}):
        table.add_row(name, value)
    return table


def lines(plain: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """A JSON value as lines: where, and what is there. Lists of simple values stand in one line."""
    if isinstance(plain, Mapping) and plain:
        for name, value in plain.items():
            yield from lines(value, f"{prefix}.{name}" if prefix else str(name))
    elif isinstance(plain, Sequence) and not isinstance(plain, str):
        if all(not isinstance(one, Mapping | list) for one in plain):
            yield prefix, ", ".join(_plain(one) for one in plain)
        else:
            for place, value in enumerate(plain):
                yield from lines(value, f"{prefix}[{place}]")
    else:
        yield prefix, _plain(plain)


def _plain(value: Any) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def approval_card(one: Approval) -> Table:
    """Everything that is to be approved: nothing of it is left out."""
    table = Table("", f"approval {one.approval_id} of {one.subject}")
    table.add_row("state", f"{one.state}" + (f": {one.reason}" if one.reason else ""))
    table.add_row("asked for by", one.requested_by)
    table.add_row("asked at", f"{one.created_at:%F %T}Z, waits until {one.expires_at:%F %R}Z")
    if one.decided_at is not None:
        table.add_row("decided", f"by {one.decided_by} at {one.decided_at:%F %T}Z")
    table.add_row("who may", f"another person with the permissions approve and {one.needs}")
    table.add_section()
    for name, value in lines(one.shown):
        table.add_row(name, value)
    table.add_section()
    table.add_row("digest", one.digest.hex())
    return table


def approval_json(one: Approval) -> dict[str, Any]:
    """For scripts."""
    return {
        "approval": one.approval_id,
        "subject": one.subject,
        "state": one.state,
        "needs": one.needs,
        "digest": one.digest.hex(),
        "shown": one.shown,
        "requested_by": one.requested_by,
        "requested_at": one.created_at,
        "expires_at": one.expires_at,
        "decided_by": one.decided_by,
        "decided_at": one.decided_at,
        "reason": one.reason,
    }


def campaign_json(found: CampaignProgress) -> dict[str, Any]:
    """For scripts."""
    one = found.campaign
    return {
        "campaign": one.campaign_id,
        "title": one.title,
        "program": one.program_id,
        "state": one.state,
        "reason": one.reason,
        "wave": one.wave,
        "waves": {str(wave): dict(counts) for wave, counts in sorted(found.waves.items())},
        "plan": one.plan.model_dump(mode="json"),
        "digest": one.digest.hex(),
        "actor": one.actor,
        "created_at": one.created_at,
        "started_at": one.started_at,
        "ended_at": one.ended_at,
    }


def meter_json(one: Named) -> dict[str, Any]:
    """For scripts."""
    meter = one.meter
    return {
        "meter": one.name,
        "wave": meter.wave,
        "state": meter.state,
        "step": meter.step,
        "stage": meter.stage,
        "reason": meter.reason,
        "proof": meter.proof,
        "began_at": meter.began_at,
        "ended_at": meter.ended_at,
    }
