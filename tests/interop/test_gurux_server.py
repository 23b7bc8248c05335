"""Our head-end reads a meter made of Gurux' code: every value it gives is one that Gurux encoded."""

import asyncio
import datetime as dt
import itertools
from decimal import Decimal

import pytest
from gurux_dlms.enums import Authentication

from headend.drivers.dlms.reader import DlmsReader
from headend.session.client import MeterSession
from headend.session.deadlines import Deadlines
from headend.session.plan import SessionPlan, plan_session
from protocols.dlms import axdr, cosem
from protocols.dlms.apdu.fields import Selection
from protocols.dlms.cosem import Attribute, EntryDescriptor, RangeDescriptor
from protocols.dlms.cosem_time import CosemDateTime
from protocols.dlms.enums import Conformance, DataAccessResult
from protocols.dlms.obis import Obis
from protocols.dlms.security import Key
from protocols.errors import AssociationRejected, CommunicationError, DataAccessRefused
from schemas.address import LinkAddress
from schemas.meter import KeyPurpose
from schemas.model import MeterModel
from tests.interop import gurux_server as gurux
from tests.interop.gurux_server import GuruxMeter, serving, serving_pty

pytestmark = pytest.mark.interop

KEY, AUTH = bytes(range(16)), bytes(range(0xD0, 0xE0))
OUR_TITLE = b"HES\x00\x00\x00\x00\x01"
DEADLINES = Deadlines(
    connect_s=10, associate_s=10, response_s=10, gap_s=10, frame_s=10, release_s=10, session_s=30
)
METER_ID = 7
QUANTITIES = ("active_import", "active_export", "reactive_import", "reactive_export")


class Counters:
    """Invocation counters of one test, as the keyring gives them."""

    def __init__(self) -> None:
        self.counter = itertools.count(1)
        self.available = 1 << 20

    def next(self):
        return next(self.counter)

    async def reserve(self, count): ...

    async def raise_to(self, value):
        self.counter = itertools.count(value)


def model(**association) -> MeterModel:
    columns = [
        {"role": "clock", "obis": "0-0:1.0.0*255"},
        {"role": "status", "obis": "0-0:96.10.1*255"},
        *(
            {"role": "value", "obis": str(Obis.parse(obis)), "quantity": quantity}
            for obis, quantity in zip(gurux.ENERGIES, QUANTITIES, strict=True)
        ),
    ]
    return MeterModel.model_validate(
        {
            "name": "gurux",
            "title": "Gurux",
            "association": association,
            "load_profiles": [
                {"number": 1, "obis": str(Obis.parse(gurux.PROFILE)), "period_s": 900, "columns": columns}
            ],
            "registers": [{"obis": str(Obis.parse(obis))} for obis in gurux.ENERGIES],
        }
    )


def plan_for(address: str, the_model: MeterModel, *, secret: bytes = b"", key=KEY, auth=AUTH) -> SessionPlan:
    keys = {
        KeyPurpose.LLS: Key(secret),
        KeyPurpose.HLS: Key(secret),
        KeyPurpose.ENCRYPTION: Key(key),
        KeyPurpose.AUTHENTICATION: Key(auth),
    }
    return plan_session(the_model, LinkAddress.parse(address), keys, OUR_TITLE)


def session_of(plan: SessionPlan) -> MeterSession:
    return MeterSession(plan, counters=Counters() if plan.uses_counter else None, deadlines=DEADLINES)


def us(moment: dt.datetime) -> int:
    return int(moment.timestamp()) * 1_000_000


def check_curve(batch, first: int, last: int) -> None:
    """The batch holds exactly the rows ``first`` to ``last`` (excluded) that Gurux encoded."""
    rows = [gurux.row(i) for i in range(first, last)]
    assert batch.stamp_us.tolist() == [us(row[0]) for row in rows]
    assert batch.start_us.tolist() == [us(row[0] - gurux.PERIOD) for row in rows]
    assert batch.amr_status.tolist() == [row[1] for row in rows]
    assert batch.values.tolist() == [list(row[2:]) for row in rows]
    assert batch.valid.all()
    assert not batch.fragment.any()


