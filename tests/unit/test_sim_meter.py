"""The simulated meter over its association, in memory: every mode, every object, every refusal."""

import datetime as dt

import numpy as np
import pytest

from concentrator_sim import profile
from concentrator_sim.billing import MAXIMUM_DEMAND, TARIFFS
from concentrator_sim.generator import moment_of, quarter_of
from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.objects import (
    AVERAGE_DEMAND,
    INVOCATION_COUNTER,
    MANAGEMENT,
    SECURITY_SETUP,
    SERIAL_NUMBER,
)
from concentrator_sim.scenario import MIXES
from concentrator_sim.security import MODES
from concentrator_sim.station import Station, bus_of
from protocols.dlms import axdr, cosem
from protocols.dlms.apdu.access import AccessAction, AccessGet, AccessSet
from protocols.dlms.apdu.fields import Selection
from protocols.dlms.association import (
    AccessDone,
    ActionDone,
    Associated,
    CipherForm,
    CipherSettings,
    ClientAssociation,
    ClientSettings,
    GetResult,
    Released,
    SetResult,
    Transmit,
)
from protocols.dlms.cosem import Attribute, CaptureObject, EntryDescriptor, Method, RangeDescriptor
from protocols.dlms.cosem_time import CosemDateTime
from protocols.dlms.enums import ActionResult, ApplicationContext, DataAccessResult, Mechanism
from protocols.dlms.obis import Obis
from protocols.dlms.profile_buffer import decode_buffer_general
from protocols.dlms.profile_columns import BufferLayout, Column, Role
from protocols.dlms.security import Key
from protocols.errors import AssociationRejected
from schemas.model import load_model

NOW = 1_800_000_123  # 2027-01-15T08:02:03Z
CLIENT_TITLE = b"HEADEND1"
ENERGY = Obis.parse("1-0:1.8.0*255")
BUFFER = Attribute(7, profile.PROFILE, 2)


class Client:
    """A client association looped back to a station."""

    def __init__(self, meter, settings, client_sap=1, server_sap=1, station=None):
        self.station = station or Station(bus_of([meter]), lambda: NOW)
        counters = iter(range(1, 1_000_000))
        self.association = ClientAssociation(settings, next_counter=lambda: next(counters))
        self.saps = client_sap, server_sap
        self.longest = 0
        self.responses = 0

    def __call__(self, apdu):
        waiting, events = [apdu], []
        while waiting:
            for answer in self.station.receive(*self.saps, waiting.pop(0)):
                self.longest = max(self.longest, len(answer))
                self.responses += 1
                for event in self.association.receive(answer):
                    if isinstance(event, Transmit):
                        waiting.append(event.apdu)
                    else:
                        events.append(event)
        assert len(events) <= 1
        return events[0] if events else None

    def get(self, attribute, selection=None):
        done = self(self.association.get(attribute, selection))
        assert isinstance(done, GetResult)
        return done.results[0]

    def value(self, class_id, obis, index=2):
        raw = self.get(Attribute(class_id, Obis.parse(obis) if isinstance(obis, str) else obis, index))
        assert isinstance(raw, bytes), raw
        return axdr.decode_exact(raw)


def client_settings(meter, form=CipherForm.SERVICE_SPECIFIC, **more):
    mode, keys = meter.mode, meter.keys
    cipher = None
    if keys.encryption is not None:
        cipher = CipherSettings(
            CLIENT_TITLE, keys.encryption, keys.authentication, suite=mode.suite, form=form,
            master_key=keys.master, use_dedicated_key=mode.name == "hls5-dedicated",
        )  # fmt: skip
    return ClientSettings(
        mode.mechanism, keys.lls or keys.hls, cipher, system_title=CLIENT_TITLE, max_pdu=meter.max_pdu, **more
    )


def connected(meter=None, **more):
    meter = meter or SimulatedMeter(1, 1)
    client = Client(meter, client_settings(meter, **more))
    assert isinstance(client(client.association.associate()), Associated)
    return client


def public(meter):
    client = Client(meter, ClientSettings(), client_sap=16)
    assert isinstance(client(client.association.associate()), Associated)
    return client


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_associates_and_reads(mode):
    meter = SimulatedMeter(1, 5, MODES[mode])
    client = connected(meter)
    assert client.value(3, ENERGY).value == meter.consumption.at(0, NOW)
    assert meter.client_title == CLIENT_TITLE
    assert isinstance(client(client.association.release()), Released)


