"""A meter's memory for a new program: Image Transfer (class 18), the schedule that activates it (class 22),
and the version that it runs.

A simulated image begins with ``SIMFW <version>`` and a line feed and ends with the SHA-256 of all before it:
one that does not is taken too, is checked for nothing but its size, and gives the meter the image's
identifier as its version. Activation restarts the meter: for `ImagePlan.restart_s` nobody is there.
"""

import datetime as dt
import hashlib
import math
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from concentrator_sim.faults import Faults
from concentrator_sim.object_model import Asked, CosemObject, Meter, Read
from protocols.dlms import axdr
from protocols.dlms.cosem import ClassId
from protocols.dlms.cosem import image_transfer as it
from protocols.dlms.cosem import single_action_schedule as sas
from protocols.dlms.cosem.image_transfer import ImageToActivate, TransferStatus
from protocols.dlms.enums import ActionResult, DataAccessResult
from protocols.dlms.obis import Obis
from protocols.errors import RemoteProtocolError

VERSION: Final = Obis.parse("1-0:0.2.0*255")
#: The simulated meter's own choice: "device ID 6" of the Blue Book.
HARDWARE: Final = Obis.parse("0-0:96.1.5*255")
FIRST_VERSION: Final = "1.0.0"
FIRST_HARDWARE: Final = "SIM-A"
_HEAD: Final = b"SIMFW "
_DIGEST: Final = 32
_MOST_BLOCKS: Final = 1 << 16
_FOR_EVER: Final = math.inf


class Troubles(NamedTuple):
    """What may go wrong with images, by Unix seconds: see `concentrator_sim.faults.Faults`."""

    flash_refuses: Callable[[float], bool] = lambda now: False
    flash_spoils: Callable[[float], bool] = lambda now: False
    is_brick: Callable[[float], bool] = lambda now: False
    restarts: Callable[[float], int] = lambda now: 0


class Counts(NamedTuple):
    """Blocks that came, and those of them that came for a place that was taken: ``again_told`` after the
    bitmap or the first missing block had told the client of it, ``again_untold`` before."""

    blocks: int = 0
    again_told: int = 0
    again_untold: int = 0
    initiated: int = 0


#: Blocks by content: the meters of a field are given the same image, and its memory holds it once.
_shared: dict[bytes, bytes] = {}


def _share(block: bytes) -> bytes:
    if len(_shared) >= _MOST_BLOCKS:
        _shared.clear()
    return _shared.setdefault(block, block)


def simulated_image(version: str, size: int) -> bytes:
    """An image of ``size`` bytes that makes a simulated meter run ``version``. Raises ValueError."""
    head = _HEAD + version.encode("ascii") + b"\n"
    room = size - len(head) - _DIGEST
    if room < 0 or "\n" in version:
        raise ValueError(f"an image of version {version!r} has {len(head) + _DIGEST} bytes at least")
    filler = hashlib.shake_256(head).digest(room)
    return head + filler + hashlib.sha256(head + filler).digest()


