"""New programs for DLMS meters: Image Transfer (class 18) and Single Action Schedule (class 22); and for
concentrators that hand images on, by `protocols.dlms.distribution`."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from headend.drivers.commands.firmware import (
    Distributed,
    HeldImage,
    ImageState,
    ImageStatus,
    Pace,
    Running,
)
from headend.drivers.dlms.commands.base import Commands
from headend.session.client import Unanswered
from protocols.dlms import axdr, distribution
from protocols.dlms.cosem import Attribute, ClassId, Method, text
from protocols.dlms.cosem import image_transfer as it
from protocols.dlms.cosem import single_action_schedule as sas
from protocols.dlms.cosem.forms import integer_of
from protocols.dlms.cosem.image_transfer import TransferStatus
from protocols.dlms.cosem_time import CosemDateTime
from protocols.dlms.distribution import Stage
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.obis import Obis
from protocols.errors import ActionRefused, DataAccessRefused, LocalProtocolError
from schemas.address import GatewayAddress
from schemas.model import Distribution, Firmware

_STATUS: Final = {
    TransferStatus.NOT_INITIATED: ImageStatus.NONE,
    TransferStatus.INITIATED: ImageStatus.INITIATED,
    TransferStatus.VERIFICATION_INITIATED: ImageStatus.VERIFYING,
    TransferStatus.VERIFICATION_SUCCESSFUL: ImageStatus.VERIFIED,
    TransferStatus.VERIFICATION_FAILED: ImageStatus.VERIFICATION_FAILED,
    TransferStatus.ACTIVATION_INITIATED: ImageStatus.ACTIVATING,
    TransferStatus.ACTIVATION_SUCCESSFUL: ImageStatus.ACTIVATED,
    TransferStatus.ACTIVATION_FAILED: ImageStatus.ACTIVATION_FAILED,
}
_STATE: Final = (it.IMAGE_TRANSFER_STATUS, it.IMAGE_TRANSFER_ENABLED, it.IMAGE_BLOCK_SIZE)


class ImageCommands(Commands):
    """Image Transfer, wherever it is."""

    @property
    def _transfer(self) -> Obis:
        """Its logical name. Raises LocalProtocolError where the model has none."""
        raise NotImplementedError

    async def read_image_state(self) -> ImageState:
        """Status, enabled and block size; the bitmap while it takes blocks, the image when it is verified."""
        transfer = self._transfer
        raws = await self._session.get_many([Attribute(ClassId.IMAGE_TRANSFER, transfer, n) for n in _STATE])
        status, enabled, size = (
            axdr.decode_exact(_given(f"{transfer} attribute {n}", raw))
            for n, raw in zip(_STATE, raws, strict=True)
        )
        found = _STATUS[it.status(status)]
        missing: tuple[int, ...] = ()
        count = 0
        held: tuple[HeldImage, ...] = ()
        if found is ImageStatus.INITIATED:
            blocks = it.bitmap(await self._read_image(it.IMAGE_TRANSFERRED_BLOCKS_STATUS))
            missing, count = tuple(it.missing(blocks)), blocks.length
        elif found is ImageStatus.VERIFIED:
            images = it.images(await self._read_image(it.IMAGE_TO_ACTIVATE_INFO))
            held = tuple(HeldImage(one.size, one.identification, one.signature) for one in images)
        return ImageState(found, it.enabled(enabled), it.block_size(size), missing, count, held)

    async def _read_image(self, attribute: int) -> axdr.Data:
        return axdr.decode_exact(
            await self._session.get(Attribute(ClassId.IMAGE_TRANSFER, self._transfer, attribute))
        )

    async def enable_images(self) -> None:
        """Write image_transfer_enabled."""
        attribute = Attribute(ClassId.IMAGE_TRANSFER, self._transfer, it.IMAGE_TRANSFER_ENABLED)
        await self._session.set(attribute, axdr.encode(axdr.boolean(True)))

    async def initiate_image(self, identifier: bytes, size: int, sha256: bytes) -> None:
        """Invoke image_transfer_initiate, which tells no digest."""
        await self._invoke(it.IMAGE_TRANSFER_INITIATE, it.encode_initiate(identifier, size))

    async def send_block(self, number: int, value: bytes) -> bool:
        """Invoke image_block_transfer."""
        method = Method(ClassId.IMAGE_TRANSFER, self._transfer, it.IMAGE_BLOCK_TRANSFER)
        try:
            await self._session.action(method, it.encode_block(number, value), may_be_lost=True)
        except Unanswered:
            return False
        return True

    async def verify_image(self) -> bool:
        """Invoke image_verify: "temporary failure" says that it is not done yet."""
        try:
            await self._invoke(it.IMAGE_VERIFY, it.NO_PARAMETER)
        except ActionRefused as refused:
            if refused.result != ActionResult.TEMPORARY_FAILURE:
                raise
            return False
        return True

    async def _invoke(self, method: int, parameter: bytes) -> None:
        await self._session.action(Method(ClassId.IMAGE_TRANSFER, self._transfer, method), parameter)


class FirmwareCommands(ImageCommands):
    """`headend.drivers.commands.firmware.Upgradable`."""

    @property
    def pace(self) -> Pace:
        """As the model says."""
        said = self._firmware
        return Pace(said.restart_s, said.verify_s, said.scheduler is not None)

    async def read_running(self) -> Running:
        """The active firmware identifier, and the hardware where the model names its object."""
        said = self._firmware
        objects = [said.version, *([] if said.hardware is None else [said.hardware])]
        raws = await self._session.get_many(
            [Attribute(ClassId.DATA, Obis.parse(obis), 2) for obis in objects]
        )
        told = [text(axdr.decode_exact(_given(obis, raw))) for obis, raw in zip(objects, raws, strict=True)]
        return Running(told[0], told[1] if len(told) > 1 else None)

    async def activate_image(self) -> None:
        """Invoke image_activate: "temporary failure" says that it is at it."""
        try:
            await self._invoke(it.IMAGE_ACTIVATE, it.NO_PARAMETER)
        except ActionRefused as refused:
            if refused.result != ActionResult.TEMPORARY_FAILURE:
                raise

    async def activate_image_at(self, moment: datetime) -> None:
        """Write execution_time of the scheduler, in the local time of the meter's clock as it stands now."""
        scheduler = self._firmware.scheduler
        if scheduler is None:
            raise LocalProtocolError(f"model {self._model.name} has no scheduler of activations")
        local = await self._local(moment)
        attribute = Attribute(ClassId.SINGLE_ACTION_SCHEDULE, Obis.parse(scheduler), sas.EXECUTION_TIME)
        times = (sas.Execution.at(local),)
        await self._session.set(attribute, axdr.encode(sas.encode_execution_times(times)))

    async def _local(self, moment: datetime) -> datetime:
        """What the meter's clock will show then: by the model's zone, else by the deviation that it has."""
        clock = self._model.clock
        if clock.zone is not None:
            return CosemDateTime.from_zone(moment, clock.zone, follows_dst=clock.follows_dst).local()
        raw = await self._session.get(Attribute(ClassId.CLOCK, Obis.parse("0-0:1.0.0*255"), 3))
        deviation_min = integer_of(axdr.decode_exact(raw), "time_zone")
        return CosemDateTime.from_utc(moment, deviation_min).local()

    @property
    def _firmware(self) -> Firmware:
        if self._model.firmware is None:
            raise LocalProtocolError(f"model {self._model.name} has no [firmware]: it takes no images")
        return self._model.firmware

    @property
    def _transfer(self) -> Obis:
        return Obis.parse(self._firmware.transfer)


