"""DL/T 645, IEC 62056-21 and P1 behind the contract, against peers that say what real meters said."""

import asyncio
import json
import re
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import pytest

from headend.drivers.contract import Recall, Target
from headend.drivers.dlt645.driver import Dlt645Driver
from headend.drivers.iec62056_21.driver import Iec62056Driver
from headend.drivers.line_driver import LineTiming
from headend.drivers.p1.driver import P1Driver
from headend.drivers.samples import plain
from headend.session.opening import open_hdlc
from protocols.dlt645.control import Control
from protocols.dlt645.frame import Dlt645Frame, encode_frame
from protocols.errors import LinkTimeout, LocalProtocolError, RemoteProtocolError
from schemas.address import LinkAddress
from schemas.reading import Quality
from schemas.register_model import Sampling
from tests.integration.line_peers import SETS, Meter645, Readout, captured_telegram, serving_line, serving_tcp

VECTORS = Path(__file__).parents[1] / "vectors"
DLT = {one["id"]: one for one in json.loads((VECTORS / "dlt645/frames.json").read_text())["entries"]}
P1 = {
    one["id"]: one["telegram"].encode("latin-1")
    for one in json.loads((VECTORS / "p1/telegrams.json").read_text())["entries"]
}
READOUTS = [
    one["text"] for one in json.loads((VECTORS / "iec62056_21/readouts.json").read_text())["readouts"]
]
BOUNDARY = datetime(2026, 3, 10, 12, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
QUICK = LineTiming(connect_s=5, answer_s=0.4, quiet_s=0.01)


def target(address, model):
    return Target(SimpleNamespace(meter_id=7, asset_id="M7", model=model, address=address))


@asynccontextmanager
async def conversation(driver, address, model):
    found = await driver.prepare([target(address, model)])
    async with driver.open(found[7]) as talk:
        yield talk


@asynccontextmanager
async def talking(answer, driver, scheme, model):
    """A conversation with such a port."""
    async with serving_tcp(answer) as place, conversation(driver, f"{scheme}://{place}", model) as talk:
        yield talk


def registers(readout):
    return {
        one.obis: (one.text if one.value is None else str(one.value), one.unit)
        for one in readout.batch.registers
    }


def run(main):
    return asyncio.run(main)


# ---- DL/T 645 -------------------------------------------------------------------------------------------


def captured(received):
    if not received:
        return b""
    assert received.lstrip(b"\xfe") == bytes.fromhex(DLT["read_energy_req"]["hex"])
    return bytes.fromhex(DLT["read_energy_resp"]["hex"])


def test_the_captured_energy_is_read_over_tcp():
    async def main():
        async with serving_tcp(captured) as place:
            address = f"dlt645+tcp://{place}?meter=000000000001"
            async with conversation(Dlt645Driver(timing=QUICK), address, "dlt645-2007") as talk:
                readout = await talk.read_registers(["dlt645:00-01-00-00"])
                assert len(talk.answers_s) == 1
                return readout

    readout = run(main())
    # 123456.78 kWh in the capture's own words
    assert registers(readout) == {"1-0:1.8.0*255": ("123456780", "Wh")}
    assert readout.refusals == ()


def test_the_captured_energy_is_read_over_a_serial_line():
    async def main():
        async with serving_line(captured) as device:
            address = f"dlt645+serial://{device}?meter=000000000001&parity=N"  # no pty has parity
            async with conversation(Dlt645Driver(timing=QUICK), address, "dlt645-2007") as talk:
                return await talk.read_registers(["dlt645:00-01-00-00"])

    assert registers(run(main())) == {"1-0:1.8.0*255": ("123456780", "Wh")}


def test_the_captured_refusal_is_told_beside_values():
    refusal = bytes.fromhex(DLT["read_error_resp"]["hex"])

    async def main():
        async with serving_tcp(lambda data: refusal if data else b"") as place:
            address = f"dlt645+tcp://{place}?meter=000000000001"
            async with conversation(Dlt645Driver(timing=QUICK), address, "dlt645-2007") as talk:
                return await talk.read_registers()

    readout = run(main())
    assert readout.batch.registers == ()
    assert len(readout.refusals) == 7
    assert "no such data" in readout.refusals[0].reason


def test_a_model_gives_what_its_identifiers_bring():
    data = {
        "00-01-FF-00": bytes.fromhex("78563412" + "00000001" + "FFFFFFFF"),
        "02-01-FF-00": bytes.fromhex("0522" + "0422" + "FFFF"),
        "02-03-FF-00": bytes.fromhex("341285" + "341205"),
    }

    async def main():
        async with serving_tcp(Meter645(data)) as place:
            address = f"dlt645+tcp://{place}"  # the only meter on the line needs no address
            async with conversation(Dlt645Driver(timing=QUICK), address, "dlt645-2007") as talk:
                return await talk.read_registers()

    readout = run(main())
    found = registers(readout)
    assert found["1-0:1.8.0*255"] == ("123456780", "Wh")
    assert found["1-0:1.8.1*255"] == ("10000000", "Wh")
    assert found["1-0:32.7.0*255"] == ("220.5", "V")
    assert found["1-0:16.7.0*255"] == ("-5123.4", "W")
    refused = {one.obis: one.reason for one in readout.refusals}
    assert refused["1-0:1.8.2*255"] == "the meter has no value"
    assert "no such data" in refused["dlt645:02-02-FF-00"]


def test_single_codes_ask_only_what_brings_them():
    meter = Meter645({"00-01-FF-00": bytes.fromhex("78563412")})

    async def main():
        async with serving_tcp(meter) as place:
            address = f"dlt645+tcp://{place}?meter=000000000001"
            async with conversation(Dlt645Driver(timing=QUICK), address, "dlt645-2007") as talk:
                return await talk.read_registers(["1-0:1.8.0", "1-0:99.8.7"])

    readout = run(main())
    assert registers(readout) == {"1-0:1.8.0*255": ("123456780", "Wh")}
    assert [one.obis for one in readout.refusals if "names no" in one.reason] == ["1-0:99.8.7*255"]


def test_an_answer_in_several_frames_is_one():
    meter = Meter645({"00-01-FF-00": [bytes.fromhex("78563412"), bytes.fromhex("00000001")]})

    async def main():
        async with serving_tcp(meter) as place:
            address = f"dlt645+tcp://{place}?meter=000000000001"
            async with conversation(Dlt645Driver(timing=QUICK), address, "dlt645-2007") as talk:
                return await talk.read_registers(["dlt645:00-01-FF-00"])

    found = registers(run(main()))
    assert found == {"1-0:1.8.0*255": ("123456780", "Wh"), "1-0:1.8.1*255": ("10000000", "Wh")}
    assert [frame.control.code for frame in meter.asked] == [0x11, 0x12]


def failing(answer, match, error, **more):
    async def main():
        async with serving_tcp(answer) as place:
            address = f"dlt645+tcp://{place}?meter=000000000001"
            async with conversation(Dlt645Driver(timing=QUICK), address, "dlt645-2007") as talk:
                with pytest.raises(error, match=match):
                    await talk.read_registers(["dlt645:00-01-00-00"])
                with pytest.raises(LocalProtocolError, match="is over"):
                    await talk.read_registers(["dlt645:00-01-00-00"])

    run(main())


def test_a_silent_meter_times_out_and_its_conversation_is_over():
    failing(lambda data: b"", "no answer within 0.4 s", LinkTimeout)


def test_an_answer_of_another_meter_is_not_taken():
    other = encode_frame(Dlt645Frame("000000000002", Control(0x91), bytes.fromhex("00000100" + "78563412")))
    failing(lambda data: other if data else b"", "1 frames of others: no answer", LinkTimeout)


def test_a_spoilt_answer_is_the_peers_fault():
    spoilt = bytearray(bytes.fromhex(DLT["read_energy_resp"]["hex"]))
    spoilt[-2] ^= 0xFF
    failing(lambda data: bytes(spoilt) if data else b"", "checksum|sum", RemoteProtocolError)


def test_what_is_under_way_when_the_line_is_opened_is_dropped():
    old = bytes.fromhex(DLT["read_error_resp"]["hex"])  # a refusal has no identifier: it would be believed

    async def main():
        async with serving_tcp(lambda data: captured(data) if data else old) as place:
            address = f"dlt645+tcp://{place}?meter=000000000001"
            driver = Dlt645Driver(timing=LineTiming(connect_s=5, answer_s=2, quiet_s=0.2))
            async with conversation(driver, address, "dlt645-2007") as talk:
                return await talk.read_registers(["dlt645:00-01-00-00"])

    assert registers(run(main())) == {"1-0:1.8.0*255": ("123456780", "Wh")}


def test_a_sample_around_the_boundary_is_an_interval():
    data = {"00-01-00-00": bytes.fromhex("78563412"), "00-02-00-00": bytes.fromhex("01000000")}
    when = BOUNDARY + timedelta(seconds=12)

    async def main(now):
        async with serving_tcp(Meter645(data)) as place:
            address = f"dlt645+tcp://{place}?meter=000000000001"
            driver = Dlt645Driver(timing=QUICK, now=lambda: now)
            assert [one.recall for one in driver.curves("dlt645-2007")] == [Recall.SAMPLED]
            async with conversation(driver, address, "dlt645-2007") as talk:
                return await talk.read_load_curve(1, BOUNDARY - QUARTER, BOUNDARY)

    batch = run(main(when))
    assert len(batch) == 1
    assert batch.values[0].tolist()[:2] == [12345678, 1]
    assert batch.layouts[0].channels[0].exact(12345678) == Decimal(123456780)
    assert (batch.quality[0], batch.start_us[0]) == (
        Quality.SAMPLED,
        int((BOUNDARY - QUARTER).timestamp() * 1e6),
    )
    assert batch.stamp_us[0] == int(when.timestamp() * 1e6)
    assert batch.covered_us == (
        (7, 1, int((BOUNDARY - QUARTER).timestamp() * 1e6), int(BOUNDARY.timestamp() * 1e6)),
    )
    late = run(main(BOUNDARY + timedelta(seconds=31)))
    assert (len(late), late.covered_us) == (0, ())


def record(stamp, energy):
    """A load record of class 4 alone, as the standard writes it."""
    time = bytes(reversed(bytes.fromhex(stamp.strftime("%y%m%d%H%M"))))
    four = b"".join(bytes(reversed(bytes.fromhex(f"{value:08d}"))) for value in (energy, energy // 10, 0, 0))
    inside = time + b"\xaa" * 3 + four + b"\xaa" * 3
    body = b"\xa0\xa0" + bytes((len(inside),)) + inside
    return body + bytes((sum(body) & 0xFF, 0xE5))


def test_load_records_are_a_stored_curve():
    east = timedelta(hours=8)
    kept = [BOUNDARY - n * QUARTER for n in range(40, -1, -1)]
    gone = kept.pop(20)  # the meter was without power then

    def records(frame):
        count = frame.data[4]
        since = datetime.strptime(bytes(reversed(frame.data[5:10])).hex() + "+0800", "%y%m%d%H%M%z")
        some = [one for one in kept if one >= since][: min(count, 6)]  # as many as fit its frame
        if not some:
            return None
        return b"".join(record(one + east, 1000 + kept.index(one)) for one in some)

    meter = Meter645({"06-04-00-01": records})

    async def main():
        async with serving_tcp(meter) as place:
            address = f"dlt645+tcp://{place}?meter=000000000001"
            driver = Dlt645Driver(timing=QUICK, now=lambda: BOUNDARY + timedelta(days=2))
            (curve,) = driver.curves("dlt645-2007-load-records")
            assert (curve.number, curve.recall, curve.period_s) == (2, Recall.STORED, 900)
            async with conversation(driver, address, "dlt645-2007-load-records") as talk:
                return await talk.read_load_curve(2, BOUNDARY - 30 * QUARTER, BOUNDARY)

    batch = run(main())
    ends = [BOUNDARY - n * QUARTER for n in range(29, -1, -1)]
    ends.remove(gone)
    assert batch.start_us.tolist() == [int((one - QUARTER).timestamp() * 1e6) for one in ends]
    assert batch.values[:, 0].tolist() == [1000 + kept.index(one) for one in ends]
    assert batch.covered_us[0][2:] == (
        int((BOUNDARY - 30 * QUARTER).timestamp() * 1e6),
        int(BOUNDARY.timestamp() * 1e6),
    )
    assert len(meter.asked) == 5


def test_the_log_of_power_failures_is_events():
    def stamp(local):
        return bytes(reversed(bytes.fromhex(local)))

    data = {
        "03-11-00-01": stamp("260310200000") + stamp("260310200130"),
        "03-11-00-02": stamp("260301100000") + stamp("260301100010"),
    }

    async def main():
        async with serving_tcp(Meter645(data)) as place:
            address = f"dlt645+tcp://{place}?meter=000000000001"
            async with conversation(Dlt645Driver(timing=QUICK), address, "dlt645-2007") as talk:
                return await talk.read_events(BOUNDARY - timedelta(days=1), BOUNDARY + timedelta(days=1))

    (event,) = run(main()).events
    assert event.occurred_us == int(
        (BOUNDARY + timedelta(seconds=90)).timestamp() * 1e6
    )  # 20:01:30 in the east
    assert event.duration_s == 90


# ---- P1 -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "model", "obis", "value"),
    [
        ("telegram_v5", "p1-dsmr", "1-0:1.8.1*255", ("4426", "Wh")),
        ("telegram_v4_2", "p1-dsmr", "1-0:1.7.0*255", ("2027", "W")),
        ("telegram_v2_2", "p1-dsmr", "1-0:1.8.1*255", ("1001", "Wh")),
        ("telegram_sagemcom_t210_d_r", "p1-sagemcom-t210-d", "1-0:1.8.0*255", ("6545766", "Wh")),
        ("telegram_iskra_ie", "p1-iskra-ireland", "1-0:1.8.1*255", ("10181", "Wh")),
        ("telegram_fluvius_v171", "p1-fluvius", "1-0:1.8.1*255", ("34", "Wh")),
    ],
)
def test_captured_telegrams_are_read(name, model, obis, value):
    cut = P1[name][len(P1[name]) // 2 :]  # we come in the middle of one

    async def main():
        async with talking(
            lambda data: b"" if data else cut + P1[name], P1Driver(timing=QUICK), "p1+tcp", model
        ) as talk:
            return await talk.read_registers()

    readout = run(main())
    assert registers(readout)[obis] == value
    assert not [one for one in readout.refusals if one.obis.startswith("1-0:1.8")]


@pytest.mark.parametrize(("ahead_s", "stamp_s"), [(15, 2), (0, 2)])
def test_a_telegram_near_the_boundary_is_an_interval_of_both_tariffs(ahead_s, stamp_s):
    # the telegram's own time: 2017-01-02 19:20:02 winter time
    boundary = datetime(2017, 1, 2, 18, 20, tzinfo=UTC)
    batch = sampled_telegram(boundary, boundary + timedelta(seconds=ahead_s))
    assert batch.values[0].tolist()[:2] == [4426 + 2399, 2444]
    assert batch.stamp_us[0] == int((boundary + timedelta(seconds=stamp_s)).timestamp() * 1e6)


def test_a_meter_whose_clock_is_years_off_is_sampled_by_ours():
    batch = sampled_telegram(BOUNDARY, BOUNDARY + timedelta(seconds=3))
    assert batch.stamp_us[0] == int((BOUNDARY + timedelta(seconds=3)).timestamp() * 1e6)


def sampled_telegram(boundary, now):
    period = timedelta(minutes=5)

    async def main():
        driver = P1Driver(timing=QUICK, sampling=Sampling(period_s=300), now=lambda: now)
        async with talking(
            lambda data: b"" if data else captured_telegram("telegram_v5"), driver, "p1+tcp", "p1-dsmr"
        ) as talk:
            return await talk.read_load_curve(1, boundary - period, boundary)

    return run(main())


def test_power_failures_of_a_telegram_are_events_with_their_end():
    async def main():
        async with talking(
            lambda data: b"" if data else P1["telegram_v4_2"], P1Driver(timing=QUICK), "p1+tcp", "p1-dsmr"
        ) as talk:
            return await talk.read_events(datetime(1999, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC))

    events = run(main()).events
    told = re.search(rb"99\.97\.0\((\d+)\)", P1["telegram_v4_2"])
    assert len(events) == int(told[1])
    first = re.search(rb"99\.97\.0\(\d+\)\([^)]*\)\((\d{12})([SW])\)\((\d+)\*s\)", P1["telegram_v4_2"])
    local = datetime.strptime(
        first[1].decode() + ("+0100" if first[2] == b"W" else "+0200"), "%y%m%d%H%M%S%z"
    )
    assert events[0].occurred_us == int(local.timestamp() * 1e6)
    assert events[0].duration_s == int(first[3])


def test_what_a_telegram_says_without_a_meaning_is_told_in_the_log(caplog):
    odd = captured_telegram("telegram_v2_2").replace(b"!", b"no data set\r\n!", 1)

    async def main():
        async with talking(
            lambda data: b"" if data else odd, P1Driver(timing=QUICK), "p1+tcp", "p1-dsmr"
        ) as talk:
            return await talk.read_registers(["1-0:1.8.1"])

    assert registers(run(main())) == {"1-0:1.8.1*255": ("1001", "Wh")}
    assert "no data set" in caplog.text


def test_a_port_that_sends_only_spoilt_telegrams_is_the_peers_fault():
    spoilt = P1["telegram_v5"].replace(b"000004.426", b"000004.427")

    async def main():
        async with talking(
            lambda data: b"" if data else spoilt, P1Driver(timing=QUICK), "p1+tcp", "p1-dsmr"
        ) as talk:
            with pytest.raises(RemoteProtocolError, match="no good telegram: P1 CRC"):
                await talk.read_registers()

    run(main())


# ---- IEC 62056-21 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("identification", "asked", "echo"),
    [
        (b"/ABC5Meter\r\n", True, False),  # mode C
        (b"/ABC5Meter\r\n", True, True),  # optical heads and two-wire lines hear themselves
        (b"/ABC5\\2Meter\r\n", True, False),  # mode E, asked for its readout
        (b"/ABCBMeter\r\n", False, False),  # mode B goes on by itself
        (b"/ABC.Meter\r\n", False, False),  # mode A
    ],
)
def test_readouts_of_modes_a_b_c_e(identification, asked, echo):
    meter = Readout(identification, SETS, asked=asked, echo=echo)

    async def main():
        async with serving_tcp(meter) as place:
            address = f"iec62056+tcp://{place}?meter=12345"
            async with conversation(Iec62056Driver(timing=QUICK), address, "iec62056-21") as talk:
                return await talk.read_registers()

    readout = run(main())
    assert registers(readout) == {
        "1-0:0.0.0*255": ("00012345", None),
        "1-0:1.8.0*255": ("1234567", "Wh"),
        "1-0:2.8.0*255": ("1", "Wh"),
        "1-0:32.7.0*255": ("229.9", "V"),
    }


def test_a_captured_mode_d_readout_is_listened_to():
    text = next(one for one in READOUTS if not one.startswith("/"))

    async def main():
        # it began before we came and comes without a sign-on, as behind a push of a key
        async with talking(
            lambda data: text.encode() if data.startswith(b"/?") else b"",
            Iec62056Driver(timing=QUICK),
            "iec62056+tcp",
            "iec62056-21",
        ) as talk:
            return await talk.read_registers()

    found = registers(run(main()))
    # a heat meter (6.8 in MWh): 29.055 MWh, and the power beside it
    assert found["6-0:6.8.0*255"] == ("29055000", "Wh")
    assert found["6-0:6.6.0*255"] == ("17200", "W")


def even(data):
    """As a line of seven bits and even parity carries it."""
    return bytes(byte | (byte.bit_count() & 1) << 7 for byte in data)


def odd_one_out(data):
    assert all(byte.bit_count() % 2 == 0 for byte in data), "parity is even"
    return bytes(byte & 0x7F for byte in data)


def test_a_readout_over_a_serial_line_follows_the_rate():
    meter = Readout(b"/ABC5Meter\r\n", SETS)

    async def main():
        async with serving_line(lambda data: even(meter(odd_one_out(data)))) as device:
            driver = Iec62056Driver(timing=LineTiming(answer_s=3, quiet_s=0.01))
            async with conversation(driver, f"iec62056+serial://{device}", "iec62056-21") as talk:
                return await talk.read_registers(["1-0:1.8.0"])

    assert registers(run(main())) == {"1-0:1.8.0*255": ("1234567", "Wh")}


def test_a_spoilt_block_is_asked_for_again():
    meter = Readout(b"/ABC5Meter\r\n", SETS)
    meter.blocks = [meter.block().replace(b"1234.567", b"1234.568"), meter.block()]

    async def main():
        async with (
            serving_tcp(meter) as place,
            conversation(Iec62056Driver(timing=QUICK), f"iec62056+tcp://{place}", "iec62056-21") as talk,
        ):
            return await talk.read_registers(["1-0:1.8.0"])

    assert registers(run(main())) == {"1-0:1.8.0*255": ("1234567", "Wh")}
    assert meter.naks == 1


def test_a_meter_that_never_answers_is_told():
    async def main():
        async with (
            serving_tcp(lambda data: b"") as place,
            conversation(Iec62056Driver(timing=QUICK), f"iec62056+tcp://{place}", "iec62056-21") as talk,
        ):
            with pytest.raises(LinkTimeout, match="no answer"):
                await talk.read_registers()

    run(main())


def test_mode_e_opens_into_hdlc_and_leaves_what_follows():
    def meter(data):
        if data.startswith(b"/?"):
            return b"/ABC5\\2Meter\r\n"
        return data + b"\x7e\xa0" if data.startswith(b"\x06") else b""

    async def main():
        loop = asyncio.get_running_loop()
        async with serving_tcp(meter) as place:
            stream = await open_hdlc(LinkAddress.parse(f"iec62056+tcp://{place}"), loop.time() + 5)
            try:
                return await stream.read_some(loop.time() + 5)
            finally:
                stream.abort()

    assert run(main()) == b"\x7e\xa0"


# ---- all three ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("driver", "address", "model", "why"),
    [
        (Dlt645Driver(), "tcp://127.0.0.1:1", "dlt645-2007", "is not spoken over tcp"),
        (P1Driver(), None, "p1-dsmr", "has no address"),
        (Iec62056Driver(), "iec62056+tcp://127.0.0.1:1", "no-such-model", "no meter model"),
    ],
)
def test_settings_that_cannot_work_are_told_beside_others(driver, address, model, why):
    found = run(driver.prepare([target(address, model)]))
    assert isinstance(found[7], LocalProtocolError)
    assert why in str(found[7])


@pytest.mark.parametrize(
    ("number", "unit", "plained"),
    [
        ("123456.78", "kWh", ("123456780", "Wh")),
        ("0.001", "kvarh", ("1", "varh")),
        ("1.50", "MWh", ("1500000", "Wh")),
        ("0.0001", "kW", ("0.1", "W")),
        ("229.9", "V", ("229.9", "V")),
        ("17.2", "m3ph", ("17.2", "m3ph")),
        ("3", None, ("3", None)),
    ],
)
def test_units_are_stored_without_their_prefix(number, unit, plained):
    value, found = plain(Decimal(number), unit)
    assert (str(value), found) == plained
