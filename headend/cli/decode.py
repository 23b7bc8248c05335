"""``headend decode``: the engineer's pocket tool. Bytes in any dress go in, what they say comes out."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from headend.cli import decode_mqtt, hex_input, terminal
from protocols.decode import Keys, Message, Status, StreamDecoder, unreadable
from protocols.dlms.security import Key
from protocols.errors import LocalProtocolError

if TYPE_CHECKING:
    from schemas.model import MeterModel

_STYLES = {Status.OK: "green", Status.UNDECRYPTABLE: "yellow", Status.BAD: "bold red"}


def decode(
    file: Annotated[str, typer.Argument(help="Hex or binary; - reads standard input.")] = "-",
    key: Annotated[
        str | None,
        typer.Option(
            metavar="HEX",
            help="Global unicast encryption key.",
            envvar="DLMS_KEY",
            show_default=False,
        ),
    ] = None,
    auth_key: Annotated[
        str | None,
        typer.Option(
            metavar="HEX",
            help="Authentication key.",
            envvar="DLMS_AUTH_KEY",
            show_default=False,
        ),
    ] = None,
    master_key: Annotated[
        str | None,
        typer.Option(
            metavar="HEX",
            help="Master key, for messages that bring a wrapped key.",
            envvar="DLMS_MASTER_KEY",
            show_default=False,
        ),
    ] = None,
    system_title: Annotated[
        str | None,
        typer.Option(metavar="HEX", help="The sender's system title, where no message brings it."),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Meter model that names and scales values without OBIS or unit."),
    ] = None,
    topic: Annotated[
        str | None,
        typer.Option(metavar="TOPIC", help="The input is an MQTT payload that was published to it."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON array of messages.")] = False,
) -> None:
    """Decode frames and messages: find the framing, join, decipher, show.

    Knows DLMS in all its framings, DL/T 645-2007, IEC 62056-21, P1, Modbus, and payloads of MQTT: what
    zigbee2mqtt, Tasmota and Shelly publish, raw Zigbee reports, concentrators' batches. Takes hex (comments,
    spaces, dumps with offsets, several frames and messages), binary, or a telegram's own text. Exit status 1
    if anything is bad; what is ciphered and has no key given is not bad. Keys in environment variables
    stay out of the list of processes; they have no HEADEND_ before their names, those are settings.
    """
    keys = Keys(
        _key(key, "--key"),
        _key(auth_key, "--auth-key"),
        _title(system_title),
        _key(master_key, "--master-key"),
    )
    given = _input(file)
    if topic is not None or given.lstrip().startswith(b"{"):
        decode_mqtt.show(topic, given, profile, as_json=as_json, frames=_frames)
        return
    model = None if profile is None else _model(profile)
    pieces, bad_lines = hex_input.read(given)
    decoder = StreamDecoder(keys, model)
    messages = [unreadable(line.offset, f"line {line.number}: {line.reason}") for line in bad_lines]
    for piece in pieces:
        messages += decoder.decode(piece.data, piece.offset)
    messages += decoder.finish()
    messages.sort(key=lambda message: message.offset)
    _frames(messages, as_json)


def _frames(messages: Sequence[Message], as_json: bool) -> None:
    if as_json:
        terminal.print_json([message.to_json() for message in messages])
    else:
        for message in messages:
            terminal.out.print(_shown(message))
        terminal.out.print(_summary(messages))
    if any(message.status is Status.BAD for message in messages):
        raise typer.Exit(1)


def _key(text: str | None, option: str) -> Key | None:
    if text is None:
        return None
    try:
        key = Key.from_hex(text)
    except LocalProtocolError as error:
        raise typer.BadParameter(f"{error.reason}", param_hint=option) from None
    if len(key) not in (16, 32):
        raise typer.BadParameter(f"a key has 16 or 32 bytes, not {len(key)}", param_hint=option)
    return key


def _title(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        title = bytes.fromhex(text)
    except ValueError:
        raise typer.BadParameter("not hexadecimal digits", param_hint="--system-title") from None
    if len(title) != 8:
        raise typer.BadParameter(f"a system title has 8 bytes, not {len(title)}", param_hint="--system-title")
    return title


def _model(name: str) -> "MeterModel":
    from schemas.model import ModelError, load_model  # brings pydantic: only who names a profile waits for it

    try:
        return load_model(name)
    except ModelError as error:
        raise typer.BadParameter(str(error), param_hint="--profile") from None


def _input(file: str) -> bytes:
    if file == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{file}: {error.strerror}", param_hint="FILE") from None


def _shown(message: Message) -> Group:
    """One message for the eye: a heading, what is known of it, its values, its tree."""
    told = message.to_json()
    heading = Text(f"byte {message.offset}  ", "dim")
    heading.append(str(message.status), _STYLES[message.status])
    name = " > ".join(message.layers) or "no APDU"
    heading.append(f"  {message.framing}  ").append(name, "bold")
    facts = Table.grid(padding=(0, 2))
    for fact, text in _facts(message, told):
        facts.add_row(Text(fact, "dim"), Text(text))
    for note in message.notes:
        facts.add_row(Text("note", "dim"), Text(note))
    for problem in message.problems:
        inside = "" if problem.apdu_offset is None else f" (byte {problem.apdu_offset} of the APDU)"
        reason = Text(f"{problem.reason}, at byte {problem.offset}{inside}", "red")
        facts.add_row(Text("bad", "red"), reason)
    parts: list[Any] = [heading, Padding(facts, (0, 0, 0, 2), expand=False)]
    if message.values or message.unnamed:
        parts.append(Padding(_values(told), (0, 0, 0, 2), expand=False))
    if told["tree"] is not None:
        tree = Tree(Text("tree", "dim"), guide_style="dim")
        _grow(tree, told["tree"])
        parts.append(Padding(tree, (0, 0, 0, 2), expand=False))
    return Group(*parts, Text())


def _facts(message: Message, told: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if message.source is not None:
        yield "from, to", f"{message.source} -> {message.destination or 'any'}"
    if message.checks:
        held = ", ".join(message.checks)
        yield "checks", f"{held} good; {message.frames} frames, {message.blocks} blocks"
    if message.system_title is not None:
        title = message.system_title
        maker = title[:3].decode("ascii") if title[:3].isalpha() and title[:3].isascii() else ""
        yield "system title", f"{title.hex()} {maker}".rstrip()
    if message.security is not None:
        security = message.security
        protection = [name for name in ("authenticated", "encrypted") if security.fields[name]]
        tag = "tag verified" if security.verified else "not verified"
        yield (
            "security",
            (
                f"0x{security.control:02x} {' and '.join(protection)}, suite {security.fields['suite']}, "
                f"{security.key} key, counter {message.counter}, {tag}"
            ),
        )
    if told["time"] is not None:
        utc = "" if told["time_utc"] is None else f" ({told['time_utc']})"
        yield "time", told["time"] + utc


def _values(told: dict[str, Any]) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for title, justify in (
        ("OBIS", "left"),
        ("value", "right"),
        ("unit", "left"),
        ("scaled by, or more", "left"),
    ):
        table.add_column(title, justify=justify)  # type: ignore[arg-type]
    for value in told["values"]:
        row = (value["obis"] or value["name"], "null" if value["value"] is None else value["value"])
        more = value["scaled"] or " ".join(value[key] for key in ("time", "label") if key in value)
        table.add_row(*map(Text, (*row, value["unit"] or "", more)))
    for item in told["unnamed"]:
        table.add_row(Text(f"place {item['at']}", "dim"), Text(item["value"]), "", "")
    return table


def _grow(tree: Tree, node: Any, label: str = "") -> None:
    """Hang a JSON tree under a rich one: scalars in the line of their node, the rest below it."""
    if isinstance(node, dict):
        line = " ".join(f"{name}={item}" for name, item in node.items() if not isinstance(item, dict | list))
        branch = tree.add(Text(f"{label} {line}".strip()))
        for name, item in node.items():
            if isinstance(item, dict | list) and item:
                _grow(branch, item, "" if name == "items" else name)
    elif isinstance(node, list):
        branch = tree.add(Text(label)) if label else tree
        for item in node:
            _grow(branch, item)
    else:
        tree.add(Text(f"{label} {node}".strip()))


def _summary(messages: Sequence[Message]) -> Text:
    counts = {status: sum(message.status is status for message in messages) for status in Status}
    text = Text(f"{len(messages)} messages")
    for status, count in counts.items():
        if count:
            text.append(f", {count} ").append(str(status), _STYLES[status])
    return text
