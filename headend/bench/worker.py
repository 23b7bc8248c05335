"""A client under measurement, in a process of its own: asked by a line of JSON, answering by another.

``{"work": NAME, "seconds": S, ...}`` on standard input runs one round; the answer holds how many times the
work was done and what that cost. What the work itself prints is dropped. The process ends
when its input does, so it never outlives the one who asks. Only the standard library is used, so that peers
can use it too.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TypedDict


class Round(TypedDict):
    """One round: the work done ``count`` times, in seconds of this process' CPU and of the clock.

    ``fingerprint`` is that of the rows that it decoded, to be compared among clients.
    """

    count: int
    cpu_s: float
    wall_s: float
    fingerprint: str


Work = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def repeat(step: Callable[[], object], seconds: float, fingerprint: str, *, each: int = 1) -> Round:
    """``step`` again and again for ``seconds`` of CPU; one step counts as ``each`` pieces of work."""
    step()  # caches are warm, imports done
    count = 0
    wall, cpu = time.perf_counter(), time.process_time()
    end = cpu + seconds
    while (now := time.process_time()) < end:
        step()
        count += each
    return Round(count=count, cpu_s=now - cpu, wall_s=time.perf_counter() - wall, fingerprint=fingerprint)


def serve(works: Mapping[str, Work]) -> None:
    """Answer requests until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    answers.write("{}\n")  # ready
    answers.flush()
    for line in sys.stdin:
        request = json.loads(line)
        answers.write(json.dumps(works[request["work"]](request)) + "\n")
        answers.flush()
