"""What comes next with a meter's image: decided from what the meter tells and what is written down of it.

Pure. The one thing that must never be done lightly is to initiate: that clears the meter's bitmap, and with
it hours of a slow network. It is done where the meter takes no image, or takes another than ours.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from headend.drivers.commands.firmware import ImageState, ImageStatus


@dataclass(frozen=True, slots=True)
class Wanted:
    """The image that the meter shall have: digest of its package, what the meter is told of it, and bytes."""

    package: str
    identifier: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Record:
    """What is written down of the last transfer that this head-end initiated at the meter, in any campaign.
    ``confirmed``: the meter said yes."""

    package: str
    size: int
    block_size: int
    at: datetime
    confirmed: bool


def record_of(image: Mapping[str, Any], *, confirmed: bool) -> Record:
    """A record out of the fact ``image`` of a journal."""
    at = datetime.fromisoformat(image["at"])
    return Record(image["package"], image["size"], image["block_size"], at, confirmed)


class Step(StrEnum):
    """What can come next."""

    ENABLE = "enable"
    INITIATE = "initiate"
    SEND = "send"
    VERIFY = "verify"
    AWAIT_VERIFICATION = "await_verification"
    VERIFICATION_FAILED = "verification_failed"
    ACTIVATE = "activate"
    AWAIT_ACTIVATION = "await_activation"


class Next(NamedTuple):
    """A step, and why it and no other."""

    step: Step
    why: str


def next_step(state: ImageState, wanted: Wanted, record: Record | None) -> Next:
    """What comes next. Told of an image that is not ours, whatever its state, the answer is INITIATE."""
    if not state.enabled:
        return Next(Step.ENABLE, "the meter takes no images yet")
    if (why := _not_ours(state, wanted, record)) is not None:
        return Next(Step.INITIATE, why)
    match state.status:
        case ImageStatus.INITIATED:
            if state.missing:
                return Next(Step.SEND, f"{len(state.missing)} of {state.count} blocks are missing")
            return Next(Step.VERIFY, "all blocks are there")
        case ImageStatus.VERIFYING:
            return Next(Step.AWAIT_VERIFICATION, "the meter verifies the image")
        case ImageStatus.VERIFIED:
            return Next(Step.ACTIVATE, "the image is verified")
        case ImageStatus.VERIFICATION_FAILED:
            return Next(Step.VERIFICATION_FAILED, "the meter found the image wrong")
        case ImageStatus.ACTIVATING:
            return Next(Step.AWAIT_ACTIVATION, "the meter activates the image")
        case _:
            return Next(Step.INITIATE, f"the meter holds no image: its status is {state.status}")


def _not_ours(state: ImageState, wanted: Wanted, record: Record | None) -> str | None:
    """Why what the meter holds cannot be gone on with; None where it can."""
    if record is None or not record.confirmed:
        return "no transfer of this head-end is known at the meter"
    if (record.package, record.size) != (wanted.package, wanted.size):
        return "the last transfer at the meter was of another package"
    if record.block_size != state.block_size:
        return f"blocks have {state.block_size} bytes now, and had {record.block_size}"
    if state.status is ImageStatus.INITIATED and state.count != blocks_in(wanted.size, state.block_size):
        return f"the meter expects {state.count} blocks, which is another image"
    if state.status is ImageStatus.VERIFIED and not _holds(state, wanted):
        return "what the meter has verified is another image"
    return None


def _holds(state: ImageState, wanted: Wanted) -> bool:
    return any((one.size, one.identification) == (wanted.size, wanted.identifier) for one in state.held)


def blocks_in(size: int, block_size: int) -> int:
    """How many blocks an image has."""
    return -(-size // block_size)
