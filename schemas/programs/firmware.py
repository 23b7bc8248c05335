"""Firmware."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.programs.shape import Shape


class FirmwareProgram(Shape):
    """A signed package that was uploaded, by the SHA-256 of its bytes."""

    kind: Literal["firmware"] = "firmware"
    package: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
