"""Rotation of meters' keys."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.meter import KeyPurpose
from schemas.programs.shape import Shape

_Rotated = Literal[KeyPurpose.ENCRYPTION, KeyPurpose.AUTHENTICATION, KeyPurpose.MASTER]


class KeysProgram(Shape):
    """New keys for these purposes, all in one transfer."""

    kind: Literal["keys"] = "keys"
    purposes: Annotated[tuple[_Rotated, ...], Field(min_length=1, max_length=3)] = (
        KeyPurpose.ENCRYPTION,
        KeyPurpose.AUTHENTICATION,
    )
