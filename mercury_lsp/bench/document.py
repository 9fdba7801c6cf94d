"""A report as it is kept: the runs, and everything needed to judge them. Plain JSON values."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from mercury_lsp import machine
from mercury_lsp.bench.harness import GapRun
from mercury_lsp.bench.report import TraceReport
from mercury_lsp.bench.starts import STAGES, StartRun
from mercury_lsp.bench.trace import Trace


@dataclass(frozen=True, slots=True)
class Setting:
    """Where and with what figures were taken. `when` is in UTC."""

    when: str
    commit: str | None
    machine: machine.Machine
    versions: dict[str, str]
    settings: dict[str, Any]


def setting(settings: Mapping[str, Any]) -> Setting:
    """Here and now."""
    return Setting(
        when=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=machine.commit(),
        machine=machine.describe(),
        versions=machine.versions(),
        settings=dict(settings),
    )


def of_trace(
    where: Setting, traces: Sequence[Trace], speed: float, runs: Sequence[TraceReport]
) -> str:
    """The report of replayed traces, as JSON; what is said of the trace is so of the first."""
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


def of_gaps(where: Setting, seed: int, runs: Sequence[GapRun]) -> str:
    """The report of gaps, as JSON."""
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


def of_starts(where: Setting, run: StartRun) -> str:
    """The report of starts, as JSON."""
    medians = {stage: round(run.median_ms(stage), 1) for stage in STAGES}
    return _dump({"kind": "starts", **asdict(where), "median": medians, **asdict(run)})


def _dump(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"