@pytest.mark.parametrize("form", CipherForm)
def test_the_meter_answers_in_the_form_of_the_request(form):
    meter = SimulatedMeter(1, 5, MODES["hls5-suite2"])
    assert connected(meter, form=form).value(3, ENERGY).value == meter.consumption.at(0, NOW)


@pytest.mark.parametrize("mode", [name for name in MODES if name != "none"])
def test_a_wrong_key_does_not_associate(mode):
    meter, other = SimulatedMeter(1, 5, MODES[mode]), SimulatedMeter(2, 5, MODES[mode])
    client = Client(meter, client_settings(other))
    with pytest.raises(Exception) as caught:  # which error depends on the mechanism; none may let it in
        client(client.association.associate())
    assert caught.type.__module__.startswith("protocols.")


def test_a_ciphered_meter_refuses_a_client_in_the_clear():
    meter = SimulatedMeter(1, 5, MODES["hls5"])
    settings = ClientSettings(
        Mechanism.HLS_GMAC, None, client_settings(meter).cipher, context=ApplicationContext.LN
    )
    client = Client(meter, settings)
    with pytest.raises(AssociationRejected):
        client(client.association.associate())


def test_unknown_saps_get_silence():
    meter = SimulatedMeter(1, 1)
    station = Station(bus_of([meter]), lambda: NOW)
    aarq = ClientAssociation(ClientSettings()).associate()
    assert station.receive(1, 2, aarq) == []
    assert station.receive(3, 1, aarq) == []
    assert len(station.receive(1, 1, aarq)) == 1


# ---- objects ---------------------------------------------------------------------------------------


def test_registers_say_value_and_unit():
    meter = SimulatedMeter(1, 4)
    client = connected(meter)
    for n, unit in enumerate(("Wh", "Wh", "varh", "varh")):
        obis = f"1-0:{n + 1}.8.0"
        assert client.value(3, obis).value == meter.consumption.at(n, NOW)
        assert cosem.ScalerUnit.decode(client.value(3, obis, 3)).symbol == unit
        assert cosem.ScalerUnit.decode(client.value(3, obis, 3)).scaler == 0


def test_who_it_is():
    meter = SimulatedMeter(7, 42)
    client = connected(meter)
    assert cosem.text(client.value(1, "0-0:96.1.0")) == "SIM000070000042"
    assert cosem.text(client.value(1, "0-0:42.0.0")) == meter.name == "HES0000700000420"
    assert len(meter.name) == 16
    assert meter.system_title == b"HES\x00\x07\x00\x00\x2a"
    assert client.value(1, "0-0:96.10.1") == axdr.u8(0)


def test_the_clock():
    meter = SimulatedMeter(1, 1)
    client = connected(meter)
    stamp = cosem.date_time(client.value(8, "0-0:1.0.0"))
    assert stamp.to_utc() == dt.datetime.fromtimestamp(NOW, dt.UTC)
    assert stamp.deviation_min == -60
    assert cosem.minutes(client.value(8, "0-0:1.0.0", 3)) == -60
    other = SimulatedMeter(1, 1, deviation_min=0)
    stamp = cosem.date_time(connected(other).value(8, "0-0:1.0.0"))
    assert (stamp.deviation_min, stamp.to_utc()) == (0, dt.datetime.fromtimestamp(NOW, dt.UTC))


def test_demand_registers():
    meter = SimulatedMeter(1, 4)
    client = connected(meter)
    last = moment_of(quarter_of(NOW))
    assert client.value(5, AVERAGE_DEMAND, 2).value == meter.consumption.mean_power(last, NOW)
    energy = meter.consumption.at(0, last) - meter.consumption.at(0, last - 900)
    assert client.value(5, AVERAGE_DEMAND, 3).value == 4 * energy
    assert client.value(5, AVERAGE_DEMAND, 8).value == 900
    month = int(dt.datetime(2026, 12, 31, 23, tzinfo=dt.UTC).timestamp())  # January begins in CET
    by_hand = max(
        (4 * (meter.consumption.at(0, t + 900) - meter.consumption.at(0, t)), -t)
        for t in range(month, last, 900)
    )
    assert client.value(4, MAXIMUM_DEMAND, 2).value == by_hand[0]
    captured = cosem.date_time(client.value(4, MAXIMUM_DEMAND, 5)).to_utc()
    assert captured == dt.datetime.fromtimestamp(900 - by_hand[1], dt.UTC)


