"""How meters of a model are given new programs (Image Transfer, class 18)."""

from pydantic import Field

from schemas.model.parts import ObisText, Part


class Firmware(Part):
    """Where Image Transfer is, and where the meter tells what it runs.

    ``version`` is the object that tells the active firmware, ``hardware`` the one that tells the hardware, if
    any. ``scheduler`` (class 22) activates at a moment by the meter's own clock; None: it has none, and the
    head-end waits instead. ``restart_s`` is how long it is away when it activates, ``verify_s`` how long it
    verifies at most.
    """

    transfer: ObisText = "0-0:44.0.0*255"
    version: ObisText = "1-0:0.2.0*255"
    hardware: ObisText | None = None
    scheduler: ObisText | None = None
    restart_s: float = Field(default=60, ge=0, le=86_400)
    verify_s: float = Field(default=1_800, gt=0, le=86_400)
