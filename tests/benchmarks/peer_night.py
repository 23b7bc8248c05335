"""What a peer's night has in common: meters in turn, rows by executemany, and what that costs.

A client that is written with the peer's own blocking transport, as its documentation shows it. It stores with
psycopg's `executemany`, which is pipelined, one transaction a meter, into a table like ours.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import psycopg

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS peer_reads (
    meter text NOT NULL, stamp timestamptz NOT NULL, status bigint, a bigint, b bigint, c bigint, d bigint,
    PRIMARY KEY (meter, stamp)
);
TRUNCATE peer_reads
"""
_INSERT: Final = "INSERT INTO peer_reads VALUES (%s, %s, %s, %s, %s, %s, %s)"

Row = Sequence[Any]


def measure(request: Mapping[str, Any], read: Callable[[Mapping[str, Any]], Sequence[Row]]) -> dict[str, Any]:
    """Read and store the meters of ``request``; ``read`` gives rows of Unix second, status and four values.

    The first meter is done once before the clock starts. The answer has meters, rows, seconds of the clock
    and of this process' CPU, and the sum of all stored values, to be compared with ours.
    """
    meters = request["meters"]
    with psycopg.connect(request["dsn"]) as connection:
        connection.execute(_TABLE.encode())
        connection.commit()
        read(meters[0])
        request = dict(request)
        rows = 0
        wall, cpu = time.perf_counter(), time.process_time()
        for meter in meters[1:]:
            found = read(meter)
            with connection.transaction(), connection.cursor() as cursor:
                cursor.executemany(
                    _INSERT,
                    [(meter["asset_id"], datetime.fromtimestamp(row[0], UTC), *row[1:6]) for row in found],
                )
            rows += len(found)
        cpu_s, wall_s = time.process_time() - cpu, time.perf_counter() - wall
        cursor = connection.execute("SELECT coalesce(sum(a + b + c + d), 0)::text FROM peer_reads")
        told = cursor.fetchone()
    return {
        "meters": len(meters) - 1,
        "rows": rows,
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "sum": None if told is None else told[0],
    }
