"""Class 18 with a foreign peer: a Gurux client gives our meter an image, our client one of Gurux'.

No recorded trace of an image transfer exists here: a peer by other hands is the best there is.
"""

import asyncio
from typing import Any

import pytest
from gurux_dlms import GXByteBuffer
from gurux_dlms.enums import DataType, ErrorCode, ObjectType
from gurux_dlms.internal._GXCommon import _GXCommon
from gurux_dlms.objects import GXDLMSImageTransfer

from concentrator_sim.image import ImageStore, simulated_image
from concentrator_sim.meter import SimulatedMeter
from headend.drivers.dlms.commands.firmware import FirmwareCommands
from protocols.dlms.cosem.image_transfer import TransferStatus
from schemas.model import Firmware
from tests.interop.gurux_client import Refused, talking
from tests.interop.gurux_commanded import CommandedMeter
from tests.interop.gurux_server import serving
from tests.interop.test_gurux_client import client_for, run
from tests.interop.test_gurux_server import model, plan_for, session_of

pytestmark = pytest.mark.interop

IMAGE = simulated_image("2.0.0", 1_300)


def test_a_foreign_client_gives_our_meter_an_image() -> None:
    def work(meter: SimulatedMeter, port: int) -> None:
        store = meter.part(ImageStore)
        with talking(client_for(meter), port) as connection:
            image = GXDLMSImageTransfer()
            with pytest.raises(Refused):  # not enabled
                connection.exchange(image.imageTransferInitiate(connection.client, "2.0.0", len(IMAGE)))
            image.imageTransferEnabled = True
            connection.exchange(connection.client.write(image, 5))
            for attribute in (2, 5):
                connection.read(image, attribute)
            assert (image.imageBlockSize, image.imageTransferEnabled) == (store.block_size, True)
            connection.exchange(image.imageTransferInitiate(connection.client, "2.0.0", len(IMAGE)))
            for attribute in (3, 4, 6):
                connection.read(image, attribute)
            assert (str(image.imageTransferredBlocksStatus), image.imageFirstNotTransferredBlockNumber) == (
                "000",
                0,
            )
            assert int(image.imageTransferStatus) == TransferStatus.INITIATED
            with pytest.raises(Refused):  # nothing is there
                connection.exchange(image.imageVerify(connection.client))
            for n in range(0, len(IMAGE), store.block_size):
                number = n // store.block_size
                block = b"\x02\x02\x06" + number.to_bytes(4, "big")
                value = GXByteBuffer(block)
                _GXCommon.setData(None, value, DataType.OCTET_STRING, IMAGE[n : n + store.block_size])
                connection.exchange(connection.client.method(image, 2, value.array(), DataType.ARRAY))
            connection.read(image, 3)
            assert str(image.imageTransferredBlocksStatus) == "111"
            connection.exchange(image.imageVerify(connection.client))
            connection.read(image, 7)
            (info,) = image.imageActivateInfo
            assert info.size == len(IMAGE)
            connection.exchange(image.imageActivate(connection.client))
        assert store.version == "2.0.0"

    run(work, image={"block_size": 500, "restart_s": 0})


class WithImage(CommandedMeter):
    """Gurux' Image Transfer object, and what its methods do."""

    def __init__(self) -> None:
        self.image = GXDLMSImageTransfer()
        self.image.imageBlockSize = 200
        self.image.imageTransferEnabled = True
        self.image.imageTransferStatus = 0
        self.image.imageTransferredBlocksStatus = ""
        self.initiated: Any = None
        self.blocks: dict[int, bytes] = {}
        methods = {(18, 1): self._initiate, (18, 2): self._block, (18, 3): self._verify}
        super().__init__(self.image, methods=methods)

    def _initiate(self, told: Any) -> None:
        self.initiated = told
        self.image.imageTransferStatus = 1
        self.image.imageTransferredBlocksStatus = "0" * -(-told[1] // 200)

    def _block(self, told: Any) -> None:
        number, block = told
        self.blocks[number] = bytes(block)
        bits = str(self.image.imageTransferredBlocksStatus)
        self.image.imageTransferredBlocksStatus = bits[:number] + "1" + bits[number + 1 :]

    def _verify(self, told: Any) -> ErrorCode | None:
        times = [index for _, index, _ in self.invoked].count(3)
        return ErrorCode.TEMPORARY_FAILURE if times == 1 else None


def test_our_client_gives_a_foreign_meter_an_image() -> None:
    meter = WithImage()
    assert meter.image.objectType == ObjectType.IMAGE_TRANSFER

    async def main(port: int) -> None:
        the_model = model().model_copy(update={"firmware": Firmware()})
        async with session_of(plan_for(f"tcp://127.0.0.1:{port}", the_model)) as session:
            ours = FirmwareCommands(session, the_model)
            assert (await ours.read_image_state()).block_size == 200
            await ours.initiate_image(b"FW2", 500, bytes(32))
            assert (await ours.read_image_state()).missing == (0, 1, 2)
            await ours.send_block(1, IMAGE[200:400])
            assert (await ours.read_image_state()).missing == (0, 2)
            assert await ours.verify_image() is False
            assert await ours.verify_image() is True

    with serving(meter) as port:
        asyncio.run(main(port))
    assert meter.faults == []
    assert (bytes(meter.initiated[0]), meter.initiated[1]) == (b"FW2", 500)
    assert meter.blocks == {1: IMAGE[200:400]}
    assert [index for _, index, _ in meter.invoked] == [1, 2, 3, 3]
