"""How a meter is given another program: one visit after the other, from what it runs to what it runs then.

Behind a concentrator that can distribute, what lies between enable and activate is its business (`handover`).

::

    version ──fits?──> enable ──> initiate ──> blocks that are missing ──> verify ──> what it holds is ours?
       ▲                              ▲                 │  ▲                              │
       │                              │ another image,  ▼  │ a break of link,             ▼
    read back <── restart <── activate, at once or at a time   head-end or meter     or found wrong
"""

import random
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from headend.clock import utc_now
from headend.drivers.commands.firmware import Distributing, ImageState, Upgradable
from headend.drivers.contract import Conversation, Feature, Target
from headend.drivers.targets import targets_of
from headend.firmware.package import Manifest, PackageError
from headend.programs.contract import Failed, Finished, Journal, Later, Outcome, Task, Unfit
from headend.programs.firmware.handover import Handover
from headend.programs.firmware.packages import Packages
from headend.programs.firmware.visit import Visit
from headend.session.access import Connect
from headend.store import campaign_views, firmware
from headend.store.errors import ConflictError, UnknownError
from headend.store.sql import Connection
from protocols.errors import LocalProtocolError
from schemas.model import ModelError
from schemas.network import Place
from schemas.program import Program, ProgramKind
from schemas.programs.firmware import FirmwareProgram, Through

Features = Callable[[str], frozenset[Feature]]


class FirmwareProcedure:
    """The `headend.programs.contract.Guarded` of firmware, and its `AtStations`.

    Args:
        connect: gives a database connection.
        packages: what was uploaded.
        features: what meters and concentrators of a model can.
        now: aware, UTC.
        draw: a number of [0, 1): where in its time a meter is come back to.
    """

    kind = ProgramKind.FIRMWARE

    def __init__(
        self,
        connect: Connect,
        packages: Packages,
        features: Features,
        *,
        now: Callable[[], datetime] = utc_now,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._connect = connect
        self._packages = packages
        self._features = features
        self._now = now
        self._draw = draw
        self._handover = Handover(packages, now=now, draw=draw)

    def unfit(self, program: Program, target: Target) -> str | None:
        """See `Procedure`; for which models a package is, `forbidden` tells."""
        model = target.meter.model
        if Feature.FIRMWARE not in self._features(model):
            return f"model {model} says nothing of how its meters take firmware ([firmware] of its profile)"
        return None

    async def forbidden(
        self, connection: Connection, program: Program, meters: Sequence[int], now: datetime
    ) -> Mapping[int, str]:
        """See `Guarded`: meters of models that the package is not for. Raises ConflictError where the package
        is not to be used, or its moment is past."""
        wanted = _program(program)
        if wanted.activate_at is not None and wanted.activate_at <= now:
            raise ConflictError(
                f"activate_at {wanted.activate_at.isoformat()} is past: give a later one, or none for at once"
            )
        try:
            manifest = (await self._packages.get(wanted.package)).manifest
        except (PackageError, UnknownError) as error:
            raise ConflictError(f"package {wanted.package[:12]} is not sent: {error}") from error
        found = {}
        for target in await targets_of(connection, meters):
            if (why := manifest.unfit_model(target.meter.model)) is not None:
                found[target.meter.meter_id] = why
        return found

    async def admit(self, connection: Connection, task: Task) -> None:
        """See `Guarded`: no rule of the house stands before a single step."""

    async def where(
        self, connection: Connection, target: Target, campaign_id: int, now: datetime
    ) -> Target | Later | None:
        """See `AtStations`: the concentrator, while it has the meter's image in hand."""
        return await self._handover.where(connection, target, campaign_id, now)

    async def turned_away(self, connection: Connection, campaign_id: int, meter_id: int, why: str) -> None:
        """See `AtStations`: the image is passed through to the meter."""
        await self._handover.turned_away(connection, campaign_id, meter_id, why)

    async def ways(self, connection: Connection, program: Program, campaign_id: int) -> Mapping[str, int]:
        """See `AtStations`."""
        found = {"concentrators": 0, "meters_through_them": 0, "meters_directly": 0}
        for model, stations, meters in await campaign_views.behind(connection, campaign_id):
            if self._hands_on(_program(program), model):
                found["concentrators"] += stations
                found["meters_through_them"] += meters
            else:
                found["meters_directly"] += meters
        return found

    async def apply(self, conversation: Conversation, task: Task, journal: Journal) -> Outcome:
        """See `Procedure`."""
        if isinstance(conversation, Distributing):
            return await self._handover.go(conversation, task, journal)
        if not isinstance(conversation, Upgradable):
            raise LocalProtocolError("its language has no means of taking firmware")
        program = _program(task.program)
        try:
            package = await self._packages.get(program.package)
        except (PackageError, UnknownError) as error:
            return Failed(f"package {program.package[:12]} is not sent: {error}")
        manifest = package.manifest
        running = await conversation.read_running()
        if journal.facts.get("running") != running.version:
            async with self._connect() as connection, connection.transaction():
                await firmware.note_version(
                    connection, task.meter_id, running.version, running.hardware, at=self._now()
                )
            await journal.note("version", running=running.version)
        began = any(journal.is_intended(one) or journal.is_done(one) for one in ("activate", "schedule"))
        proof: dict[str, Any] = {"version": running.version, "hardware": running.hardware}
        if running.version == manifest.version_to:
            return Finished({**proof, **_told(manifest, journal)}, changed=began)
        if not began and (why := _misfit(manifest, task, running.version, running.hardware)) is not None:
            return Unfit(why, proof)

        async def hand_over(state: ImageState) -> Later | None:
            return await self._handover.ask(task, journal, package.digest, state)

        visit = Visit(
            conversation, journal, task, package, self._connect, running.version,
            activate_at=program.activate_at,
            hand_over=hand_over if self._is_handed(program, task.target.place, journal) else None,
            now=self._now, draw=self._draw,
        )  # fmt: skip
        return await visit.go()

    def _is_handed(self, program: FirmwareProgram, place: Place, journal: Journal) -> bool:
        """Whether the meter's concentrator shall give it the image, and has not had its turn."""
        return "through" not in journal.facts and self._hands_on(program, place.station_model)

    def _hands_on(self, program: FirmwareProgram, station_model: str | None) -> bool:
        if program.through is Through.METERS or station_model is None:
            return False
        try:
            return Feature.DISTRIBUTES in self._features(station_model)
        except ModelError:
            return False  # it is a concentrator of a kind that nobody here knows: it passes through


def _misfit(manifest: Manifest, task: Task, version: str, hardware: str | None) -> str | None:
    return manifest.unfit_model(task.target.meter.model) or manifest.unfit(version, hardware)


def _told(manifest: Manifest, journal: Journal) -> dict[str, Any]:
    facts = journal.facts
    return {
        "identifier": manifest.identifier,
        "image_sha256": manifest.image_sha256,
        "blocks_sent": facts.get("blocks_sent", 0),
        "held": facts.get("held"),
        "through": facts["through"] if facts.get("distributed") == "holds" else None,
        **{one: facts[one] for one in ("distribution_failed",) if one in facts},
    }


def _program(program: Program) -> FirmwareProgram:
    if not isinstance(program, FirmwareProgram):
        raise TypeError(f"a program of firmware, not of {program.kind}")
    return program
