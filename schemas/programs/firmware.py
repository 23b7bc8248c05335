"""Firmware: which package, and when the meter changes over to it."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from schemas.programs.shape import Shape

#: A package by the SHA-256 of its file.
PackageDigest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Through(StrEnum):
    """Who brings the image to meters behind a concentrator."""

    CONCENTRATORS = "concentrators"  # those that can distribute, given it once; behind others as METERS
    METERS = "meters"  # the head-end itself, to each meter; concentrators pass it through


class FirmwareProgram(Shape):
    """A signed package that was uploaded. The image is activated as soon as the meter has verified it, or at
    ``activate_at`` (aware). ``through`` is who brings it to meters behind a concentrator."""

    kind: Literal["firmware"] = "firmware"
    package: PackageDigest
    activate_at: AwareDatetime | None = None
    through: Through = Through.CONCENTRATORS
