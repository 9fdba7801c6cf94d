"""Benchmark reports as JSON: the results and the environment they were measured in."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from mercury_lsp import machine
from mercury_lsp.bench.harness import GapReport
from mercury_lsp.bench.report import TraceReport
from mercury_lsp.bench.starts import STAGES, StartReport
from mercury_lsp.bench.trace import Trace


@dataclass(frozen=True, slots=True)
class Environment:
    """The machine, versions and settings of a measurement. `when` is in UTC."""

    when: str
    commit: str | None
    machine: machine.Machine
    versions: dict[str, str]
    settings: dict[str, Any]


def environment(settings: Mapping[str, Any]) -> Environment:
    """The current environment."""
    return Environment(
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=machine.commit(),
        machine=machine.describe(),
        versions=machine.versions(),
        settings=dict(settings),
    )


def of_trace(
    where: Environment, traces: Sequence[Trace], speed: float, runs: Sequence[TraceReport]
) -> str:
    """The report of replayed traces, as JSON. It describes the first trace."""
    trace = traces[0]
    derived = ("tokens_per_step", "saved_share", "cpu_ms_per_key")
    return _dump(
        {
            "kind": "trace",
            **asdict(where),
            "trace": {
                "seed": trace.seed,
                "digest": trace.digest,
                "seconds": round(trace.seconds, 3),
                "speed": speed,
                "editors": len(traces),
                "files": [session.source for session in trace.sessions],
            },
            "runs": [
                asdict(run) | {name: round(getattr(run, name), 4) for name in derived}
                for run in runs
            ],
        }
    )


def of_gaps(where: Environment, seed: int, runs: Sequence[GapReport]) -> str:
    """The report of filled gaps, as JSON."""
    return _dump(
        {
            "kind": "gaps",
            **asdict(where),
            "seed": seed,
            "runs": [
                {
                    "mode": run.mode,
                    "model": run.model,
                    "runtime": run.runtime,
                    "exact": run.exact,
                    "similarity": round(run.similarity, 4),
                    "tokens_per_step": round(run.tokens_per_step, 4),
                    "gaps": [asdict(filled) for filled in run.filled],
                }
                for run in runs
            ],
        }
    )


def of_starts(where: Environment, run: StartReport) -> str:
    """The report of server starts, as JSON."""
    medians = {stage: round(run.median_ms(stage), 1) for stage in STAGES}
    return _dump({"kind": "starts", **asdict(where), "median": medians, **asdict(run)})


def _dump(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"
