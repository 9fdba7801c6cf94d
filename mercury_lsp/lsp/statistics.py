"""What became of each request and how long its parts took. No source text, no URIs.

The answer to the custom request `mercury/statistics` {since}: see `Statistics.report`. Counted for
the harness and for whoever wants to look; kept in memory, sent nowhere by itself.
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

_MEASURED = (
    "queue_ms",
    "context_ms",
    "prefill_ms",
    "denoise_ms",
    "tidy_ms",
    "cached",
    "missed",
    "prefill_chunks",
    "steps",
    "tokens",
)


@dataclass(slots=True)
class Timing:
    """One request on its way; the worker fills it in. Times are nanoseconds of `clock`.

    `missed`: its deadline ended it before the model was done.
    """

    clock: Callable[[], int]
    arrived_ns: int
    deadline_ns: int
    queue_ms: float = 0.0
    context_ms: float = 0.0
    prefill_ms: float = 0.0
    denoise_ms: float = 0.0
    tidy_ms: float = 0.0
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
        self.queue_ms = (self._last_ns - self.arrived_ns) / 1e6

    def mark(self, stage: str) -> None:
        """A stage of the engine ends (see `core.engine.Mark`)."""
        now = self.clock()
        took, self._last_ns = (now - self._last_ns) / 1e6, now
        if stage == "hit":
            self.cached = True
            stage = "context"
        setattr(self, f"{stage}_ms", getattr(self, f"{stage}_ms") + took)

    def draft_begins(self) -> None:
        """The model is asked, perhaps once more; what it takes counts on top."""
        self._before = (self.prefill_chunks, self.steps, self.tokens)

    def saw(self, *, prefill: int, steps: int, tokens: int, finished: bool) -> None:
        """A draft went by; each counts from its own beginning."""
        chunks_before, steps_before, tokens_before = self._before
        self.prefill_chunks, self.steps = chunks_before + prefill, steps_before + steps
        self.tokens, self._finished = tokens_before + tokens, finished

    def end(self, complete: bool) -> None:
        """The worker is done; `complete` says that more time would not have given more."""
        late = self.clock() >= self.deadline_ns
        self.missed = late and not (complete or self.cached or self._finished)


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
                **{name: getattr(timing, name) for name in _MEASURED},
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
