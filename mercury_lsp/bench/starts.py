"""Measures the time from the start of a server to its first completion."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from mercury_lsp.bench.editor import INVOKED, Editor
from mercury_lsp.bench.harness import SERVER, Progress, running_server

_BEFORE, _AFTER = "def mean(values):\n    return sum(values", ")\n"


@dataclass(frozen=True, slots=True)
class Start:
    """One server: milliseconds from its start to each of `STAGES`."""

    answered_ms: float
    loaded_ms: float
    completed_ms: float

    def ms(self, stage: str) -> float:
        """The time until `stage`, one of `STAGES`."""
        return float(getattr(self, stage))


STAGES: Mapping[str, str] = {
    "answered_ms": "initialize answered",
    "loaded_ms": "weights loaded",
    "completed_ms": "first completion",
}


@dataclass(frozen=True, slots=True)
class StartReport:
    """The times of servers that were started one after the other."""

    model: str
    runtime: str
    starts: tuple[Start, ...]

    def median_ms(self, stage: str) -> float:
        """The median time until `stage`, one of `STAGES`."""
        return median(start.ms(stage) for start in self.starts)


async def start_up(
    count: int,
    mode: str,
    settings: Mapping[str, Any],
    progress: Progress,
    command: Sequence[str] = SERVER,
) -> StartReport:
    """Start `count` servers in turn, after one that warms the disk cache."""
    starts, model, runtime = [], "", ""
    for number in range(count + 1):
        progress(f"server {number}", number, count + 1)
        async with running_server(mode, settings, command) as server:
            model, runtime = server.ready.model or "", server.ready.runtime or ""
            editor = Editor(server.client)
            editor.open("file:///bench/start.py", _BEFORE, _AFTER)
            began_ns = time.perf_counter_ns()
            answer = await editor.request(INVOKED).answer
            completed_ms = server.start_ms + (answer.received_ns - began_ns) / 1e6
        starts.append(Start(server.answered_ms, server.start_ms, completed_ms))
    progress("done", count + 1, count + 1)
    return StartReport(model, runtime, tuple(starts[1:]))
