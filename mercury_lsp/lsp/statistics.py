"""The outcome of each request and the time of its stages. No source text, no URIs.

They answer the custom request `mercury/statistics` {since} (see `Statistics.report`) for the
harness. They are kept in memory and sent nowhere unasked.
"""

import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mercury_lsp import __version__

METHOD = "mercury/statistics"
MAX_RECORDS = 20_000
"""How many requests are remembered."""

STAGES = ("queue", "context", "prefill", "denoise", "tidy")
"""The stages of a request, in their order; all but the first are marks of `core.pipeline`."""


@dataclass(slots=True)
class Timing:
    """The times of one request; the worker fills them in. Nanoseconds of `clock`.

    `stage_ms`: how long each of `STAGES` took. `missed`: the deadline ended the request before the
    model was done.
    """

    clock: Callable[[], int]
    arrived_ns: int
    deadline_ns: int
    stage_ms: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    cached: bool = False
    missed: bool = False
    prefill_chunks: int = 0
    steps: int = 0
    tokens: int = 0
    _finished: bool = False
    _last_ns: int = 0
    _before: tuple[int, int, int] = (0, 0, 0)

    def begin(self) -> None:
        """The worker takes the request up."""
        self._last_ns = self.clock()
        self.stage_ms["queue"] = (self._last_ns - self.arrived_ns) / 1e6

    def mark(self, stage: str) -> None:
        """A stage of the pipeline ends (see `core.pipeline.Mark`)."""
        now = self.clock()
        took, self._last_ns = (now - self._last_ns) / 1e6, now
        if stage == "hit":
            self.cached = True
            stage = "context"
        self.stage_ms[stage] += took

    def draft_begins(self) -> None:
        """The model is asked, perhaps once more; its counts start again."""
        self._before = (self.prefill_chunks, self.steps, self.tokens)

    def saw(self, *, prefill: int, steps: int, tokens: int, finished: bool) -> None:
        """The counts of a draft, each from the draft's own beginning."""
        chunks_before, steps_before, tokens_before = self._before
        self.prefill_chunks, self.steps = chunks_before + prefill, steps_before + steps
        self.tokens, self._finished = tokens_before + tokens, finished

    def end(self, complete: bool) -> None:
        """The worker is done; `complete`: more time would not have given more."""
        late = self.clock() >= self.deadline_ns
        self.missed = late and not (complete or self.cached or self._finished)

    def measured(self) -> dict[str, Any]:
        """Everything measured, as plain values."""
        return {
            **{f"{stage}_ms": ms for stage, ms in self.stage_ms.items()},
            "cached": self.cached,
            "missed": self.missed,
            "prefill_chunks": self.prefill_chunks,
            "steps": self.steps,
            "tokens": self.tokens,
        }


@dataclass(slots=True)
class Statistics:
    """The last requests, in the order of their arrival."""

    _records: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=MAX_RECORDS))
    _next: int = 0

    def add(
        self, timing: Timing, outcome: str, *, request: int | str, trigger: str, characters: int
    ) -> None:
        """A request has ended."""
        self._records.append(
            {
                "sequence": self._next,
                "request": request,
                "trigger": trigger,
                "outcome": outcome,
                "total_ms": (timing.clock() - timing.arrived_ns) / 1e6,
                "characters": characters,
                **timing.measured(),
            }
        )
        self._next += 1

    def report(self, since: int, model: dict[str, str] | None) -> dict[str, Any]:
        """The records from number `since` on, and what the process used so far.

        `model` is the name and the runtime of the one that is loaded.
        """
        oldest = self._next - len(self._records)
        return {
            "version": __version__,
            "model": model,
            "next": self._next,
            "dropped": max(0, oldest - since),
            "process": {
                "cpu_seconds": time.process_time(),
                "peak_memory_bytes": _peak_memory_bytes(),
            },
            "records": [record for record in self._records if record["sequence"] >= since],
        }


def _peak_memory_bytes() -> int:
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
