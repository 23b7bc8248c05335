"""Files of random networks leave the tables as a simple model of them: a dictionary, node by node."""

import asyncio
import csv
import io
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headend.ingest.network_import import NetworkImport, export_network, import_network
from headend.ingest.network_rows import COLUMNS, read_network
from headend.store import announcements, meters, network
from headend.store.announcements import announce
from schemas.meter import NewMeter
from schemas.network import Announced, LinkKind, NodeKind, check_order

T0 = datetime(2026, 1, 1, tzinfo=UTC)
CELL = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=20)

#: Few nodes, so that files meet; with relays and meters, which alone can stand in circles.
KINDS = {
    "S": NodeKind.SUBSTATION, "F": NodeKind.FEEDER, "T": NodeKind.TRANSFORMER, "C": NodeKind.CONCENTRATOR,
    "G": NodeKind.GATEWAY, "R1": NodeKind.RELAY, "R2": NodeKind.RELAY, "M1": NodeKind.METER,
    "M2": NodeKind.METER, "M3": NodeKind.METER,
}  # fmt: skip
LINK = st.none() | st.sampled_from(list(LinkKind)[:2])


@dataclass
class Hung:
    parent: str
    kind: LinkKind | None
    hops: int
    quality: int | None


@dataclass
class Model:
    titles: dict[str, str] = field(default_factory=dict)
    links: dict[str, Hung] = field(default_factory=dict)
    moves: int = 0

    def refuses(self, rows) -> bool:
        names = set(self.titles) | set(rows)
        parents = {code: one.parent for code, one in self.links.items()}
        parents |= {code: row[0] for code, row in rows.items() if row[0] is not None}
        for code, (parent, link, hops, quality, _) in rows.items():
            if parent is None:
                if (link, hops, quality) != (None, None, None):
                    return True
                continue
            if parent == code or parent not in names:
                return True
            try:
                check_order(KINDS[code], KINDS[parent])
            except ValueError:
                return True
        for code in parents:
            seen, at = set(), code
            while at in parents and at not in seen:
                seen.add(at)
                at = parents[at]
            if at in parents:
                return True
        return False

    def take(self, rows) -> None:
        for code, (parent, link, hops, quality, title) in rows.items():
            self.titles[code] = self.titles.get(code, "") if title is None else title
            if parent is None:
                continue
            old = self.links.get(code)
            if old is not None and (old.parent, old.kind) == (parent, link or old.kind):
                old.hops = old.hops if hops is None else hops
                old.quality = old.quality if quality is None else quality
            else:
                self.links[code] = Hung(parent, link, 1 if hops is None else hops, quality)
                self.moves += 1

    def rows(self) -> dict[str, tuple[str, ...]]:
        found = {}
        for code, title in self.titles.items():
            one = self.links.get(code)
            hangs = ("", "", "", "")
            if one is not None:
                quality = "" if one.quality is None else str(one.quality)
                hangs = (one.parent, one.kind or "", str(one.hops), quality)
            found[code] = (KINDS[code], *hangs, title)
        return found


ROW = st.tuples(
    st.sampled_from([None, *KINDS]), LINK, st.none() | st.integers(1, 3), st.none() | st.integers(0, 2),
    st.none() | CELL,
)  # fmt: skip


#: Where nodes mostly hang: what is told twice is as likely as a move.
USUAL = {"F": "S", "T": "F", "C": "T", "G": "T", "R1": "C", "R2": "R1", "M1": "R1", "M2": "M1", "M3": "C"}


@st.composite
def files(draw):
    """Rows by code; mostly in order, so that most files are taken."""
    rows = {}
    for code in draw(st.lists(st.sampled_from(list(KINDS)), unique=True, min_size=3, max_size=len(KINDS))):
        parent, link, hops, quality, title = draw(ROW)
        choice = draw(st.integers(0, 19))
        if choice < 12:
            parent = USUAL.get(code)
        elif choice < 19:
            above = [one for one in KINDS if _fits(code, one)]
            parent = draw(st.sampled_from(above)) if above else None
        if parent is None:
            link, hops, quality = None, None, None
        rows[code] = (parent, link, hops, quality, title)
    if draw(st.integers(0, 3)):  # with all that it names
        for code in [row[0] for row in rows.values() if row[0] is not None]:
            rows.setdefault(code, (None, None, None, None, None))
    return rows


def _fits(code, parent) -> bool:
    try:
        check_order(KINDS[code], KINDS[parent])
    except ValueError:
        return False
    return code != parent


def written(rows) -> bytes:
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    for code, (parent, link, hops, quality, title) in rows.items():
        writer.writerow((code, KINDS[code], parent, link, hops, quality, None, None, title))
    return file.getvalue().encode()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequence=st.lists(files(), min_size=1, max_size=5))
def test_any_files_in_any_order(embedded_database, sequence):
    asyncio.run(_any_files(embedded_database.dsn, sequence))


