"""A head-end that takes what concentrators push and makes rounds of them, to be killed: run by
`test_stations_killed`."""

import asyncio
import sys

from headend.foundation import open_base
from headend.house import open_house
from headend.listen.push import PushListener
from headend.store.errors import UnavailableError
from schemas.config import load_settings


async def main(dsn: str, master_key: str, port: str) -> None:
    settings = load_settings(
        database_url=dsn,
        master_key=master_key,
        listen_push_tcp=f"127.0.0.1:{port}",
        response_timeout_s=5.0,
        lane_lease_s=1,
    )
    async with open_base(settings) as base, open_house(base) as house:
        listener = PushListener(
            settings, base.pool.connection, house.vault, house.pipeline,
            directory=house.directory, handler=house.handler,
        )  # fmt: skip
        async with listener:
            sys.stdout.write("ready\n")
            sys.stdout.flush()
            while True:
                try:
                    async with house.by_hand("test") as hand:
                        await hand.stations()
                except UnavailableError as error:
                    sys.stderr.write(f"{error}\n")
                await asyncio.sleep(0.05)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
