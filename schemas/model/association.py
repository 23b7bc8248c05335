"""How a profile says that an association is opened: SAPs, mechanism, ciphering, framing."""

from enum import StrEnum
from typing import Literal, Self

from pydantic import Field, model_validator

from schemas.model.parts import ObisText, Part


class MechanismName(StrEnum):
    """Authentication mechanisms by the name a profile uses."""

    NONE = "none"
    LLS = "lls"
    HLS_MD5 = "hls-md5"
    HLS_SHA1 = "hls-sha1"
    HLS_GMAC = "hls-gmac"
    HLS_SHA256 = "hls-sha256"


class Protection(StrEnum):
    """What our requests carry and what answers must carry."""

    NONE = "none"
    AUTHENTICATED = "authenticated"
    ENCRYPTED = "encrypted"
    BOTH = "authenticated+encrypted"


class Hdlc(Part):
    """HDLC parameters proposed in SNRM. ``max_info`` in bytes, both directions."""

    address_length: Literal[1, 2, 4] = 4
    physical_address: int = Field(default=17, ge=0, le=0x3FFF)
    window: int = Field(default=1, ge=1, le=7)
    max_info: int = Field(default=128, ge=32, le=2030)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        # a 2-byte address carries 7 bits of lower address, a 1-byte address none
        if self.address_length == 2 and self.physical_address > 0x7F:
            raise ValueError("physical_address does not fit a 2-byte HDLC address (0..127)")
        return self


class Association(Part):
    """How an association is opened. SAPs are wrapper ports or upper HDLC addresses; ``max_pdu`` in bytes."""

    client_sap: int = Field(default=16, ge=0, le=0xFFFF)
    server_sap: int = Field(default=1, ge=0, le=0xFFFF)
    mechanism: MechanismName = MechanismName.NONE
    suite: Literal[0, 1, 2] = 0
    protection: Protection = Protection.NONE
    #: which APDU carries a ciphered message: glo-/ded-..., general-glo-/general-ded-ciphering, or
    #: general-ciphering with the identified global key or with a key wrapped under the master key
    ciphering: Literal["service-specific", "general", "general-ciphering", "general-ciphering-wrapped"] = (
        "service-specific"
    )
    dedicated_key: bool = False
    max_pdu: int = Field(default=1024, ge=64, le=0xFFFF)
    #: requests go in general-block-transfer, and so many blocks of an answer may come without a pause; None
    #: leaves it to the meter
    gbt_window: int | None = Field(default=None, ge=1, le=63)
    framing: Literal["wrapper", "hdlc"] = "wrapper"
    hdlc: Hdlc = Hdlc()
    public_client_sap: int = Field(default=16, ge=0, le=0xFFFF)
    #: the object where the public client reads the last invocation counter the meter accepted
    invocation_counter: ObisText | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.dedicated_key and self.protection is Protection.NONE:
            raise ValueError("dedicated_key needs a protection other than none")
        if self.dedicated_key and self.ciphering.startswith("general-ciphering"):
            raise ValueError("general-ciphering names its key: it cannot be a dedicated_key")
        return self
