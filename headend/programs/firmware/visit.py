"""One visit of a meter that shall have an image: step after step, for as long as the visit may last."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final

from headend.drivers.commands.firmware import ImageState, ImageStatus, Upgradable
from headend.firmware.package import Package
from headend.programs.contract import Failed, Journal, Later, Outcome, Task
from headend.programs.firmware.plan import Record, Step, record_of
from headend.programs.firmware.transfer import MOST_STEPS, POLL_S, Transfer
from headend.session.access import Connect
from headend.store import images
from protocols.errors import LinkError

#: How long beyond its usual restart, and beyond its moment, a meter may take to run the image.
_RESTARTS: Final = 4
_PATIENCE: Final = timedelta(minutes=2)


#: States in which a meter that was told a moment has not activated.
_HELD: Final = frozenset(
    {ImageStatus.NONE, ImageStatus.INITIATED, ImageStatus.VERIFYING, ImageStatus.VERIFIED}
)


class Visit:
    """See the module. ``running``: the version that the meter runs now; ``hand_over`` is asked
    before a transfer is begun: what comes of it, None where the meter is given the image here. The other
    arguments as `FirmwareProcedure` has them."""

    def __init__(
        self,
        meter: Upgradable,
        journal: Journal,
        task: Task,
        package: Package,
        connect: Connect,
        running: str,
        *,
        activate_at: datetime | None,
        hand_over: Callable[[ImageState], Awaitable[Later | None]] | None,
        now: Callable[[], datetime],
        draw: Callable[[], float],
    ) -> None:
        self._meter = meter
        self._journal = journal
        self._task = task
        self._connect = connect
        self._running = running
        self._activate_at = activate_at
        self._hand_over = hand_over
        self._now = now
        self._manifest = package.manifest
        self._transfer = Transfer(meter, journal, package, self._record, now=now, draw=draw)

    async def go(self) -> Outcome:
        """Take it as far as this visit gets. Raises as `Procedure.apply`."""
        for _ in range(MOST_STEPS):
            state = await self._meter.read_image_state()
            if (after := await self._after_activation(state)) is not None:
                return after
            step, why = await self._transfer.next(state)
            outcome = await self._take(step, why, state)
            if outcome is not None:
                return outcome
        return self._transfer.no_further(step, why, state)

    async def _take(self, step: Step, why: str, state: ImageState) -> Outcome | None:
        """One step; None where the next may follow at once."""
        match step:
            case Step.INITIATE if self._hand_over is not None:
                handed = await self._hand_over(state)
                return await self._transfer.take(step, why, state) if handed is None else handed
            case Step.ACTIVATE:
                return await self._activate(state)
            case Step.AWAIT_ACTIVATION:
                return self._later(self._meter.pace.restart_s, "the meter activates the image")
            case _:
                return await self._transfer.take(step, why, state)

    async def _record(self) -> Record | None:
        async with self._connect() as connection:
            found = await images.last_initiated(connection, self._task.meter_id)
        return None if found is None else record_of(found.image, confirmed=found.confirmed)

    # ---- activation ---------------------------------------------------------------------------------

    async def _activate(self, state: ImageState) -> Outcome | None:
        held = [
            {"size": one.size, "identification": one.identification.hex(), "signature": one.signature.hex()}
            for one in state.held
        ]
        if (why := self._other_signature(state)) is not None:
            return Failed(why, {"held": held})
        at, now, pace = self._activate_at, self._now(), self._meter.pace
        if at is not None and now < at:
            if not pace.keeps_time:
                await self._journal.note("verified", held=held)
                return Later(at, f"the image is verified, and activated at {at.isoformat()}")
            if not self._journal.is_done("schedule"):
                await self._journal.intend("schedule", held=held)
                await self._meter.activate_image_at(at)
                await self._journal.done("schedule", activates_at=at.isoformat())
            return Later(at + timedelta(seconds=pace.restart_s), f"the meter activates at {at.isoformat()}")
        if at is not None and self._journal.is_done("schedule") and now < at + _PATIENCE:
            return self._later(pace.restart_s, "the meter's clock has not come to its moment")
        await self._journal.intend("activate", held=held, activated_at=now.isoformat())
        try:
            await self._meter.activate_image()
        except LinkError as error:  # it may restart before it answers: what it runs then tells
            return self._later(pace.restart_s, f"told to activate, no answer: {error}")
        await self._journal.done("activate")
        return self._later(pace.restart_s, "the meter restarts into the image")

    def _other_signature(self, state: ImageState) -> str | None:
        """Why the image that the meter holds is not activated: it is not signed as the package says."""
        named = self._manifest.signature
        ours = [one for one in state.held if one.identification == self._manifest.identification]
        if named is None or named in {one.signature.hex() for one in ours}:
            return None
        told = ", ".join(one.signature.hex() or "none" for one in ours)
        return (
            f"the package names {named} as the signature of its image, the meter tells {told}: it is not "
            "activated; ask who made the image"
        )

    async def _after_activation(self, state: ImageState) -> Outcome | None:
        """What to make of a meter that was told to activate and runs its former version; None: go on."""
        journal, held = self._journal, state.status in _HELD
        if journal.is_intended("activate") or journal.is_done("activate"):
            told = journal.facts["activated_at"]
            if state.status is ImageStatus.VERIFIED and journal.is_intended("activate"):
                return None  # it never heard of it
        elif journal.is_done("schedule") and not held:
            told = journal.facts["activates_at"]
        else:
            return None
        proof = {"version": self._running, "status": state.status.value}
        if state.status is ImageStatus.ACTIVATION_FAILED:
            return Failed("the meter could not activate the image", proof)
        restart_s = self._meter.pace.restart_s
        if self._now() - datetime.fromisoformat(told) <= _PATIENCE + timedelta(seconds=_RESTARTS * restart_s):
            return self._later(max(restart_s, POLL_S), f"the meter still runs {self._running}")
        return Failed(
            f"told to activate, the meter still runs {self._running} (it says: {state.status}): "
            "it fell back, or the package names another version than its image has",
            proof,
        )

    # ---- underneath ---------------------------------------------------------------------------------

    def _later(self, seconds: float, why: str) -> Later:
        return Later(self._now() + timedelta(seconds=seconds), why)