def test_maximum_demand_of_a_month_just_begun_is_zero():
    month = int(dt.datetime(2026, 12, 31, 23, tzinfo=dt.UTC).timestamp())
    station = Station(bus_of([SimulatedMeter(1, 4)]), lambda: month)
    client = Client(None, ClientSettings(), station=station)
    client(client.association.associate())
    assert client.value(4, MAXIMUM_DEMAND, 2).value == 0


def test_tariff_registers_are_the_total_in_two_parts():
    meter = SimulatedMeter(1, 4)
    client = connected(meter)
    day, night, *unused = (client.value(3, obis, 2).value for obis in TARIFFS)
    assert unused == [0, 0]
    assert (day + night) % 2**32 == client.value(3, ENERGY, 2).value
    assert min(day, night) > 0
    # at 08:02 UTC, 09:02 in the meter's standard time, it is day
    later = Client(None, ClientSettings(), station=Station(bus_of([meter]), lambda: NOW + 1800))
    later(later.association.associate())
    assert later.value(3, TARIFFS[0], 2).value > day
    assert later.value(3, TARIFFS[1], 2).value == night


def test_security_setup_and_sap_assignment():
    meter = SimulatedMeter(1, 1, MODES["hls5-suite2"], further=2)
    client = connected(meter)
    assert cosem.security_policy(client.value(64, SECURITY_SETUP, 2), 1) == 0x6C
    assert cosem.security_suite(client.value(64, SECURITY_SETUP, 3)) == 2
    assert cosem.system_title(client.value(64, SECURITY_SETUP, 4)) == CLIENT_TITLE
    assert cosem.system_title(client.value(64, SECURITY_SETUP, 5)) == meter.system_title
    devices = cosem.sap_assignment_list(client.value(17, "0-0:41.0.0"))
    assert [(d.sap, d.name) for d in devices] == [(n + 1, f"{meter.name[:-1]}{n}") for n in range(3)]


def test_further_logical_devices_answer_at_their_sap():
    meter = SimulatedMeter(1, 1, MODES["hls5"], further=1)
    station = Station(bus_of([meter]), lambda: NOW)
    for sap, last in ((1, "0"), (2, "1")):
        client = Client(meter, client_settings(meter), server_sap=sap, station=station)
        client.association = ClientAssociation(
            client_settings(meter), next_counter=iter(range(sap * 1000, sap * 1000 + 99)).__next__
        )
        client(client.association.associate())
        assert cosem.text(client.value(1, "0-0:42.0.0"))[-1] == last
        if sap == 2:
            assert client.get(Attribute(3, ENERGY, 2)) is DataAccessResult.OBJECT_UNDEFINED


def test_every_listed_attribute_can_be_read_and_is_what_it_says():
    client = connected(SimulatedMeter(1, 1, MODES["hls5"]))
    entries = cosem.object_list(client.value(15, "0-0:40.0.0"))
    assert len({e.obis for e in entries}) == len(entries) >= 24
    for entry in entries:
        for access in entry.attributes:
            if (entry.class_id, access.index) == (7, 2):
                assert access.selectors == (1, 2)
                continue
            raw = client.get(Attribute(entry.class_id, entry.obis, access.index))
            assert isinstance(raw, bytes), (entry, access, raw)
            axdr.decode_exact(raw)
            if access.index == 1:
                assert axdr.decode_exact(raw).value == entry.obis.raw


def test_refusals_say_what_is_wrong():
    client = connected()
    assert client.get(Attribute(3, Obis.parse("1-0:99.99.99"), 2)) is DataAccessResult.OBJECT_UNDEFINED
    assert client.get(Attribute(1, ENERGY, 2)) is DataAccessResult.OBJECT_CLASS_INCONSISTENT
    assert client.get(Attribute(3, ENERGY, 9)) is DataAccessResult.OBJECT_UNDEFINED
    assert client.get(Attribute(3, ENERGY, 0)) is DataAccessResult.OBJECT_UNDEFINED
    selection = Selection(1, b"\x00")
    assert client.get(Attribute(3, ENERGY, 2), selection) is DataAccessResult.SCOPE_OF_ACCESS_VIOLATED