async def read_all(plan: SessionPlan, the_model: MeterModel) -> None:
    """One session: registers, clock, a long value, a day of the load curve, the object list."""
    async with session_of(plan) as session:
        driver = DlmsReader()
        readout = await driver.read_registers(session, METER_ID, the_model)
        assert readout.refusals == ()
        for read, obis, (raw, factor) in zip(
            readout.batch.registers, gurux.ENERGIES, gurux.REGISTERS, strict=True
        ):
            assert read.obis == str(Obis.parse(obis))
            assert read.value == Decimal(raw) * Decimal(str(factor))
            assert read.unit == ("Wh" if obis[4] in "12" else "varh")
        clock = axdr.decode_exact(await session.get(Attribute(8, Obis.parse("0.0.1.0.0.255"), 2)))
        assert cosem.clock_time(clock) == gurux.CLOCK
        name = axdr.decode_exact(await session.get(Attribute(1, Obis.parse("0.0.42.0.0.255"), 2)))
        assert name.value == gurux.DEVICE_NAME
        text = axdr.decode_exact(await session.get(Attribute(1, Obis.parse("0.0.96.1.9.255"), 2)))
        assert text.value == gurux.LONG_TEXT
        batch = await driver.read_load_curve(
            session,
            METER_ID,
            the_model,
            1,
            gurux.START + dt.timedelta(days=1),
            gurux.START + dt.timedelta(days=2),
        )
        check_curve(batch, 96, 192)
        raw = await session.get(Attribute(15, Obis.parse("0.0.40.0.0.255"), 2))
        entries = cosem.object_list(axdr.decode_exact(raw))
        assert {(e.class_id, str(e.obis)) for e in entries} >= {
            (8, "0-0:1.0.0*255"),
            (7, "1-0:99.1.0*255"),
            (15, "0-0:40.0.0*255"),
        }
    assert session.release_error is None


@pytest.mark.parametrize("max_pdu", [128, 512, 1024, 8192])
def test_wrapper_without_security(max_pdu):
    meter = GuruxMeter(max_pdu=max_pdu)
    with serving(meter) as port:
        the_model = model(max_pdu=max_pdu)
        asyncio.run(read_all(plan_for(f"tcp://127.0.0.1:{port}", the_model), the_model))


@pytest.mark.parametrize("lists", [True, False])
def test_get_with_list_and_without(lists):
    meter = GuruxMeter(lists=lists)
    with serving(meter) as port:
        the_model = model()
        plan = plan_for(f"tcp://127.0.0.1:{port}", the_model)

        async def main():
            async with session_of(plan) as session:
                assert (Conformance.MULTIPLE_REFERENCES in session.associated.conformance) is lists
                attributes = [Attribute(3, Obis.parse(obis), 2) for obis in gurux.ENERGIES]
                values = await session.get_many(attributes)
                assert [axdr.decode_exact(v).value for v in values] == [raw for raw, _ in gurux.REGISTERS]

        asyncio.run(main())
    assert len(meter.requests) == (3 if lists else 6)  # AARQ, GET or GETs, RLRQ


