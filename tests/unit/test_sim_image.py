"""A simulated meter's memory for images, over its own station."""

import pytest

from concentrator_sim.image import FIRST_VERSION, ImageStore, Troubles, simulated_image
from concentrator_sim.image_plan import ImagePlan
from concentrator_sim.meter import SimulatedMeter
from concentrator_sim.station import Station, bus_of
from protocols.dlms.cosem.image_transfer import TransferStatus
from protocols.dlms.enums import ActionResult

IMAGE = simulated_image("2.0.0", 1_000)
PLAN = ImagePlan(block_size=100, verify_s=30, restart_s=5)


def filled(plan: ImagePlan = PLAN, number: int = 1, image: bytes = IMAGE) -> ImageStore:
    store = SimulatedMeter(1, number, image_plan=plan).part(ImageStore)
    store.enabled = True
    assert store.initiate(b"FW2", len(image)) is ActionResult.SUCCESS
    for n in range(10):
        assert store.write(n, image[100 * n : 100 * n + 100], 0) is ActionResult.SUCCESS
    return store


def test_an_image_is_verified_slowly_and_run_after_a_restart() -> None:
    store = filled()
    assert store.verify(100) is ActionResult.TEMPORARY_FAILURE
    assert store.verify(129) is ActionResult.TEMPORARY_FAILURE
    assert store.activate(129) is ActionResult.OTHER_REASON
    store.settle(130)
    assert store.verify(130) is ActionResult.SUCCESS
    assert (store.images[0].size, store.images[0].identification) == (1_000, b"FW2")
    assert store.images[0].signature == IMAGE[-32:]
    assert store.version == FIRST_VERSION
    assert store.activate(131) is ActionResult.SUCCESS
    assert (store.version, store.status) == ("2.0.0", TransferStatus.ACTIVATION_SUCCESSFUL)
    assert [store.is_away(now) for now in (131, 135.9, 136)] == [True, True, False]


def test_blocks_that_come_again_are_counted_by_what_the_client_knew() -> None:
    store = filled(ImagePlan(block_size=100))
    store.write(0, IMAGE[:100], 0)
    assert store.counts == (11, 0, 1, 1)
    assert store.bitmap.length == 10
    store.write(0, IMAGE[:100], 0)
    assert store.counts == (12, 1, 1, 1)
    store.initiate(b"FW2", 1_000)
    assert store.first_missing == 0
    store.write(0, IMAGE[:100], 0)
    assert store.counts == (13, 1, 1, 2)
    assert store.first_missing == 1
    store.write(0, IMAGE[:100], 0)
    assert store.counts.again_told == 2


def test_what_is_refused() -> None:
    store = SimulatedMeter(1, 1, image_plan=PLAN).part(ImageStore)
    assert store.initiate(b"F", 1_000) is ActionResult.OTHER_REASON  # not enabled
    store.enabled = True
    assert store.write(0, IMAGE[:100], 0) is ActionResult.OTHER_REASON  # not initiated
    store.initiate(b"F", 1_000)
    assert store.write(10, IMAGE[:100], 0) is ActionResult.OTHER_REASON
    assert store.write(0, IMAGE[:99], 0) is ActionResult.OTHER_REASON
    assert store.verify(0) is ActionResult.OTHER_REASON
    store.troubles = Troubles(flash_refuses=lambda now: True)
    assert store.write(0, IMAGE[:100], 0) is ActionResult.HARDWARE_FAULT


def test_an_image_that_is_kept_wrong_is_not_verified() -> None:
    store = filled(ImagePlan(block_size=100))
    store.troubles = Troubles(flash_spoils=lambda now: True)
    store.write(3, IMAGE[300:400], 0)
    assert store.verify(0) is ActionResult.OTHER_REASON
    assert store.status is TransferStatus.VERIFICATION_FAILED


@pytest.mark.parametrize("forgets", [False, True])
def test_a_power_cut_in_mid_image(forgets: bool) -> None:
    store = filled(ImagePlan(block_size=100, verify_s=30, forgets_every=2 if forgets else 0), number=2)
    store.verify(0)
    store.troubles = Troubles(restarts=lambda now: 1)
    store.settle(10)
    if forgets:
        assert (store.status, store.bitmap.length) == (TransferStatus.NOT_INITIATED, 0)
    else:
        assert (store.status, store.first_missing) == (TransferStatus.INITIATED, 10)


def test_a_brick_never_answers_again() -> None:
    meter = SimulatedMeter(1, 1, image_plan=ImagePlan(block_size=100))
    store = meter.part(ImageStore)
    store.troubles = Troubles(is_brick=lambda now: True)
    store.enabled = True
    store.initiate(b"F", 100)
    store.write(0, b"x" * 100, 0)
    assert store.verify(0) is ActionResult.SUCCESS
    store.activate(0)
    assert (store.version, store.is_away(1e12)) == ("F", True)
    assert Station(bus_of([meter]), lambda: 10**9).receive(16, 1, b"\x60\x00") == []
