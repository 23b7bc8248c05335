"""The fuzz targets: every one takes the captured frames, and what once crashed does not any more."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

_FOLDER = Path(__file__).resolve().parent.parent / "fuzz"


def _load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"fuzz_{name}", _FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


TARGETS = _load("targets")
RUN = _load("run")


@pytest.mark.parametrize("name", TARGETS.TARGETS)
def test_a_target_takes_every_captured_frame_whole_and_cut(name: str) -> None:
    seeds = list(RUN.seeds())
    assert len(seeds) > 100
    for seed in seeds:
        TARGETS.run(name, seed)
        TARGETS.run(name, seed[: len(seed) // 2])


def test_what_once_crashed_does_not_any_more() -> None:
    for path in sorted((_FOLDER / "crashes").glob("*-*")):
        TARGETS.run(path.name.split("-")[0], path.read_bytes())


def test_an_error_outside_the_tree_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(data: bytes) -> None:
        raise IndexError(len(data))

    monkeypatch.setitem(TARGETS.TARGETS, "times", broken)
    with pytest.raises(IndexError):
        TARGETS.run("times", b"")
