"""Where the values of a TOML or JSON text stand: its line, by the path to the value.

The standard library's readers tell no positions. This one looks over a text that they have accepted: it knows
where keys, values, lists and tables begin and end, and leaves all judgement to them. It is for messages: what
it does not find, the nearest table around it stands for.
"""

import re
from typing import Final

Path = tuple[str | int, ...]

_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_STRINGS: Final = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}|' r"'''.*?'{3,5}|" r'"(?:\\.|[^"\\\n])*"|' r"'[^'\n]*'", re.DOTALL
)
_SCALAR: Final = re.compile(r"[^,\]}#\r\n]+")
_ESCAPE: Final = re.compile(r"\\(u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)", re.DOTALL)
_ESCAPED: Final = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\", "/": "/"}


def toml_lines(text: str) -> dict[Path, int]:
    """Line (from 1) of each key and list element of a TOML text that `tomllib` accepts."""
    return _Toml(text).read()


def json_lines(text: str) -> dict[Path, int]:
    """Line (from 1) of each key and list element of a JSON text that `json` accepts."""
    scanner = _Scanner(text)
    scanner.skip()
    scanner.value((), separator=":")
    return scanner.lines


def line_of(lines: dict[Path, int], path: Path) -> int | None:
    """The line of a path, or of the nearest table around it that is known."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return lines.get(())


class _Scanner:
    """Looks over values from where it stands; ``lines`` is what it found."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[Path, int] = {(): 1}
        self._counted = (0, 1)

    def skip(self) -> None:
        """Over blanks, line ends and comments."""
        found = _BLANK.match(self.text, self.at)
        self.at = self.at if found is None else found.end()

    def peek(self) -> str:
        """The next character, empty at the end."""
        return self.text[self.at : self.at + 1]

    def note(self, path: Path) -> None:
        """What is at ``path`` begins here."""
        at, line = self._counted
        if self.at < at:
            at, line = 0, 1
        line += self.text.count("\n", at, self.at)
        self._counted = (self.at, line)
        self.lines.setdefault(path, line)

    def value(self, path: Path, *, separator: str) -> None:
        """One value, and what is in it."""
        match self.peek():
            case "[":
                self._list(path, separator)
            case "{":
                self._table(path, separator)
            case '"' | "'":
                self.string()
            case _:
                found = _SCALAR.match(self.text, self.at)
                self.at = len(self.text) if found is None else found.end()

    def _list(self, path: Path, separator: str) -> None:
        self.at += 1
        place = 0
        while True:
            self.skip()
            if self.peek() in ("]", ""):
                self.at += 1
                return
            if self.peek() == ",":
                self.at += 1
                continue
            self.note((*path, place))
            self.value((*path, place), separator=separator)
            place += 1

    def _table(self, path: Path, separator: str) -> None:
        self.at += 1
        while True:
            self.skip()
            if self.peek() in ("}", ""):
                self.at += 1
                return
            if self.peek() == ",":
                self.at += 1
                continue
            self.entry(path, separator)

    def entry(self, path: Path, separator: str) -> None:
        """A key, what separates it, its value."""
        start = self.at
        keys = self.keys()
        end, self.at = self.at, start
        for length in range(1, len(keys) + 1):
            self.note((*path, *keys[:length]))
        self.at = end
        self.skip()
        if self.peek() == separator:
            self.at += 1
        self.skip()
        self.value((*path, *keys), separator=separator)

    def keys(self) -> tuple[str, ...]:
        """A key, dotted or not."""
        found: list[str] = []
        while True:
            self.skip()
            if self.peek() in ('"', "'"):
                found.append(self.string())
            else:
                bare = _BARE_KEY.match(self.text, self.at)
                if bare is None:
                    self.at += 1  # no key: nothing that a reader accepts comes here
                    return tuple(found)
                found.append(bare[0])
                self.at = bare.end()
            self.skip()
            if self.peek() != ".":
                return tuple(found)
            self.at += 1

    def string(self) -> str:
        """A string; what it says."""
        found = _STRINGS.match(self.text, self.at)
        if found is None:
            self.at += 1
            return ""
        self.at = found.end()
        raw = found[0]
        if raw.startswith("'"):
            return raw.strip("'")
        return _ESCAPE.sub(_unescaped, raw[1:-1])


def _unescaped(found: "re.Match[str]") -> str:
    code = found[1]
    return chr(int(code[1:], 16)) if code[0] in "uU" and len(code) > 1 else _ESCAPED.get(code, code)


class _Toml(_Scanner):
    """Tables and their headers, line by line."""

    def read(self) -> dict[Path, int]:
        """All of it."""
        table: Path = ()
        counts: dict[Path, int] = {}
        while True:
            self.skip()
            if not self.peek():
                return self.lines
            if self.peek() == "[":
                table = self._header(counts)
            else:
                self.entry(table, "=")

    def _header(self, counts: dict[Path, int]) -> Path:
        start = self.at
        is_list = self.text.startswith("[[", self.at)
        self.at += 1 + is_list
        keys = self.keys()
        end = self.text.find("]", self.at) + 1 + is_list
        # within a list of tables, its newest one is meant
        path: Path = ()
        for n, key in enumerate(keys):
            path = (*path, key)
            if is_list and n == len(keys) - 1:
                place = counts[path] = counts.get(path, -1) + 1
                self.at = start
                self.note(path)
                path = (*path, place)
            elif path in counts:
                path = (*path, counts[path])
        for inner in [one for one in counts if len(one) > len(path) and one[: len(path)] == path]:
            del counts[inner]
        self.at = start
        self.note(path)
        self.at = end
        return path
