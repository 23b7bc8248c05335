"""Documents in files that people write: TOML or JSON, and what is wrong with them."""

import json
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from headend.cli.terminal import CommandError


def document(file: Path) -> dict[str, Any]:
    """What a TOML or (by its ending) JSON file holds. Raises CommandError."""
    try:
        text = file.read_text("utf-8")
        found = json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # of TOML, JSON and UTF-8 alike; nested beyond measure
        raise CommandError(f"{file} cannot be read: {error}") from error
    if not isinstance(found, dict):
        raise CommandError(f"{file} holds no table")
    return found


def mistakes(error: ValidationError, *, whole: str = "it") -> list[str]:
    """Each mistake with its place; ``whole`` is what has those that have no place."""
    return [
        f"{'.'.join(str(part) for part in item['loc']) or whole}: {item['msg'].removeprefix('Value error, ')}"
        for item in error.errors(include_url=False, include_input=False)
    ]
