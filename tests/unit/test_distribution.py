"""A concentrator's list of meters that shall have an image: no standard has one, it is our own."""

import asyncio

import pytest

from concentrator_sim.concentrator import Concentrator, Member
from concentrator_sim.distribution import ORDER, PROGRESS, Distributor
from concentrator_sim.image import IMAGE_TRANSFER, ImageStore, Troubles, simulated_image
from concentrator_sim.image_plan import ImagePlan
from concentrator_sim.meter import LogicalDevice, SimulatedMeter
from concentrator_sim.object_model import MANAGEMENT_CLIENT, ObjectModel
from concentrator_sim.security import MODES
from protocols.dlms import distribution
from protocols.dlms.apdu.fields import AttributeItem
from protocols.dlms.cosem import Attribute, ClassId
from protocols.dlms.cosem.image_transfer import TransferStatus
from protocols.dlms.distribution import Progress, Stage
from protocols.dlms.enums import DataAccessResult
from protocols.errors import RemoteProtocolError
from schemas.address import GatewayAddress
from schemas.model import MeterModel, load_model

PLAN = ImagePlan(block_size=100, restart_s=0)
IMAGE = simulated_image("2.0.0", 950)
FIRST, SECOND = GatewayAddress(0, b"\x01"), GatewayAddress(7, b"\x02\x03")
ORDER_OF, PROGRESS_OF = (Attribute(ClassId.DATA, obis, 2) for obis in (ORDER, PROGRESS))


def test_the_list_as_it_goes_over_the_wire() -> None:
    raw = distribution.encode_order([FIRST, SECOND])
    assert raw.hex() == "0102" + "0202" + "1100" + "090101" + "0202" + "1107" + "09020203"
    assert distribution.decode_order(raw) == (FIRST, SECOND)
    assert distribution.decode_order(distribution.encode_order([])) == ()
    with pytest.raises(RemoteProtocolError, match="twice"):
        distribution.decode_order(distribution.encode_order([FIRST, FIRST]))


def test_how_far_they_are_as_it_goes_over_the_wire() -> None:
    told = (Progress(FIRST, Stage.VERIFIED, 10), Progress(SECOND, Stage.FAILED, 3, "it does not answer"))
    raw = distribution.encode_progress(told)
    assert raw.hex() == (
        "0102" + "0205" + "1100" + "090101" + "1602" + "060000000a" + "0900"
        + "0205" + "1107" + "09020203" + "1603" + "0600000003" + "0912" + b"it does not answer".hex()
    )  # fmt: skip
    assert distribution.decode_progress(raw) == told
    with pytest.raises(RemoteProtocolError, match="none of 0 to 3"):
        distribution.decode_progress(raw.replace(b"\x16\x02", b"\x16\x04"))
    cut = distribution.encode_progress([Progress(FIRST, Stage.FAILED, 0, "x" * 1000)])
    assert len(distribution.decode_progress(cut)[0].reason) == distribution.LONGEST_REASON


def test_only_models_of_concentrators_distribute() -> None:
    said = load_model("headend-dc").distribution
    assert said is not None
    assert (said.transfer, said.order, said.progress) == (
        "0-0:44.0.0*255", "0-0:199.0.3*255", "0-0:199.0.4*255",
    )  # fmt: skip
    with pytest.raises(ValueError, match="is for concentrators"):
        MeterModel(name="x", title="x", distribution=said)