class ImageStore:
    """The memory of one meter: what came of an image, and what it runs."""

    __slots__ = (
        "_block_size", "_blocks", "_forgets", "_plan", "_restarts", "_sha256", "_told", "_verify_end",
        "activates_at_s", "away_until", "counts", "enabled", "identifier", "images", "size", "status",
        "troubles", "version",
    )  # fmt: skip

    def __init__(self, meter: Meter) -> None:
        self._plan = meter.image_plan
        self._forgets = self._plan.forgets_every > 0 and meter.number % self._plan.forgets_every == 0
        self.troubles = Troubles()
        self.version = FIRST_VERSION
        self.enabled = False
        self.status = TransferStatus.NOT_INITIATED
        self.identifier = b""
        self.size = 0
        self.images: tuple[ImageToActivate, ...] = ()
        self.counts = Counts()
        self.activates_at_s: int | None = None
        self.away_until = 0.0
        self._block_size = self._plan.block_size
        self._sha256: bytes | None = None
        self._blocks: list[bytes | None] = []
        self._told: set[int] = set()
        self._verify_end: float | None = None
        self._restarts = 0

    # ---- time ---------------------------------------------------------------------------------------

    def settle(self, now_s: float) -> None:
        """What happened since it was last looked at: restarts, the end of verification, an activation."""
        restarts = self.troubles.restarts(now_s)
        if restarts != self._restarts:
            self._restarts = restarts
            self._restarted()
        if self._verify_end is not None and now_s >= self._verify_end:
            self._verify_end = None
            self._verified()
        if self.activates_at_s is not None and now_s >= self.activates_at_s:
            begin, self.activates_at_s = self.activates_at_s, None
            if self.status is TransferStatus.VERIFICATION_SUCCESSFUL:
                self.activate(begin)

    def _restarted(self) -> None:
        """The power was away: verification is begun anew by the client; some models lose the image."""
        self._verify_end = None
        if self._forgets:
            self._blocks, self.size, self.identifier, self.images = [], 0, b"", ()
            self._told.clear()
            self.status = TransferStatus.NOT_INITIATED
        elif self.status is TransferStatus.VERIFICATION_INITIATED:
            self.status = TransferStatus.INITIATED

    def is_away(self, now_s: float) -> bool:
        """Whether it restarts into an image, or never came back from that."""
        self.settle(now_s)
        return now_s < self.away_until

    # ---- what is told -------------------------------------------------------------------------------

    @property
    def block_size(self) -> int:
        """Bytes of a block."""
        return self._block_size

    @property
    def first_missing(self) -> int:
        """The number of blocks where none is missing."""
        first = next((n for n, block in enumerate(self._blocks) if block is None), len(self._blocks))
        self._told.update(range(first))
        return first

    @property
    def missing(self) -> tuple[int, ...]:
        """Numbers of the blocks that are not there."""
        self._told |= {n for n, block in enumerate(self._blocks) if block is not None}
        return tuple(n for n, block in enumerate(self._blocks) if block is None)

    @property
    def bitmap(self) -> axdr.BitString:
        """Which blocks are there."""
        there = {n for n, block in enumerate(self._blocks) if block is not None}
        self._told |= there
        return it.blocks_of(there, len(self._blocks))

    # ---- what is done -------------------------------------------------------------------------------

    def initiate(
        self, identifier: bytes, size: int, *, block_size: int | None = None, sha256: bytes | None = None
    ) -> ActionResult:
        """Take another image: whatever was there is gone. ``block_size`` where the client chooses it,
        ``sha256`` of the image where it tells that."""
        if not self.enabled or not size:
            return ActionResult.OTHER_REASON
        self._block_size, self._sha256 = block_size or self._plan.block_size, sha256
        self.identifier, self.size = identifier, size
        self._blocks = [None] * -(-size // self.block_size)
        self._told.clear()
        self.images, self._verify_end = (), None
        self.status = TransferStatus.INITIATED
        self.counts = self.counts._replace(initiated=self.counts.initiated + 1)
        return ActionResult.SUCCESS

    def has_again(self, number: int) -> bool:
        """Whether a block that comes while the meter takes blocks is there already; counted if it is."""
        is_there = (
            self.status is TransferStatus.INITIATED
            and number < len(self._blocks)
            and self._blocks[number] is not None
        )
        if is_there:
            self._count(number)
        return is_there

    def write(self, number: int, value: bytes, now_s: float) -> ActionResult:
        """A block."""
        if not self.enabled or self.status is not TransferStatus.INITIATED or number >= len(self._blocks):
            return ActionResult.OTHER_REASON
        last = number == len(self._blocks) - 1
        if len(value) != (self.size - number * self.block_size if last else self.block_size):
            return ActionResult.OTHER_REASON
        if self.troubles.flash_refuses(now_s):
            return ActionResult.HARDWARE_FAULT
        self._count(number)
        if self.troubles.flash_spoils(now_s):
            value = value[:-1] + bytes((value[-1] ^ 1,))
        self._blocks[number] = _share(value)
        return ActionResult.SUCCESS

    def _count(self, number: int) -> None:
        blocks, told, untold, initiated = self.counts
        if self._blocks[number] is not None:
            told, untold = (told + 1, untold) if number in self._told else (told, untold + 1)
        self.counts = Counts(blocks + 1, told, untold, initiated)

    def verify(self, now_s: float) -> ActionResult:
        """Begin, or tell how it stands."""
        if self.status is TransferStatus.INITIATED:
            if not self.enabled or None in self._blocks:
                return ActionResult.OTHER_REASON
            self.status = TransferStatus.VERIFICATION_INITIATED
            self._verify_end = now_s + self._plan.verify_s
            self.settle(now_s)
        if self.status is TransferStatus.VERIFICATION_INITIATED:
            return ActionResult.TEMPORARY_FAILURE
        good = self.status is TransferStatus.VERIFICATION_SUCCESSFUL
        return ActionResult.SUCCESS if good else ActionResult.OTHER_REASON

    def activate(self, now_s: float) -> ActionResult:
        """Restart into the image; where it was not verified, that comes first."""
        if self.status is TransferStatus.INITIATED and None not in self._blocks:
            self.verify(now_s)
        if self.status is not TransferStatus.VERIFICATION_SUCCESSFUL or not self.enabled:
            return ActionResult.OTHER_REASON
        self.version = _version_of(self.content) or _text(self.identifier)
        self.status = TransferStatus.ACTIVATION_SUCCESSFUL
        self.images = ()
        self._blocks = []
        is_brick = self.troubles.is_brick(now_s)
        self.away_until = _FOR_EVER if is_brick else now_s + self._plan.restart_s
        return ActionResult.SUCCESS

    def _verified(self) -> None:
        content = self.content
        digest = content[-_DIGEST:]
        if self._sha256 is not None and hashlib.sha256(content).digest() != self._sha256:
            self.status = TransferStatus.VERIFICATION_FAILED
            return
        if content.startswith(_HEAD) and hashlib.sha256(content[:-_DIGEST]).digest() != digest:
            self.status = TransferStatus.VERIFICATION_FAILED
            return
        self.status = TransferStatus.VERIFICATION_SUCCESSFUL
        self.images = (ImageToActivate(self.size, self.identifier, digest),)

    @property
    def content(self) -> bytes:
        """The blocks that are there, joined."""
        return b"".join(block for block in self._blocks if block is not None)


def _version_of(content: bytes) -> str | None:
    if not content.startswith(_HEAD):
        return None
    return content[len(_HEAD) :].partition(b"\n")[0].decode("ascii", errors="replace")


def _text(raw: bytes) -> str:
    return raw.decode("ascii", errors="replace")


def troubles_of(faults: Faults) -> Troubles:
    """What of a meter's faults matters to images."""
    return Troubles(faults.flash_refuses, faults.flash_spoils, faults.is_brick, faults.restarts)


def total(stores: Iterable[ImageStore]) -> Counts:
    """The counts of several meters together."""
    found = [store.counts for store in stores]
    return Counts(*(sum(column) for column in zip(*found, strict=True))) if found else Counts()


def is_away(meter: Meter, now_s: float) -> bool:
    """Whether a meter restarts into an image: nobody answers."""
    store = meter.part_if_any(ImageStore)
    return store is not None and store.is_away(now_s)


# ---- the objects ------------------------------------------------------------------------------------


def _store(asked: Asked) -> ImageStore:
    store = asked.device.meter.part(ImageStore)
    store.settle(asked.now_s)
    return store


def _told(value: Callable[[ImageStore], axdr.Data]) -> Read:
    return lambda asked: axdr.encode(value(_store(asked)))


def _version(asked: Asked) -> bytes:
    store = asked.device.meter.part_if_any(ImageStore)
    return axdr.encode(axdr.octets((FIRST_VERSION if store is None else store.version).encode()))


def _enable(asked: Asked, raw: bytes) -> DataAccessResult:
    _store(asked).enabled = it.enabled(axdr.decode_exact(raw))
    return DataAccessResult.SUCCESS


def _given(parameter: bytes | None) -> bytes:
    if parameter is None:
        raise RemoteProtocolError("the method has a parameter")
    return parameter


def _initiate(asked: Asked, parameter: bytes | None) -> ActionResult:
    return _store(asked).initiate(*it.decode_initiate(_given(parameter)))


def _write(asked: Asked, parameter: bytes | None) -> ActionResult:
    number, value = it.decode_block(_given(parameter))
    return _store(asked).write(number, value, asked.now_s)


def _verify(asked: Asked, parameter: bytes | None) -> ActionResult:
    return _store(asked).verify(asked.now_s)


def _activate(asked: Asked, parameter: bytes | None) -> ActionResult:
    return _store(asked).activate(asked.now_s)


def _execution_times(asked: Asked) -> bytes:
    at = _store(asked).activates_at_s
    if at is None:
        return axdr.encode(axdr.array(()))
    local = dt.datetime.fromtimestamp(at, dt.UTC) - dt.timedelta(minutes=asked.device.meter.deviation_min)
    return axdr.encode(sas.encode_execution_times((sas.Execution.at(local.replace(tzinfo=None)),)))


def _schedule(asked: Asked, raw: bytes) -> DataAccessResult:
    store = _store(asked)
    times = sas.execution_times(axdr.decode_exact(raw))
    if len(times) > 1:
        return DataAccessResult.OTHER_REASON
    if not times:
        store.activates_at_s = None
        return DataAccessResult.SUCCESS
    utc = times[0].moment() + dt.timedelta(minutes=asked.device.meter.deviation_min)
    at = int(utc.replace(tzinfo=dt.UTC).timestamp())
    if at <= asked.now_s:
        return DataAccessResult.OTHER_REASON
    store.activates_at_s = at
    return DataAccessResult.SUCCESS


_HARDWARE_RAW: Final = axdr.encode(axdr.octets(FIRST_HARDWARE.encode()))
_SCRIPT: Final = axdr.encode(sas.encode_executed_script(sas.IMAGE_ACTIVATION_SCRIPTS, 1))
_ONE_FIXED_TIME: Final = axdr.encode(axdr.enum(1))

#: Image Transfer.
IMAGE_TRANSFER: Final = CosemObject(
    ClassId.IMAGE_TRANSFER,
    0,
    it.IMAGE_TRANSFER,
    {
        it.IMAGE_BLOCK_SIZE: _told(lambda store: axdr.u32(store.block_size)),
        it.IMAGE_TRANSFERRED_BLOCKS_STATUS: _told(
            lambda store: axdr.Data(axdr.DataType.BIT_STRING, store.bitmap)
        ),
        it.IMAGE_FIRST_NOT_TRANSFERRED_BLOCK_NUMBER: _told(lambda store: axdr.u32(store.first_missing)),
        it.IMAGE_TRANSFER_ENABLED: _told(lambda store: axdr.boolean(store.enabled)),
        it.IMAGE_TRANSFER_STATUS: _told(lambda store: axdr.enum(store.status)),
        it.IMAGE_TO_ACTIVATE_INFO: _told(lambda store: axdr.array(image.encode() for image in store.images)),
    },
    writes={it.IMAGE_TRANSFER_ENABLED: _enable},
    methods={
        it.IMAGE_TRANSFER_INITIATE: _initiate,
        it.IMAGE_BLOCK_TRANSFER: _write,
        it.IMAGE_VERIFY: _verify,
        it.IMAGE_ACTIVATE: _activate,
    },
)

#: Image Transfer, its schedule, the version and the hardware.
IMAGES: Final = (
    CosemObject(ClassId.DATA, 0, VERSION, {2: _version}),
    CosemObject(ClassId.DATA, 0, HARDWARE, {2: lambda asked: _HARDWARE_RAW}),
    IMAGE_TRANSFER,
    CosemObject(
        ClassId.SINGLE_ACTION_SCHEDULE,
        0,
        sas.IMAGE_ACTIVATION,
        {
            sas.EXECUTED_SCRIPT: lambda asked: _SCRIPT,
            sas.TYPE: lambda asked: _ONE_FIXED_TIME,
            sas.EXECUTION_TIME: _execution_times,
        },
        writes={sas.EXECUTION_TIME: _schedule},
    ),
)
