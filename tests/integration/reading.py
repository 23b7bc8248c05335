"""A meter read in one conversation, and what it gave stored."""

from headend.house import House
from headend.links.permits import Urgency
from headend.store.writer import write
from schemas.meter import Meter
from schemas.reading import RegisterRead


async def registers_of(house: House, meter: Meter, *obis: str) -> tuple[RegisterRead, ...]:
    """These registers, or those of its model."""
    driver, way = await house.drivers.prepare_one(await house.target(meter))
    async with house.links.conversation(driver, way, urgency=Urgency.ON_DEMAND, force=True) as conversation:
        batch = (await conversation.read_registers(obis)).batch
    await write(house.base.pool, batch)
    return batch.registers
