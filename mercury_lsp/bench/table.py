"""Benchmark reports as tables for the terminal."""

import re
from collections.abc import Callable, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mercury_lsp.bench.document import Environment
from mercury_lsp.bench.gaps import KINDS, source_text
from mercury_lsp.bench.harness import FilledGap, GapReport
from mercury_lsp.bench.report import LatencySummary, TraceReport
from mercury_lsp.bench.starts import STAGES, StartReport
from mercury_lsp.bench.trace import Trace

_MEGABYTE = 1 << 20

_PERCENTILES = ("mean", "p50", "p90", "p95", "p99")

_TOTALS: tuple[tuple[str, Callable[[TraceReport], LatencySummary]], ...] = (
    ("model call, in the server", lambda run: run.call),
    ("any request, in the server", lambda run: run.request),
    ("first request in a document", lambda run: run.first),
    ("round trip until shown", lambda run: run.shown),
)

_COUNTS: tuple[tuple[str, Callable[[TraceReport], str]], ...] = (
    ("keys pressed", lambda run: f"{run.keys:,}"),
    ("requests", lambda run: f"{run.counts.requests:,}"),
    ("  cache hits", lambda run: _with_share(run.counts.cached, run.counts.requests)),
    ("  model calls", lambda run: _with_share(run.counts.calls, run.counts.requests)),
    ("  shown", lambda run: _with_share(run.counts.shown, run.counts.requests)),
    ("  nothing to show", lambda run: _with_share(run.counts.nothing, run.counts.requests)),
    ("  overtaken by the next key", lambda run: _with_share(run.counts.late, run.counts.requests)),
    ("  failed", lambda run: _with_share(run.counts.failed, run.counts.requests)),
    ("deadline misses", lambda run: _with_share(run.counts.missed, run.counts.requests)),
    ("tokens per step", lambda run: f"{run.tokens_per_step:.2f}"),
    ("keys saved, at most", lambda run: _with_share(run.saved, run.saved + run.keys)),
    ("CPU per key", lambda run: f"{run.cpu_ms_per_key:,.0f} ms"),
    ("peak memory", lambda run: f"{run.process.peak_memory_bytes / _MEGABYTE:,.0f} MiB"),
    ("start until weights are loaded", lambda run: f"{run.process.start_ms:,.0f} ms"),
)


def of_trace(
    where: Environment, traces: Sequence[Trace], speed: float, runs: Sequence[TraceReport]
) -> RenderableType:
    """The report of replayed traces."""
    trace, others = traces[0], len(traces) - 1
    beside = f", {others} more at the same time" if others else ""
    pace = "" if speed == 1 else f", {speed:g} times as fast as a person"
    heading = (
        f"{len(trace.sessions)} sessions{beside}, {trace.seconds:,.0f} s of typing{pace}; "
        f"trace {trace.digest}"
    )
    return Group(
        _heading(where, heading, [(run.model, run.runtime) for run in runs]),
        _counts(runs),
        _times(runs),
    )


def of_gaps(where: Environment, runs: Sequence[GapReport]) -> RenderableType:
    """The report of filled gaps: each gap, then the totals."""
    heading = f"{len(runs[0].filled)} gaps in Python code, first item of an invoked request"
    identities = [(run.model, run.runtime) for run in runs]
    return Group(_heading(where, heading, identities), _each_gap(runs), _by_kind(runs))


def of_starts(where: Environment, run: StartReport) -> RenderableType:
    """The report of server starts."""
    table = _table("milliseconds from the start", "median", "least", "most")
    for stage, name in STAGES.items():
        times = [start.ms(stage) for start in run.starts]
        table.add_row(name, *map(_ms, (run.median_ms(stage), min(times), max(times))))
    heading = f"{len(run.starts)} servers, started one after the other"
    return Group(_heading(where, heading, [(run.model, run.runtime)]), table)


