"""The push listener over real sockets into a real database: every capture stores its values, a confirm comes
after the commit only, and what cannot be stored is in the inbox with its reason."""

import asyncio
import json
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path

import psycopg
import pytest

from headend.ingest.pipeline import Pipeline
from headend.keys.seal import MasterKey, Sealer
from headend.keys.vault import Vault
from headend.listen import directory
from headend.listen.limits import Limits
from headend.listen.push import PushListener
from headend.store import inbox, key_generations, keyring, meters
from headend.store.pool import open_pool
from headend.store.writer import write
from protocols.dlms import ciphering, hdlc, wrapper
from protocols.dlms.security import CipherKeys, Key
from schemas.config import Settings
from schemas.meter import KeyPurpose, NewMeter
from schemas.reading import Quality

CAPTURES = Path(__file__).parents[1] / "vectors" / "captures"
ALL = {
    entry["id"]: entry
    for name in ("han_nordic", "push_dumps", "mbus_austria")
    for entry in json.loads((CAPTURES / f"{name}.json").read_text())["entries"]
}
AIDON_LINE = (hdlc.HdlcAddress(0x20), hdlc.HdlcAddress(4, 0x41))
KAIFA_LINE = (hdlc.HdlcAddress(0), hdlc.HdlcAddress(1, 0))

#: asset id, model, system title, and which captures are its: those of one tuple come on one connection.
FLEET = [
    ("7359992892587665", "aidon", None,
     ("aidon_no_list_2", "aidon_no_list_1", "aidon_se_list", "hdlc_7d_in_content", "hdlc_norway_han_3phase")),
    ("7359992890941742", "aidon", None, ("hdlc_norway_han_1phase",)),
    ("6970631402614476", "kaifa-ma304", None,
     ("kaifa_no_list_3", "kaifa_no_list_2", "kaifa_no_list_1", "hdlc_7e_in_content")),
    ("6970631401753985", "kaifa-ma304", None, ("hdlc_kaifa_ma304h3e",)),
    ("5706567000000000", "kamstrup-omnipower", None,
     ("kamstrup_no_list_1_three_phase", "kamstrup_no_list_2_three_phase", "kamstrup_no_list_2_single_phase")),
    ("5705705705705702", "kamstrup-omnipower", None, ("kamstrup_no_list_1_single_phase_real_sample",)),
    ("5705705705705707", "kamstrup-omnipower", None, ("kamstrup_se_list_real_sample",)),
    ("5706567326590407", "kamstrup-omnipower", None, ("kamstrup_se_full_frame",)),
    ("84895126", "iskra-am550", None, ("hdlc_iskra550",)),
    ("E450-1", "landisgyr-e450", "4c475a677370b177", ("hdlc_landis_gyr_e450",)),
    ("MA309-1", "kaifa-ma309", "4b464d6750000009", ("mbus_netz_noe_p1",)),
    ("MA309-2", "kaifa-ma309", "4b464d6750000881", ("netznoe_kaifa_real",)),
    ("EGD012345", "egd", None, ("raw_egd_example",)),
    ("5100005149", "sagemcom-xt211", None, ("raw_sagecom_xt211",)),
]  # fmt: skip
SYMBOLS = {
    "active_power_import": "1.7.0", "active_power_export": "2.7.0",
    "reactive_power_import": "3.7.0", "reactive_power_export": "4.7.0",
    "active_power_import_total": "1.8.0", "active_power_export_total": "2.8.0",
    "reactive_power_import_total": "3.8.0", "reactive_power_export_total": "4.8.0",
    "current_l1": "31.7.0", "current_l2": "51.7.0", "current_l3": "71.7.0",
    "voltage_l1": "32.7.0", "voltage_l2": "52.7.0", "voltage_l3": "72.7.0",
}  # fmt: skip


