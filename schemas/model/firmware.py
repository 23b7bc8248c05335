"""How meters of a model are given new programs (Image Transfer, class 18), also by their concentrators."""

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


class Distribution(Part):
    """How a concentrator takes one image for all its meters and hands it on; for models of concentrators.

    No standard has objects for that, so those that this section names are of our own convention
    (`protocols.dlms.distribution`): ``transfer`` (class 18) takes the image as a meter's does, ``order``
    (class 1, written) names the meters that shall have it, ``progress`` (class 1, read) tells how far each of
    them is. ``verify_s`` is how long the concentrator verifies the image at most, ``distribute_s`` how long
    it may take for a meter until the head-end itself gives that the image.
    """

    transfer: ObisText = "0-0:44.0.0*255"
    order: ObisText
    progress: ObisText
    verify_s: float = Field(default=1_800, gt=0, le=86_400)
    distribute_s: float = Field(default=86_400, gt=0, le=30 * 86_400)
