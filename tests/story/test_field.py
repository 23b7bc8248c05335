"""The story of the whole field: one command, and every kind of link delivers load curves on the first run.

Meters behind concentrators, on buses, in a mesh and at a broker, in every language; what the simulator knows
of them is compared with what the API serves.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.story.test_run import assert_true, truth

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
            curve = client.get(
                f"/api/v1/meters/{meter['asset_id']}/load-curve",
                params={"from": start.isoformat(), "to": end.isoformat()},
            ).raise_for_status()
            assert_true(curve.json(), truth(meter["asset_id"], start, end), 48)
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