def frames(entry, line=None):
    """A capture as it would come over the network; bare APDUs in frames of ``line``, or of the wrapper."""
    for name in ("hdlc_frames_hex", "mbus_frames_hex"):
        if name in entry:
            return b"".join(map(bytes.fromhex, entry[name]))
    if "hdlc_hex" in entry:
        return bytes.fromhex(entry["hdlc_hex"])
    apdu = bytes.fromhex(entry.get("llc_apdu_hex") or entry["apdu_hex"])
    if "llc_apdu_hex" not in entry:
        return wrapper.encode(1, 16, apdu)
    destination, source = line or AIDON_LINE
    return hdlc.encode_frame(destination, source, 0x13, apdu)


def expected(entry):
    """(groups C.D.E, value) of every number that the capture's source lists."""
    if "expected_by_obis" in entry:
        return {
            (".".join(obis.split(".")[2:5]), Decimal(str(value)))
            for obis, value in entry["expected_by_obis"].items()
            if not isinstance(value, str)
        }
    listed = entry.get("expected", {})
    return {(SYMBOLS[name], Decimal(str(value))) for name, value in listed.items() if name in SYMBOLS}


class Bench:
    """A database, the pipeline, the listener, and a fleet."""

    def __init__(self, pool, vault, pipeline, listener):
        self.pool = pool
        self.vault = vault
        self.pipeline = pipeline
        self.listener = listener

    async def add(self, new, keys=None):
        async with self.pool.connection() as connection:
            meter = await meters.add(connection, new, since=datetime(2026, 1, 1, tzinfo=UTC))
            if keys:
                await self.vault.put(connection, {meter.meter_id: keys})
        return meter

    async def rows(self, asset_id):
        async with self.pool.connection() as connection:
            cursor = await connection.execute(
                "SELECT obis, value, text, unit, meter_time, quality, read_at FROM register_reads"
                " JOIN meters USING (meter_id) WHERE asset_id = %s ORDER BY read_at, obis", [asset_id]
            )  # fmt: skip
            return await cursor.fetchall()

    async def inbox(self):
        async with self.pool.connection() as connection:
            return await inbox.unresolved(connection, limit=100)

    async def tcp(self, data, *, answered=False):
        """Send on a connection of its own and wait until it is settled; the answer, where one is due."""
        before, accepted = self.listener.tcp.open, self.listener.tcp.totals.accepted
        reader, writer = await asyncio.open_connection("127.0.0.1", self.listener.tcp.port)
        writer.write(data)
        answer = b""
        if answered:
            async with asyncio.timeout(20):
                answer = await reader.read(1000)
        writer.close()
        await writer.wait_closed()
        await self.until(lambda: self.listener.tcp.totals.accepted > accepted)
        await self.until(lambda: self.listener.tcp.open <= before)
        return answer

    async def udp(self, *datagrams, answers=0):
        got = asyncio.Queue()

        class Client(asyncio.DatagramProtocol):
            def datagram_received(self, data, addr):
                got.put_nowait(data)

        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            Client, remote_addr=("127.0.0.1", self.listener.udp.port)
        )
        for datagram in datagrams:
            transport.sendto(datagram)
        async with asyncio.timeout(20):
            answer = [await got.get() for _ in range(answers)]
        transport.close()
        return answer

    async def until(self, condition):
        """Wait for the listener to come to something."""
        async with asyncio.timeout(20):
            while not condition():  # noqa: ASYNC110 - the listener tells nobody what it counts
                await asyncio.sleep(0.005)


@pytest.fixture
async def make_bench():
    stacks = []

    async def make(database, limits=None, **settings):
        given = Settings(listen_push_tcp="127.0.0.1:0", listen_push_udp="127.0.0.1:0", **settings)
        stack = AsyncExitStack()
        stacks.append(stack)
        pool = await stack.enter_async_context(open_pool(database.dsn))
        async with pool.connection() as connection:
            vault = await Vault.open(connection, Sealer(MasterKey(bytes(32))))
        pipeline = await stack.enter_async_context(Pipeline(partial(write, pool), linger_s=0.01))
        listener = await stack.enter_async_context(
            PushListener(given, pool.connection, vault, pipeline, limits=limits)
        )
        return Bench(pool, vault, pipeline, listener)

    yield make
    for stack in reversed(stacks):
        await stack.aclose()


