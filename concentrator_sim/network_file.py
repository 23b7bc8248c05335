"""The network of a field as the file that ``headend network import`` takes."""

import csv
from collections.abc import Iterator
from io import StringIO
from typing import TYPE_CHECKING, Final

from concentrator_sim.meter import serial_of
from concentrator_sim.scenario import Framing
from schemas.network import LinkKind, NodeKind

if TYPE_CHECKING:
    from concentrator_sim.field import Field

COLUMNS: Final = ("node", "kind", "parent", "link", "hops", "quality", "address", "model", "title")


def network_csv(field: "Field") -> str:
    """All nodes, parents first; the node of a meter is its serial number. A meter behind relays hangs on its
    station, with the number of hops."""
    text = StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    tree = field.tree
    if not field.scenario.network.takes_direct:
        writer.writerows(_supplies(field))
        writer.writerows(_direct(field))
    for substation in dict.fromkeys(tree.substation_of.values()):
        writer.writerow({"node": substation, "kind": NodeKind.SUBSTATION})
    for feeder, substation in tree.substation_of.items():
        writer.writerow({"node": feeder, "kind": NodeKind.FEEDER, "parent": substation})
    for transformer, feeder in tree.feeder_of.items():
        writer.writerow({"node": transformer, "kind": NodeKind.TRANSFORMER, "parent": feeder})
    if field.scenario.network.takes_direct:
        writer.writerows(_direct(field))
    for served in field.stations:
        if not any(True for _ in served.meter_rows()):
            continue  # without a broker nobody hears them
        station = served.station
        node = station.plan.usual.node
        if node is not None:
            writer.writerow(
                {
                    "node": station.code, "kind": node, "parent": station.transformer,
                    "link": LinkKind.ETHERNET, "hops": 1,
                    "address": served.address, "model": served.model,
                }
            )  # fmt: skip
        for leaf in station.leaves:
            writer.writerow(
                {
                    "node": serial_of(station.seed, leaf.number), "kind": NodeKind.METER,
                    "parent": station.transformer if node is None else station.code,
                    "link": station.plan.link_kind, "hops": leaf.hops, "quality": leaf.quality,
                }
            )  # fmt: skip
    return text.getvalue()


def _supplies(field: "Field") -> list[dict[str, object]]:
    """What is above meters that answer directly, where they have transformers of their own."""
    rows: dict[str, dict[str, object]] = {}
    for item in field.meters:
        feeder, transformer = field.supply(item)
        rows.setdefault("SS00", {"node": "SS00", "kind": NodeKind.SUBSTATION})
        rows.setdefault(feeder, {"node": feeder, "kind": NodeKind.FEEDER, "parent": "SS00"})
        rows.setdefault(transformer, {"node": transformer, "kind": NodeKind.TRANSFORMER, "parent": feeder})
    return list(rows.values())


def _direct(field: "Field") -> Iterator[dict[str, object]]:
    """Meters that answer directly."""
    for item in field.meters:
        yield {
            "node": item.meter.serial, "kind": NodeKind.METER, "parent": field.supply(item)[1],
            "link": LinkKind.SERIAL if item.framing is Framing.SERIAL else LinkKind.ETHERNET, "hops": 1,
        }  # fmt: skip
