"""How meters of a simulated field take new programs."""

from typing import Final

from pydantic import BaseModel, ConfigDict, Field


class ImagePlan(BaseModel):
    """How meters of a field take images: bytes of a block, how long they verify and restart, in seconds.
    After a restart every ``forgets_every``-th meter has lost what it had of an image (0: none does)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    block_size: int = Field(default=512, ge=16, le=60_000)
    verify_s: int = Field(default=0, ge=0, le=86_400)
    restart_s: int = Field(default=2, ge=0, le=86_400)
    forgets_every: int = Field(default=0, ge=0)


DEFAULT_PLAN: Final = ImagePlan()