def keys_of(entry):
    found = {
        KeyPurpose.ENCRYPTION: entry.get("encryption_key_hex"),
        KeyPurpose.AUTHENTICATION: entry.get("authentication_key_hex"),
    }
    return {purpose: Key.from_hex(text) for purpose, text in found.items() if text}


async def test_every_capture_stores_its_values(database, make_bench):
    bench = await make_bench(database)
    for asset_id, model, title, captures in FLEET:
        await bench.add(
            NewMeter(asset_id, model, None if title is None else bytes.fromhex(title)),
            keys_of(ALL[captures[0]]),
        )
    for asset_id, model, _, captures in FLEET:
        line = KAIFA_LINE if model == "kaifa-ma304" else AIDON_LINE
        if asset_id == "5100005149":
            await bench.udp(bytes.fromhex(ALL[captures[0]]["apdu_hex"]))
            await bench.until(lambda: bench.listener.totals.everything.stored == 23)
        else:
            await bench.tcp(b"".join(frames(ALL[capture], line) for capture in captures))
    for asset_id, _, _, captures in FLEET:
        rows = await bench.rows(asset_id)
        stored = {(obis.split(":")[1].split("*")[0], value) for obis, value, *_ in rows}
        for capture in captures:
            listed = expected(ALL[capture])
            assert listed <= stored, capture
            assert listed or capture in ("hdlc_kaifa_ma304h3e", "netznoe_kaifa_real")
        assert {row[5] for row in rows} == {Quality.PUSHED}
    kaifa = {row[0]: row for row in await bench.rows("6970631401753985")}
    assert kaifa["1-0:32.7.0*255"][1:4] == (Decimal("238.5"), None, "V")
    assert kaifa["1-0:32.7.0*255"][4] == datetime(2017, 9, 15, 3, 33, 40, tzinfo=UTC)  # Oslo, summer time
    assert kaifa["0-0:96.1.7*255"][2] == "MA304H3E"
    austria = {row[0]: row for row in await bench.rows("MA309-2")}
    assert austria["1-0:1.8.0*255"][1:4] == (Decimal(0x147414), None, "Wh")
    assert await bench.inbox() == []
    assert bench.listener.totals.everything.stored == 23


async def test_what_came_before_a_cut_is_stored_and_the_bytes_are_kept(database, make_bench):
    bench = await make_bench(database)
    await bench.add(NewMeter("5100005149", "sagemcom-xt211"))
    apdu = bytes.fromhex(ALL["raw_sagecom_xt211"]["apdu_hex"])[:-3]
    await bench.tcp(wrapper.encode(1, 16, apdu))
    (kept,) = await bench.inbox()
    assert kept.reason.startswith("stored in part: cut short")
    assert (kept.identity, kept.payload) == ("5100005149", apdu)
    assert len(await bench.rows("5100005149")) == 21


async def test_what_cannot_be_stored_is_kept_with_its_reason(database, make_bench):
    bench = await make_bench(database)
    await bench.tcp(frames(ALL["mbus_kmswest"]))
    await bench.tcp(frames(ALL["hdlc_iskra550"]))
    await bench.tcp(frames(ALL["aidon_no_list_1"]))
    await bench.tcp(b"no frame at all")
    await bench.tcp(wrapper.encode(1, 16, b"\xc4\x01\xc1\x00\x00"))
    reasons = [(entry.identity, entry.reason) for entry in await bench.inbox()]
    assert reasons == [
        ("454C536570000001", "no meter has system title 454C536570000001"),
        ("160456 84895126", "no meter has a name or number that it tells"),
        (None, "it does not tell which meter it is from, nor did one before it on this line"),
        (None, "bytes outside any frame"),
        (None, "get-response is no push"),
    ]
    assert all(entry.source == "push tcp 127.0.0.1" for entry in await bench.inbox())
    assert (await bench.inbox())[0].payload == bytes.fromhex(ALL["mbus_kmswest"]["ciphered_apdu_hex"])


