"""How a concentrator takes one image for all its meters and hands it on: `protocols.dlms.distribution`.

It gives one meter after the other the image, block by block in the meter's own size, over the medium that
all of them share: what it sends takes its time there, as what it passes through does. A meter of which
`TRIES` messages in a row are lost has failed, and so has one that was given the image twice and found it
wrong. While the concentrator itself restarts nothing is sent; what it has and was told outlasts that.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from concentrator_sim.concentrator import Concentrator, Member
from concentrator_sim.image import ImageStore
from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.object_model import Asked, CosemObject
from protocols.dlms import distribution
from protocols.dlms.cosem import ClassId
from protocols.dlms.cosem.image_transfer import TransferStatus
from protocols.dlms.distribution import Progress, Stage
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.obis import Obis
from schemas.address import GatewayAddress

ORDER: Final = Obis.parse("0-0:199.0.3*255")
PROGRESS: Final = Obis.parse("0-0:199.0.4*255")
#: Messages to one meter that are lost one after the other before it has failed.
TRIES: Final = 5
#: How often a meter is given the whole image.
_MOST_WHOLE: Final = 2
#: While it restarts, it is looked so often whether it is back, in seconds.
_BACK_S: Final = 0.05
#: What of a message to a meter is not the block, in bytes, and an answer.
_HEAD: Final = 48
_ANSWER: Final = 32


@dataclass(slots=True)
class _Turn:
    """A meter of the list."""

    address: GatewayAddress
    stage: Stage = Stage.WAITING
    lost: int = 0
    wholes: int = 0
    reason: str = ""


class Distributor:
    """The list of a concentrator, whose own memory for images is ``head``'s. ``is_down`` says whether the
    concentrator itself restarts."""

    def __init__(self, head: SimulatedMeter, *, is_down: Callable[[], bool] = lambda: False) -> None:
        self._head = head
        self._is_down = is_down
        self._turns: dict[GatewayAddress, _Turn] = {}
        self._initiated = 0
        self._ordered = asyncio.Event()
        #: blocks that it sent to meters
        self.sent = 0

    # ---- what the head-end does ----------------------------------------------------------------------

    def objects(self) -> tuple[CosemObject, ...]:
        """The list, and how far it is."""
        return (
            CosemObject(
                ClassId.DATA,
                0,
                ORDER,
                {2: lambda asked: distribution.encode_order(self._list())},
                writes={2: self._order},
            ),
            CosemObject(ClassId.DATA, 0, PROGRESS, {2: lambda asked: self._told(asked)}),
        )

    def _order(self, asked: Asked, raw: bytes) -> DataAccessResult:
        wanted = distribution.decode_order(raw)
        before = self._list()
        if not self._image.images:
            return DataAccessResult.TEMPORARY_FAILURE
        self._turns = {
            one: before[one] if one in before and before[one].stage is Stage.UNDER_WAY else _Turn(one)
            for one in wanted
        }
        self._ordered.set()
        return DataAccessResult.SUCCESS

    def _told(self, asked: Asked) -> bytes:
        return distribution.encode_progress(
            Progress(one.address, one.stage, reason=one.reason) for one in self._list().values()
        )

    def _list(self) -> dict[GatewayAddress, _Turn]:
        """Empty where the image is another by now."""
        if self._initiated != self._image.counts.initiated:
            self._initiated = self._image.counts.initiated
            self._turns = {}
        return self._turns

    @property
    def _image(self) -> ImageStore:
        return self._head.part(ImageStore)

    # ---- what it does with its meters ----------------------------------------------------------------

    async def run(self, concentrator: Concentrator) -> None:
        """Give the meters the image, for ever."""
        while True:
            turn = self._next()
            if turn is None:
                self._ordered.clear()
                await self._ordered.wait()
            elif self._is_down():
                await asyncio.sleep(_BACK_S)
            else:
                await asyncio.sleep(self._serve(turn, concentrator))

    def _next(self) -> _Turn | None:
        return next(
            (one for one in self._list().values() if one.stage in (Stage.WAITING, Stage.UNDER_WAY)), None
        )

    def _serve(self, turn: _Turn, concentrator: Concentrator) -> float:
        """One message to the meter, and its answer; for how long the medium was busy, in seconds."""
        member = concentrator.members.get(turn.address)
        if member is None:
            turn.stage, turn.reason = Stage.FAILED, "no such meter is known here"
            return 0.0
        turn.stage = Stage.UNDER_WAY
        store = member.meter.part(ImageStore)
        now = concentrator.clock()
        took = concentrator.occupy(member, store.block_size + _HEAD, _ANSWER)
        if took is None or store.is_away(now):
            turn.lost += 1
            if turn.lost >= TRIES:
                turn.stage, turn.reason = Stage.FAILED, "it does not answer"
            return concentrator.patience_s if took is None else took
        turn.lost = 0
        self._talk(turn, member, store, now)
        return took

    def _talk(self, turn: _Turn, member: Member, store: ImageStore, now: float) -> None:
        """What one message does at the meter."""
        image, ours = self._image, self._image.images[0]
        has = [(one.size, one.identification) for one in store.images]
        if store.status is TransferStatus.VERIFICATION_SUCCESSFUL and (ours.size, ours.identification) in has:
            turn.stage = Stage.VERIFIED
        elif store.status is TransferStatus.INITIATED and turn.wholes:
            missing = store.missing
            if not missing:
                store.verify(now)
                return
            number, size = missing[0], store.block_size
            value = image.content[number * size : (number + 1) * size]
            self.sent += 1
            if store.write(number, value, now) is not ActionResult.SUCCESS:
                turn.stage, turn.reason = Stage.FAILED, f"it refuses block {number}"
        elif store.status is not TransferStatus.VERIFICATION_INITIATED:
            if turn.wholes >= _MOST_WHOLE:
                turn.stage, turn.reason = Stage.FAILED, "it found the image wrong"
                return
            turn.wholes += 1
            store.enabled = True
            store.initiate(ours.identification, ours.size)
