"""Notifications of sessions are handed over behind the session's back, and none is lost silently."""

import asyncio

from headend.session.handover import Handover
from protocols.dlms import axdr
from protocols.dlms.apdu.fields import Raw
from protocols.dlms.apdu.notification import EventNotificationRequest
from protocols.dlms.association import Notification
from protocols.dlms.cosem import CLOCK_TIME

TOLD = [Notification(EventNotificationRequest(None, CLOCK_TIME, Raw(axdr.encode(axdr.u8(1)))))]


class Somebody:
    """Whom sessions are named after."""

    asset_id = "M-1"
    meter_id = 1


def test_all_is_handed_over_before_the_end(run_virtual):
    got = []

    async def notified(meter, told, *, proven):
        await asyncio.sleep(3)
        got.append((meter.asset_id, told, proven))

    async def main():
        handover = Handover()
        handover.start(notified, Somebody, [], proven=True)
        handover.start(notified, Somebody, TOLD, proven=True)
        handover.start(notified, Somebody, TOLD, proven=False)
        assert got == []  # nobody waits in the session
        await handover.close()
        await handover.close()

    run_virtual(main())
    assert got == [("M-1", tuple(TOLD), True), ("M-1", tuple(TOLD), False)]


def test_what_cannot_be_handed_over_is_told(run_virtual, caplog):
    async def forever(meter, told, *, proven):
        await asyncio.Event().wait()

    async def broken(meter, told, *, proven):
        raise ValueError("a defect")

    async def main():
        handover = Handover(drain_s=5)
        handover.start(None, Somebody, TOLD, proven=True)
        handover.start(broken, Somebody, TOLD, proven=True)
        handover.start(forever, Somebody, TOLD, proven=True)
        begun = asyncio.get_running_loop().time()
        await handover.close()
        assert asyncio.get_running_loop().time() == begun + 5
        assert len(asyncio.all_tasks()) == 1

    run_virtual(main())
    assert "meter M-1: 1 notifications within its session: nobody stores them" in caplog.text
    assert "meter M-1: 1 notifications within its session are not stored" in caplog.text
    assert "notifications of M-1 are not stored: the database did not take them in time" in caplog.text
