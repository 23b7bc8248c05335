"""A meter that gets another program over MQTT, in chunks of our own schema. Its memory is `ImageStore`."""

from typing import Final

from concentrator_sim.image import FIRST_HARDWARE, ImageStore
from concentrator_sim.meter import SimulatedMeter
from protocols.dlms.cosem.image_transfer import TransferStatus
from protocols.dlms.enums import ActionResult
from protocols.errors import RemoteProtocolError
from protocols.mqtt import images, messages
from schemas.image_message import (
    MAX_RANGES,
    Image,
    ImageActivate,
    ImageAnswer,
    ImageAsk,
    ImageBegin,
    ImageChunk,
    ImageRefused,
    ImageTaken,
    ImageTold,
    ImageVerify,
    Status,
)

_STATUS: Final[dict[TransferStatus, Status]] = {
    TransferStatus.NOT_INITIATED: "none",
    TransferStatus.INITIATED: "initiated",
    TransferStatus.VERIFICATION_INITIATED: "verifying",
    TransferStatus.VERIFICATION_SUCCESSFUL: "verified",
    TransferStatus.VERIFICATION_FAILED: "verification_failed",
    TransferStatus.ACTIVATION_INITIATED: "activating",
    TransferStatus.ACTIVATION_SUCCESSFUL: "activated",
    TransferStatus.ACTIVATION_FAILED: "activation_failed",
}
_WITHOUT: Final = frozenset({TransferStatus.NOT_INITIATED, TransferStatus.ACTIVATION_SUCCESSFUL})


class ImageTalk:
    """What one meter answers. It keeps what it has of an image whatever becomes of connections."""

    def __init__(self, meter: SimulatedMeter) -> None:
        self._meter = meter
        self._image: Image | None = None

    def answer(self, payload: bytes, now_s: float) -> bytes | None:
        """To a request; None where nobody is there, or it is none."""
        store = self._meter.part(ImageStore)
        if store.is_away(now_s):
            return None
        try:
            request = images.decode(payload)
        except RemoteProtocolError:
            return None  # without an id, nobody could be told
        match request:
            case ImageAsk():
                found: ImageAnswer = self._told(request.id, store)
            case ImageBegin():
                found = self._begin(request, store)
            case ImageChunk():
                found = _take(request, store, now_s)
            case ImageVerify():
                store.verify(now_s)
                missing = store.status is TransferStatus.INITIATED
                found = (
                    _refused(request.id, "chunks are missing") if missing else self._told(request.id, store)
                )
            case ImageActivate():
                result = store.activate(now_s)
                is_good = result is ActionResult.SUCCESS
                found = (
                    self._told(request.id, store) if is_good else _refused(request.id, "nothing is verified")
                )
            case _:
                return None  # an answer
        return messages.encode(found)

    def _begin(self, request: ImageBegin, store: ImageStore) -> ImageAnswer:
        image = request.image
        if store.status is not TransferStatus.INITIATED or image != self._image:
            store.enabled = True
            store.initiate(
                bytes.fromhex(image.identifier),
                image.size,
                block_size=image.chunk_size,
                sha256=bytes.fromhex(image.sha256),
            )
            self._image = image
        return self._told(request.id, store)

    def _told(self, request_id: str, store: ImageStore) -> ImageTold:
        takes = store.status is TransferStatus.INITIATED
        return ImageTold(
            id=request_id,
            status=_STATUS[store.status],
            version=store.version,
            hardware=FIRST_HARDWARE,
            image=None if store.status in _WITHOUT else self._image,
            missing=tuple(images.ranges(store.missing))[:MAX_RANGES] if takes else (),
        )


def _take(request: ImageChunk, store: ImageStore, now_s: float) -> ImageAnswer:
    try:
        value = images.value_of(request)
    except RemoteProtocolError as error:
        return _refused(request.id, str(error))
    if not store.has_again(request.number):
        result = store.write(request.number, value, now_s)
        if result is not ActionResult.SUCCESS:
            return _refused(request.id, f"chunk {request.number}: {result.name.lower().replace('_', ' ')}")
    return ImageTaken(id=request.id, number=request.number)


def _refused(request_id: str, reason: str) -> ImageRefused:
    return ImageRefused(id=request_id, reason=reason)
