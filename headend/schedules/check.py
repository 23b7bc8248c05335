"""Whether a schedule makes sense: everything that is wrong with it, each with its place."""

from datetime import datetime, timedelta
from itertools import islice, takewhile
from pathlib import Path
from typing import Final, NamedTuple

from headend.schedules import calendar
from headend.store import selection
from headend.store.sql import Connection
from protocols.dlms.obis import Obis
from schemas.job import Curves, Forwarded, Registers, Selection
from schemas.line_model import LineModel
from schemas.model import MeterModel, ModelError
from schemas.models import all_names, load_any
from schemas.schedule import Schedule

#: Runs whose times are looked at: a year of days, so that changes of clocks are among them.
_MOST_RUNS: Final = 400
_HORIZON: Final = timedelta(days=400)


class Wrong(NamedTuple):
    """What cannot be used; ``pointer`` is a JSON pointer (RFC 6901) into the schedule."""

    pointer: str
    reason: str

    def __str__(self) -> str:
        return f"{self.pointer}: {self.reason}"


class ScheduleError(ValueError):
    """A schedule that cannot be used: ``wrong`` has every place."""

    def __init__(self, wrong: list[Wrong]) -> None:
        super().__init__("; ".join(str(one) for one in wrong))
        self.wrong = tuple(wrong)


async def check(
    connection: Connection, schedule: Schedule, *, now: datetime, folders: tuple[Path, ...] = ()
) -> None:
    """Raises ScheduleError with all that is wrong: times that cannot be, names that nobody has, works that do
    not go together. ``folders`` hold models beside the packaged ones."""
    wrong = check_times(schedule, now) + _check_works(schedule)
    wrong += await check_selection(connection, schedule.selection, folders=folders)
    if not wrong:
        wrong += await _check_profiles(connection, schedule, folders)
    if wrong:
        raise ScheduleError(wrong)


async def check_selection(
    connection: Connection, selected: Selection, *, folders: tuple[Path, ...] = (), at: str = "/selection"
) -> list[Wrong]:
    """Every name of a selection that nobody has; ``at`` is where it stands."""
    models = set(all_names(folders)) if selected.models else set()
    wrong = [
        Wrong(f"{at}/models/{place}", f"no model {name!r}")
        for place, name in enumerate(selected.models)
        if name not in models
    ]
    return wrong + [
        Wrong(at + one.pointer, one.reason) for one in await selection.unknown(connection, selected)
    ]


def check_times(schedule: Schedule, now: datetime) -> list[Wrong]:
    """What is wrong with the times of the runs after ``now``."""
    try:
        coming = calendar.runs(schedule, now)
    except calendar.CronError as error:
        return [Wrong("/cron", str(error))]
    first = next(coming, None)
    if first is None:
        return [Wrong("/cron", f"{schedule.cron!r} never runs")]
    if (wrong := _check_run(schedule, first)) is not None:
        return [wrong]
    for run in takewhile(lambda run: run < now + _HORIZON, islice(coming, _MOST_RUNS)):
        if (wrong := _check_run(schedule, run)) is not None:
            return [wrong]
    return []


def _check_run(schedule: Schedule, run: datetime) -> Wrong | None:
    opens, closes, deadline = calendar.bounds(schedule, run)
    of_run = f"of the run at {run:%F %R}Z"
    if opens >= deadline:
        return Wrong(
            "/window/opens",
            f"the window {of_run} opens at {opens:%F %R}Z, after its deadline {deadline:%F %R}Z",
        )
    if closes is not None and closes > deadline:
        return Wrong(
            "/window/closes",
            f"the window {of_run} closes at {closes:%F %R}Z, after its deadline {deadline:%F %R}Z",
        )
    if closes is not None and closes <= opens:
        return Wrong("/window/closes", f"the window {of_run} closes before it opens at {opens:%F %R}Z")
    drop_dead = schedule.retry.drop_dead
    if drop_dead is not None and run + drop_dead <= opens:
        return Wrong(
            "/retry/drop_dead_s", f"the window {of_run} opens at {opens:%F %R}Z, after the drop-dead time"
        )
    return None


def _check_works(schedule: Schedule) -> list[Wrong]:
    wrong = []
    asks_stations = [isinstance(work, Forwarded) for work in schedule.works]
    if any(asks_stations):
        if not all(asks_stations):
            place = asks_stations.index(True)
            wrong.append(
                Wrong(
                    f"/works/{place}", "'forwarded' asks concentrators, not meters: give it its own schedule"
                )
            )
        wrong += [
            Wrong(f"/selection/{name}", "concentrators are in no group and have no tags")
            for name in ("groups", "tags")
            if getattr(schedule.selection, name)
        ]
    for place, work in enumerate(schedule.works):
        if isinstance(work, Registers):
            for number, code in enumerate(work.obis):
                try:
                    Obis.parse(code)
                except ValueError as error:
                    wrong.append(Wrong(f"/works/{place}/obis/{number}", str(error)))
    return wrong


async def _check_profiles(
    connection: Connection, schedule: Schedule, folders: tuple[Path, ...]
) -> list[Wrong]:
    told = [
        (f"/works/{place}/profiles/{number}", profile)
        for place, work in enumerate(schedule.works)
        if isinstance(work, Curves)
        for number, profile in enumerate(work.profiles)
    ]
    if not told:
        return []
    models = schedule.selection.models or tuple(await selection.used_models(connection))
    known = {number for model in models for number in _profiles(model, folders)}
    return [
        Wrong(pointer, f"no meter model of the selection stores a load profile {profile}")
        for pointer, profile in told
        if profile not in known
    ]


def _profiles(name: str, folders: tuple[Path, ...]) -> tuple[int, ...]:
    """Numbers of the load profiles that meters of a model store themselves."""
    try:
        model = load_any(name, folders)
    except ModelError:
        return ()
    if isinstance(model, MeterModel):
        return tuple(profile.number for profile in model.load_profiles)
    if isinstance(model, LineModel) and model.load_records is not None:
        return (model.load_records.profile,)
    return ()