def _heading(
    where: Environment, what: str, identities: Sequence[tuple[str, str]]
) -> RenderableType:
    machine = where.machine
    commit = f"; commit {where.commit}" if where.commit else ""
    lines = [
        f"[bold]{what}[/bold]{commit}",
        *dict.fromkeys(f"{model} on {runtime}" for model, runtime in identities),
        f"{machine.processor}, {machine.cores} cores, {machine.threads} threads"
        f" ({' '.join(machine.flags) or 'no known flags'}), {machine.system}",
    ]
    return Text.from_markup("\n".join(lines), style="none")


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(columns[0])
    for column in columns[1:]:
        table.add_column(column, justify="right")
    return table


def _counts(runs: Sequence[TraceReport]) -> Table:
    table = _table("", *(run.mode for run in runs))
    for name, figure in _COUNTS:
        table.add_row(name, *(figure(run) for run in runs))
    return table


def _times(runs: Sequence[TraceReport]) -> Table:
    table = _table("milliseconds", "", *_PERCENTILES)
    table.columns[1].justify = "left"
    for stage in runs[0].stages:
        _add_rows(table, stage, runs, [run.stages[stage] for run in runs])
    table.add_section()
    for name, summary in _TOTALS:
        _add_rows(table, name, runs, [summary(run) for run in runs])
    return table


def _add_rows(
    table: Table, name: str, runs: Sequence[TraceReport], summaries: Sequence[LatencySummary]
) -> None:
    """Add a row per run, with its mode if there are several."""
    for number, (run, summary) in enumerate(zip(runs, summaries, strict=True)):
        figures = [_ms(getattr(summary, p)) if summary.count else "-" for p in _PERCENTILES]
        mode = run.mode if len(runs) > 1 else ""
        style = "bold" if name.startswith("model call") else None
        table.add_row("" if number else name, mode, *figures, style=style)


def _ms(value: float) -> str:
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.1f}"


def _with_share(part: int, whole: int) -> str:
    return f"{part:,} ({100 * part / whole:.0f} %)" if whole else f"{part:,}"


def _each_gap(runs: Sequence[GapReport]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=True)
    table.add_column("kind", no_wrap=True)
    table.add_column("before the cursor", no_wrap=True, max_width=18)
    for column in ("as written", *(run.mode for run in runs)):
        table.add_column(column, no_wrap=True, overflow="ellipsis", ratio=1)
    for number, first in enumerate(runs[0].filled):
        case, text = first.case, source_text(first.case.file)
        line = text[text.rfind("\n", 0, case.start) + 1 : case.start].lstrip()
        table.add_row(
            case.kind,
            Text(f"…{line[-17:]}" if len(line) > 18 else line, style="dim"),
            Text(_one_line(text[case.start : case.end])),
            *(_offered(run.filled[number]) for run in runs),
        )
    return table


def _offered(filled: FilledGap) -> Text:
    if not filled.offered:
        return Text("∅", style="dim")
    style = "green" if filled.exact else "yellow" if filled.similarity >= 0.5 else "red"
    return Text(f"{'✓' if filled.exact else '✗'} {_one_line(filled.offered)}", style=style)


def _one_line(text: str) -> str:
    return re.sub(r"\n *", "⏎", text)


def _by_kind(runs: Sequence[GapReport]) -> Table:
    table = _table("exact", "gaps", *(run.mode for run in runs))
    for kind in KINDS:
        mine = [[gap for gap in run.filled if gap.case.kind == kind] for run in runs]
        if mine[0]:
            counts = [sum(gap.exact for gap in gaps) for gaps in mine]
            table.add_row(kind, str(len(mine[0])), *map(str, counts))
    table.add_section()
    total = len(runs[0].filled)
    table.add_row("all", str(total), *(_with_share(run.exact, total) for run in runs), style="bold")
    table.add_row("similarity, mean", "", *(f"{run.similarity:.3f}" for run in runs))
    table.add_row("deadline misses", "", *(str(sum(g.missed for g in run.filled)) for run in runs))
    table.add_row("tokens per step", "", *(f"{run.tokens_per_step:.2f}" for run in runs))
    return table
