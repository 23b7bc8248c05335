"""What is said over MQTT where a device is given another program: its image in chunks, each acknowledged.

The head-end asks and the device answers, each told by its ``format``. Every request has an ``id`` of its
own, and its answer has the same one: whatever has another is no answer to it. Five requests: how it stands
(state), begin, a chunk, verify, activate. Three answers: how it stands (told, to all but a chunk), taken (to
a chunk), refused (to any).

What a device holds outlives its connections. To begin with the image that it takes already has no effect; to
begin with another, or after its verification failed, makes it forget what it held. A chunk that it has
already is taken again without effect. ``image.schema.json`` beside this file is the JSON Schema of it, made
from these classes (``python -m schemas.image_message``) and held equal to them by a test.
"""

import json
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

#: Chunks of an image, and bytes of one.
MAX_CHUNKS: Final = 1 << 20
LEAST_CHUNK: Final = 64
MAX_CHUNK: Final = 1 << 16
#: Ranges of missing chunks that are told at once; the next ones are told when these are there.
MAX_RANGES: Final = 1000

#: Of a request, and of its answer.
RequestId = Annotated[str, Field(min_length=8, max_length=64, pattern=r"^[0-9A-Za-z_.-]+$")]
Identifier = Annotated[str, Field(pattern=r"^([0-9a-f]{2}){1,64}$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Size = Annotated[int, Field(gt=0, lt=1 << 32)]
ChunkSize = Annotated[int, Field(ge=LEAST_CHUNK, le=MAX_CHUNK)]
#: From 0.
ChunkNumber = Annotated[int, Field(ge=0, lt=MAX_CHUNKS)]
#: Base64 (RFC 4648, section 4, padded).
ChunkData = Annotated[
    str, Field(min_length=4, max_length=4 * -(-MAX_CHUNK // 3), pattern=r"^[A-Za-z0-9+/]+=*$")
]
Said = Annotated[str, Field(min_length=1, max_length=128)]
Status = Literal[
    "none", "initiated", "verifying", "verified", "verification_failed", "activating", "activated",
    "activation_failed",
]  # fmt: skip


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Image(_Part):
    """Which image, and in what chunks: all have ``chunk_size`` bytes but the last. ``identifier`` in
    hexadecimal, ``sha256`` that of all its bytes."""

    identifier: Identifier
    size: Size
    chunk_size: ChunkSize
    sha256: Sha256

    @model_validator(mode="after")
    def _countable(self) -> Self:
        if self.count > MAX_CHUNKS:
            raise ValueError(f"an image has at most {MAX_CHUNKS} chunks: larger ones are needed")
        return self

    @property
    def count(self) -> int:
        """How many chunks it has."""
        return -(-self.size // self.chunk_size)


class ImageAsk(_Part):
    """How does it stand?"""

    format: Literal["headend.image-state.1"] = "headend.image-state.1"
    id: RequestId


class ImageBegin(_Part):
    """Take this image."""

    format: Literal["headend.image-begin.1"] = "headend.image-begin.1"
    id: RequestId
    image: Image


class ImageChunk(_Part):
    """A chunk of the image that was begun."""

    format: Literal["headend.image-chunk.1"] = "headend.image-chunk.1"
    id: RequestId
    number: ChunkNumber
    data: ChunkData


class ImageVerify(_Part):
    """Verify the whole. What is told may say that the device is still at it; asked again, it goes on."""

    format: Literal["headend.image-verify.1"] = "headend.image-verify.1"
    id: RequestId


class ImageActivate(_Part):
    """Run it. The device may restart before it answers."""

    format: Literal["headend.image-activate.1"] = "headend.image-activate.1"
    id: RequestId


class ImageTold(_Part):
    """How it stands. ``version`` and ``hardware`` are what the device runs and is; ``image`` is what it takes
    or has taken; ``missing`` the chunks that are not there while it takes them: ranges from and to, both
    within, in order, the first ``MAX_RANGES`` of them."""

    format: Literal["headend.image-told.1"] = "headend.image-told.1"
    id: RequestId
    status: Status
    version: Said
    hardware: Said | None = None
    image: Image | None = None
    missing: Annotated[tuple[tuple[ChunkNumber, ChunkNumber], ...], Field(max_length=MAX_RANGES)] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.image is None and (
            self.missing or self.status not in ("none", "activated", "activation_failed")
        ):
            raise ValueError(f"status {self.status} or missing chunks without an image")
        before = -1
        for first, last in self.missing:
            if first <= before or last < first:
                raise ValueError("ranges of missing chunks are in order and do not overlap")
            before = last
        if self.image is not None and before >= self.image.count:
            raise ValueError(f"chunk {before} is missing of an image of {self.image.count}")
        return self


class ImageTaken(_Part):
    """Chunk ``number`` is kept, and will be when the power has been away."""

    format: Literal["headend.image-taken.1"] = "headend.image-taken.1"
    id: RequestId
    number: ChunkNumber


class ImageRefused(_Part):
    """It will not, and why."""

    format: Literal["headend.image-refused.1"] = "headend.image-refused.1"
    id: RequestId
    reason: Annotated[str, Field(min_length=1, max_length=256)]


ImageRequest = ImageAsk | ImageBegin | ImageChunk | ImageVerify | ImageActivate
ImageAnswer = ImageTold | ImageTaken | ImageRefused
ImageMessage = ImageRequest | ImageAnswer
MESSAGE: Final[TypeAdapter[ImageMessage]] = TypeAdapter(
    Annotated[ImageMessage, Field(discriminator="format")]
)


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of the eight messages."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Headend images over MQTT",
        **MESSAGE.json_schema(),
    }


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=1))  # noqa: T201 - this is how the file is made