def test_what_is_not_written_or_invoked_is_refused():
    client = connected()
    done = client(client.association.set(Attribute(8, cosem.CLOCK_TIME.obis, 9), b"\x00"))
    assert done == SetResult((DataAccessResult.READ_WRITE_DENIED,))
    done = client(client.association.set(Attribute(8, ENERGY, 2), b"\x00"))
    assert done == SetResult((DataAccessResult.OBJECT_CLASS_INCONSISTENT,))
    for method, result in (
        (Method(7, profile.PROFILE, 1), ActionResult.READ_WRITE_DENIED),
        (Method(9, profile.PROFILE, 1), ActionResult.OBJECT_CLASS_INCONSISTENT),
        (Method(7, Obis.parse("9-9:9.9.9"), 1), ActionResult.OBJECT_UNDEFINED),
    ):
        done = client(client.association.action(method))
        assert isinstance(done, ActionDone)
        assert done.outcomes[0].result is result


def test_access_answers_each_specification():
    client = connected()
    specs = (
        AccessGet(Attribute(1, SERIAL_NUMBER, 2)),
        AccessGet(Attribute(3, SERIAL_NUMBER, 2)),
        AccessSet(Attribute(1, SERIAL_NUMBER, 2)),
        AccessAction(Method(7, profile.PROFILE, 1)),
    )
    done = client(client.association.access([(spec, None) for spec in specs]))
    assert isinstance(done, AccessDone)
    assert axdr.decode_exact(done.response.data[0].data).value == b"SIM000010000001"
    assert [int(r.result) for r in done.response.results] == [0, 9, 3, 3]


# ---- the public client ---------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["none", "lls", "hls5"])
def test_the_public_client_reads_what_is_public_and_no_more(mode):
    client = public(SimulatedMeter(1, 3, MODES[mode]))
    assert cosem.text(client.value(1, SERIAL_NUMBER)) == "SIM000010000003"
    assert client.get(Attribute(3, ENERGY, 2)) is DataAccessResult.READ_WRITE_DENIED
    assert client.get(BUFFER) is DataAccessResult.READ_WRITE_DENIED
    entries = cosem.object_list(client.value(15, "0-0:40.0.0"))
    listed = {Attribute(e.class_id, e.obis, a.index) for e in entries for a in e.attributes}
    assert listed == MANAGEMENT.public
    for attribute in listed:
        assert isinstance(client.get(attribute), bytes)


def test_the_public_client_learns_the_last_counter():
    meter = SimulatedMeter(1, 3, MODES["hls5"])
    assert public(meter).value(1, INVOCATION_COUNTER).value == 0
    client = connected(meter)
    client.get(BUFFER, by_range(NOW - 3600, NOW))
    last = public(meter).value(1, INVOCATION_COUNTER).value
    assert last == meter.last_client_counter >= 3  # AARQ, proof, GET


def test_the_meters_counter_goes_on_after_a_restart():
    first, later = NOW, NOW + 60
    before, after = (SimulatedMeter(1, 3, MODES["hls5"]) for _ in range(2))
    used = max(before._next_counter(lambda: first) for _ in range(900))
    assert after._next_counter(lambda: later) > used


# ---- the load profile -------------------------------------------------------------------------------


def by_range(low, high, columns=(), deviation=0, **more):
    stamps = [CosemDateTime.from_utc(dt.datetime.fromtimestamp(t, dt.UTC), deviation) for t in (low, high)]
    descriptor = RangeDescriptor.between(*stamps, selected=columns, **more)
    return Selection(1, axdr.encode(descriptor.encode()))


def by_entry(*numbers):
    return Selection(2, axdr.encode(EntryDescriptor(*numbers).encode()))


def rows(raw):
    return [row.value for row in axdr.decode_exact(raw).value]


def stamp_of(row):
    return int(CosemDateTime.from_bytes(row[0].value).to_utc().timestamp())


@pytest.mark.parametrize("mode", ["none", "hls5"])
@pytest.mark.parametrize("max_pdu", [128, 1024, 0xFFFF])
def test_a_day_comes_whole_whatever_the_pdu_size(mode, max_pdu):
    meter = SimulatedMeter(1, 6, MODES[mode], max_pdu=max_pdu)
    client = connected(meter)
    day = 1_799_884_800
    raw = client.get(BUFFER, by_range(day + 900, day + 86_400))
    found = rows(raw)
    assert [stamp_of(row) for row in found] == list(range(day + 900, day + 86_401, 900))
    for row in found:
        expected = [meter.consumption.at(n, stamp_of(row)) for n in range(4)]
        assert [cell.value for cell in row[1:]] == [0, *expected]
    assert client.longest <= max_pdu