@asynccontextmanager
async def taken_back(dsn):
    """A connection of which nothing stays: the next example begins with the tables empty."""
    guarded = psycopg.conninfo.make_conninfo(dsn, options="-c statement_timeout=60000")  # a circle ends here
    async with (
        await psycopg.AsyncConnection.connect(guarded, autocommit=True) as connection,
        connection.transaction(force_rollback=True),
    ):
        yield connection


async def _any_files(dsn, sequence):
    async with taken_back(dsn) as connection:
        new = [NewMeter(code, "m") for code, kind in KINDS.items() if kind is NodeKind.METER]
        await meters.add_many(connection, new, since=T0)
        model = Model()
        for day, rows in enumerate(sequence):
            refused = model.refuses(rows)
            since = T0 + timedelta(days=day)
            result = await import_network(connection, written(rows), since=since, actor="cli")
            assert bool(result.errors) == refused, result.errors
            if not refused:
                model.take(rows)
            text = await export_network(connection)
            exported = {row[0]: (*row[1:6], row[8]) for row in csv.reader(text.splitlines()[1:])}
            assert exported == model.rows()
            again = await import_network(connection, text.encode(), since=since, actor="cli")
            assert again == NetworkImport(unchanged=len(model.titles))
            cursor = await connection.execute("SELECT count(*) FROM network_links")
            assert await cursor.fetchone() == (model.moves,)
        past = [
            await network.history(connection, one.node.node_id)
            for one in await network.find(connection, codes=list(KINDS))
        ]
        for links in past:
            assert [one.until for one in links[:-1]] == [one.since for one in links[1:]]
            assert all(one.until is None for one in links[-1:])


@given(st.binary(max_size=300), st.dictionaries(st.sampled_from(COLUMNS), CELL, min_size=1))
def test_any_bytes_and_any_cells(data, cells):
    for head in (b"", b"node,kind\n", b"node,kind,parent,link,hops,quality,address\n"):
        file = read_network(head + data)
        most = (head + data).count(b"\n") + (head + data).count(b"\r") + 1
        assert all(0 <= error.line <= most for error in file.errors)
    text = io.StringIO()
    writer = csv.writer(text)
    cells = {"node": "1", "kind": "gateway"} | cells
    writer.writerow(cells)
    writer.writerow(cells.values())
    file = read_network(text.getvalue().encode())
    assert len(file.lines) == (0 if file.errors else 1)


TELLING = st.tuples(
    st.sampled_from(["A", "B", None]),
    st.integers(0, 5),
    st.lists(
        st.tuples(
            st.sampled_from([*("M1", "M2", "M3") * 3, "R", "A", "X1", "X2"]),
            st.sampled_from([*("M1", "M2", "M3") * 3, None, "R", "A", "X1"]),
            LINK,
            st.integers(1, 3),
            st.none() | st.integers(0, 2),
        ),
        min_size=2,
        max_size=8,
    ),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tellings=st.lists(TELLING, min_size=1, max_size=6))
def test_whatever_stations_announce(embedded_database, tellings):
    asyncio.run(_announced(embedded_database.dsn, tellings))


async def _announced(dsn, tellings):
    """No circle and no meter out of nothing; all that a station heard have a place, all others wait."""
    async with taken_back(dsn) as connection:
        numbers = await meters.add_many(connection, [NewMeter(f"M{n}", "m") for n in (1, 2, 3)], since=T0)
        file = b"node,kind,parent\nT,transformer,\nA,concentrator,T\nB,gateway,T\nR,relay,A\n"
        assert (await import_network(connection, file, since=T0, actor="cli")).errors == ()
        stations = {one.code: one.node_id for one in await network.stations(connection)}
        placed: set[int] = set()
        told: dict[str | None, set[str]] = {}
        for station, day, devices in tellings:
            now = T0 + timedelta(days=1 + day)
            heard = [
                Announced(name, None, None, link, hops, q, parent) for name, parent, link, hops, q in devices
            ]
            result = await announce(connection, stations.get(station or ""), heard, now=now)
            names = {one.identity for one in heard}
            assert result.known == {name: numbers[name] for name in names & set(numbers)}
            strange = names - set(numbers) - ({"R", "A"} if station is not None else set())
            assert set(result.unknown) == strange
            told.setdefault(station, set()).update(strange)
            placed.update(result.known.values() if station is not None else ())
        stands = await network.places(connection, list(numbers.values()))
        standing = await network.find(connection, codes=list(numbers))
        parents = {one.node.node_id: one.link.parent_id for one in standing if one.link is not None}
        assert await network.find_circles(connection, parents) == set()
        assert set(stands) == placed
        assert all(place.station in stations for place in stands.values())
        waiting = await announcements.page(connection, limit=99)
        assert {(one.station, one.announced.identity) for one in waiting} == {
            (station, name) for station, names in told.items() for name in names
        }
        assert len(await meters.page(connection, limit=99)) == 3
