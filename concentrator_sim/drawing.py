"""The network of a field as a tree that a person can read."""

from collections.abc import Iterable

from rich.tree import Tree as Drawing

from concentrator_sim.meter import serial_of
from concentrator_sim.scenario import Scenario
from concentrator_sim.tree import Leaf, Station, Tree

#: Colours by quality: below 30, below 60, the rest.
_COLOURS = ((30, "red"), (60, "yellow"), (101, "green"))


def drawn(scenario: Scenario, tree: Tree, depth: int = 5) -> Drawing:
    """The tree down to ``depth`` levels below the field; relays stand above those that they serve."""
    told = f"{scenario.title or 'Field'}: {len(tree.stations)} stations, {tree.meters} meters below them"
    root = Drawing(f"[bold]{told}[/bold]")
    for substation in dict.fromkeys(tree.substation_of.values()):
        feeders = [feeder for feeder, above in tree.substation_of.items() if above == substation]
        at_substation = root.add(f"[bold]{substation}[/bold] substation, {len(feeders)} feeders")
        if depth > 1:
            for feeder in feeders:
                _feeder(at_substation, tree, feeder, depth)
    return root


def _feeder(drawing: Drawing, tree: Tree, feeder: str, depth: int) -> None:
    transformers = [transformer for transformer, above in tree.feeder_of.items() if above == feeder]
    at_feeder = drawing.add(f"{feeder} feeder, {len(transformers)} transformers")
    if depth > 2:
        for transformer in transformers:
            at_transformer = at_feeder.add(f"{transformer} transformer")
            for station in tree.below(transformer) if depth > 3 else ():
                _station(at_transformer, station, with_meters=depth > 4)


def _station(drawing: Drawing, station: Station, *, with_meters: bool) -> None:
    plan, leaves = station.plan, station.leaves
    deepest = max((leaf.hops for leaf in leaves), default=0)
    drawing = drawing.add(
        f"[bold]{station.code}[/bold] {plan.kind}, {len(leaves)} meters by {plan.link_kind}, "
        f"at most {deepest} hop{'s' if deepest != 1 else ''}"
    )
    if not with_meters:
        return
    places: dict[int | None, Drawing] = {None: drawing}
    for leaf in _relays_first(leaves):
        colour = next(colour for bound, colour in _COLOURS if leaf.quality < bound)
        dead = " [red]dead[/red]" if leaf.dead else ""
        serial = serial_of(station.seed, leaf.number)
        places[leaf.place] = places[leaf.relay].add(
            f"{serial} {leaf.model} [{colour}]{leaf.quality}[/{colour}]{dead}"
        )


def _relays_first(leaves: Iterable[Leaf]) -> list[Leaf]:
    return sorted(leaves, key=lambda leaf: (leaf.hops, leaf.place))
