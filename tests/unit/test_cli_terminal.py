"""What a meter or a stranger wrote is shown, never obeyed: no markup, no command to the terminal."""

import io
from typing import Any

import pytest
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from headend.cli import terminal

EVIL = "a\x1b]0;owned\x07\x1b[2J\x9b31m\x7f\x08\r\u202eb [/nothing] [red]:smile:"


def shown(what: Any, monkeypatch: pytest.MonkeyPatch, **how: Any) -> str:
    said = io.StringIO()
    monkeypatch.setattr(terminal.out, "_file", said)
    terminal.out.print(what, **how)
    return said.getvalue()


def table() -> Table:
    made = Table("heading", title=EVIL)
    made.add_row(EVIL)
    return made


def tree() -> Tree:
    made = Tree(Text(EVIL))
    made.add(EVIL)
    return made


@pytest.mark.parametrize("what", [EVIL, Text(EVIL), table(), tree()], ids=["str", "Text", "Table", "Tree"])
def test_text_of_others_is_neither_markup_nor_a_command(what: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said = shown(what, monkeypatch, soft_wrap=True)
    assert all(character.isprintable() or character == "\n" for character in said), repr(said)
    assert "␛]0;owned␛[2J" in said
    assert "[/nothing] [red]:smile:" in said


def test_lines_and_styles_of_our_own_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal.out, "_force_terminal", True)
    monkeypatch.setattr(terminal.out, "no_color", False)
    assert shown("one\ntwo", monkeypatch).count("\n") == 2
    assert "two" in shown("two", monkeypatch, style="bold")
