"""A process that has started does not look again and again at what stays."""

import subprocess
import sys

_PROGRAM = """
import gc
from headend.processes.memory import settle
kept = [[] for _ in range(50_000)]
settle()
assert gc.get_freeze_count() > 50_000
assert len(gc.get_objects()) < 1_000
runs = []
gc.callbacks.append(lambda phase, info: runs.append(phase))
busy = [[] for _ in range(5_000)]
assert not runs, runs
cycles = []
for _ in range(100_000):
    one = []
    one.append(one)
assert runs
assert len(gc.get_objects()) < 50_000
"""


def test_what_was_there_is_left_alone_and_garbage_is_still_found() -> None:
    # in a process of its own: the collector is the whole process'
    subprocess.run([sys.executable, "-c", _PROGRAM], check=True, timeout=60)
