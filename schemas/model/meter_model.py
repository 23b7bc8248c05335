"""A kind of meter as one whole."""

from typing import Final, Literal, Self

from pydantic import Field, model_validator

from schemas.model.association import Association
from schemas.model.clock import Clock
from schemas.model.events import Events
from schemas.model.firmware import Distribution, Firmware
from schemas.model.keys import Keys
from schemas.model.load_profile import LoadProfile
from schemas.model.parameters import ParametersRules
from schemas.model.parts import ObisPattern, ObisText, Part, Scaling
from schemas.model.push import Heartbeat, PushList
from schemas.model.switch import Limit, Switch
from schemas.model.tariff import Tariff
from schemas.obis_pattern import matches, wildcards

#: Where meters tell who they are: logical device name, meter numbers (device ID 1, also as Kamstrup and
#: Sagemcom write it).
_IDENTITIES: Final = ("0-0:42.0.0*255", "0-0:96.1.0*255", "0-0:96.1.1*255", "1-1:0.0.5*255", "1-0:0.0.0*255")


class Register(Part):
    """A register worth reading beside the load curve."""

    obis: ObisText
    class_id: int = Field(default=3, ge=0, le=0xFFFF)
    attribute: int = Field(default=2, ge=1, le=127)
    name: str | None = None


class Quirks(Part):
    """Where a maker leaves the standard."""

    #: pushes carry COSEM attribute descriptors without A-XDR tags (class 2 bytes, OBIS 6, attribute 1)
    untagged_attribute_descriptors: bool = False
    #: GET-Request-With-List is refused: one GET for each attribute
    no_get_with_list: bool = False
    #: selective access by range is refused: read by entry, newest entries first counted
    range_by_entry: bool = False
    #: some push lists do not tell the meter; it is alone on its line (a local port), where others did before
    anonymous_lists: bool = False


class MeterModel(Part):
    """A kind of meter, as its profile describes it. With driver ``dlms-push`` it is never dialled; with
    ``dlms-station`` it is a concentrator that stores its meters' load curves and forwards them."""

    name: str
    title: str
    maker: str | None = None
    driver: Literal["dlms", "dlms-push", "dlms-station"] = "dlms"
    association: Association = Association()
    clock: Clock = Clock()
    load_profiles: tuple[LoadProfile, ...] = ()
    registers: tuple[Register, ...] = ()
    events: Events = Events()
    #: how it is given new keys; None: it cannot be
    keys: Keys | None = None
    push: tuple[PushList, ...] = ()
    #: where a push without ciphering tells which meter it is from: its asset id or logical device name
    identity: tuple[ObisText, ...] = _IDENTITIES
    heartbeat: Heartbeat | None = None
    #: how much of a tariff program its meters keep; left out: none can be applied
    tariff: Tariff | None = None
    #: scaler and unit by OBIS code or pattern ("x" stands for any number) for messages that carry none
    scaling: dict[ObisPattern, Scaling] = Field(default_factory=dict)
    quirks: Quirks = Quirks()
    #: how it is given new programs; None: it cannot be
    firmware: Firmware | None = None
    #: how it takes an image for all its meters, of a concentrator; None: it cannot
    distribution: Distribution | None = None
    #: its breaker and its limiter; None: it has none, or nobody knows where
    switch: Switch | None = None
    limit: Limit | None = None
    #: attributes and scripts that parameters programs may write and run; None: none
    parameters: ParametersRules | None = None

    @model_validator(mode="after")
    def _numbers_differ(self) -> Self:
        numbers = [profile.number for profile in self.load_profiles]
        if len(numbers) != len(set(numbers)):
            raise ValueError("two load profiles have the same number")
        return self

    @model_validator(mode="after")
    def _meters_do_not_distribute(self) -> Self:
        if self.distribution is not None and self.driver != "dlms-station":
            raise ValueError('[distribution] is for concentrators: driver = "dlms-station"')
        return self

    def load_profile(self, number: int) -> LoadProfile:
        """The load profile with this number. Raises KeyError."""
        for profile in self.load_profiles:
            if profile.number == number:
                return profile
        raise KeyError(number)

    def scaling_of(self, obis: str) -> Scaling | None:
        """Scaler and unit the maker means for this OBIS code; the pattern with the fewest wildcards wins."""
        found = [pattern for pattern in self.scaling if matches(pattern, obis)]
        return self.scaling[min(found, key=wildcards)] if found else None

    def push_list(self, container: str, length: int, list_id: str | None) -> PushList | None:
        """The first push list that this body matches, None where no list does."""
        return next((p for p in self.push if p.matches(container, length, list_id)), None)