def test_selections_refusals_and_a_session_that_goes_on():
    meter = GuruxMeter(max_pdu=256)
    buffer = Attribute(7, Obis.parse(gurux.PROFILE), 2)

    async def rows(session, selector, descriptor):
        raw = await session.get(buffer, Selection(selector, axdr.encode(descriptor.encode())))
        return [
            (cosem.clock_time(r.value[0]), *(cell.value for cell in r.value[1:]))
            for r in axdr.decode_exact(raw).value
        ]

    async def main(port):
        async with session_of(plan_for(f"tcp://127.0.0.1:{port}", model())) as session:
            for first, last in ((1, 1), (1, 96), (100, 103), (288, 288)):
                found = await rows(session, 2, EntryDescriptor(first, last))
                assert found == [gurux.row(i) for i in range(first - 1, last)]
            for first, last in ((0, 0), (0, 95), (50, 52)):
                for tagged in (False, True):
                    bounds = RangeDescriptor.between(
                        CosemDateTime.from_utc(gurux.row(first)[0]),
                        CosemDateTime.from_utc(gurux.row(last)[0]),
                        tagged_date_time=tagged,
                    )
                    found = await rows(session, 1, bounds)
                    assert found == [gurux.row(i) for i in range(first, last + 1)]
            later = gurux.START + dt.timedelta(days=400)
            nothing = RangeDescriptor.between(CosemDateTime.from_utc(later), CosemDateTime.from_utc(later))
            assert await rows(session, 1, nothing) == []
            with pytest.raises(DataAccessRefused) as refusal:
                await session.get(Attribute(3, Obis.parse("1.0.99.99.99.255"), 2))
            assert refusal.value.result == DataAccessResult.OBJECT_UNDEFINED
            in_use = await session.get(Attribute(7, Obis.parse(gurux.PROFILE), 7))
            assert axdr.decode_exact(in_use).value == 288
        assert session.release_error is None

    with serving(meter) as port:
        asyncio.run(main(port))


def test_reads_by_entry_where_the_model_says_so():
    meter = GuruxMeter(max_pdu=512)
    the_model = model().model_copy(
        update={"quirks": model().quirks.model_copy(update={"range_by_entry": True})}
    )
    day = gurux.START + dt.timedelta(days=1)

    async def main(port):
        async with session_of(plan_for(f"tcp://127.0.0.1:{port}", the_model)) as session:
            driver = DlmsReader(now=lambda: gurux.START + dt.timedelta(days=3))
            batch = await driver.read_load_curve(
                session, METER_ID, the_model, 1, day, day + dt.timedelta(days=1)
            )
            asked = set(batch.stamp_us.tolist())
            assert asked >= {us(gurux.row(i)[0]) for i in range(96, 192)}

    with serving(meter) as port:
        asyncio.run(main(port))
    assert {selector for selector, _ in meter.selections} == {2}


@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
def test_lls(framing):
    hdlc = None if framing == "wrapper" else 128
    meter = GuruxMeter(authentication=Authentication.LOW, secret=b"12345678", hdlc=hdlc)
    scheme = "tcp" if framing == "wrapper" else "hdlc+tcp"
    the_model = model(mechanism="lls", framing=framing)
    with serving(meter) as port:
        address = f"{scheme}://127.0.0.1:{port}"
        asyncio.run(read_all(plan_for(address, the_model, secret=b"12345678"), the_model))
        with pytest.raises(AssociationRejected):
            asyncio.run(read_all(plan_for(address, the_model, secret=b"12345679"), the_model))


HLS = {
    "hls-md5": Authentication.HIGH_MD5,
    "hls-sha1": Authentication.HIGH_SHA1,
    "hls-gmac": Authentication.HIGH_GMAC,
    "hls-sha256": Authentication.HIGH_SHA256,
}


@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
@pytest.mark.parametrize("mechanism", HLS)
def test_hls_without_ciphering(mechanism, framing):
    secret = b"a secret of twenty"
    hdlc = None if framing == "wrapper" else 200
    meter = GuruxMeter(authentication=HLS[mechanism], secret=secret, key=KEY, auth_key=AUTH, hdlc=hdlc)
    scheme = "tcp" if framing == "wrapper" else "hdlc+tcp"
    the_model = model(mechanism=mechanism, framing=framing)
    with serving(meter) as port:
        address = f"{scheme}://127.0.0.1:{port}"
        asyncio.run(read_all(plan_for(address, the_model, secret=secret), the_model))
        wrong = plan_for(address, the_model, secret=b"another secret of", auth=AUTH[::-1])
        with pytest.raises(CommunicationError):
            asyncio.run(read_all(wrong, the_model))


PROTECTIONS = ["authenticated", "encrypted", "authenticated+encrypted"]


