"""How meters of a model are given new keys (Security Setup, class 64)."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.meter import KeyPurpose
from schemas.model.parts import ObisText, Part

Rotated = Literal[KeyPurpose.ENCRYPTION, KeyPurpose.AUTHENTICATION, KeyPurpose.MASTER]


class Keys(Part):
    """Where key_transfer is, and which keys it takes.

    A transfer acts at once; whether its answer still comes under the old keys or already under the new ones
    is the maker's affair (``answer``). ``either`` believes both.
    """

    obis: ObisText = "0-0:43.0.0*255"
    purposes: Annotated[tuple[Rotated, ...], Field(min_length=1, max_length=3)] = (
        KeyPurpose.ENCRYPTION,
        KeyPurpose.AUTHENTICATION,
        KeyPurpose.MASTER,
    )
    answer: Literal["old", "new", "either"] = "either"
