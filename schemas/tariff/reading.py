"""Reads tariff documents: TOML or JSON, with all that is wrong in them, each with its line."""

import json
import re
import tomllib
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from schemas.model.tariff import TariffLimits
from schemas.tariff.check import check
from schemas.tariff.document import TariffDocument
from schemas.tariff.finding import Finding, Path, errors_in
from schemas.tariff.locate import json_lines, line_of, toml_lines

#: Characters of a document: the longest that a year of meters' tables can need.
LONGEST: Final = 1 << 20
_AT: Final = re.compile(r" \(at line (\d+), column \d+\)")


class Checked(NamedTuple):
    """A document, None where its form alone is wrong already, and what was found."""

    document: TariffDocument | None
    findings: tuple[Finding, ...]

    @property
    def is_right(self) -> bool:
        """Whether it can be applied."""
        return self.document is not None and not errors_in(self.findings)


def read(text: str, *, limits: TariffLimits | None = None, now: datetime | None = None) -> Checked:
    """Read and check a document. A text that begins with a brace is JSON, any other TOML.

    ``limits`` are of the meters that it is for, ``now`` (aware) is what its activation is compared with.
    """
    if len(text) > LONGEST:
        return Checked(None, (Finding((), f"longer than {LONGEST} characters"),))
    text = text.replace("\r\n", "\n")
    is_json = text.lstrip().startswith("{")
    try:
        plain = json.loads(text) if is_json else tomllib.loads(text)
        lines = json_lines(text) if is_json else toml_lines(text)
    except json.JSONDecodeError as error:
        return Checked(None, (Finding((), f"not JSON: {error.msg}", line=error.lineno),))
    except tomllib.TOMLDecodeError as error:
        at = _AT.search(str(error))
        reason = _AT.sub("", str(error))
        return Checked(None, (Finding((), f"not TOML: {reason}", line=None if at is None else int(at[1])),))
    except (RecursionError, ValueError):
        return Checked(None, (Finding((), "nested too deep, or a number of too many digits"),))
    found = read_plain(plain, limits=limits, now=now)
    findings = [one._replace(line=line_of(lines, one.path)) for one in found.findings]
    return Checked(found.document, tuple(sorted(findings, key=lambda one: (one.severity, one.line or 0))))


def read_plain(
    plain: Mapping[str, Any], *, limits: TariffLimits | None = None, now: datetime | None = None
) -> Checked:
    """The same of values that were read already; nothing has a line.

    Keys that are not known are told beside everything else; where another thing of the form is wrong, what
    the parts mean together is looked at once the form is right.
    """
    findings: list[Finding] = []
    for _ in range(2):
        try:
            document = TariffDocument.model_validate(plain)
        except ValidationError as error:
            wrong = [one for one in error.errors(include_url=False) if not _is_echo(one)]
        else:
            findings += check(document, limits=limits, now=now)
            return Checked(document, tuple(findings))
        findings += [Finding(_path(one["loc"]), _reason(one)) for one in wrong]
        if any(one["type"] != "extra_forbidden" for one in wrong):
            return Checked(None, tuple(findings))
        plain = _without(plain, [one["loc"] for one in wrong])
    return Checked(None, tuple(findings))


def _is_echo(error: Any) -> bool:
    """A list that has items, all of which are wrong and told by themselves, is no empty list."""
    return bool(error["type"] == "too_short" and error["input"])


def _path(loc: tuple[int | str, ...]) -> Path:
    """pydantic's place; it marks a wrong key of a table with a word of its own."""
    return tuple(one for one in loc if one != "[key]")


def _reason(error: Any) -> str:
    match error["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return "is not known here: a slip of the pen?"
        case "string_pattern_mismatch":
            return "must be printable ASCII, without blanks at its ends"
    reason: str = error["msg"]
    return reason.removeprefix("Value error, ").replace("Input should", "should")


def _without(plain: Any, paths: list[tuple[int | str, ...]]) -> Any:
    """The same without what is at these places."""
    if isinstance(plain, Mapping):
        gone = {path[0] for path in paths if len(path) == 1}
        return {
            key: _without(value, [path[1:] for path in paths if len(path) > 1 and path[0] == key])
            for key, value in plain.items()
            if key not in gone
        }
    if isinstance(plain, list):
        return [
            _without(value, [path[1:] for path in paths if len(path) > 1 and path[0] == n])
            for n, value in enumerate(plain)
        ]
    return plain