class House:
    """A concentrator, its own memory for images, and two meters behind it."""

    def __init__(self) -> None:
        self.down = False
        self.head = SimulatedMeter(1, 999, MODES["none"], image_plan=PLAN)
        self.members = [
            Member(SimulatedMeter(1, n, MODES["none"], image_plan=PLAN), address)
            for n, address in enumerate((FIRST, SECOND), 1)
        ]
        self.distributor = Distributor(self.head, is_down=lambda: self.down)
        self.model = ObjectModel((IMAGE_TRANSFER, *self.distributor.objects()))
        self.device = LogicalDevice(self.head, 1, "head", self.model)
        self.concentrator = Concentrator({}, self.members, lambda: 1_000, patience_s=0.001)

    def memory(self, n: int) -> ImageStore:
        return self.members[n].meter.part(ImageStore)

    def image(self, image: bytes = IMAGE, identifier: bytes = b"2.0.0") -> None:
        """The head-end has given it the image."""
        store = self.head.part(ImageStore)
        store.enabled = True
        store.initiate(identifier, len(image))
        for number in range(-(-len(image) // 100)):
            store.write(number, image[number * 100 : (number + 1) * 100], 1_000)
        store.verify(1_000)
        assert store.status is TransferStatus.VERIFICATION_SUCCESSFUL

    def order(self, *meters: GatewayAddress) -> DataAccessResult:
        raw = distribution.encode_order(meters)
        return self.model.write(ORDER_OF, raw, self.device, MANAGEMENT_CLIENT, 1_000)

    def told(self) -> list[tuple[GatewayAddress, Stage, str]]:
        value = self.model.read(AttributeItem(PROGRESS_OF), self.device, MANAGEMENT_CLIENT, 1_000)
        assert isinstance(value, bytes)
        return [(one.address, one.stage, one.reason) for one in distribution.decode_progress(value)]

    async def settled(self) -> list[tuple[GatewayAddress, Stage, str]]:
        """What is told when nobody is under way any more."""
        running = asyncio.create_task(self.distributor.run(self.concentrator))
        try:
            async with asyncio.timeout(10):
                while any(one[1] in (Stage.WAITING, Stage.UNDER_WAY) for one in self.told()):  # noqa: ASYNC110
                    await asyncio.sleep(0)
        finally:
            running.cancel()
            await asyncio.wait([running])
        return self.told()


async def test_the_simulated_one_gives_each_of_the_list_the_image_once() -> None:
    house = House()
    assert house.order(FIRST) is DataAccessResult.TEMPORARY_FAILURE  # it holds none
    house.image()
    assert house.order(FIRST, SECOND, GatewayAddress(0, b"?")) is DataAccessResult.SUCCESS
    assert await house.settled() == [
        (FIRST, Stage.VERIFIED, ""),
        (SECOND, Stage.VERIFIED, ""),
        (GatewayAddress(0, b"?"), Stage.FAILED, "no such meter is known here"),
    ]
    for n in (0, 1):
        assert house.memory(n).counts == (10, 0, 0, 1)
        assert house.memory(n).images[0].identification == b"2.0.0"
    assert house.order(SECOND) is DataAccessResult.SUCCESS
    assert await house.settled() == [(SECOND, Stage.VERIFIED, "")]
    assert house.memory(1).counts == (10, 0, 0, 1)  # it was found to hold it
    house.image(simulated_image("3.0.0", 950), b"3.0.0")
    assert house.told() == []


async def test_the_simulated_one_tells_whom_it_cannot_serve() -> None:
    house = House()
    house.image()
    house.members[0].is_dead = True
    house.memory(1).troubles = Troubles(flash_spoils=lambda now: True)
    house.order(FIRST, SECOND)
    assert await house.settled() == [
        (FIRST, Stage.FAILED, "it does not answer"),
        (SECOND, Stage.FAILED, "it found the image wrong"),
    ]
    assert house.memory(1).counts.initiated == 2
    house.members[0].is_dead = False
    house.order(FIRST)  # failed before, and begun with again
    assert await house.settled() == [(FIRST, Stage.VERIFIED, "")]


async def test_the_simulated_one_goes_on_after_its_restart() -> None:
    house = House()
    house.image()
    cut: list[int] = []

    def restarts_at_the_fourth(now: float) -> bool:
        if house.memory(0).counts.blocks == 3 and not cut:
            cut.append(house.distributor.sent)
            house.down = True
            asyncio.get_running_loop().call_later(0.01, back)
        return False

    def back() -> None:
        cut.append(house.distributor.sent)
        house.down = False

    house.memory(0).troubles = Troubles(flash_refuses=restarts_at_the_fourth)
    house.order(FIRST)
    assert await house.settled() == [(FIRST, Stage.VERIFIED, "")]
    assert cut[0] == cut[1]  # nothing was sent meanwhile
    assert house.memory(0).counts == (10, 0, 0, 1)
