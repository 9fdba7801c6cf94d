"""Drives a run: steps, probes, checkpoints and the log, until the horizon or until told to stop.

The clock and the wish to stop are arguments. A run that was killed loses what it did since its
last checkpoint, and does it again in the same way.
"""

import json
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

from mercury_model.training.adapt import AdapterTrainer
from mercury_model.training.feed import ExampleFeed

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.jsonl"


@dataclass(frozen=True, slots=True)
class LoopSchedule:
    """How often to save, in seconds, and to probe, in steps, on how many examples."""

    save_seconds: float = 240.0
    probe_steps: int = 150
    probe_examples: int = 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log, and the seconds that are left at this pace."""

    values: dict[str, object]
    seconds_left: float


def train_loop(
    run: AdapterTrainer,
    feeds: tuple[ExampleFeed, ExampleFeed],
    folder: Path,
    pace: LoopSchedule,
    clock: Callable[[], float],
    stop: Callable[[], bool],
) -> Generator[Entry, None, None]:
    """Go on with `run` on the first feed, probed on the second; yields what was logged.

    Starts from the checkpoint in `folder` if there is one. However it ends, the last step done is
    saved.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / CHECKPOINT
    if checkpoint.exists():
        run.restore(checkpoint)
    trained, held_out = feeds
    saved = clock()
    with (folder / LOG).open("a", encoding="utf-8") as log:

        def logged(values: dict[str, object], seconds_left: float) -> Entry:
            log.write(json.dumps(values) + "\n")
            log.flush()
            return Entry(values, seconds_left)

        try:
            while run.step < run.plan.steps and not stop():
                if run.step % pace.probe_steps == 0:
                    yield logged(run.probe(held_out, pace.probe_examples), float("nan"))
                began = clock()
                values = run.advance(trained)
                took = clock() - began
                left = took * (run.plan.steps - run.step)
                yield logged({**values, "seconds": round(took, 2)}, left)
                if clock() - saved > pace.save_seconds:
                    run.save(checkpoint)
                    saved = clock()
        finally:
            run.save(checkpoint)
        if run.step >= run.plan.steps:
            yield logged(run.probe(held_out, pace.probe_examples), 0.0)


def read_log(folder: Path) -> list[dict[str, object]]:
    """The log of a run; of a step that was done twice, after a kill, the later line."""
    entries: dict[tuple[object, bool], dict[str, object]] = {}
    for line in (folder / LOG).read_text("utf-8").splitlines():
        entry = json.loads(line)
        entries[entry["step"], "probe" in entry] = entry
    return sorted(entries.values(), key=lambda e: (str(e["step"]).zfill(9), "probe" in e))