@pytest.mark.parametrize("ciphering", ["service-specific", "general"])
@pytest.mark.parametrize("suite", [0, 1, 2])
@pytest.mark.parametrize("protection", PROTECTIONS)
def test_hls_gmac_with_ciphering(protection, suite, ciphering):
    key = bytes(range(32)) if suite == 2 else KEY
    auth = bytes(range(100, 132)) if suite == 2 else AUTH
    meter = GuruxMeter(
        authentication=Authentication.HIGH_GMAC,
        key=key,
        auth_key=auth,
        suite=suite,
        general=ciphering == "general",
    )
    the_model = model(mechanism="hls-gmac", protection=protection, suite=suite, ciphering=ciphering)
    with serving(meter) as port:
        plan = plan_for(f"tcp://127.0.0.1:{port}", the_model, key=key, auth=auth)
        asyncio.run(read_all(plan, the_model))


@pytest.mark.parametrize("protection", PROTECTIONS)
def test_ciphering_without_hls_and_with_a_dedicated_key(protection):
    the_model = model(protection=protection, dedicated_key=True)
    with serving(GuruxMeter(key=KEY, auth_key=AUTH)) as port:
        asyncio.run(read_all(plan_for(f"tcp://127.0.0.1:{port}", the_model), the_model))


@pytest.mark.parametrize("window", [1, 7])
@pytest.mark.parametrize(
    ("size", "peer"), [(32, 128), (64, 64), (128, 128), (128, 64), (512, 512), (1024, 2030)]
)
def test_hdlc_sizes_and_windows(size, peer, window):
    """Requests and answers in segments; the window is what we propose, the meter settles on 1."""
    the_model = model(
        mechanism="hls-gmac",
        protection="authenticated+encrypted",
        framing="hdlc",
        hdlc={"max_info": size, "window": window},
    )
    meter = GuruxMeter(
        authentication=Authentication.HIGH_GMAC, key=KEY, auth_key=AUTH, hdlc=peer, max_pdu=1024
    )
    with serving(meter) as port:
        asyncio.run(read_all(plan_for(f"hdlc+tcp://127.0.0.1:{port}", the_model), the_model))


@pytest.mark.parametrize("width", [1, 2, 4])
def test_hdlc_address_lengths(width):
    the_model = model(framing="hdlc", hdlc={"address_length": width, "physical_address": 17})
    with serving(GuruxMeter(hdlc=128)) as port:
        asyncio.run(read_all(plan_for(f"hdlc+tcp://127.0.0.1:{port}", the_model), the_model))


@pytest.mark.parametrize("protection", ["none", "authenticated+encrypted"])
def test_hdlc_over_a_serial_line(protection):
    the_model = model(mechanism="hls-gmac", protection=protection, framing="hdlc")
    meter = GuruxMeter(authentication=Authentication.HIGH_GMAC, key=KEY, auth_key=AUTH, hdlc=128)
    with serving_pty(meter) as device:
        asyncio.run(read_all(plan_for(f"hdlc+serial://{device}", the_model), the_model))


@pytest.mark.parametrize("framing", ["wrapper", "hdlc"])
def test_a_new_meters_counter_is_learnt_from_its_public_object(framing):
    """The public client reads it over the same link; then every message counts on above it."""
    the_model = model(
        client_sap=1,
        mechanism="hls-gmac",
        protection="authenticated+encrypted",
        framing=framing,
        invocation_counter="0-0:43.1.0*255",
    )
    meter = GuruxMeter(
        authentication=Authentication.HIGH_GMAC,
        key=KEY,
        auth_key=AUTH,
        public=True,
        hdlc=None if framing == "wrapper" else 128,
    )

    async def main(address):
        plan = plan_for(address, the_model)
        session = MeterSession(plan, counters=Counters(), deadlines=DEADLINES, learn_counter=True)
        async with session:
            readout = await DlmsReader().read_registers(session, METER_ID, the_model)
            assert len(readout.batch.registers) == 4
        assert session.release_error is None

    with serving(meter) as port:
        asyncio.run(main(f"{'tcp' if framing == 'wrapper' else 'hdlc+tcp'}://127.0.0.1:{port}"))
    assert min(meter.counters) > gurux.LAST_COUNTER
    assert meter.counters == sorted(set(meter.counters))
