"""One meter read now: what is stored, what is refused, and how a failure is told."""

import dataclasses
import datetime as dt
from contextlib import asynccontextmanager
from decimal import Decimal
from types import SimpleNamespace

import pytest

from headend.drivers.contract import Curve, Recall, Target
from headend.drivers.dlms.driver import DlmsDriver
from headend.drivers.dlms.reader import DlmsReader
from headend.drivers.read_now import CurveRange, UnknownProfileError, read_now
from headend.drivers.registry import Reachable
from headend.links.failures import stage_of
from headend.links.links import Links
from headend.session.access import Reach
from headend.session.client import MeterSession
from headend.session.deadlines import Deadlines
from headend.session.plan import plan_session
from headend.store.writer import Written
from headend.transport.memory import memory_pair
from protocols.dlms import axdr
from protocols.dlms.association import ServerSettings
from protocols.dlms.cosem import Attribute, CaptureObject, ScalerUnit
from protocols.dlms.cosem_time import CosemDateTime
from protocols.dlms.enums import DataAccessResult, Mechanism
from protocols.dlms.obis import Obis
from protocols.dlms.security import Key
from protocols.errors import CommunicationError, DataAccessRefused, LinkTimeout, LocalProtocolError
from schemas.address import LinkAddress
from schemas.failure import Stage
from schemas.model import MeterModel

DAY = dt.datetime(2026, 3, 10, tzinfo=dt.UTC)
ENERGY, PROFILE, CLOCK = (Obis.parse(text) for text in ("1-0:1.8.0*255", "1-0:99.1.0*255", "0-0:1.0.0*255"))
METER = SimpleNamespace(
    meter_id=7, asset_id="M7", model="test", updated_at=dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
)
CURVE = CurveRange(1, DAY, DAY + dt.timedelta(hours=1))
ROWS = [(DAY + dt.timedelta(minutes=15 * (i + 1)), i) for i in range(4)]
MODEL = MeterModel.model_validate(
    {
        "name": "test",
        "title": "Test",
        "load_profiles": [
            {
                "number": 1,
                "obis": str(PROFILE),
                "period_s": 900,
                "columns": [
                    {"role": "clock", "obis": str(CLOCK)},
                    {"role": "value", "obis": str(ENERGY), "quantity": "active_import"},
                ],
            }
        ],
        "registers": [{"obis": str(ENERGY)}],
    }
)
OBJECTS = {
    Attribute(3, ENERGY, 2): axdr.encode(axdr.u32(4711)),
    Attribute(3, ENERGY, 3): axdr.encode(ScalerUnit(0, 30).encode()),
    Attribute(7, PROFILE, 2): axdr.encode(
        axdr.array(
            axdr.structure(axdr.octets(CosemDateTime.from_utc(stamp).to_bytes()), axdr.u32(value))
            for stamp, value in ROWS
        )
    ),
    Attribute(7, PROFILE, 3): axdr.encode(
        axdr.array([CaptureObject(8, CLOCK, 2).encode(), CaptureObject(3, ENERGY, 2).encode()])
    ),
}


class FakeAccess:
    """What `headend.session.access.Access` does, without a database."""

    def __init__(self, fake_meter, objects=OBJECTS, server=None, error=None):
        ours, theirs = memory_pair()
        self.stream = ours
        self.meter = fake_meter(theirs, {1: server or ServerSettings()}, dict(objects))
        self.plan = plan_session(MODEL, LinkAddress.parse("tcp://192.0.2.1?client=1"), {}, None)
        self.error = error

    async def prepare_one(self, target):
        if self.error is not None:
            raise self.error
        return Reach(target, MODEL, self.plan)

    @asynccontextmanager
    async def session(self, reach, *, answer_s=None):
        async with MeterSession(reach.plan, stream=self.stream, deadlines=Deadlines(response_s=5)) as session:
            yield session


class OneModel(DlmsDriver):
    """A model that is in no file."""

    def curves(self, model):
        return (Curve(1, 900, Recall.STORED, obis=str(PROFILE)),)


