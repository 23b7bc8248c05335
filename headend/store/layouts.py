"""Channel layouts: what the value columns of a row mean, stored once by content and never changed."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Final

from headend.store.sql import Connection, load
from schemas.reading import ChannelLayout

_QUERIES: Final = load("layouts")


def to_json(layout: ChannelLayout) -> str:
    """The four channels as a JSON array, null where there is none; equal layouts give equal text."""
    return json.dumps(
        [None if channel is None else asdict(channel) for channel in layout.channels], sort_keys=True
    )


async def ids(connection: Connection, layouts: Sequence[ChannelLayout]) -> dict[ChannelLayout, int]:
    """Ids of layouts, made where new: in order of their text, so that writers never wait in a ring."""
    texts = dict(sorted((to_json(layout), layout) for layout in set(layouts)))
    found = await _find(connection, texts)
    missing = [text for text, layout in texts.items() if layout not in found]
    if missing:
        await connection.execute(_QUERIES["insert"], {"layouts": missing})
        found |= await _find(connection, {text: texts[text] for text in missing})
    return found


async def _find(connection: Connection, texts: dict[str, ChannelLayout]) -> dict[ChannelLayout, int]:
    cursor = await connection.execute(_QUERIES["find"], {"layouts": list(texts)})
    rows: Iterable[tuple[str, int]] = await cursor.fetchall()
    return {texts[text]: layout_id for text, layout_id in rows}
