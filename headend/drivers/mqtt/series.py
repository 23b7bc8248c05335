"""The series of a batch as columns: the rules of `schemas.batch.Series` as arithmetic on lists.

A batch is judged by pydantic but for its series, which are most of it: they are checked here, by the same
rules, in less time. Whoever gets None asks pydantic what is wrong; a test holds the two equal.
"""

import itertools
import operator
import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from headend.drivers.mqtt.meters import Meters
from schemas.batch import MAX_LAYOUTS, MAX_ROWS, MAX_SERIES, BatchChannel
from schemas.reading import INTERVAL_QUANTITIES, NO_STATUS, Bool, Channel, ChannelLayout, Kind

_WIDE: Final = len(INTERVAL_QUANTITIES)
_NEEDED: Final = frozenset({"meter", "period_s", "stamps", "values"})
_ALLOWED: Final = _NEEDED | {"profile", "layout", "status"}
_PARTS: Final = operator.itemgetter("meter", "stamps", "values", "period_s")
_NAME: Final = re.compile(r"[!-~]{1,64}")
_INT: Final = frozenset({int})
_INT_OR_NULL: Final = frozenset({int, type(None)})
_LONGEST_PERIOD_S: Final = 366 * 86400
_PROFILES: Final = 1 << 15
_STATUS: Final = 1 << 31
#: Groups C and D of the columns of a load curve: energy counted up, and energy of the interval.
_QUANTITIES: Final = dict(zip(("1", "2", "3", "4"), INTERVAL_QUANTITIES, strict=True))
_KINDS: Final = {"8": Kind.CUMULATIVE, "29": Kind.INTERVAL}
_MOST_LAYOUTS: Final = 10_000

I8 = npt.NDArray[np.int64]


class Layout(NamedTuple):
    """What the columns of a series are: ``places`` holds each one's place in the row, None where it is a
    register reading of its own."""

    channels: ChannelLayout
    places: tuple[int | None, ...]
    sent: tuple[Channel, ...]


class Layouts:
    """Layouts that came before: a fleet has few, and each is one object, so that rows are told apart fast."""

    def __init__(self) -> None:
        self._known: dict[tuple[BatchChannel, ...], Layout] = {}

    def of(self, sent: tuple[BatchChannel, ...]) -> Layout:
        """What these columns are."""
        found = self._known.get(sent)
        if found is None:
            if len(self._known) >= _MOST_LAYOUTS:
                self._known.clear()
            found = self._known[sent] = _layout(sent)
        return found


def _layout(sent: tuple[BatchChannel, ...]) -> Layout:
    channels: list[Channel | None] = [None] * _WIDE
    places: list[int | None] = []
    columns = []
    for one in sent:
        _, _, codes = one.obis.removesuffix("*255").partition(":")
        group, _, rest = codes.partition(".")
        kind = _KINDS.get(rest.removesuffix(".0"))
        quantity = _QUANTITIES.get(group) if kind and one.obis.startswith("1-") else None
        place = None if quantity is None else INTERVAL_QUANTITIES.index(quantity)
        if place is not None and channels[place] is not None:
            place = None
        column = Channel(quantity or "", one.obis, one.scaler, one.unit, kind or Kind.CUMULATIVE)
        if place is not None:
            channels[place] = column
        columns.append(column)
        places.append(place)
    made = ChannelLayout((channels[0], channels[1], channels[2], channels[3]))
    return Layout(made, tuple(places), tuple(columns))


class Rows(NamedTuple):
    """Series of known meters, of one layout. ``meters``, ``lengths``, ``periods_s`` and ``profiles`` (None:
    all are 1) are of each series; ``stamps_s``, ``status`` (None: there is none), ``values`` and ``valid``
    of each row, series by series. ``values`` and ``valid`` (None: all are there) have a column for each
    channel of the layout."""

    layout: Layout
    meters: Sequence[int]
    lengths: Sequence[int]
    periods_s: Sequence[int]
    profiles: Sequence[int] | None
    stamps_s: npt.NDArray[np.uint32]
    status: I8 | None
    values: tuple[I8, ...]
    valid: tuple[Bool | None, ...]


