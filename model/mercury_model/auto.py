"""Which model serves where the settings say "auto": the best one that is fast enough here.

A step of each model is timed once, when it is pulled or by `doctor`, and the time is kept with the
machine's fingerprint. Whoever starts a server only reads what is kept.
"""

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from statistics import median

from mercury_model.errors import InsufficientMemory
from mercury_model.load import GRAPH_VERSION, cores, cpu_flags, load, network_shape
from mercury_model.memory import MemoryEfficientDiffusion
from mercury_model.runtime.limits import CHUNK_TOKENS
from mercury_model.runtime.protocol import Runtime
from mercury_model.weights import registry

AUTO = "auto"
"""The name that stands for the choice."""

BEST_FIRST = ("qwen-1.5b", "qwen-0.5b", "mini")
"""The models to choose from."""

MAX_STEP_MS = 60.0
"""The longest step that still lets ghost text keep up with a person who types."""

STEP_ROWS, CONTEXT_TOKENS, RUNS = 4, 512, 9
"""What is timed: a verify call of so many rows behind so many tokens, the median of so many."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model that is on this machine.

    `step_ms` is None where no step was ever timed here; `fits` says whether its memory is there.
    """

    name: str
    step_ms: float | None
    fits: bool = True


@dataclass(frozen=True, slots=True)
class Choice:
    """The model that serves, why, and whether the user should hear of it."""

    name: str
    why: str
    compromise: bool = False


def choose(candidates: Sequence[Candidate], max_step_ms: float = MAX_STEP_MS) -> Choice:
    """The first of `candidates` (best first) that is fast enough and fits; else the last.

    Without candidates that is "mini", which is then to be pulled.
    """
    if not candidates:
        return Choice("mini", "no model is on this machine yet")
    for candidate in candidates:
        if candidate.fits and candidate.step_ms is not None and candidate.step_ms <= max_step_ms:
            why = f"the best model whose step takes at most {max_step_ms:.0f} ms here"
            return Choice(candidate.name, f"{why} ({candidate.step_ms:.0f} ms)")
    smallest = candidates[-1]
    if not smallest.fits:
        why = f"the smallest model; memory is short even for {smallest.name}"
    elif smallest.step_ms is None:
        why = "no step was timed on this machine yet; mercury-lsp doctor does that"
    else:
        why = (
            f"the smallest model: no model here needs at most {max_step_ms:.0f} ms for a step "
            f"({smallest.name}: {smallest.step_ms:.0f} ms)"
        )
    return Choice(smallest.name, why, compromise=True)


def resolve(name: str, cache_dir: Path) -> Choice:
    """The model that `name` stands for: itself, or what AUTO chooses on this machine."""
    if name != AUTO:
        return Choice(name, "it is named")
    here = [each for each in BEST_FIRST if registry.is_available(each, cache_dir)]
    times = step_times(cache_dir)
    return choose(
        [Candidate(each, times.get(registry.find(each).key), _fits(each)) for each in here]
    )


def measure(name: str, cache_dir: Path, clock_ns: Callable[[], int]) -> float:
    """Load a model, time a step of it in milliseconds, and keep the time."""
    step_ms = time_step(load(name, cache_dir=cache_dir).runtime, clock_ns)
    step_times(cache_dir).put(registry.find(name).key, step_ms)
    return step_ms


def step_times(cache_dir: Path) -> "StepTimes":
    """The times kept for this machine: its chip, its cores and the version of the graphs."""
    here = fingerprint({"flags": sorted(cpu_flags()), "cores": cores(), "graph": GRAPH_VERSION})
    return StepTimes(cache_dir, here)


def _fits(name: str) -> bool:
    """Whether the memory that is free now is enough to serve a model."""
    shape = network_shape(name)
    try:
        MemoryEfficientDiffusion(shape).optimize_memory_usage(1, shape.tokens)
    except InsufficientMemory:
        return False
    return True


def time_step(runtime: Runtime, clock_ns: Callable[[], int]) -> float:
    """Milliseconds of one step: the median of RUNS `verify` calls of STEP_ROWS rows."""
    kv = runtime.new_kv_cache()
    ids = [token % runtime.config.vocab_size for token in range(CONTEXT_TOKENS)]
    for start in range(0, CONTEXT_TOKENS, CHUNK_TOKENS):
        runtime.extend(kv, ids[start : start + CHUNK_TOKENS])
    times_ns = []
    for _ in range(RUNS):
        began = clock_ns()
        runtime.verify(kv, ids[:STEP_ROWS])
        times_ns.append(clock_ns() - began)
        kv.truncate(CONTEXT_TOKENS)
    return median(times_ns) / 1e6


def fingerprint(parts: Mapping[str, object]) -> str:
    """A short hash of what a step time depends on: chip, cores, versions."""
    return sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


class StepTimes:
    """Step times in milliseconds, kept in the cache folder by machine and by model key.

    A file that cannot be read counts as empty: the times are measured again.
    """

    def __init__(self, cache_dir: Path, machine: str) -> None:
        self._path = cache_dir / "step-times.json"
        self._machine = machine

    def get(self, model_key: str) -> float | None:
        """The time kept for a model on this machine, or None."""
        found = self._read().get(self._machine, {}).get(model_key)
        return float(found) if isinstance(found, int | float) else None

    def put(self, model_key: str, step_ms: float) -> None:
        """Keep a time; those of other machines and models stay. Raises OSError."""
        kept = self._read()
        kept.setdefault(self._machine, {})[model_key] = round(step_ms, 2)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(kept, file, indent=1)
            Path(name).replace(self._path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise

    def _read(self) -> dict[str, dict[str, float]]:
        try:
            kept = json.loads(self._path.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        if not isinstance(kept, dict):
            return {}
        return {machine: times for machine, times in kept.items() if isinstance(times, dict)}