async def test_a_key_that_is_missing_or_wrong(embedded_database, make_bench):
    bench = await make_bench(embedded_database)
    title = bytes.fromhex(ALL["mbus_netz_noe_p1"]["system_title_hex"])
    await bench.add(NewMeter("P1", "kaifa-ma309", title), {KeyPurpose.ENCRYPTION: Key(b"x" * 16)})
    await bench.add(NewMeter("W", "kaifa-ma309", bytes.fromhex("454c536570000001")))
    await bench.tcp(frames(ALL["mbus_netz_noe_p1"]))
    await bench.tcp(frames(ALL["mbus_kmswest"]))
    wrong, missing = [entry.reason for entry in await bench.inbox()]
    assert wrong.startswith(("does not decipher to a push, wrong key?", "meter P1: deciphering gives"))
    assert missing == "meter W: its encryption key is not stored"
    assert await bench.rows("P1") == []


async def test_a_push_under_keys_that_are_being_changed_is_understood(
    embedded_database, make_bench, monkeypatch
):
    """Also where the meter was looked up before they were; never under keys that were not sent."""
    monkeypatch.setattr(directory, "_AGAIN_S", 0.0)
    entry = ALL["hdlc_landis_gyr_e450"]
    bench = await make_bench(embedded_database)
    keys = keys_of(entry)
    title = bytes.fromhex(entry["system_title_hex"])
    meter = await bench.add(
        NewMeter("E450-1", "landisgyr-e450", title), {purpose: Key(b"x" * 16) for purpose in keys}
    )
    async with bench.pool.connection() as connection:
        await bench.vault.add_pending(connection, meter.meter_id, keys, campaign_id=None, actor="test")
    await bench.tcp(frames(entry))
    assert await bench.rows("E450-1") == []
    assert len(await bench.inbox()) == 1
    async with bench.pool.connection() as connection:
        await key_generations.sent(connection, meter.meter_id)
    await bench.tcp(frames(entry))
    assert await bench.rows("E450-1")


async def test_a_replayed_message_is_refused_also_after_a_restart(database, make_bench):
    entry = ALL["hdlc_landis_gyr_e450"]
    bench = await make_bench(database)
    await bench.add(
        NewMeter("E450-1", "landisgyr-e450", bytes.fromhex(entry["system_title_hex"])), keys_of(entry)
    )
    await bench.tcp(frames(entry))
    before = await bench.rows("E450-1")
    assert before
    again = await make_bench(database)
    for one in (bench, again):
        await one.tcp(frames(entry))
        assert one.listener.totals.everything.replayed == 1
    assert await bench.rows("E450-1") == before
    assert "counter 1539018 was seen before" in (await bench.inbox())[0].reason


async def test_a_crash_before_the_commit_loses_no_unconfirmed_push(database, make_bench, monkeypatch):
    entry = ALL["hdlc_landis_gyr_e450"]
    bench = await make_bench(database)
    await bench.add(
        NewMeter("E450-1", "landisgyr-e450", bytes.fromhex(entry["system_title_hex"])), keys_of(entry)
    )
    reached = asyncio.Event()

    async def crash(batch, _settlement):
        reached.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(bench.pipeline, "_write", crash)
    _, sender = await asyncio.open_connection("127.0.0.1", bench.listener.tcp.port)
    sender.write(frames(entry))
    await reached.wait()
    await bench.tcp(frames(entry))  # held meanwhile: the same message cannot pass twice
    assert bench.listener.totals.everything.replayed == 1
    again = await make_bench(database)
    await again.tcp(frames(entry))
    assert again.listener.totals.everything.stored == 1
    stored = await again.rows("E450-1")
    assert stored
    await again.tcp(frames(entry))
    assert again.listener.totals.everything.replayed == 1
    assert await again.rows("E450-1") == stored
    bench.pipeline.task.cancel()
    sender.close()


