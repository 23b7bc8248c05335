"""A schedule as people and scripts read it."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from rich.table import Table

from headend.store.schedules import StoredSchedule
from schemas.job import Selection
from schemas.schedule import Schedule


def shown(one: StoredSchedule) -> dict[str, Any]:
    return one.plan.model_dump(mode="json") | {
        "id": one.schedule_id,
        "built_in": one.built_in,
        "version": one.version,
        "next_at": one.next_at,
        "last_at": one.last_at,
        "created_at": one.created_at,
        "updated_at": one.updated_at,
    }


def rhythm(plan: Schedule) -> str:
    return f"every {plan.every_min} min" if plan.cron is None else f"{plan.cron} {plan.zone}"


def meant(selection: Selection) -> str:
    said = []
    for name, value in selection:
        if isinstance(value, tuple) and value:
            more = f" and {len(value) - 3:,} more" if len(value) > 3 else ""
            said.append(f"{name} {', '.join(value[:3])}{more}")
        elif value:
            said.append(f"like {value}")
    return "; ".join(said) or "all"


def _work(told: dict[str, Any]) -> str:
    rest = ", ".join(f"{name} {value}" for name, value in told.items() if name != "kind" and value)
    return f"{told['kind']}" + (f" ({rest})" if rest else "")


def local(at: datetime, zone: str) -> str:
    return f"{at.astimezone(ZoneInfo(zone)):%F %R %Z}"


def card(found: StoredSchedule) -> Table:
    """One schedule with all that it says."""
    plan = found.plan
    table = Table(show_header=False)
    rows = {
        "name": plan.name,
        "runs": rhythm(plan),
        "reads": "\n".join(_work(work.model_dump(mode="json")) for work in plan.works),
        "meters": meant(plan.selection),
        "window": f"{plan.window.opens or 'the run'} to {plan.window.closes or 'the drop-dead time'}",
        "deadline": plan.deadline,
        "priority": str(plan.priority),
        "attempts": f"{plan.retry.attempts}, pauses of up to {plan.retry.longest_s:g} s",
        "drop-dead": "the deadline"
        if plan.retry.drop_dead_s is None
        else f"{plan.retry.drop_dead_s} s after the run",
        "missed runs": plan.missed.replace("_", " "),
        "next": "paused" if found.next_at is None else local(found.next_at, plan.zone),
        "last run": "" if found.last_at is None else local(found.last_at, plan.zone),
        "of the house": "yes: it follows the settings" if found.built_in else "no",
    }
    for label, value in rows.items():
        table.add_row(label, value)
    return table
