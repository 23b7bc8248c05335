"""One visit of a meter that shall have an image: step after step, for as long as the visit may last."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, Final

from headend.drivers.commands.firmware import ImageState, ImageStatus, Upgradable
from headend.firmware.package import Package
from headend.programs.contract import Failed, Journal, Later, Outcome, Task
from headend.programs.firmware.plan import Record, Step, Wanted, next_step
from headend.session.access import Connect
from headend.store import images
from protocols.errors import LinkError, LinkTimeout, PeerRefused

#: Steps of one visit, blocks apart: an end to what goes round in circles.
_MOST_STEPS: Final = 12
#: How often a meter may find the image wrong, or lose all of it, before a person must look.
_MOST_WRONG: Final = 2
_MOST_INITIATED: Final = 10
#: How often in a row a meter may refuse blocks and take none.
_MOST_REFUSALS: Final = 3
#: Blocks that are refused one after the other before the visit looks at the meter again.
_REFUSED_IN_A_ROW: Final = 8
#: Blocks in a row without an answer after which the link is taken for broken.
_SILENT_IN_A_ROW: Final = 3
#: Between two looks at a meter that verifies: doubled each time, from and up to, in seconds.
_POLL_S: Final = 1.0
_LONGEST_POLL_S: Final = 60.0
#: A broken link is dialled again within so many seconds.
_AGAIN_S: Final = 1.0
#: How long beyond its usual restart, and beyond its moment, a meter may take to run the image.
_RESTARTS: Final = 4
_PATIENCE: Final = timedelta(minutes=2)


#: States in which a meter that was told a moment has not activated.
_HELD: Final = frozenset(
    {ImageStatus.NONE, ImageStatus.INITIATED, ImageStatus.VERIFYING, ImageStatus.VERIFIED}
)


class Visit:
    """See the module. ``running``: the version that the meter runs now; the other arguments as
    `FirmwareProcedure` has them."""

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
        now: Callable[[], datetime],
        draw: Callable[[], float],
    ) -> None:
        self._meter = meter
        self._journal = journal
        self._task = task
        self._package = package
        self._connect = connect
        self._running = running
        self._activate_at = activate_at
        self._now = now
        self._draw = draw
        manifest = package.manifest
        self._wanted = Wanted(package.digest, manifest.identification, manifest.image_size)

    async def go(self) -> Outcome:
        """Take it as far as this visit gets. Raises as `Procedure.apply`."""
        for _ in range(_MOST_STEPS):
            state = await self._meter.read_image_state()
            if (after := await self._after_activation(state)) is not None:
                return after
            step, why = next_step(state, self._wanted, await self._record())
            outcome = await self._take(step, why, state)
            if outcome is not None:
                return outcome
        if step is Step.SEND:  # the link lets requests through, and these blocks not
            return Later(self._now(), f"{len(state.missing)} blocks are sent and do not arrive", counts=True)
        return Failed(f"the meter comes no further than {step}: {why}")

    async def _take(self, step: Step, why: str, state: ImageState) -> Outcome | None:
        """One step; None where the next may follow at once."""
        match step:
            case Step.ENABLE:
                await self._journal.intend("enable")
                await self._meter.enable_images()
                await self._journal.done("enable")
                return None
            case Step.INITIATE:
                return await self._initiate(why, state)
            case Step.SEND:
                return await self._send(state)
            case Step.VERIFY:
                return await self._verify()
            case Step.AWAIT_VERIFICATION:
                return await self._await_verification()
            case Step.VERIFICATION_FAILED:
                return await self._found_wrong("the meter found the image wrong")
            case Step.ACTIVATE:
                return await self._activate(state)
            case Step.AWAIT_ACTIVATION:
                return self._later(self._meter.pace.restart_s, "the meter activates the image")

    async def _record(self) -> Record | None:
        async with self._connect() as connection:
            found = await images.last_initiated(connection, self._task.meter_id)
        if found is None:
            return None
        image = found.image
        at = datetime.fromisoformat(image["at"])
        return Record(image["package"], image["size"], image["block_size"], at, found.confirmed)

    # ---- the transfer -------------------------------------------------------------------------------

    async def _initiate(self, why: str, state: ImageState) -> Outcome | None:
        times = self._count("initiated") + 1
        if times > _MOST_INITIATED:
            return Failed(f"the transfer was begun {_MOST_INITIATED} times, and each time: {why}")
        image = {
            "package": self._wanted.package,
            "size": self._wanted.size,
            "block_size": state.block_size,
            "at": self._now().isoformat(),
        }
        await self._journal.intend("initiate", image=image, initiated=times, initiated_because=why)
        await self._meter.initiate_image(
            self._wanted.identifier, self._wanted.size, bytes.fromhex(self._package.manifest.image_sha256)
        )
        await self._journal.done("initiate", polls=0, verifies_since=None)
        return None

    async def _send(self, state: ImageState) -> Outcome | None:
        """The blocks that are missing, for as long as nobody waits for the line. One that is not answered is
        not sent again: the next look at the bitmap tells whether it is there."""
        image, size, meter, journal = self._package.image, state.block_size, self._meter, self._journal
        sent, refused, in_a_row, silent = 0, None, 0, 0
        try:
            for number in state.missing:
                if journal.must_yield():
                    await self._progress(state, sent)
                    left = len(state.missing) - sent
                    return self._later(
                        0, f"{left} of {state.count} blocks are missing, others have their turn"
                    )
                try:
                    is_there = await meter.send_block(number, image[number * size : (number + 1) * size])
                except (
                    PeerRefused
                ) as error:  # its memory did not take it: perhaps it does when it comes again
                    refused, in_a_row, silent = error, in_a_row + 1, 0
                    if in_a_row >= _REFUSED_IN_A_ROW:
                        break
                    continue
                in_a_row, silent = 0, 0 if is_there else silent + 1
                sent += is_there
                if silent >= _SILENT_IN_A_ROW:
                    raise LinkTimeout(f"{silent} blocks in a row were not answered")
        except LinkError as error:
            # What was answered is there, the rest perhaps: the bitmap tells, when it is asked next.
            await self._progress(state, sent)
            if not sent:
                raise
            return self._later(_AGAIN_S * self._draw(), f"the link broke behind {sent} blocks: {error}")
        await self._progress(state, sent)
        if refused is None:
            return None
        stuck = 0 if sent else self._count("stuck") + 1
        await journal.note("refused", stuck=stuck, refused=str(refused))
        if stuck > _MOST_REFUSALS:
            return Failed(f"the meter does not take blocks {state.missing[0]} and on: {refused}")
        return None if sent else self._later(_POLL_S, f"the meter refuses blocks: {refused}")

    async def _progress(self, state: ImageState, sent: int) -> None:
        if sent:
            before = self._count("blocks_sent")
            await self._journal.note(
                "blocks", blocks=state.count, missing=len(state.missing) - sent, blocks_sent=before + sent
            )

    # ---- verification -------------------------------------------------------------------------------

    async def _verify(self) -> Outcome | None:
        since = self._journal.facts.get("verifies_since") or self._now().isoformat()
        await self._journal.intend("verify", verifies_since=since)
        try:
            is_over = await self._meter.verify_image()
        except PeerRefused as refused:
            return await self._found_wrong(str(refused))
        await self._journal.done("verify")
        return None if is_over else await self._await_verification()

    async def _await_verification(self) -> Outcome:
        polls = self._count("polls")
        since = datetime.fromisoformat(self._journal.facts.get("verifies_since") or self._now().isoformat())
        longest = self._meter.pace.verify_s
        if (self._now() - since).total_seconds() > longest:
            return Failed(f"the meter has not verified the image within {longest:g} s")
        await self._journal.note("verifies", polls=polls + 1, verifies_since=since.isoformat())
        return self._later(min(_POLL_S * 2**polls, _LONGEST_POLL_S), "the meter verifies the image")

    async def _found_wrong(self, why: str) -> Outcome | None:
        """The image did not arrive as it was sent: the whole is sent once more, not for ever."""
        wrong = self._count("wrong") + 1
        await self._journal.note("found wrong", wrong=wrong)
        if wrong >= _MOST_WRONG:
            return Failed(
                f"the meter found the image wrong {wrong} times ({why}): its memory is bad, or the package"
            )
        return await self._initiate(why, await self._meter.read_image_state())

    # ---- activation ---------------------------------------------------------------------------------

    async def _activate(self, state: ImageState) -> Outcome | None:
        held = [
            {"size": one.size, "identification": one.identification.hex(), "signature": one.signature.hex()}
            for one in state.held
        ]
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
            return self._later(max(restart_s, _POLL_S), f"the meter still runs {self._running}")
        return Failed(
            f"told to activate, the meter still runs {self._running} (it says: {state.status}): "
            "it fell back, or the package names another version than its image has",
            proof,
        )

    # ---- underneath ---------------------------------------------------------------------------------

    def _count(self, fact: str) -> int:
        found: Any = self._journal.facts.get(fact, 0)
        return int(found)

    def _later(self, seconds: float, why: str) -> Later:
        return Later(self._now() + timedelta(seconds=seconds), why)