async def test_a_crash_after_the_commit_repeats_without_effect(database, make_bench, monkeypatch):
    entry = ALL["hdlc_landis_gyr_e450"]
    bench = await make_bench(database)
    await bench.add(
        NewMeter("E450-1", "landisgyr-e450", bytes.fromhex(entry["system_title_hex"])), keys_of(entry)
    )
    reached = asyncio.Event()

    async def crash(connection, proven):
        reached.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(keyring, "advance_peers", crash)
        _, sender = await asyncio.open_connection("127.0.0.1", bench.listener.tcp.port)
        sender.write(frames(entry))
        await reached.wait()
    before = await bench.rows("E450-1")
    assert before
    again = await make_bench(database)
    await again.tcp(frames(entry))
    assert again.listener.totals.everything.stored == 1
    assert await again.rows("E450-1") == before
    sender.close()


async def test_a_plain_push_that_comes_twice_is_stored_once_also_after_a_restart(database, make_bench):
    bench = await make_bench(database)
    await bench.add(NewMeter("84895126", "iskra-am550"))
    await bench.tcp(frames(ALL["hdlc_iskra550"]))
    before = await bench.rows("84895126")
    assert before
    again = await make_bench(database)
    for one in (bench, again):
        await one.tcp(frames(ALL["hdlc_iskra550"]) * 2)
    assert await bench.rows("84895126") == before
    assert again.listener.totals.everything.stored == 2
    assert await bench.inbox() == []


async def test_a_ciphered_meter_is_not_believed_in_plain(embedded_database, make_bench):
    bench = await make_bench(embedded_database)
    await bench.add(NewMeter("84895126", "landisgyr-e450"))
    await bench.tcp(frames(ALL["hdlc_iskra550"]))
    (kept,) = await bench.inbox()
    assert kept.reason == ("meter 84895126: its model landisgyr-e450 allows no push without ciphering")


async def test_protection_below_the_models_is_refused(embedded_database, make_bench):
    bench = await make_bench(embedded_database)
    keys = CipherKeys(Key(b"e" * 16), Key(b"a" * 16))
    await bench.add(
        NewMeter("E1", "landisgyr-e450", b"LGZ00001"),
        {KeyPurpose.ENCRYPTION: keys.encryption, KeyPurpose.AUTHENTICATION: keys.authentication},
    )
    plain = bytes.fromhex(ALL["hdlc_iskra550"]["apdu_hex"])
    for counter, control in ((1, 0x20), (2, 0x30)):
        await bench.tcp(wrapper.encode(1, 16, ciphering.seal_apdu(
            plain, control=control, counter=counter, system_title=b"LGZ00001", keys=keys, general=True
        )))  # fmt: skip
    (kept,) = await bench.inbox()
    assert "policy is not met: the message is not authenticated" in kept.reason
    assert len(await bench.rows("E1")) == 16


#: Confirmed service class; meter number ABCD1234 and 1.8.0 = 100 Wh.
CONFIRMED = bytes.fromhex(
    "0f40000007 00 0202"
    "0202 0906 0000600100ff 0908 4142434431323334"
    "0203 0906 0100010800ff 0600000064 0202 0f00 161e"
)


