"""Campaigns for people and for scripts: a table of waves and states, meters with their proofs, what is
approved."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from rich.table import Table

from headend.cli.program_view import lines, program_lines
from headend.cli.terminal import counted, out
from headend.moment.campaign_feed import CampaignProgress
from headend.store.approvals import Approval
from headend.store.campaign_views import Named
from headend.store.campaigns import Campaign
from schemas.campaign import MeterProgress, Plan
from schemas.people import approver

#: Fields of what is shown that `_campaign_lines` tells in words.
_TOLD: Final = frozenset(
    ("kind", "title", "program", "meters", "unfit", "why_unfit", "models", "first", "last", "plan", "waves",
    "program_name", "program_digest")
)  # fmt: skip
#: Characters of a list of names that a line has.
_LONGEST: Final = 400
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


def approval_card(one: Approval) -> Table:
    """Everything that is to be approved: what, to whom, when, within which limits."""
    table = Table("", f"approval {one.approval_id} of {one.subject}", show_header=True)
    table.add_row("state", f"{one.state}" + (f": {one.reason}" if one.reason else ""))
    table.add_row("asked for by", f"{one.requested_by} at {one.created_at:%F %T}Z")
    if one.decided_at is None:
        table.add_row("waits until", f"{one.expires_at:%F %R}Z")
        table.add_row("who may", approver(one.needs))
    else:
        table.add_row("decided", f"by {one.decided_by} at {one.decided_at:%F %T}Z")
    table.add_section()
    for name, value in _campaign_lines(one.shown) if "plan" in one.shown else lines(one.shown):
        table.add_row(name, value)
    table.add_section()
    table.add_row("digest", one.digest.hex())
    if "program_digest" in one.shown:
        table.add_row("  of the program", f"{one.shown['program_digest']} ({one.shown['program_name']})")
    return table


def _campaign_lines(shown: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What is shown of a campaign, its plan in words: each of its fields is in one of them."""
    yield "what", f"{shown['kind']}: {shown['title']}"
    yield from ((f"  {name}", value) for name, value in program_lines(shown["program"]))
    told = counted(shown["meters"], "meter")
    if shown["unfit"]:
        told += f"; {shown['unfit']:,} of the selection are not fit for it, and are not touched"
    yield "whom", told
    for why, count in shown.get("why_unfit", {}).items():
        yield "  not fit", f"{count:,}: {why}"
    yield "  models", ", ".join(f"{model} {count:,}" for model, count in shown["models"].items())
    first, last = shown["first"], shown["last"]
    if shown["meters"] <= len(first):
        yield "  meters", ", ".join(first)
    else:
        yield "  first", ", ".join(first)
        yield "  last", ", ".join(last)
    plan = Plan.model_validate(shown["plan"])
    chosen = [*lines(plan.selection.model_dump(mode="json", exclude_defaults=True))]
    yield "  selected by", "; ".join(f"{name} {_short(value)}" for name, value in chosen) or "all meters"
    yield (
        "when",
        "as soon as it is approved" if plan.starts_at is None else f"from {plan.starts_at:%F %R%z} on",
    )
    if plan.window is not None:
        days = "" if len(plan.window.days) == 7 else " on days " + ", ".join(map(str, plan.window.days))
        yield "  window", f"{plan.window.opens:%R}-{plan.window.closes:%R} {plan.window.zone}{days}"
    else:
        yield "  window", "at any time of day"
    yield "  waves", ", ".join(f"{wave_name(one['wave'])}: {one['meters']:,}" for one in shown["waves"])
    if plan.canary_meters:
        yield "  canaries", ", ".join(plan.canary_meters)
    if len(shown["waves"]) > 1:
        yield "  between waves", f"{plan.soak_s:,} s at least"
    yield (
        "limits",
        f"stops when more than {plan.stop_percent:g} % fail, from {plan.stop_from:,} ended meters on",
    )
    if plan.per_station is not None:
        yield "  at once", f"{plan.per_station:,} meters behind a station"
    longest = f"paused {plan.retry.first_s:g} to {plan.retry.longest_s:g} s"
    if plan.retry.drop_dead_s is not None:
        longest += f", none after {plan.retry.drop_dead_s:,} s"
    yield "  attempts", f"{plan.retry.attempts} at each meter, {longest}"
    yield "  expires", f"{plan.expires_s:,} s after a wave has begun"
    if plan.urgent:
        yield "  urgent", "before what nobody waits for"
    rest = {name: value for name, value in shown.items() if name not in _TOLD}
    yield from lines(rest)


def _short(value: str) -> str:
    return value if len(value) <= _LONGEST else f"{value[:_LONGEST]}... (all of it: --json)"


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
