"""Fuzz the decoders with atheris: ``run.py [--seconds 60] [TARGET ...]``, one process per target.

Each target starts from the captured frames in tests/vectors. A crash leaves its input in tests/fuzz/crashes
and ends the run with status 1; tests/unit/test_fuzz_targets.py replays what lies there.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
CRASHES = HERE / "crashes"
sys.path.insert(0, str(HERE.parent.parent))


def seeds() -> Iterator[bytes]:
    """All hex strings of the vectors."""
    for path in sorted((HERE.parent / "vectors").rglob("*.json")):
        stack = [json.loads(path.read_text("utf-8"))]
        while stack:
            one = stack.pop()
            if isinstance(one, dict):
                stack += one.values()
            elif isinstance(one, list):
                stack += one
            elif isinstance(one, str) and len(one) > 8:
                try:
                    yield bytes.fromhex(one)
                except ValueError:
                    continue


def fuzz(name: str) -> None:
    """This process becomes the fuzzer of one target; libFuzzer's options are in sys.argv."""
    import atheris

    with atheris.instrument_imports(
        include=["protocols", "headend.listen", "headend.cli.hex_input", "headend.ingest.csv_table"]
    ):
        from tests.fuzz import targets

    atheris.Setup(sys.argv, lambda data: targets.run(name, data))
    atheris.Fuzz()


def main() -> int:
    """Run the targets one after another."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("targets", nargs="*")
    options = parser.parse_args()
    from tests.fuzz.targets import TARGETS

    names = options.targets or list(TARGETS)
    if unknown := sorted(set(names) - set(TARGETS)):
        parser.error(f"no such target: {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    CRASHES.mkdir(exist_ok=True)
    failed = []
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds()):
            Path(corpus, f"seed-{number}").write_bytes(seed)
        for name in names:
            print(f"== {name}: {options.seconds} s", flush=True)
            with tempfile.TemporaryDirectory() as own:
                command = [
                    sys.executable, str(HERE / "run.py"), "--fuzz-one", name, own, corpus,
                    f"-max_total_time={options.seconds}", "-max_len=4096", "-timeout=10",
                    "-rss_limit_mb=2048", "-print_final_stats=1", "-verbosity=0",
                    f"-artifact_prefix={CRASHES}/{name}-",
                ]  # fmt: skip
                if subprocess.run(command, check=False).returncode:
                    failed.append(name)
    print(f"{len(names) - len(failed)} passed, {len(failed)} failed")
    if failed:
        print(f"crashes of {', '.join(failed)} are in {CRASHES}")
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) > 2 and sys.argv[1] == "--fuzz-one":
        target = sys.argv[2]
        del sys.argv[1:3]
        fuzz(target)
    else:
        raise SystemExit(main())