async def test_a_confirm_comes_after_the_commit_and_in_the_same_framing(database, make_bench):
    bench = await make_bench(database)
    await bench.add(NewMeter("ABCD1234", "iskra-am550"))
    answer = await bench.tcp(wrapper.encode(1, 16, CONFIRMED), answered=True)
    frame = wrapper.parse(answer).frame
    assert (frame.source, frame.destination) == (16, 1)
    assert frame.apdu[0] == 0x10
    assert frame.apdu[1:5] == CONFIRMED[1:5]
    assert len(await bench.rows("ABCD1234")) == 2
    (datagram,) = await bench.udp(CONFIRMED, answers=1)
    assert datagram == frame.apdu
    ui = hdlc.encode_frame(*AIDON_LINE, 0x13, hdlc.LLC_RESPONSE + CONFIRMED)
    answer = await bench.tcp(ui, answered=True)
    assert hdlc.parse(answer).frame.information == hdlc.LLC_COMMAND + frame.apdu
    assert bench.listener.totals.everything.confirmed == 3


async def test_nothing_is_confirmed_that_is_not_committed(database, make_bench, monkeypatch):
    bench = await make_bench(database)
    await bench.add(NewMeter("ABCD1234", "iskra-am550"))
    gate, reached = asyncio.Event(), asyncio.Event()
    committed = bench.pipeline._write

    async def slow(batch, settlement):
        reached.set()
        await gate.wait()
        return await committed(batch, settlement)

    monkeypatch.setattr(bench.pipeline, "_write", slow)
    sending = asyncio.create_task(bench.tcp(wrapper.encode(1, 16, CONFIRMED), answered=True))
    await reached.wait()
    _, other = await asyncio.open_connection("127.0.0.1", bench.listener.tcp.port)
    other.write(wrapper.encode(1, 16, b"\xc4\x01\xc1\x00\x00"))
    await bench.until(lambda: bench.listener.totals.everything.kept == 1)  # others are served meanwhile
    other.close()
    assert not sending.done()
    assert bench.listener.totals.everything.confirmed == 0
    gate.set()
    assert wrapper.parse(await sending).frame.apdu[0] == 0x10


async def test_lists_that_tell_nothing_are_not_guessed_where_several_send(embedded_database, make_bench):
    bench = await make_bench(embedded_database)
    await bench.add(NewMeter("7359992892587665", "aidon"))
    await bench.add(NewMeter("7359992890941742", "aidon"))
    entry = ALL["aidon_no_list_1"]
    await bench.tcp(frames(ALL["aidon_no_list_2"]) + frames(ALL["hdlc_norway_han_1phase"]) + frames(entry))
    (kept,) = await bench.inbox()
    assert "several send on this connection" in kept.reason


async def test_two_meters_on_one_connection_end_its_ties_on_every_line(embedded_database, make_bench):
    bench = await make_bench(embedded_database)
    await bench.add(NewMeter("7359992892587665", "aidon"))
    await bench.add(NewMeter("6970631402614476", "kaifa-ma304"))
    await bench.tcp(
        frames(ALL["aidon_no_list_2"])
        + frames(ALL["kaifa_no_list_2"], KAIFA_LINE)
        + frames(ALL["kaifa_no_list_1"], KAIFA_LINE)
    )
    (kept,) = await bench.inbox()
    assert "several send on this connection" in kept.reason


async def test_lists_that_tell_nothing_are_a_matter_of_the_model(embedded_database, make_bench, tmp_path):
    (tmp_path / "strict.toml").write_text(
        'title = "x"\ninherit = "aidon"\n[quirks]\nanonymous_lists = false\n'
    )
    bench = await make_bench(embedded_database, profiles_dir=tmp_path)
    await bench.add(NewMeter("7359992892587665", "strict"))
    await bench.tcp(frames(ALL["aidon_no_list_2"]) + frames(ALL["aidon_no_list_1"]))
    (kept,) = await bench.inbox()
    assert "model strict does not say that such lists are its own" in kept.reason
    assert kept.identity == "7359992892587665"
    assert await bench.rows("7359992892587665")


