from collections.abc import Callable
from itertools import count
from pathlib import Path

from training_fakes import feed, trainer

from mercury_model.training import curves
from mercury_model.training.adaptation import AdapterConfig
from mercury_model.training.loop import CHECKPOINT, LoopSchedule, read_log, train_loop
from mercury_model.training.trainer import Report

PLAN = AdapterConfig(steps=4, examples=1, warmup=1, plain_rank=2, gated_rank=2, first_layer=2)
SCHEDULE = LoopSchedule(save_seconds=5, probe_steps=2)


def driven(folder: Path, stop: Callable[[], bool] = lambda: False) -> list[Report]:
    ticks = count()
    return list(
        train_loop(
            trainer(PLAN),
            lambda: feed("held").batch(0, 1),
            folder,
            SCHEDULE,
            lambda: next(ticks),
            stop,
        )
    )


def test_a_run_ends_at_its_horizon_with_a_checkpoint_and_a_probe(tmp_path: Path) -> None:
    entries = driven(tmp_path)
    assert [e["step"] for e in entries if "rows" in e] == [1, 2, 3, 4]
    assert [e["step"] for e in entries if "probe" in e] == [0, 2, 4]
    again = trainer(PLAN)
    again.restore(tmp_path / CHECKPOINT)
    assert again.step == 4


def test_a_run_that_is_told_to_stop_saves_and_goes_on_later(tmp_path: Path) -> None:
    wishes = iter([False, False, True])
    first = driven(tmp_path, lambda: next(wishes))
    second = driven(tmp_path)
    done = [e["step"] for e in [*first, *second] if "rows" in e]
    assert done == [1, 2, 3, 4]
    assert [e["step"] for e in read_log(tmp_path) if "rows" in e] == [1, 2, 3, 4]


def test_a_run_that_is_dropped_saves_its_last_step(tmp_path: Path) -> None:
    entries = train_loop(
        trainer(PLAN),
        lambda: feed("held").batch(0, 1),
        tmp_path,
        SCHEDULE,
        lambda: 0.0,
        lambda: False,
    )
    next(entries)
    next(entries)
    entries.close()
    again = trainer(PLAN)
    again.restore(tmp_path / CHECKPOINT)
    assert again.step == 1


def test_curves_are_drawn_from_the_log(tmp_path: Path) -> None:
    driven(tmp_path)
    curves.save(tmp_path / "curves.png", read_log(tmp_path))
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_smoothing_is_the_mean_of_what_came_before() -> None:
    assert curves.smoothed([2.0, 4.0, 6.0]) == [2.0, 3.0, 4.0]
    assert curves.smoothed([float(i) for i in range(60)])[-1] == 47.0
