"""The story of the whole field: one command, and every kind of link delivers load curves on the first run.

Meters behind concentrators, on buses, in a mesh and at a broker, in every language; what the simulator knows
of them is compared with what the API serves.
"""

import re
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from concentrator_sim.generator import Consumption
from concentrator_sim.scenario import find_scenario, load_scenario
from concentrator_sim.tree import grow
from tests.story.test_run import DEADLINE_S, QUANTITIES, assert_true, truth

LINKS = {
    ("ethernet", "dlms"), ("plc broadband", "dlms"), ("plc narrowband", "dlms"), ("plc narrowband", "mqtt"),
    ("zigbee", "mqtt"), ("wifi", "mqtt"), ("serial", "modbus"), ("serial", "dlt645"),
    ("serial", "iec62056-21"), ("serial", "p1"),
}  # fmt: skip
ROW = re.compile(r"^(\w+(?: \w+)?) +(\S+) +([\d,]+) +([\d,]+) +([\d,]+)\s*$", re.MULTILINE)


@pytest.mark.storage
@pytest.mark.timeout(420)
def test_every_kind_of_link_delivers_on_the_first_run(service: Any) -> None:
    service.start(meters=None)
    said = service.until("every kind of link delivers")
    table = {(link, language): rest for link, language, *rest in ROW.findall(said)}
    assert set(table) == LINKS
    for (link, language), (meters, delivering, intervals) in table.items():
        assert 0 < int(delivering) <= int(meters), (link, language)
        assert int(intervals.replace(",", "")) >= int(delivering)

    secret = service.folder.joinpath("demo-token").read_text().strip()
    url = re.search(r"http://127\.0\.0\.1:\d+", said)
    assert url is not None
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=1)
    start = end - timedelta(hours=12)
    with httpx.Client(base_url=url[0], headers={"Authorization": f"Bearer {secret}"}, timeout=60) as client:
        listed: list[dict[str, Any]] = (
            client.get("/api/v1/meters", params={"limit": 500}).raise_for_status().json()["meters"]
        )
        kept = [
            next(one for one in listed if (one["address"] or "").startswith("via:")),
            next(one for one in reversed(listed) if (one["address"] or "").startswith("via:")),
            next(one for one in listed if one["model"] == "headend-batch-meter"),
        ]
        for meter in kept:
            asset_id = meter["asset_id"]
            assert_true(whole_curve(client, asset_id, start, end, 48), truth(asset_id, start, end), 48)
        assert_all_is_true(client)
        # one meter behind a concentrator, on a bus, and of another language, now
        for meter in (
            kept[0],
            next(one for one in listed if (one["address"] or "").startswith("modbus")),
            next(one for one in listed if (one["address"] or "").startswith("dlt645")),
        ):
            read = (
                client.post(f"/api/v1/meters/{meter['asset_id']}/reads", json={"obis": ["1.8.0"]})
                .raise_for_status()
                .json()
            )
            assert read["registers"], meter
        assert client.get("/api/v1/quarantine").raise_for_status().json()["payloads"] == []
    assert service.stop() == 0
    assert service.relatives() == {}


def whole_curve(
    client: httpx.Client, asset_id: str, start: datetime, end: datetime, rows: int
) -> dict[str, Any]:
    """A load curve, asked for until all of it is there: some of its link came first."""
    asked = {"from": start.isoformat(), "to": end.isoformat()}
    for _ in range(DEADLINE_S * 2):
        told = client.get(f"/api/v1/meters/{asset_id}/load-curve", params=asked).raise_for_status().json()
        if len(told["rows"]) >= rows:
            break
        time.sleep(0.5)
    curve: dict[str, Any] = told
    return curve


def assert_all_is_true(client: httpx.Client) -> None:
    """Every value of every meter below a station is what it metered at its own stamp."""
    scenario = load_scenario(find_scenario("demo"))
    tree = grow(scenario.seed, scenario.network, scenario.stations)
    checked: Counter[str] = Counter()
    for number in (leaf.number for station in tree.stations for leaf in station.leaves):
        asset_id, metered = f"SIM{scenario.seed:05d}{number:07d}", Consumption(scenario.seed, number)
        address = client.get(f"/api/v1/meters/{asset_id}").raise_for_status().json()["address"]
        scheme = address.partition(":")[0]
        for row in kept_rows(client, asset_id):
            moment = int(datetime.fromisoformat(row["stamp"]).timestamp())
            for place, quantity in enumerate(QUANTITIES):
                value = row["values"].get(quantity)
                if value is not None:
                    assert_is(Decimal(value), metered.at(place, moment), scheme, (asset_id, row))
                    checked[scheme] += 1
    assert set(checked) == {
        "via", "mqtt", "modbus+tcp", "modbus+rtu", "dlt645+tcp", "iec62056+tcp", "p1+tcp",
    }  # fmt: skip


def kept_rows(client: httpx.Client, asset_id: str) -> list[dict[str, Any]]:
    """What the service has of a meter: profile 2 is that of load records beside samples."""
    end = datetime.now(UTC) + timedelta(hours=1)
    asked = {"from": (end - timedelta(days=2)).isoformat(), "to": end.isoformat()}
    found: list[dict[str, Any]] = []
    for profile in ("1", "2"):
        told = client.get(f"/api/v1/meters/{asset_id}/load-curve", params=asked | {"profile": profile})
        if told.status_code == httpx.codes.OK:
            found += told.json()["rows"]
    return found


def assert_is(value: Decimal, truth_: int, scheme: str, where: object) -> None:
    """Registers of Modbus meters are floats, or count in 100 Wh; DL/T 645 tells 10 Wh."""
    if scheme.startswith("modbus"):
        assert abs(value - truth_) <= max(100, truth_ * Decimal("2e-7")), (where, truth_)
    elif scheme.startswith("dlt645"):
        assert value == truth_ // 10 * 10, (where, truth_)
    else:
        assert value == truth_, (where, truth_)