def read(series: Any, layouts: Sequence[Layout], meters: Meters) -> tuple[list[Rows], list[str]] | None:
    """Rows, by layout, and the meters that are not known; None where something breaks the rules."""
    if type(series) is not list or len(series) > MAX_SERIES or set(map(type, series)) != {dict}:
        return None
    rows: list[Rows] = []
    unknown: list[str] = []
    kinds = dict.fromkeys(map(tuple, series))  # the names in each: seldom more than one kind
    for kind in kinds:
        if not _ALLOWED >= set(kind) >= _NEEDED:
            return None
        alike = series if len(kinds) == 1 else [one for one in series if tuple(one) == kind]
        numbers = [one["layout"] for one in alike] if "layout" in kind else [0]
        if set(map(type, numbers)) != _INT:
            return None
        for number in dict.fromkeys(numbers):
            if not 0 <= number < min(len(layouts), MAX_LAYOUTS):
                return None
            group = alike if len(set(numbers)) == 1 else [one for one in alike if one["layout"] == number]
            found = _group(layouts[number], kind, group, meters, unknown)
            if found is None:
                return None
            rows += found
    return rows, unknown


def _group(
    layout: Layout, kind: tuple[str, ...], group: list[dict[str, Any]], meters: Meters, unknown: list[str]
) -> list[Rows] | None:
    names, stamps, columns, periods = zip(*map(_PARTS, group), strict=True)
    if set(map(type, names)) != {str} or set(map(type, columns)) | set(map(type, stamps)) != {list}:
        return None
    lengths = list(map(len, stamps))
    if set(map(len, columns)) != {len(layout.places)} or min(lengths) < 1 or max(lengths) > MAX_ROWS:
        return None
    stamps_s = _stamps(_flat(stamps))
    if stamps_s is None or not _within(periods, 1, _LONGEST_PERIOD_S):
        return None
    profiles = [one["profile"] for one in group] if "profile" in kind else None
    if profiles is not None and not _within(profiles, 1, _PROFILES - 1):
        return None
    status = None
    if "status" in kind:
        status = _status([one["status"] for one in group], lengths)
        if status is None:
            return None
    values: list[I8] = []
    valid: list[Bool | None] = []
    for column in zip(*columns, strict=True):
        if set(map(type, column)) != {list} or list(map(len, column)) != lengths:
            return None
        found = _nullable(_flat(column))
        if found is None:
            return None
        values.append(found[0])
        valid.append(found[1])
    known = list(map(meters.of, names))
    if None in known:
        strange = [name for name, one in zip(names, known, strict=True) if one is None]
        if not all(map(_NAME.fullmatch, strange)):
            return None
        unknown += strange
        rest = [one for one, meter in zip(group, known, strict=True) if meter is not None]
        return _group(layout, kind, rest, meters, unknown) if rest else []
    ids = [one.meter_id for one in known if one is not None]
    return [Rows(layout, ids, lengths, periods, profiles, stamps_s, status, tuple(values), tuple(valid))]


def _flat(lists: Sequence[list[Any]]) -> list[Any]:
    return lists[0] if len(lists) == 1 else list(itertools.chain.from_iterable(lists))


def _within(values: Sequence[Any], least: int, most: int) -> bool:
    return set(map(type, values)) == _INT and min(values) >= least and max(values) <= most


def _stamps(flat: list[Any]) -> npt.NDArray[np.uint32] | None:
    if set(map(type, flat)) != _INT:
        return None
    try:
        return np.array(flat, np.uint32)
    except OverflowError:
        return None


def _nullable(flat: list[Any]) -> tuple[I8, Bool | None] | None:
    """Integers of 64 bits or null, and where they are none."""
    kinds = set(map(type, flat))
    if not kinds <= _INT_OR_NULL:
        return None
    try:
        if kinds == _INT:
            return np.array(flat, np.int64), None
        return (
            np.array([0 if one is None else one for one in flat], np.int64),
            np.array([one is not None for one in flat], np.bool_),
        )
    except OverflowError:
        return None


def _status(words: list[Any], lengths: list[int]) -> I8 | None:
    if not set(map(type, words)) <= {list, type(None)}:
        return None
    lists = [[None] * length if word is None else word for word, length in zip(words, lengths, strict=True)]
    found = _nullable(_flat(lists)) if list(map(len, lists)) == lengths else None
    if found is None or found[0].min() < 0 or found[0].max() >= _STATUS:
        return None
    return found[0] if found[1] is None else np.where(found[1], found[0], NO_STATUS)
