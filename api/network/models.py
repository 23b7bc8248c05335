"""Bodies and answers about the network."""

from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from api.shapes import Name
from api.times import Instant, rfc3339
from headend.store.network import Standing
from headend.store.network_tree import Branch
from schemas.network import Link, LinkKind, NodeKind

_LINK: Final[dict[str, Any]] = {
    "parent": "DC-0007",
    "link": "plc_narrowband",
    "hops": 2,
    "quality": 61,
    "since": "2026-03-01T00:00:00Z",
}
_NODE: Final[dict[str, Any]] = {
    "code": "SIM00000001",
    "kind": "meter",
    "title": None,
    "model": None,
    "address": None,
    "hangs_on": _LINK,
}
_DETAIL: Final = {**_NODE, "below": {}, "history": [{**_LINK, "until": None}]}
_STATION: Final[dict[str, Any]] = {
    "code": "DC-0007",
    "kind": "concentrator",
    "title": "Mill Street",
    "model": "headend-dc",
    "address": "tcp://10.1.2.3:4059",
    "hangs_on": {"parent": "T-0113", "link": None, "hops": 1, "quality": None, "since": _LINK["since"]},
}
_BRANCH: Final = {**_STATION, "below": {"meter": 1}, "children": [{**_NODE, "below": {}, "children": []}]}


def _example(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [example]})


class LinkModel(BaseModel):
    """What a node hangs on. ``link`` is null for the electric network alone, or where it is not known."""

    parent: str
    link: LinkKind | None
    hops: int = Field(description="links to the parent, relays that are no nodes included")
    quality: int | None = Field(description="0 to 100, as last told")
    since: str

    @staticmethod
    def fields(link: Link) -> dict[str, object]:
        return {
            "parent": link.parent,
            "link": link.kind,
            "hops": link.hops,
            "quality": link.quality,
            "since": rfc3339(link.since),
        }


class PastLinkModel(LinkModel):
    """What a node hung on during [since, until); ``until`` is null where it still does."""

    until: str | None


class NodeModel(BaseModel):
    """A node and what it hangs on; null for one that hangs on nothing."""

    model_config = _example(_NODE)

    code: str = Field(description="its name; of a meter the asset id")
    kind: NodeKind
    title: str | None
    model: str | None = Field(description="of a concentrator or gateway: the name of its profile")
    address: str | None = Field(description="of a concentrator or gateway: its link address")
    hangs_on: LinkModel | None

    @staticmethod
    def fields(standing: Standing) -> dict[str, object]:
        node, link = standing
        return {
            "code": node.code,
            "kind": node.kind,
            "title": node.title,
            "model": node.model,
            "address": node.address,
            "hangs_on": None if link is None else LinkModel.fields(link),
        }


class NodePage(BaseModel):
    """Nodes in order of codes; ``next`` is the cursor of the next page, null on the last."""

    model_config = _example({"nodes": [_NODE], "next": None})

    nodes: list[NodeModel]
    next: str | None


class NodeDetail(NodeModel):
    """A node, how many of each kind are below it, and all that it hung on, oldest first."""

    model_config = _example(_DETAIL)

    below: dict[NodeKind, int]
    history: list[PastLinkModel]


class BranchModel(NodeModel):
    """A node with what stands below it; ``below`` counts all of it, ``children`` end at the depth."""

    model_config = _example(_BRANCH)

    below: dict[NodeKind, int]
    children: "list[BranchModel]"

    @staticmethod
    def fields_of(branch: Branch) -> dict[str, object]:
        return NodeModel.fields(branch.standing) | {
            "below": dict(branch.below),
            "children": [BranchModel.fields_of(child) for child in branch.children],
        }


class TreeModel(BaseModel):
    """The nodes at the top, each with what stands below it."""

    model_config = _example({"roots": [_BRANCH]})

    roots: list[BranchModel]


class MoveBody(BaseModel):
    """Where the node hangs from ``since`` on (now, where left out); its link so far ends there."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"parent": "DC-0008", "link": "plc_narrowband"}]},
    )

    parent: Name
    link: LinkKind | None = None
    since: Instant | None = None


class ImportAnswer(BaseModel):
    """How many nodes of the file were made, hung elsewhere, told otherwise, or stood so already."""

    model_config = _example({"added": 154000, "moved": 0, "changed": 0, "unchanged": 125, "dry_run": False})

    added: int
    moved: int
    changed: int
    unchanged: int
    dry_run: bool
