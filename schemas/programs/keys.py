"""Rotation of meters' keys."""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from schemas.meter import KeyPurpose
from schemas.model.keys import Rotated
from schemas.programs.shape import Shape

#: In the order in which a meter is told them: its master key last, since the others are wrapped under the one
#: before.
ORDER: Final[tuple[Rotated, ...]] = (KeyPurpose.ENCRYPTION, KeyPurpose.AUTHENTICATION, KeyPurpose.MASTER)


class KeysProgram(Shape):
    """New keys for these purposes, made by the head-end for each meter, all in one transfer.

    No key is in it: nobody but the meter and the vault of the head-end ever knows them. Passwords and secrets
    of LLS and HLS are no keys in this sense: class 64 does not carry them. ``of`` concentrators: the
    selection names them, not meters behind them.
    """

    kind: Literal["keys"] = "keys"
    of: Literal["meters", "concentrators"] = "meters"
    purposes: Annotated[tuple[Rotated, ...], Field(min_length=1, max_length=3)] = (
        KeyPurpose.ENCRYPTION,
        KeyPurpose.AUTHENTICATION,
    )

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len(set(self.purposes)) != len(self.purposes):
            raise ValueError("a purpose is named twice")
        return self
