"""Profiles as TOML files: found by name, with all that they inherit, and checked."""

import tomllib
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from schemas.model.meter_model import MeterModel
from schemas.model.parts import ModelError

#: A longer one is no file's name on some systems, and their refusal would be an OSError.
_LONGEST_NAME: Final = 128


def _places(folders: tuple[Path, ...], family: str) -> list[Traversable]:
    return [place / family if family else place for place in (*folders, files("schemas") / "profiles")]


def _find(name: str, folders: tuple[Path, ...], family: str) -> Traversable | None:
    # a name is a plain word: it must not walk out of the folder
    if len(name) > _LONGEST_NAME or not name.replace("-", "").replace("_", "").isalnum():
        return None
    places = (place / f"{name}.toml" for place in _places(folders, family))
    return next((place for place in places if place.is_file()), None)


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        result[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result


def read_profile(
    name: str, folders: tuple[Path, ...], *, family: str = "", heirs: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The table of profile ``name`` with all it inherits. ``family`` is a folder beside the DLMS profiles.

    Raises ModelError.
    """
    if name in heirs:
        raise ModelError(f"{heirs[-1]}.toml: inherit: goes round in a circle: {' -> '.join((*heirs, name))}")
    place = _find(name, folders, family)
    if place is None:
        asked = f"{heirs[-1]}.toml: inherit: " if heirs else ""
        raise ModelError(f"{asked}no meter model {name!r}; known: {', '.join(model_names(folders, family))}")
    try:
        table = tomllib.loads(place.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{name}.toml: {error}") from error
    parent = table.pop("inherit", None)
    if "name" in table:
        raise ModelError(f"{name}.toml: name: the file's own name is the model's name")
    if parent is None:
        return table
    if not isinstance(parent, str):
        raise ModelError(f"{name}.toml: inherit: must be the name of another profile")
    return _merged(read_profile(parent, folders, family=family, heirs=(*heirs, name)), table)


def explain(error: ValidationError) -> str:
    """Every wrong key of a profile and what is wrong with it, in one line."""
    return "; ".join(
        f"{'.'.join(map(str, item['loc'])) or 'profile'}: {item['msg'].removeprefix('Value error, ')}"
        for item in error.errors(include_url=False, include_input=False)
    )


@lru_cache(maxsize=256)
def load_model(name: str, folders: tuple[Path, ...] = ()) -> MeterModel:
    """The meter model ``name``, looked for in ``folders`` and then among the packaged profiles.

    Raises ModelError naming the file and every wrong key (unknown keys too).
    """
    table = read_profile(name, folders)
    try:
        return MeterModel.model_validate({**table, "name": name})
    except ValidationError as error:
        raise ModelError(f"{name}.toml: {explain(error)}") from error


def model_names(folders: tuple[Path, ...] = (), family: str = "") -> tuple[str, ...]:
    """Names of all meter models of a family, sorted; the DLMS models have no family."""
    names: set[str] = set()
    for place in _places(folders, family):
        if place.is_dir():
            names.update(entry.name for entry in place.iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))