def test_blocks_have_at_most_the_size_that_is_set():
    client = connected(SimulatedMeter(1, 6, block_size=200))
    day = 1_799_884_800
    raw = client.get(BUFFER, by_range(day + 900, day + 86_400))
    assert client.responses >= len(raw) // 200
    assert client.longest <= 200 + 20


def test_the_buffer_is_what_the_heads_end_profile_promises():
    """The vectorised and the general decoder take it, by the head-end's own description of this meter."""
    model = load_model("headend-sim")
    layout = model.load_profile(1)
    client = connected(SimulatedMeter(1, 6))
    captures = cosem.capture_objects(client.value(7, profile.PROFILE, 3))
    assert [(c.class_id, str(c.obis), c.attribute) for c in captures] == [
        (c.interface_class, c.obis, c.attribute) for c in layout.columns
    ]
    assert cosem.seconds(client.value(7, profile.PROFILE, 4)) == layout.period_s
    assert cosem.sort_method(client.value(7, profile.PROFILE, 5)) is cosem.SortMethod.FIFO
    assert CaptureObject.decode(client.value(7, profile.PROFILE, 6)) == captures[0]
    assert cosem.entries(client.value(7, profile.PROFILE, 7)) == 70 * 96
    assert cosem.entries(client.value(7, profile.PROFILE, 8)) == 70 * 96 >= 60 * 96
    roles = {"clock": Role.CLOCK, "status": Role.STATUS, "value": Role.VALUE}
    raw = client.get(BUFFER, by_range(NOW - 86_400, NOW))
    columns = decode_buffer_general(
        raw, BufferLayout(tuple(Column(roles[c.role]) for c in layout.columns), 900)
    )
    assert len(columns) == 96
    assert np.all(np.diff(columns.stamp_us) == 900_000_000)


def test_both_bounds_are_included_and_the_future_is_empty():
    client = connected()
    newest = moment_of(quarter_of(NOW))
    assert [stamp_of(r) for r in rows(client.get(BUFFER, by_range(newest - 900, newest)))] == [
        newest - 900,
        newest,
    ]
    assert len(rows(client.get(BUFFER, by_range(newest - 899, newest - 1)))) == 0
    assert client.get(BUFFER, by_range(NOW + 900, NOW + 9000)) == b"\x01\x00"
    assert client.get(BUFFER, by_range(newest, newest - 900)) == b"\x01\x00"
    ago = NOW - 80 * 86_400
    assert client.get(BUFFER, by_range(0, ago)) == b"\x01\x00"
    assert stamp_of(rows(client.get(BUFFER, by_range(0, NOW)))[0]) == newest - (70 * 96 - 1) * 900


def test_bounds_in_any_deviation_and_type_mean_the_same():
    client = connected()
    expected = client.get(BUFFER, by_range(NOW - 7200, NOW))
    assert client.get(BUFFER, by_range(NOW - 7200, NOW, deviation=-120)) == expected
    assert client.get(BUFFER, by_range(NOW - 7200, NOW, tagged_date_time=True)) == expected
    low, high = (CosemDateTime.from_utc(dt.datetime.fromtimestamp(t, dt.UTC), -60) for t in (NOW - 7200, NOW))
    bare = [CosemDateTime(s.date, s.time, None, None) for s in (low, high)]
    selection = Selection(1, axdr.encode(RangeDescriptor.between(*bare).encode()))
    assert client.get(BUFFER, selection) == expected  # without deviation: the meter's own clock


def test_selected_columns():
    client = connected()
    wanted = (profile.CAPTURE_OBJECTS[3], profile.CAPTURE_OBJECTS[0])
    found = rows(client.get(BUFFER, by_range(NOW - 3600, NOW, wanted)))
    whole = rows(client.get(BUFFER, by_range(NOW - 3600, NOW)))
    assert found == [(row[0], row[3]) for row in whole]
    unknown = (CaptureObject(3, Obis.parse("1-0:5.8.0"), 2),)
    refused = client.get(BUFFER, by_range(NOW - 3600, NOW, unknown))
    assert refused is DataAccessResult.SCOPE_OF_ACCESS_VIOLATED


