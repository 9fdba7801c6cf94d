"""Which model serves where none is named."""

from pathlib import Path

import pytest

from mercury_model import auto
from mercury_model.auto import (
    Candidate,
    StepTimes,
    choose,
    fingerprint,
    resolve,
    step_times,
    time_step,
)
from mercury_model.load import load
from mercury_model.weights import registry

FAST, SLOW = 30.0, 77.0


@pytest.mark.parametrize(
    ("candidates", "name", "compromise"),
    [
        ([Candidate("small", SLOW), Candidate("mini", FAST)], "mini", False),
        ([Candidate("small", FAST), Candidate("mini", FAST)], "small", False),
        ([Candidate("small", FAST, fits=False), Candidate("mini", FAST)], "mini", False),
        ([Candidate("small", None), Candidate("mini", FAST)], "mini", False),
        ([Candidate("small", SLOW), Candidate("mini", SLOW)], "mini", True),
        ([Candidate("small", None), Candidate("mini", None)], "mini", True),
        ([Candidate("mini", FAST, fits=False)], "mini", True),
        ([Candidate("small", 60.0)], "small", False),
        ([], "mini", False),
    ],
)
def test_the_best_model_that_is_fast_enough_and_fits_serves(
    candidates: list[Candidate], name: str, compromise: bool
) -> None:
    choice = choose(candidates)
    assert (choice.name, choice.compromise) == (name, compromise)


def test_a_compromise_names_its_reason_and_the_remedy() -> None:
    assert "77 ms" in choose([Candidate("mini", SLOW)]).why
    assert "mercury-lsp doctor" in choose([Candidate("mini", None)]).why
    assert "memory is short" in choose([Candidate("mini", FAST, fits=False)]).why


def test_step_times_are_kept_by_machine_and_model(tmp_path: Path) -> None:
    here, there = StepTimes(tmp_path, "here"), StepTimes(tmp_path, "there")
    here.put("mini-1", 30.123)
    there.put("mini-1", 99.0)
    here.put("small-1", 77.0)
    assert (here.get("mini-1"), here.get("small-1"), there.get("mini-1")) == (30.12, 77.0, 99.0)
    assert there.get("small-1") is None
    assert [path.name for path in tmp_path.iterdir()] == ["step-times.json"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"here": 3}', '{"here": {"mini-1": "x"}}'])
def test_a_damaged_file_of_step_times_counts_as_empty(tmp_path: Path, content: str) -> None:
    (tmp_path / "step-times.json").write_text(content)
    times = StepTimes(tmp_path, "here")
    assert times.get("mini-1") is None
    times.put("mini-1", 1.0)
    assert times.get("mini-1") == 1.0


def test_another_chip_or_version_has_another_fingerprint() -> None:
    one = fingerprint({"chip": "a", "cores": 2})
    assert one == fingerprint({"cores": 2, "chip": "a"})
    assert one != fingerprint({"chip": "a", "cores": 4})


def test_a_step_is_timed_with_the_clock_that_is_given(tmp_path: Path) -> None:
    ticks = iter(range(0, 10**9, 2_000_000))
    runtime = load("tiny", cache_dir=tmp_path, threads=1).runtime
    assert time_step(runtime, lambda: next(ticks)) == 2.0


def test_a_name_stands_for_itself(tmp_path: Path) -> None:
    assert resolve("tiny", tmp_path).name == "tiny"


def test_auto_chooses_among_the_models_that_are_here(tmp_path: Path) -> None:
    def put_here(name: str, step_ms: float) -> None:
        entry = registry.find(name)
        assert entry.base is not None
        (tmp_path / entry.base.file).touch()
        step_times(tmp_path).put(entry.key, step_ms)

    assert resolve(auto.AUTO, tmp_path).name == "mini"
    put_here("qwen-0.5b", FAST)
    assert resolve(auto.AUTO, tmp_path).name == "qwen-0.5b"
    put_here("mini", FAST / 2)
    put_here("qwen-1.5b", SLOW)
    assert resolve(auto.AUTO, tmp_path).name == "qwen-0.5b"
