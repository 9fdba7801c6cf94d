"""Drives a training in a folder: steps, probes, checkpoints and the log, until the end or a stop.

The clock and the wish to stop are arguments. A training that was killed loses what it did since its
last checkpoint, and does it again in the same way.
"""

import json
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mercury_model.training.trainer import Report, Trainer

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.jsonl"

Batch = TypeVar("Batch")


@dataclass(frozen=True, slots=True)
class LoopSchedule:
    """How often to save, in seconds, and to probe, in steps."""

    save_seconds: float = 240.0
    probe_steps: int = 150


def train_loop(
    trainer: Trainer[Batch],
    held_out: Callable[[], Batch],
    folder: Path,
    schedule: LoopSchedule,
    clock: Callable[[], float],
    stop: Callable[[], bool],
) -> Generator[Report, None, None]:
    """Train, and probe on `held_out`; yields what was logged.

    Resumes from the checkpoint in `folder` if there is one. However it ends, the last step done is
    saved.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / CHECKPOINT
    if checkpoint.exists():
        trainer.restore(checkpoint)
    with (folder / LOG).open("a", encoding="utf-8") as log:

        def logged(report: Report) -> Report:
            log.write(json.dumps(report) + "\n")
            log.flush()
            return report

        saved = clock()
        finished = False
        steps = trainer.steps()
        try:
            while not stop():
                if trainer.step % schedule.probe_steps == 0:
                    yield logged(trainer.evaluate(held_out()))
                began = clock()
                report = next(steps, None)
                if report is None:
                    finished = True
                    break
                yield logged({**report, "seconds": round(clock() - began, 2)})
                if clock() - saved > schedule.save_seconds:
                    trainer.save(checkpoint)
                    saved = clock()
        finally:
            trainer.save(checkpoint)
        if finished and trainer.step % schedule.probe_steps:
            yield logged(trainer.evaluate(held_out()))


def read_log(folder: Path) -> list[Report]:
    """The log of a training; of a step that was done twice, after a kill, the later line."""
    entries: dict[tuple[object, bool], Report] = {}
    for line in (folder / LOG).read_text("utf-8").splitlines():
        entry = json.loads(line)
        entries[entry["step"], "probe" in entry] = entry
    return sorted(entries.values(), key=lambda e: (str(e["step"]).zfill(9), "probe" in e))
