"""An image is brought to a device that takes images, a meter or a concentrator, up to its verification."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Final

from headend.drivers.commands.firmware import ImageState, TakesImages
from headend.firmware.package import Package
from headend.programs.contract import Failed, Journal, Later
from headend.programs.firmware.plan import Next, Record, Step, Wanted, next_step
from protocols.errors import LinkError, LinkTimeout, PeerRefused

#: How often a device may find the image wrong, or lose all of it, before a person must look.
_MOST_WRONG: Final = 2
_MOST_INITIATED: Final = 10
#: How often in a row a device may refuse blocks and take none.
_MOST_REFUSALS: Final = 3
#: Blocks that are refused one after the other before the visit looks at the device again.
_REFUSED_IN_A_ROW: Final = 8
#: Blocks in a row without an answer after which the link is taken for broken.
_SILENT_IN_A_ROW: Final = 3
#: Steps of one visit, blocks apart: an end to what goes round in circles.
MOST_STEPS: Final = 12
#: Between two looks at a device that verifies: doubled each time, from and up to, in seconds.
POLL_S: Final = 1.0
LONGEST_POLL_S: Final = 60.0
#: A broken link is dialled again within so many seconds.
_AGAIN_S: Final = 1.0


class Transfer:
    """See the module. ``record`` reads what is written down of the last transfer to the device, ``who`` is
    what reasons call it; the other arguments as `FirmwareProcedure` has them."""

    def __init__(
        self,
        device: TakesImages,
        journal: Journal,
        package: Package,
        record: Callable[[], Awaitable[Record | None]],
        *,
        who: str = "the meter",
        now: Callable[[], datetime],
        draw: Callable[[], float],
    ) -> None:
        self._device = device
        self._journal = journal
        self._package = package
        self._record = record
        self._who = who
        self._now = now
        self._draw = draw
        manifest = package.manifest
        self._wanted = Wanted(package.digest, manifest.identification, manifest.image_size)

    async def next(self, state: ImageState) -> Next:
        """What comes next, and why."""
        return next_step(state, self._wanted, await self._record())

    async def take(self, step: Step, why: str, state: ImageState) -> Later | Failed | None:
        """One step up to verification; None where the next may follow at once. Raises as
        `Procedure.apply`."""
        match step:
            case Step.ENABLE:
                await self._journal.intend("enable")
                await self._device.enable_images()
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
                return await self._found_wrong(f"{self._who} found the image wrong")
            case _:
                raise ValueError(f"{step} is no step of a transfer")

    def no_further(self, step: Step, why: str, state: ImageState) -> Later | Failed:
        """What to make of a visit of `MOST_STEPS` steps, after this one."""
        if step is Step.SEND:  # the link lets requests through, and these blocks not
            lost = f"{len(state.missing)} blocks are sent and do not arrive"
            why = f"{lost}: see whether the link carries messages of {state.block_size} bytes"
            return Later(self._now(), why, counts=True)
        return Failed(f"{self._who} comes no further than {step}: {why}")

    async def _initiate(self, why: str, state: ImageState) -> Later | Failed | None:
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
        await self._device.initiate_image(
            self._wanted.identifier, self._wanted.size, bytes.fromhex(self._package.manifest.image_sha256)
        )
        await self._journal.done("initiate", polls=0, verifies_since=None)
        return None

    async def _send(self, state: ImageState) -> Later | Failed | None:
        """The blocks that are missing, for as long as nobody waits for the line. One that is not answered is
        not sent again: the next look at the bitmap tells whether it is there."""
        image, size, device, journal = self._package.image, state.block_size, self._device, self._journal
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
                    is_there = await device.send_block(number, image[number * size : (number + 1) * size])
                except PeerRefused as error:
                    # its memory did not take it: perhaps it does when it comes again
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
            return Failed(f"{self._who} does not take blocks {state.missing[0]} and on: {refused}")
        return None if sent else self._later(POLL_S, f"{self._who} refuses blocks: {refused}")

    async def _progress(self, state: ImageState, sent: int) -> None:
        if sent:
            before = self._count("blocks_sent")
            await self._journal.note(
                "blocks", blocks=state.count, missing=len(state.missing) - sent, blocks_sent=before + sent
            )

    # ---- verification -------------------------------------------------------------------------------

    async def _verify(self) -> Later | Failed | None:
        since = self._journal.facts.get("verifies_since") or self._now().isoformat()
        await self._journal.intend("verify", verifies_since=since)
        try:
            is_over = await self._device.verify_image()
        except PeerRefused as refused:
            return await self._found_wrong(str(refused))
        await self._journal.done("verify")
        return None if is_over else await self._await_verification()

    async def _await_verification(self) -> Later | Failed:
        polls = self._count("polls")
        since = datetime.fromisoformat(self._journal.facts.get("verifies_since") or self._now().isoformat())
        longest = self._device.pace.verify_s
        if (self._now() - since).total_seconds() > longest:
            return Failed(f"{self._who} has not verified the image within {longest:g} s")
        await self._journal.note("verifies", polls=polls + 1, verifies_since=since.isoformat())
        return self._later(min(POLL_S * 2**polls, LONGEST_POLL_S), f"{self._who} verifies the image")

    async def _found_wrong(self, why: str) -> Later | Failed | None:
        """The image did not arrive as it was sent: the whole is sent once more, not for ever."""
        wrong = self._count("wrong") + 1
        await self._journal.note("found wrong", wrong=wrong)
        if wrong >= _MOST_WRONG:
            return Failed(
                f"{self._who} found the image wrong {wrong} times ({why}): its memory is bad, or the package"
            )
        return await self._initiate(why, await self._device.read_image_state())

    # ---- underneath ---------------------------------------------------------------------------------

    def _count(self, fact: str) -> int:
        found: Any = self._journal.facts.get(fact, 0)
        return int(found)

    def _later(self, seconds: float, why: str) -> Later:
        return Later(self._now() + timedelta(seconds=seconds), why)
