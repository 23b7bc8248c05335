"""Which driver a meter gets, and how what is wrong with one meter is told."""

from types import SimpleNamespace

import pytest

from headend.drivers.contract import Target
from headend.drivers.registry import Drivers
from headend.keys.seal import SealError
from protocols.errors import LocalProtocolError
from schemas.model import ModelError


class Fake:
    def __init__(self, *names, bad=()):
        self.names = names
        self.bad = set(bad)
        self.asked = []

    async def prepare(self, targets):
        ids = [one.meter.meter_id for one in targets]
        self.asked.append(ids)
        if self.bad & set(ids):
            raise SealError("the key of one of them does not open")
        return {number: SimpleNamespace(number=number) for number in ids}


def target(number, model="generic-dlms"):
    return Target(SimpleNamespace(meter_id=number, model=model))


def test_the_model_says_who_speaks():
    dlms, modbus = Fake("dlms", "dlms-push"), Fake("modbus")
    drivers = Drivers([dlms, modbus])
    assert drivers.of("generic-dlms") is dlms
    assert drivers.of("eastron-sdm630") is modbus


def test_a_language_that_nobody_speaks_is_an_error_of_the_model():
    with pytest.raises(ModelError, match="no driver 'modbus' here; known: dlms"):
        Drivers([Fake("dlms")]).of("eastron-sdm630")


def test_two_drivers_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two drivers are called 'dlms'"):
        Drivers([Fake("dlms"), Fake("dlms")])


def test_a_key_that_does_not_open_costs_its_own_meter_only(run_virtual):
    driver = Fake("dlms", bad={2})

    found = run_virtual(Drivers([driver]).prepare([target(1), target(2), target(3)]))
    assert isinstance(found[2], SealError)
    assert [found[number].way.number for number in (1, 3)] == [1, 3]
    assert driver.asked == [[1, 2, 3], [1], [2], [3]]


def test_a_meter_of_an_unknown_model_costs_nobody_else(run_virtual):
    found = run_virtual(Drivers([Fake("dlms")]).prepare([target(1), target(2, "no-such-model")]))
    assert isinstance(found[2], LocalProtocolError)
    assert found[1].way.number == 1
