"""New programs for meters: what a meter runs, what it holds of an image, and what it is told.

The words are those of Image Transfer (COSEM class 18); languages that have no such thing give their own means
these names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple, Protocol, runtime_checkable

from schemas.address import GatewayAddress


class ImageStatus(StrEnum):
    """Where a meter stands with an image."""

    NONE = "none"  # nothing was initiated
    INITIATED = "initiated"  # it takes blocks
    VERIFYING = "verifying"
    VERIFIED = "verified"
    VERIFICATION_FAILED = "verification_failed"
    ACTIVATING = "activating"
    ACTIVATED = "activated"
    ACTIVATION_FAILED = "activation_failed"


class Running(NamedTuple):
    """What the meter runs: its version, and its hardware where its model says where that is told."""

    version: str
    hardware: str | None


class HeldImage(NamedTuple):
    """An image that the meter holds verified, in its own words."""

    size: int
    identification: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class ImageState:
    """What the meter tells of its image. ``missing``: numbers of blocks that are not there, in order, out of
    ``count``; both empty where it takes none now."""

    status: ImageStatus
    enabled: bool
    block_size: int
    missing: tuple[int, ...] = ()
    count: int = 0
    held: tuple[HeldImage, ...] = ()


class Pace(NamedTuple):
    """How long the meters of a model take, in seconds: to restart into an image, and to verify one at most.
    ``keeps_time``: it activates by itself at a moment that it is told."""

    restart_s: float
    verify_s: float
    keeps_time: bool


class TakesImages(Protocol):
    """A conversation with a device that takes images. All raise what `protocols.errors` has."""

    @property
    def pace(self) -> Pace:
        """How long it takes."""

    async def read_image_state(self) -> ImageState:
        """What it holds."""

    async def enable_images(self) -> None:
        """Let it take images."""

    async def initiate_image(self, identifier: bytes, size: int, sha256: bytes) -> None:
        """Begin a transfer: what it held of another image, or of the same, is gone. ``sha256`` of the image,
        for languages that tell it."""

    async def send_block(self, number: int, value: bytes) -> bool:
        """Block ``number``, from 0; False where no answer came, so that nobody knows whether the meter has
        it, and the conversation goes on. Raises PeerRefused where the meter cannot keep it."""

    async def verify_image(self) -> bool:
        """Have it verify the whole; False while it is still at it. Raises PeerRefused where it is wrong."""


@runtime_checkable
class Upgradable(TakesImages, Protocol):
    """A conversation with a meter that can be given a new program."""

    async def read_running(self) -> Running:
        """What it runs now."""

    async def activate_image(self) -> None:
        """Run it: the meter restarts, with or without an answer."""

    async def activate_image_at(self, moment: datetime) -> None:
        """The same at a moment, by the meter's own clock; where `Pace.keeps_time`."""


class Distributed(NamedTuple):
    """What a concentrator tells of a meter that shall have its image. ``holds``: the meter has verified it;
    ``failed`` says why it is not gone on with, None while it is."""

    gateway: GatewayAddress
    holds: bool
    failed: str | None = None


@runtime_checkable
class Distributing(TakesImages, Protocol):
    """A conversation with a concentrator that takes one image for all its meters."""

    @property
    def distribute_s(self) -> float:
        """How long it may take for a meter, in seconds."""

    async def distribute(self, meters: Sequence[GatewayAddress]) -> None:
        """Have these meters given the image that it holds verified, and no others: who is under way goes on,
        each other is begun with."""

    async def read_distribution(self) -> tuple[Distributed, ...]:
        """How far each of them is."""
