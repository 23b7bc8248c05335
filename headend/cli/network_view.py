"""The network as a tree that a person can read: one line a node, big families folded into counts."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Final

from rich.text import Text
from rich.tree import Tree

from headend.store.network_tree import Branch
from schemas.network import Link, NodeKind

_COLOURS: Final = {
    NodeKind.SUBSTATION: "bold magenta",
    NodeKind.FEEDER: "bold blue",
    NodeKind.TRANSFORMER: "bold cyan",
    NodeKind.CONCENTRATOR: "bold green",
    NodeKind.GATEWAY: "bold green",
    NodeKind.RELAY: "yellow",
    NodeKind.METER: "default",
}
#: Below these a link is doubtful, and poor.
_GOOD, _FAIR = 60, 30


def draw(branches: Iterable[Branch], *, most: int) -> Tree:
    """The tree; of more than ``most`` children of one node the first are shown, the rest counted."""
    root = Tree("", hide_root=True, guide_style="dim")
    _grow(root, list(branches), most)
    return root


def _grow(tree: Tree, branches: list[Branch], most: int) -> None:
    shown = branches if len(branches) <= most else branches[:most]
    for branch in shown:
        _grow(tree.add(_line(branch)), branch.children, most)
    rest = branches[len(shown) :]
    if rest:
        kinds = Counter(one.standing.node.kind for one in rest)
        for one in rest:
            kinds.update(one.below)
        tree.add(Text(f"... and {counted(kinds)} more", style="dim italic"))


def _line(branch: Branch) -> Text:
    node, link = branch.standing
    line = Text.assemble((node.code, _COLOURS[node.kind]))
    if node.kind is not NodeKind.METER:
        line.append(f" {node.kind}", style="dim")
    if node.title is not None:
        line.append(f" {node.title}", style="italic")
    if node.model is not None or node.address is not None:
        line.append(
            f"  {' '.join(part for part in (node.model, node.address) if part is not None)}", style="dim"
        )
    if link is not None:
        line.append_text(_hanging(link))
    if branch.below:
        line.append(f"  {counted(branch.below)}", style="dim")
    return line


def _hanging(link: Link) -> Text:
    text = Text()
    if link.kind is not None:
        text.append(f"  {link.kind}", style="blue")
    if link.hops > 1:
        text.append(f" {link.hops} hops", style="blue")
    if link.quality is not None:
        colour = "green" if link.quality >= _GOOD else "yellow" if link.quality >= _FAIR else "red"
        text.append(f" {link.quality} %", style=colour)
    return text


def counted(kinds: "Counter[NodeKind]") -> str:
    """``2 feeders, 1 meter``, from the substation down."""
    return ", ".join(
        f"{kinds[kind]:,} {kind}{'' if kinds[kind] == 1 else 's'}" for kind in NodeKind if kinds[kind]
    )


def as_json(branch: Branch) -> dict[str, Any]:
    """One node with all that was asked for below it; ``below`` counts what is there in all."""
    node, link = branch.standing
    return {
        "node": node.code,
        "kind": node.kind,
        "title": node.title,
        "model": node.model,
        "address": node.address,
        "parent": None if link is None else link.parent,
        "link": None if link is None else link.kind,
        "hops": None if link is None else link.hops,
        "quality": None if link is None else link.quality,
        "since": None if link is None else link.since,
        "below": {kind: branch.below[kind] for kind in NodeKind if branch.below[kind]},
        "children": [as_json(child) for child in branch.children],
    }