class DistributionCommands(ImageCommands):
    """`headend.drivers.commands.firmware.Distributing`."""

    @property
    def pace(self) -> Pace:
        """As the model says; a concentrator does not restart into its meters' image."""
        return Pace(0, self._distribution.verify_s, keeps_time=False)

    @property
    def distribute_s(self) -> float:
        """As the model says."""
        return self._distribution.distribute_s

    async def distribute(self, meters: Sequence[GatewayAddress]) -> None:
        """Write the list of its meters."""
        attribute = Attribute(ClassId.DATA, Obis.parse(self._distribution.order), 2)
        await self._session.set(attribute, distribution.encode_order(meters))

    async def read_distribution(self) -> tuple[Distributed, ...]:
        """Read how far they are."""
        raw = await self._session.get(Attribute(ClassId.DATA, Obis.parse(self._distribution.progress), 2))
        return tuple(
            Distributed(
                one.address,
                one.stage is Stage.VERIFIED,
                (one.reason or "no reason is told") if one.stage is Stage.FAILED else None,
            )
            for one in distribution.decode_progress(raw)
        )

    @property
    def _distribution(self) -> Distribution:
        if self._model.distribution is None:
            raise LocalProtocolError(
                f"model {self._model.name} has no [distribution]: it takes no images for its meters"
            )
        return self._model.distribution

    @property
    def _transfer(self) -> Obis:
        return Obis.parse(self._distribution.transfer)


def _given(what: str, raw: bytes | DataAccessResult) -> bytes:
    if isinstance(raw, DataAccessResult):
        raise DataAccessRefused(f"{what}: {raw.name.lower().replace('_', ' ')}", result=int(raw))
    return raw
