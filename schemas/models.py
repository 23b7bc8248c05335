"""Every meter model, of whatever language, by its name alone.

The languages have a folder each (`profiles` itself is DLMS); a name means one model in all of them, the
operator's folders first. What is common to all models is `AnyModel`.
"""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Final, Protocol

from schemas import mqtt_model
from schemas.address import LinkAddress, Scheme
from schemas.line_model import LOADERS
from schemas.model import ModelError, load_model, model_names
from schemas.register_model import FAMILY, load_register_model


class AnyModel(Protocol):
    """What models of all languages have."""

    @property
    def name(self) -> str:
        """The file's name."""

    @property
    def title(self) -> str:
        """For people."""

    @property
    def maker(self) -> str | None:
        """Who makes such meters."""

    @property
    def driver(self) -> str:
        """The language, as drivers are called."""


#: Family (a folder of the profiles) -> how its models are loaded. A new language adds a line.
_FAMILIES: Final[dict[str, Callable[[str, tuple[Path, ...]], AnyModel]]] = {
    "": load_model,
    FAMILY: load_register_model,
    mqtt_model.FAMILY: mqtt_model.load_mqtt_model,
    **LOADERS,
}


@lru_cache(maxsize=1024)
def load_any(name: str, folders: tuple[Path, ...] = ()) -> AnyModel:
    """The model ``name`` of whatever language. Raises ModelError naming the file and every wrong key."""
    for family, load in _FAMILIES.items():
        if name in model_names(folders, family):
            return load(name, folders)
    raise ModelError(f"no meter model {name!r}; known: {', '.join(all_names(folders))}")


def all_names(folders: tuple[Path, ...] = ()) -> tuple[str, ...]:
    """Names of the models of all languages, sorted."""
    return tuple(sorted({name for family in _FAMILIES for name in model_names(folders, family)}))


_DLMS: Final = frozenset({"dlms", "dlms-push"})
#: Drivers that speak over each kind of link. Over MQTT devices of all languages send; the opening of
#: IEC 62056-21 leads into HDLC (mode E).
_SPEAKERS: Final[dict[Scheme, frozenset[str]]] = {
    Scheme.TCP: _DLMS | {"dlms-station"},
    Scheme.UDP: _DLMS,
    Scheme.HDLC_TCP: _DLMS | {"dlms-station"},
    Scheme.HDLC_SERIAL: _DLMS,
    Scheme.VIA: _DLMS,
    Scheme.INBOUND: _DLMS,
    Scheme.MODBUS_TCP: frozenset({"modbus"}),
    Scheme.MODBUS_RTU_TCP: frozenset({"modbus"}),
    Scheme.MODBUS_RTU: frozenset({"modbus"}),
    Scheme.DLT645_TCP: frozenset({"dlt645"}),
    Scheme.DLT645_SERIAL: frozenset({"dlt645"}),
    Scheme.DLT645_MQTT: frozenset({"dlt645"}),
    Scheme.IEC62056_TCP: frozenset({"iec62056-21"}) | _DLMS,
    Scheme.IEC62056_SERIAL: frozenset({"iec62056-21"}) | _DLMS,
    Scheme.P1_TCP: frozenset({"p1"}),
    Scheme.P1_SERIAL: frozenset({"p1"}),
}


def check_address(model: AnyModel, address: LinkAddress) -> None:
    """Raises ModelError where meters of ``model`` cannot be reached over such a link; it says over which."""
    speakers = _SPEAKERS.get(address.scheme)
    if speakers is None or model.driver in speakers:
        return
    spoken = (
        ", ".join(f"{scheme}:" for scheme, names in _SPEAKERS.items() if model.driver in names) or "mqtt:"
    )
    raise ModelError(f"{address.scheme}: is not spoken by meters of model {model.name}, but {spoken}")