async def test_the_database_goes_away_and_comes_back(embedded_database, make_bench, monkeypatch):
    bench = await make_bench(embedded_database)
    await bench.add(NewMeter("ABCD1234", "iskra-am550"))
    connect, refusals = bench.listener.handler._connect, 2

    def away():
        nonlocal refusals
        if refusals:
            refusals -= 1
            raise psycopg.OperationalError("the database system is starting up")
        return connect()

    directory = bench.listener._directory
    monkeypatch.setattr(directory, "_connect", away)
    assert await bench.tcp(wrapper.encode(1, 16, CONFIRMED), answered=True)
    assert refusals == 0
    assert len(await bench.rows("ABCD1234")) == 2


async def test_a_full_inbox_of_one_source_is_counted(embedded_database, make_bench, monkeypatch):
    monkeypatch.setattr(inbox, "put", partial(inbox.put, most=2))
    bench = await make_bench(embedded_database)
    for _ in range(3):
        await bench.tcp(wrapper.encode(1, 16, b"\xc4\x01\xc1\x00\x00"))
    totals = bench.listener.totals.everything
    assert (totals.kept, totals.dropped) == (2, 1)


async def test_one_broken_sender_harms_nobody_else(embedded_database, make_bench):
    limits = Limits(connections=1_100, per_host=1_100, bad_in_a_row=3, frame_s=0.2, idle_s=60)
    bench = await make_bench(embedded_database, limits)
    await bench.add(NewMeter("ABCD1234", "iskra-am550"))
    idle = [await asyncio.open_connection("127.0.0.1", bench.listener.tcp.port) for _ in range(1_000)]
    slow_reader, slow_writer = await asyncio.open_connection("127.0.0.1", bench.listener.tcp.port)
    slow_writer.write(b"\x7e\xa0")
    # garbage: dirt in front of each of many headers
    _, noisy = await asyncio.open_connection("127.0.0.1", bench.listener.tcp.port)
    noisy.write(b"\x7e\xa0\x0a\x01\x01\x13\xff\xff\x7e" * 2_000)
    answer = await bench.tcp(wrapper.encode(1, 16, CONFIRMED), answered=True)
    assert wrapper.parse(answer).frame.apdu[0] == 0x10
    assert await slow_reader.read() == b""  # hung up on: its frame did not end
    await bench.until(lambda: bench.listener.tcp.open == 1_000)
    assert bench.listener.totals.everything.bad_frames < 10
    over = [await asyncio.open_connection("127.0.0.1", bench.listener.tcp.port) for _ in range(101)]
    await bench.until(lambda: bench.listener.tcp.totals.refused == 1)
    for _, writer in [*idle, *over, (slow_reader, slow_writer), (None, noisy)]:
        writer.close()
    await bench.until(lambda: bench.listener.tcp.open == 0)


async def test_a_fast_udp_sender_is_refused_and_counted(embedded_database, make_bench):
    bench = await make_bench(embedded_database, Limits(frames_per_s=0.001, burst=2))
    await bench.add(NewMeter("ABCD1234", "iskra-am550"))
    await bench.udp(*[CONFIRMED] * 5, answers=2)
    await bench.until(lambda: bench.listener.udp.totals.received == 5)
    assert bench.listener.udp.totals.refused == 3
    assert len(await bench.rows("ABCD1234")) == 4


async def test_rubbish_by_udp_is_counted_and_harms_nobody(embedded_database, make_bench):
    bench = await make_bench(embedded_database, Limits(waiting=64, burst=100_000))
    await bench.add(NewMeter("ABCD1234", "iskra-am550"))
    sizes = (0, 1, 7, 8, 100, 1_472, 9_000)
    await bench.udp(*[bytes((n % 256,)) * sizes[n % len(sizes)] for n in range(2_000)])
    await bench.until(lambda: bench.listener.udp.totals.received > 0)
    await asyncio.sleep(0.3)  # what waits is looked at; more was dropped, as datagrams are
    (answer,) = await bench.udp(CONFIRMED, answers=1)
    assert answer[0] == 0x10
    assert bench.listener.udp.totals.received <= 2_001
    assert len(await bench.rows("ABCD1234")) == 2
