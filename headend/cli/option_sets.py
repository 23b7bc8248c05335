"""Options that many commands have, said once: a dataclass whose fields are they."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any, TypeVar, cast, get_type_hints

T = TypeVar("T")


def expanded(command: Callable[..., T]) -> Callable[..., T]:
    """A command as typer shall see it: in place of each parameter that is a dataclass, the options that its
    fields are, annotated as a command's are and with their defaults. The command is given the dataclass.

    Stands below ``reported``. Raises ValueError where two options have one name.
    """
    sets: dict[str, type[Any]] = {}
    seen: list[Parameter] = []
    hints = get_type_hints(command, include_extras=True)
    for one in signature(command).parameters.values():
        hint = hints[one.name]
        if not is_dataclass(hint):
            seen.append(one.replace(kind=Parameter.KEYWORD_ONLY, annotation=hint))
            continue
        sets[one.name] = cast("type[Any]", hint)
        options = get_type_hints(hint, include_extras=True)
        seen += [
            Parameter(
                field.name, Parameter.KEYWORD_ONLY, default=field.default, annotation=options[field.name]
            )
            for field in fields(hint)
        ]

    @wraps(command)
    def given(**said: Any) -> T:
        for name, kind in sets.items():
            said[name] = kind(**{field.name: said.pop(field.name) for field in fields(kind)})
        return command(**said)

    cast("Any", given).__signature__ = Signature(seen)
    given.__annotations__ = {one.name: one.annotation for one in seen}
    return given
