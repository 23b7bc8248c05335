"""``headend decode`` of an MQTT payload: who it is from, when, what it says, and what is doubted."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table
from rich.text import Text

from headend.cli import terminal
from protocols.decode import Message
from protocols.errors import RemoteProtocolError

if TYPE_CHECKING:  # these bring pydantic: only who decodes a payload waits for it
    from protocols.mqtt.decode import Payload
    from protocols.mqtt.reading import Presence, Readings
    from schemas.batch import Batch

Frames = Callable[[Sequence[Message], bool], None]


def show(topic: str | None, given: bytes, profile: str | None, *, as_json: bool, frames: Frames) -> None:
    """Print what the payload says; ``frames`` prints DLMS messages. Exit status 1 if it is wrong.

    ``profile`` is an MQTT model; without it topic and payload tell the form.
    """
    from protocols.mqtt.hexadecimal import undressed
    from protocols.mqtt.reading import DlmsFrames, Presence, Readings
    from schemas.batch import Batch

    try:
        payload = undressed(given)
        if payload is given:
            payload = given.strip()  # what an editor or a shell adds
        told = _told(topic or "", payload, profile)
    except RemoteProtocolError as error:
        if as_json:
            terminal.print_json({"problem": str(error)})
        else:
            terminal.out.print(Text("bad  ", "bold red").append(str(error), "red"))
        raise typer.Exit(1) from None
    match told:
        case DlmsFrames(messages=messages):
            frames(messages, as_json)
        case Readings():
            _print(_readings_json(told), as_json, lambda: _readings(told))
        case Presence():
            _print(_presence_json(told), as_json, lambda: _presence(told))
        case Batch():
            _print(told.model_dump(mode="json", exclude_defaults=True), as_json, lambda: _batch(told))
        case _:
            _print(told.model_dump(mode="json", exclude_defaults=True), as_json, lambda: Text(repr(told)))


def _told(topic: str, payload: bytes, profile: str | None) -> "Payload":
    from headend.drivers.mqtt.message import read_object
    from protocols.mqtt import decode, documents, zcl_report
    from protocols.zigbee.metering import Scaling
    from schemas.model import ModelError
    from schemas.mqtt_model import Form, load_mqtt_model

    if profile is None:
        return decode.decode(topic, payload)
    try:
        model = load_mqtt_model(profile)
    except ModelError as error:
        raise typer.BadParameter(str(error), param_hint="--profile") from None
    if model.form is Form.ZCL:
        known = (
            None if model.zcl is None else Scaling(model.zcl.multiplier, model.zcl.divisor, model.zcl.unit)
        )
        return zcl_report.decode(topic, payload, known)
    if payload[:1] == b"{" and model.form is not Form.BATCH and not topic.endswith("/availability"):
        return read_object(model, topic, documents.load(payload))
    return decode.decode(topic, payload)


def _print(document: dict[str, Any], as_json: bool, shown: Callable[[], Any]) -> None:
    if as_json:
        terminal.print_json(document)
    else:
        terminal.out.print(shown())


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _heading(form: str, name: str) -> Text:
    return Text("ok  ", "green").append(form).append(f"  {name}", "bold")


def _readings_json(told: "Readings") -> dict[str, Any]:
    return {
        "form": told.format,
        "device": told.meter,
        "time": None if told.time is None else told.time.isoformat(),
        "readings": [
            {
                "quantity": one.quantity,
                "obis": one.obis,
                "value": None if one.value is None else format(one.value, "f"),
                "unit": one.unit,
                "doubt": one.doubt,
            }
            for one in told.readings
        ],
        "missing": list(told.missing),
        "notes": list(told.notes),
    }


def _readings(told: "Readings") -> Table:
    whole = Table.grid()
    whole.add_row(_heading(told.format, told.meter))
    when = "none of its own" if told.time is None else told.time.isoformat()
    whole.add_row(Text(f"  time  {when}", "dim"))
    for note in told.notes:
        whole.add_row(Text(f"  note  {note}", "dim"))
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for title in ("quantity", "OBIS"):
        table.add_column(title)
    table.add_column("value", justify="right")
    for title in ("unit", "doubt"):
        table.add_column(title)
    for one in told.readings:
        value = "" if one.value is None else format(one.value, "f")
        doubt = Text(one.doubt or "", "yellow")
        table.add_row(one.quantity, one.obis or "", value, one.unit or "", doubt)
    for name in told.missing:
        table.add_row(Text(name), Text(""), Text("null", "dim"), Text(""), Text(""))
    whole.add_row(table)
    return whole


def _presence_json(told: "Presence") -> dict[str, Any]:
    return {"form": told.format, "device": told.meter, "online": told.online}


def _presence(told: "Presence") -> Text:
    return _heading(told.format, told.meter).append("  online" if told.online else "  offline")


def _batch(told: "Batch") -> Table:
    whole = Table.grid()
    whole.add_row(_heading("batch", f"{told.concentrator}  run {told.run}  number {told.sequence}"))
    whole.add_row(Text(f"  sent  {_time(told.sent)}", "dim"))
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for title in ("meter", "what", "period", "rows", "first end", "last end", "last values"):
        table.add_column(title)
    for one in told.series:
        channels = told.layouts[one.layout]
        last = ", ".join(
            f"{channel.obis} {column[-1]}e{channel.scaler} {channel.unit}"
            for channel, column in zip(channels, one.values, strict=True)
        )
        table.add_row(
            one.meter,
            f"curve {one.profile}",
            f"{one.period_s} s",
            str(len(one.stamps)),
            _time(one.stamps[0]),
            _time(one.stamps[-1]),
            last,
        )
    for read in told.registers:
        value = f"{read.obis} {read.value} {read.unit or ''}".rstrip()
        table.add_row(read.meter, "register", "", "", "", _time(read.time), value)
    for event in told.events:
        said = [str(part) for part in (event.code, event.meaning, event.text) if part is not None]
        who = event.meter or "itself"
        table.add_row(who, f"event {event.log}", "", "", "", _time(event.time), " ".join(said))
    whole.add_row(table)
    return whole
