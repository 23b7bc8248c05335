"""Meters, points, tokens, audit and inbox on both databases."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import psycopg
import pytest

from headend.store import audit, inbox, meters, points, tokens
from headend.store.errors import ConflictError, UnknownError
from headend.store.meters import MeterFilter
from headend.store.tokens import Scope
from schemas.meter import LifeCycleError, MeterState, NewMeter, Ratio

T0 = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
async def connection(database):
    async with await psycopg.AsyncConnection.connect(database.dsn, autocommit=True) as connection:
        yield connection


async def test_a_meter_is_found_by_every_name(connection):
    title = b"ABC\0\0\0\0\1"
    new = NewMeter("4711", "headend-sim", title, "ABC4711", "tcp://h:1", "F1", "T1")
    meter = await meters.add(connection, new, since=T0)
    assert (meter.asset_id, meter.system_title, meter.logical_device_name) == ("4711", title, "ABC4711")
    assert (meter.state, meter.state_since) == (MeterState.RECEIVED, T0)
    assert meter.created_at.tzinfo is not None
    assert await meters.get(connection, meter.meter_id) == meter
    assert await meters.by_asset(connection, "4711") == meter
    assert await meters.by_title(connection, title) == meter
    assert await meters.by_name(connection, "ABC4711") == meter
    assert await meters.by_title(connection, bytes(8)) is None
    with pytest.raises(UnknownError, match="no meter '4712'"):
        await meters.by_asset(connection, "4712")
    with pytest.raises(ValueError, match="offset"):
        await meters.add(connection, NewMeter("x", "m"), since=datetime(2026, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (NewMeter("1", "m"), "asset id"),
        (NewMeter("2", "m", system_title=bytes(8)), "system title"),
        (NewMeter("2", "m", logical_device_name="N"), "logical device name"),
    ],
)
async def test_names_in_use_are_refused_and_nothing_is_stored(connection, second, said):
    await meters.add(connection, NewMeter("1", "m", bytes(8), "N"), since=T0)
    with pytest.raises(ConflictError, match=said):
        await meters.add_many(connection, [NewMeter("3", "m"), second], since=T0)
    assert [m.asset_id for m in await meters.page(connection, limit=10)] == ["1"]


async def test_pages_and_filters(connection):
    new = [
        NewMeter(f"{n:03}", "a" if n % 2 else "b", feeder=f"F{n % 3}", logical_device_name=f"Dev{n}%")
        for n in range(10)
    ]
    numbers = await meters.add_many(connection, new, since=T0)
    await meters.change_state(connection, numbers["004"], MeterState.INSTALLED, since=T0 + DAY)
    first = await meters.page(connection, limit=4)
    second = await meters.page(connection, limit=40, after=first[-1].asset_id)
    assert [m.asset_id for m in first + second] == [f"{n:03}" for n in range(10)]

    async def shown(**only):
        return [m.asset_id for m in await meters.page(connection, limit=99, only=MeterFilter(**only))]

    assert await shown(model="a", feeder="F0") == ["003", "009"]
    assert await shown(state=MeterState.INSTALLED) == ["004"]
    assert await shown(q="dev7") == ["007"]
    assert await shown(q="%") == [f"{n:03}" for n in range(10)]
    assert await shown(q="_") == []
    assert await shown(transformer="T") == []


async def test_the_life_of_a_meter(connection):
    number = (await meters.add(connection, NewMeter("1", "m"), since=T0)).meter_id
    await meters.change_state(connection, number, MeterState.INSTALLED, since=T0 + DAY)
    with pytest.raises(LifeCycleError, match="installed meter cannot become suspended"):
        await meters.change_state(connection, number, MeterState.SUSPENDED, since=T0 + 2 * DAY)
    with pytest.raises(ConflictError, match="give a later time"):
        await meters.change_state(connection, number, MeterState.COMMISSIONED, since=T0 + DAY)
    with pytest.raises(UnknownError):
        await meters.change_state(connection, number + 1, MeterState.INSTALLED, since=T0)
    assert await meters.states(connection, number) == [
        (MeterState.RECEIVED, T0),
        (MeterState.INSTALLED, T0 + DAY),
    ]


async def test_identity_is_learnt_once(connection):
    numbers = await meters.add_many(connection, [NewMeter("1", "m"), NewMeter("2", "m")], since=T0)
    await meters.learn_identity(connection, numbers["1"], title=bytes(8))
    await meters.learn_identity(connection, numbers["1"], title=bytes(8), name="N")
    with pytest.raises(ConflictError, match="another system title"):
        await meters.learn_identity(connection, numbers["1"], title=b"x" * 8)
    with pytest.raises(ConflictError, match="in use by another meter"):
        await meters.learn_identity(connection, numbers["2"], name="N")
    meter = await meters.get(connection, numbers["1"])
    assert (meter.system_title, meter.logical_device_name) == (bytes(8), "N")
    await meters.set_address(connection, numbers["2"], "inbound:")
    assert (await meters.by_asset(connection, "2")).address == "inbound:"
    with pytest.raises(UnknownError):
        await meters.set_address(connection, 99, None)


async def test_a_meter_exchange(connection):
    numbers = await meters.add_many(
        connection, [NewMeter("old", "m"), NewMeter("new", "m"), NewMeter("third", "m")], since=T0
    )
    point = (await points.ensure(connection, ["P1", "P1"]))["P1"]
    assert await points.ensure(connection, ["P1"]) == {"P1": point}
    assert (await points.get(connection, "P1")).point_id == point
    start, removal = (
        {"1-0:1.8.0*255": Decimal("0.00")},
        {"1-0:1.8.0*255": Decimal("12345678901234567890.123")},
    )
    await points.install(connection, point_id=point, meter_id=numbers["old"], since=T0, registers=start)
    at = datetime(2026, 2, 1, 12, tzinfo=timezone(timedelta(hours=1)))
    with pytest.raises(ConflictError, match="the point has another"):
        await points.install(connection, point_id=point, meter_id=numbers["new"], since=at)
    with pytest.raises(UnknownError):
        await points.exchange(
            connection, old_meter_id=numbers["old"], new_meter_id=99, at=at, removal_registers=removal,
            start_registers={},
        )  # fmt: skip
    assert (await points.at_point(connection, point))[0].until is None  # the failed exchange left no trace
    await points.exchange(
        connection, old_meter_id=numbers["old"], new_meter_id=numbers["new"], at=at,
        removal_registers=removal, start_registers=start,
    )  # fmt: skip
    old, new = await points.at_point(connection, point)
    assert (old.meter_id, old.since, old.until) == (numbers["old"], T0, at)
    assert (new.meter_id, new.since, new.until) == (numbers["new"], at, None)
    assert (old.start_registers, old.removal_registers) == (start, removal)
    assert str(old.start_registers["1-0:1.8.0*255"]) == "0.00"
    assert new.removal_registers is None
    assert await points.of_meter(connection, numbers["old"]) == [old]
    both = [numbers["old"], numbers["new"]]
    assert await points.codes_at(connection, both, at) == {numbers["new"]: "P1"}
    assert await points.codes_at(connection, both, at - DAY) == {numbers["old"]: "P1"}
    with pytest.raises(ConflictError, match="no open installation"):
        await points.remove(connection, meter_id=numbers["old"], until=at + DAY, registers={})
    other = (await points.ensure(connection, ["P2"]))["P2"]
    with pytest.raises(ConflictError, match="the meter has another"):
        await points.install(connection, point_id=other, meter_id=numbers["new"], since=at + DAY)
    with pytest.raises(ValueError, match="finite"):
        await points.remove(
            connection, meter_id=numbers["new"], until=at + DAY, registers={"x": Decimal("NaN")}
        )
    with pytest.raises(UnknownError, match="P3"):
        await points.get(connection, "P3")


async def test_ratios_follow_one_another(connection):
    point = (await points.ensure(connection, ["P1"]))["P1"]
    first = Ratio(T0, None, Decimal(100), Decimal(5))
    second = Ratio(T0 + DAY, None, Decimal(200), Decimal(5), Decimal(20000), Decimal("100.5"))
    await points.set_ratio(connection, point, first)
    await points.set_ratio(connection, point, second)
    assert await points.ratios(connection, point) == [Ratio(T0, T0 + DAY, Decimal(100), Decimal(5)), second]
    for wrong in (Ratio(T0, None, Decimal(1), Decimal(1)), Ratio(T0 + DAY, T0, Decimal(1), Decimal(1))):
        with pytest.raises(ConflictError):
            await points.set_ratio(connection, point, wrong)
    with pytest.raises(UnknownError):
        await points.set_ratio(connection, point + 1, first)
    assert len(await points.ratios(connection, point)) == 2


async def test_tokens(connection):
    now = datetime.now(UTC)
    issued = await tokens.create(connection, name="nightly", scopes=[Scope.OPERATE])
    assert issued.secret not in repr(issued)
    stored = await (await connection.execute("SELECT * FROM api_tokens")).fetchall()
    assert issued.secret not in str(stored)
    token = await tokens.verify(connection, issued.secret, now=now)
    assert token is not None
    assert (token.token_id, token.name) == (issued.token.token_id, "nightly")
    assert [token.allows(scope) for scope in (Scope.READ, Scope.OPERATE, Scope.ADMIN)] == [True, True, False]
    for wrong in ("", "hdnd_", issued.secret[:-1], issued.secret + "x", issued.secret[5:], "hdnd_" + "ä" * 9):
        assert await tokens.verify(connection, wrong, now=now) is None
    for wrong in ({"name": " ", "scopes": [Scope.READ]}, {"name": "n", "scopes": []}):
        with pytest.raises(ValueError):
            await tokens.create(connection, **wrong)
    short = await tokens.create(connection, name="s", scopes=[Scope.READ], expires_at=now + DAY)
    assert await tokens.verify(connection, short.secret, now=now + DAY - timedelta(seconds=1))
    assert await tokens.verify(connection, short.secret, now=now + DAY) is None
    await tokens.revoke(connection, issued.token.token_id, now=now)
    assert await tokens.verify(connection, issued.secret, now=now) is None
    with pytest.raises(UnknownError):
        await tokens.revoke(connection, 99, now=now)
    assert [t.revoked_at for t in await tokens.list_all(connection)] == [now, None]


async def test_the_use_of_a_token_is_noted_once_a_minute(connection):
    now = datetime.now(UTC)
    issued = await tokens.create(connection, name="n", scopes=[Scope.READ])
    for seconds, noted in ((0, 0), (30, 0), (61, 61), (100, 61)):
        await tokens.verify(connection, issued.secret, now=now + timedelta(seconds=seconds))
        (token,) = await tokens.list_all(connection)
        assert token.last_used_at == now + timedelta(seconds=noted)


async def test_audit_is_newest_first(connection):
    for n in range(3):
        await audit.record(connection, actor="cli", action="test", object_=f"meter:{n % 2}", detail={"n": n})
    newest = await audit.page(connection, limit=2)
    assert [entry.detail["n"] for entry in newest] == [2, 1]
    rest = await audit.page(connection, limit=2, before=newest[-1].audit_id)
    assert [entry.detail["n"] for entry in rest] == [0]
    assert [entry.detail["n"] for entry in await audit.page(connection, limit=9, object_="meter:0")] == [2, 0]


async def test_one_source_cannot_fill_the_inbox(connection):
    async def put(source):
        return await inbox.put(connection, source=source, payload=b"\0\xff", reason="no profile", most=2)

    first, second = await put("a"), await put("a")
    assert await put("a") is None
    assert await put("b") is not None
    entries = await inbox.unresolved(connection, limit=9)
    assert [(e.source, e.payload, e.identity) for e in entries] == [("a", b"\0\xff", None)] * 2 + [
        ("b", b"\0\xff", None)
    ]
    await inbox.resolve(connection, first)
    assert [e.inbox_id for e in await inbox.unresolved(connection, limit=1)] == [second]
    assert await put("a") is not None
    with pytest.raises(UnknownError):
        await inbox.resolve(connection, 99)
