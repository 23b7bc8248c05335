"""New keys by key_transfer, with a Gurux client at our simulated meter and our client at a Gurux meter.

There is no recorded trace of a transfer: a captured one would be of use only with the meter's keys. Gurux
wraps under master keys of 128 bits alone, and cannot unwrap; the wrapping itself is held by the vectors of
RFC 3394 (tests/unit/test_security.py).
"""

import asyncio

import pytest
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap
from gurux_dlms import GXByteBuffer
from gurux_dlms.enums import Authentication, ObjectType
from gurux_dlms.objects import GXDLMSRegister, GXDLMSSecuritySetup
from gurux_dlms.objects.enums import GlobalKeyType

from concentrator_sim.key_slots import KeySlots
from concentrator_sim.meter import SimulatedMeter
from headend.drivers.dlms.commands.keys import KeysCommands
from protocols.dlms import axdr
from protocols.dlms.cosem import KeyId, TransferredKey, key_transfer, transferred_keys
from protocols.dlms.security import Key, wrap_key
from protocols.errors import CommunicationError, LinkClosed
from schemas.meter import KeyPurpose
from schemas.model import Keys
from tests.interop.gurux_client import Refused, talking
from tests.interop.gurux_server import GuruxMeter, serving
from tests.interop.test_gurux_client import client_for, run
from tests.interop.test_gurux_server import AUTH, KEY, model, plan_for, session_of

pytestmark = pytest.mark.interop

NEW_KEY, NEW_AUTH, MASTER = bytes(range(32, 48)), bytes(range(48, 64)), bytes(range(64, 80))
TRANSFER = [
    (GlobalKeyType.UNICAST_ENCRYPTION, NEW_KEY),
    (GlobalKeyType.AUTHENTICATION, NEW_AUTH),
]


def transfer(connection, master: bytes) -> None:
    setup = GXDLMSSecuritySetup("0.0.43.0.0.255")
    assert setup.objectType == ObjectType.SECURITY_SETUP
    connection.exchange(setup.globalKeyTransfer(connection.client, master, TRANSFER))


@pytest.mark.parametrize("security", ["hls5", "hls5-suite1"])
def test_a_gurux_client_gives_our_meter_new_keys(security):
    def work(meter: SimulatedMeter, port: int) -> None:
        master = meter.keys.master
        assert master is not None
        client = client_for(meter)
        with talking(client, port) as connection, pytest.raises(Refused):
            transfer(connection, bytes(16))
        again = client_for(meter)
        again.ciphering.invocationCounter = 100
        with talking(again, port) as connection:
            transfer(connection, master.reveal())
        assert meter.part(KeySlots).transfers == 2
        assert meter.keys.encryption == Key(NEW_KEY)
        assert meter.keys.authentication == Key(NEW_AUTH)
        with talking(client_for(meter), port) as connection:  # its counter begins anew with its key
            connection.read(GXDLMSRegister("1.0.1.8.0.255"), 2)

    run(work, security=security)


def test_our_client_gives_a_gurux_meter_new_keys():
    meter = GuruxMeter(authentication=Authentication.HIGH_GMAC, key=KEY, auth_key=AUTH)
    meter.unwrap = lambda wrapped: aes_key_unwrap(MASTER, wrapped)
    ciphered = {"mechanism": "hls-gmac", "protection": "authenticated+encrypted"}
    the_model = model(**ciphered).model_copy(update={"keys": Keys()})
    new = {KeyPurpose.ENCRYPTION: Key(NEW_KEY), KeyPurpose.AUTHENTICATION: Key(NEW_AUTH)}

    async def work(port: int) -> None:
        address = f"tcp://127.0.0.1:{port}"
        async with session_of(plan_for(address, the_model)) as session:
            await KeysCommands(session, the_model).transfer_keys(new, under=Key(MASTER))
            with pytest.raises(LinkClosed, match="its keys were changed"):
                await KeysCommands(session, the_model).transfer_keys(new, under=Key(MASTER))
        assert meter.transfers == [{0: NEW_KEY, 2: NEW_AUTH}]
        async with session_of(plan_for(address, the_model, key=NEW_KEY, auth=NEW_AUTH)):
            pass
        with pytest.raises(CommunicationError):
            async with session_of(plan_for(address, the_model)):
                pass

    with serving(meter) as port:
        asyncio.run(work(port))


def test_both_write_the_same_parameter():
    kek = Key(MASTER)
    ours = axdr.encode(
        key_transfer(
            [
                TransferredKey(KeyId.GLOBAL_UNICAST_ENCRYPTION, wrap_key(Key(NEW_KEY), kek=kek)),
                TransferredKey(KeyId.AUTHENTICATION, wrap_key(Key(NEW_AUTH), kek=kek)),
            ]
        )
    )
    theirs = GXByteBuffer()

    class Takes:
        def method(self, item, index, data, kind):
            assert (item.objectType, index) == (ObjectType.SECURITY_SETUP, 2)
            theirs.set(data)

    GXDLMSSecuritySetup("0.0.43.0.0.255").globalKeyTransfer(Takes(), MASTER, TRANSFER)
    assert bytes(theirs.array()) == ours
    assert [one.key_id for one in transferred_keys(axdr.decode_exact(ours))] == [0, 2]
