"""New programs for devices of the broker: their image in acknowledged chunks (`schemas.image_message`)."""

from abc import abstractmethod
from datetime import datetime

from pydantic import ValidationError

from headend.drivers.commands.firmware import HeldImage, ImageState, ImageStatus, Pace, Running
from headend.drivers.mqtt.exchanging import Exchanging, new_id
from protocols.errors import LocalProtocolError, PeerRefused, RemoteProtocolError
from protocols.mqtt import images, messages
from schemas.image_message import (
    Image,
    ImageActivate,
    ImageAnswer,
    ImageAsk,
    ImageBegin,
    ImageRefused,
    ImageRequest,
    ImageTaken,
    ImageTold,
    ImageVerify,
)
from schemas.mqtt_model import Firmware


class FirmwareCommands(Exchanging):
    """`headend.drivers.commands.firmware.Upgradable`: its blocks are chunks, its bitmap the chunks that the
    device misses."""

    @property
    @abstractmethod
    def _firmware(self) -> Firmware:
        """As the model says. Raises LocalProtocolError where it says nothing."""

    @property
    def pace(self) -> Pace:
        """As the model says; a moment is kept by the head-end."""
        said = self._firmware
        return Pace(said.restart_s, said.verify_s, keeps_time=False)

    async def read_running(self) -> Running:
        """What the device says that it runs."""
        told = await self._told(ImageAsk(id=new_id()))
        return Running(told.version, told.hardware)

    async def read_image_state(self) -> ImageState:
        """How it stands. A transfer in chunks of another size than the model's is none that can be gone on
        with, and told as none."""
        told, size = await self._told(ImageAsk(id=new_id())), self._firmware.chunk_size
        status, image = ImageStatus(told.status), told.image
        missing: tuple[int, ...] = ()
        count = 0
        held: tuple[HeldImage, ...] = ()
        if image is not None and status is ImageStatus.INITIATED:
            if image.chunk_size != size:
                return ImageState(ImageStatus.NONE, True, size)
            missing, count = tuple(images.numbers(told.missing)), image.count
        elif image is not None and status is ImageStatus.VERIFIED:
            held = (HeldImage(image.size, bytes.fromhex(image.identifier), bytes.fromhex(image.sha256)),)
        return ImageState(status, True, size, missing, count, held)

    async def enable_images(self) -> None:
        """Nothing is sent: such devices take images always."""
        _ = self._firmware  # raises where the model knows of none

    async def initiate_image(self, identifier: bytes, size: int, sha256: bytes) -> None:
        """Begin; where the device takes this very image already, it goes on."""
        try:
            image = Image(
                identifier=identifier.hex(),
                size=size,
                chunk_size=self._firmware.chunk_size,
                sha256=sha256.hex(),
            )
        except ValidationError as error:
            raise LocalProtocolError(f"an image of {size} bytes: {error.errors()[0]['msg']}") from error
        told = await self._told(ImageBegin(id=new_id(), image=image))
        if told.image != image or told.status != "initiated":
            raise RemoteProtocolError(f"the device began another image than it was told: {told.status}")

    async def send_block(self, number: int, value: bytes) -> bool:
        """A chunk, acknowledged."""
        request = images.chunk(new_id(), number, value)
        answer = await self._ask_image(request)
        if not isinstance(answer, ImageTaken) or answer.number != number:
            raise RemoteProtocolError(f"chunk {number} was answered by {answer.format}, or for another one")
        return True

    async def verify_image(self) -> bool:
        """Verify, or ask how it stands with that."""
        told = await self._told(ImageVerify(id=new_id()))
        if told.status == "verification_failed":
            raise PeerRefused("the device found the image wrong")
        return told.status == "verified"

    async def activate_image(self) -> None:
        """Run it."""
        await self._told(ImageActivate(id=new_id()))

    async def activate_image_at(self, moment: datetime) -> None:
        """Raises LocalProtocolError: it knows no moments."""
        raise LocalProtocolError("devices of the broker are told no moment of activation: the head-end waits")

    async def _told(self, request: ImageRequest) -> ImageTold:
        answer = await self._ask_image(request)
        if not isinstance(answer, ImageTold):
            raise RemoteProtocolError(f"{request.format} was answered by {answer.format}")
        return answer

    async def _ask_image(self, request: ImageRequest) -> ImageTold | ImageTaken:
        """The answer of the same id. Raises PeerRefused, RemoteProtocolError, LinkError."""

        def take(payload: bytes) -> ImageAnswer | None:
            found = images.decode(payload)
            if isinstance(found, ImageTold | ImageTaken | ImageRefused) and found.id == request.id:
                return found
            return None

        said = self._firmware
        answer: ImageAnswer = await self._exchange(said.topic, messages.encode(request), said.answer, take)
        if isinstance(answer, ImageRefused):
            raise PeerRefused(f"the device refuses {request.format}: {answer.reason}")
        return answer