class FakeDrivers:
    """What `headend.drivers.registry.Drivers` does, with one driver."""

    def __init__(self, driver, access):
        self.driver, self.access = driver, access

    async def prepare_one(self, target):
        return Reachable(self.driver, await self.access.prepare_one(target))


class Stored:
    def __init__(self):
        self.batches = []

    async def __call__(self, batch):
        self.batches.append(batch)
        return Written(1, new=len(batch), registers=len(batch.registers))


def run_it(run_virtual, make, **request):
    async def main():
        stored, access = Stored(), make()
        reader = DlmsReader(now=lambda: DAY + dt.timedelta(days=30))
        drivers = FakeDrivers(OneModel(access, reader), access)
        try:
            return await read_now(drivers, Links(), stored, Target(METER), **request), stored
        except CommunicationError as exc:
            assert stored.batches == []
            return exc, stored

    return run_virtual(main())


def test_a_profile_that_the_model_lacks_is_refused_before_the_meter_is_called(run_virtual, fake_meter):
    unknown = dataclasses.replace(CURVE, profile=69)
    with pytest.raises(UnknownProfileError, match="has no load profile 69; known: 1"):
        run_it(run_virtual, lambda: FakeAccess(fake_meter), curve=unknown)


def test_registers_and_curve_in_one_transaction(run_virtual, fake_meter):
    outcome, stored = run_it(run_virtual, lambda: FakeAccess(fake_meter), obis=("1-0:1.8.0",), curve=CURVE)
    assert outcome.intervals == 4
    assert [(r.obis, r.value, r.unit) for r in outcome.registers] == [(str(ENERGY), Decimal(4711), "Wh")]
    assert outcome.refused == ()
    assert outcome.stored == Written(1, new=4, registers=1)
    assert len(stored.batches) == 1
    assert stored.batches[0].covered_us == outcome.batch.covered_us != ()


def test_without_a_request_the_models_registers_are_read(run_virtual, fake_meter):
    outcome, _ = run_it(run_virtual, lambda: FakeAccess(fake_meter))
    assert [r.obis for r in outcome.registers] == [str(ENERGY)]


def test_a_refused_curve_harms_no_registers(run_virtual, fake_meter):
    objects = OBJECTS | {Attribute(7, PROFILE, 2): DataAccessResult.READ_WRITE_DENIED}
    outcome, _ = run_it(
        run_virtual, lambda: FakeAccess(fake_meter, objects), obis=("1-0:1.8.0",), curve=CURVE
    )
    assert [r.obis for r in outcome.registers] == [str(ENERGY)]
    assert [r.obis for r in outcome.refused] == [str(PROFILE)]
    assert "read write denied" in outcome.refused[0].reason
    failed, _ = run_it(run_virtual, lambda: FakeAccess(fake_meter, objects), curve=CURVE)
    assert isinstance(failed, DataAccessRefused)


def test_a_meter_that_cannot_be_called_says_why(run_virtual, fake_meter):
    error = LocalProtocolError("no address")
    failed, _ = run_it(run_virtual, lambda: FakeAccess(fake_meter, error=error))
    assert failed is error


@pytest.mark.parametrize("stage", [Stage.ASSOCIATION, Stage.TIMEOUT])
def test_failures_tell_their_stage(run_virtual, fake_meter, stage):
    def make():
        if stage is Stage.ASSOCIATION:
            lls = ServerSettings(mechanisms=frozenset({Mechanism.LLS}), secrets={Mechanism.LLS: Key(b"x")})
            return FakeAccess(fake_meter, server=lls)
        access = FakeAccess(fake_meter)
        access.meter.meddle = lambda apdu: [apdu] if apdu[0] == 0x61 else []
        return access

    failed, _ = run_it(run_virtual, make)
    assert stage_of(failed) is stage


def test_a_busy_meter_is_not_waited_for_for_ever(run_virtual, fake_meter):
    async def main():
        access = FakeAccess(fake_meter)
        driver, links = OneModel(access), Links()
        way = await access.prepare_one(Target(METER))
        async with links.conversation(driver, way):
            with pytest.raises(LinkTimeout, match="20 s"):
                await read_now(FakeDrivers(driver, access), links, Stored(), Target(METER), timeout_s=20)

    run_virtual(main())