def test_by_entry():
    client = connected()
    in_use = 70 * 96
    newest = moment_of(quarter_of(NOW))
    assert stamp_of(rows(client.get(BUFFER, by_entry(in_use, in_use)))[0]) == newest
    last = rows(client.get(BUFFER, by_entry(in_use - 2, 0)))
    assert [stamp_of(r) for r in last] == [newest - 1800, newest - 900, newest]
    assert [stamp_of(r) for r in rows(client.get(BUFFER, by_entry(1, 1)))] == [newest - (in_use - 1) * 900]
    two = rows(client.get(BUFFER, by_entry(in_use, 0, 3, 4)))
    whole = rows(client.get(BUFFER, by_entry(in_use, 0)))
    assert two == [whole[0][2:4]]
    assert client.get(BUFFER, by_entry(in_use + 1, 0)) == b"\x01\x00"
    for wrong in ((0, 1), (1, 1, 0, 0), (1, 1, 7, 0)):
        assert client.get(BUFFER, by_entry(*wrong)) is DataAccessResult.SCOPE_OF_ACCESS_VIOLATED


def test_selectors_that_are_malformed_or_unknown():
    client = connected()
    assert client.get(BUFFER, Selection(3, b"\x00")) is DataAccessResult.SCOPE_OF_ACCESS_VIOLATED
    assert client.get(BUFFER, Selection(1, b"\x00")) is DataAccessResult.TYPE_UNMATCHED
    assert client.get(BUFFER, Selection(2, b"\x00")) is DataAccessResult.TYPE_UNMATCHED
    other = RangeDescriptor(profile.CAPTURE_OBJECTS[2], axdr.u32(0), axdr.u32(9))
    refused = client.get(BUFFER, Selection(1, axdr.encode(other.encode())))
    assert refused is DataAccessResult.SCOPE_OF_ACCESS_VIOLATED
    number = RangeDescriptor(profile.CAPTURE_OBJECTS[0], axdr.u32(0), axdr.u32(9))
    refused = client.get(BUFFER, Selection(1, axdr.encode(number.encode())))
    assert refused is DataAccessResult.TYPE_UNMATCHED


def test_the_whole_buffer():
    client = connected(SimulatedMeter(1, 2, max_pdu=0xFFFF))
    found = rows(client.get(BUFFER))
    assert len(found) == 70 * 96
    assert stamp_of(found[-1]) == moment_of(quarter_of(NOW))


def test_before_the_epoch_of_the_shapes_the_profile_is_shorter():
    early = moment_of(10)
    station = Station(bus_of([SimulatedMeter(1, 1)]), lambda: early)
    client = Client(None, ClientSettings(), station=station)
    client(client.association.associate())
    assert client.value(7, profile.PROFILE, 7).value == 11
    assert len(rows(client.get(BUFFER))) == 11


def test_stamps_equal_the_codecs_own():
    quarters = np.array([0, 1, 95, 96, 59 * 96, 60 * 96 - 1, 213_000, 1_700_000], np.int64)
    for deviation in (-60, 0, 330, -840):
        found = profile.stamps(quarters, deviation)
        for k, raw in zip(quarters.tolist(), found, strict=True):
            moment = dt.datetime.fromtimestamp(moment_of(k), dt.UTC)
            assert raw.tobytes() == CosemDateTime.from_utc(moment, deviation).to_bytes()


# ---- the head-end's side of it ------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_agrees_with_its_model(mode):
    wanted, model = MODES[mode], load_model(MODES[mode].model)
    names = {
        "none": Mechanism.NONE, "lls": Mechanism.LLS, "hls-md5": Mechanism.HLS_MD5,
        "hls-sha1": Mechanism.HLS_SHA1, "hls-gmac": Mechanism.HLS_GMAC, "hls-sha256": Mechanism.HLS_SHA256,
    }  # fmt: skip
    assert names[model.association.mechanism] is wanted.mechanism
    assert model.association.suite == wanted.suite
    assert (model.association.protection == "authenticated+encrypted") is wanted.ciphered
    assert model.association.client_sap == 1
    assert model.association.public_client_sap == 16
    assert Obis.parse(model.association.invocation_counter) == INVOCATION_COUNTER


def test_mixes_name_known_modes():
    for kinds in MIXES.values():
        assert {kind.mode for kind in kinds} <= set(MODES)
    assert {kind.mode for kind in MIXES["all"]} == set(MODES)


def test_keys_stay_dark():
    meter = SimulatedMeter(1, 1, MODES["hls5"])
    connected(meter)
    shown = repr(meter) + repr(meter.keys) + repr(meter._management)
    assert meter.keys.encryption.reveal().hex() not in shown
    assert isinstance(meter.keys.encryption, Key)
    assert "<redacted>" in repr(meter.keys)
