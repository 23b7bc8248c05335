"""What a parameters program may touch at a meter of some model: what its profile names, and never what has a
program of its own."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from schemas.model import MeterModel
from schemas.models import load_any
from schemas.obis_pattern import matches
from schemas.programs.parameters import Item, ParametersProgram, ReadItem, RunItem, WriteItem

#: Classes that no list opens, and what changes them instead.
_OWN: Final[Mapping[int, str]] = MappingProxyType(
    {
        8: "a clock program", 11: "a tariff program", 12: "nothing", 15: "a keys program",
        18: "a firmware program", 20: "a tariff program", 64: "a keys program", 70: "a switch program",
        71: "a limit program",
    }
)  # fmt: skip
#: Of those, attributes that no other program changes, and that change no state by themselves: how a breaker
#: is controlled, and to which groups of emergency profiles a limiter belongs.
_YET: Final = frozenset({(70, 4), (71, 9)})
#: Scripts that do what has a program of its own: disconnection, image activation.
_OWN_SCRIPTS: Final = frozenset({"0-0:10.0.106*255", "0-0:10.0.107*255"})
#: Secrets that some meters let one read: the password of an association, keys.
_SECRET: Final = frozenset({(12, 6), (15, 7), (15, 8)})


def dlms_model(name: str, folders: tuple[Path, ...] = ()) -> MeterModel | None:
    """The model; None where it is of another language. Raises ModelError."""
    found = load_any(name, folders)
    return found if isinstance(found, MeterModel) else None


def why_not(program: ParametersProgram, model: MeterModel) -> str | None:
    """Why meters of this model cannot have the program; None where they can."""
    told = mistakes(program, model)
    return told[0] if told else None


def mistakes(program: ParametersProgram, model: MeterModel) -> list[str]:
    """Each item that is not allowed, by its number, and why."""
    found = [(n, item, _why_not(item, model)) for n, item in enumerate(program.items, 1)]
    return [f"item {n} ({item}): {why}" for n, item, why in found if why is not None]


def _why_not(item: Item, model: MeterModel) -> str | None:
    if isinstance(item, ReadItem):
        if (item.class_id, item.attribute) in _SECRET:
            return "it may hold a secret, which is never read"
        return None
    if isinstance(item, RunItem):
        if item.obis in _OWN_SCRIPTS:
            return "its scripts are run by a switch or firmware program alone"
        return _named(model, 9, item.obis, item.script, is_script=True)
    return _why_not_written(item, model)


def _why_not_written(item: WriteItem, model: MeterModel) -> str | None:
    own = _OWN.get(item.class_id)
    if own is not None and (item.class_id, item.attribute) not in _YET:
        return f"class {item.class_id} is changed by {own} alone"
    if item.class_id == 70 and list(item.value.values()) == [0]:
        return (
            "control mode 0 keeps the customer connected whatever is sent: that is switching, and not done so"
        )
    return _named(model, item.class_id, item.obis, item.attribute, is_script=False)


def _named(model: MeterModel, class_id: int, obis: str, number: int, *, is_script: bool) -> str | None:
    rules = () if model.parameters is None else model.parameters.allow
    for one in rules:
        numbers = one.scripts if is_script else one.attributes
        if one.class_id == class_id and number in numbers and matches(one.obis, obis):
            return None
    return f"model {model.name} does not allow it: its profile names what may be written under [parameters]"
