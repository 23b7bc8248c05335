"""What an event looks like over HTTP, as JSON and as a line of CSV."""

import csv
import io
from collections.abc import Iterable
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field

from api.times import rfc3339
from headend.store.events import StoredEvent
from schemas.event import EventLog, EventMeaning

_EXAMPLE: Final[dict[str, Any]] = {
    "at": "2026-03-01T08:04:00Z",
    "meter": "SIM00000001",
    "node": None,
    "log": "power_failure",
    "meaning": "power_failure",
    "code": None,
    "duration_s": 240,
    "text": None,
    "occurred_at": "2026-03-01T08:04:00Z",
    "received_at": "2026-03-01T09:00:01.250000Z",
    "source": "tcp://10.1.2.3:4059",
    "standing": False,
}
_CSV_EXAMPLE: Final = (
    "at,meter,node,log,meaning,code,duration_s,text,occurred_at,received_at,source,standing\r\n"
    "2026-03-01T08:04:00Z,SIM00000001,,power_failure,power_failure,,240,,2026-03-01T08:04:00Z,"
    "2026-03-01T09:00:01.250000Z,tcp://10.1.2.3:4059,false\r\n"
)


class EventModel(BaseModel):
    """One event, as it was told."""

    at: str = Field(description="when it happened by the meter's clock, else when it was received")
    meter: str | None = Field(description="asset id; null where it speaks of a node of the network alone")
    node: str | None = Field(description="code of the node of the network that it speaks of, or that told it")
    log: EventLog = Field(description="where it came from")
    meaning: EventMeaning = Field(description="other: the meter's model gives the code no common meaning")
    code: int | None = Field(description="the maker's code, or the bit of an alarm register")
    duration_s: int | None = Field(description="of a power failure, whose time is its end")
    text: str | None
    occurred_at: str | None = Field(description="the meter's own time, null where it told none")
    received_at: str
    source: str
    standing: bool = Field(description="a state met at that time, begun nobody knows when")

    @classmethod
    def of(cls, stored: StoredEvent) -> "EventModel":
        """As stored."""
        return cls(
            at=rfc3339(stored.at),
            meter=stored.asset_id,
            node=stored.node,
            log=stored.log,
            meaning=stored.meaning,
            code=stored.code,
            duration_s=stored.duration_s,
            text=stored.text,
            occurred_at=None if stored.occurred_at is None else rfc3339(stored.occurred_at),
            received_at=rfc3339(stored.received_at),
            source=stored.source,
            standing=stored.standing,
        )


class EventPage(BaseModel):
    """Events, newest first; ``next`` is the cursor of the next page, null on the last."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"events": [_EXAMPLE], "next": None}]})

    events: list[EventModel]
    next: str | None = None


def page_responses() -> dict[int | str, dict[str, Any]]:
    """The OpenAPI entry of 200: JSON and CSV."""
    return {
        200: {
            "model": EventPage,
            "description": "Events; CSV with a header line where format=csv, the next page in Link",
            "content": {"text/csv": {"schema": {"type": "string"}, "example": _CSV_EXAMPLE}},
        }
    }


def as_csv(events: Iterable[EventModel]) -> str:
    """RFC 4180 with a header line; an empty field is missing."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(EventModel.model_fields))
    writer.writeheader()
    for event in events:
        row = event.model_dump(mode="json")
        writer.writerow(row | {"standing": "true" if event.standing else "false"})
    return text.getvalue()
