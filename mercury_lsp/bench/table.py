"""Reports as tables for the terminal."""

from collections.abc import Callable, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from mercury_lsp.bench.document import Setting
from mercury_lsp.bench.gaps import KINDS, source_text
from mercury_lsp.bench.harness import Filled, GapRun
from mercury_lsp.bench.report import Run, Spread
from mercury_lsp.bench.trace import Trace

_MEGABYTE = 1 << 20

_FIGURES: tuple[tuple[str, Callable[[Run], str]], ...] = (
    ("keys pressed", lambda run: f"{run.keys:,}"),
    ("requests", lambda run: f"{run.counts.requests:,}"),
    ("  cache hits", lambda run: _of(run.counts.cached, run.counts.requests)),
    ("  model calls", lambda run: _of(run.counts.calls, run.counts.requests)),
    ("  shown", lambda run: _of(run.counts.shown, run.counts.requests)),
    ("  nothing to show", lambda run: _of(run.counts.nothing, run.counts.requests)),
    ("  given up at the next key", lambda run: _of(run.counts.late, run.counts.requests)),
    ("  failed", lambda run: _of(run.counts.failed, run.counts.requests)),
    ("deadline misses", lambda run: _of(run.counts.missed, run.counts.calls)),
    ("tokens per step", lambda run: f"{run.tokens_per_step:.2f}"),
    ("keys saved, at most", lambda run: _of(run.saved, run.saved + run.keys)),
    ("CPU per key", lambda run: f"{run.cpu_ms_per_key:,.0f} ms"),
    ("peak memory", lambda run: f"{run.process.peak_memory_bytes / _MEGABYTE:,.0f} MiB"),
    ("start until weights are loaded", lambda run: f"{run.process.start_ms:,.0f} ms"),
)


def of_trace(where: Setting, trace: Trace, speed: float, runs: Sequence[Run]) -> RenderableType:
    """The report of a replayed trace."""
    pace = "" if speed == 1 else f", {speed:g} times as fast as a person"
    heading = (
        f"{len(trace.sessions)} sessions, {trace.seconds:,.0f} s of typing{pace}; "
        f"trace {trace.digest}"
    )
    return Group(
        _heading(where, heading, [(run.model, run.runtime) for run in runs]),
        _counts(runs),
        _times(runs),
    )


def of_gaps(where: Setting, runs: Sequence[GapRun]) -> RenderableType:
    """The report of gaps: every gap, then the sums."""
    heading = f"{len(runs[0].filled)} gaps in Python code, first answer, asked for by key"
    identities = [(run.model, run.runtime) for run in runs]
    return Group(_heading(where, heading, identities), _each_gap(runs), _by_kind(runs))


def _heading(where: Setting, what: str, identities: Sequence[tuple[str, str]]) -> RenderableType:
    machine = where.machine
    commit = f", commit {where.commit}" if where.commit else ""
    lines = [
        f"[bold]{what}[/bold]",
        *dict.fromkeys(f"{model} on {runtime}" for model, runtime in identities),
        f"{machine.processor}, {machine.cores} cores, {machine.threads} threads"
        f" ({' '.join(machine.flags) or 'no known flags'}), {machine.system}{commit}",
    ]
    return Text.from_markup("\n".join(lines), style="none")


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(columns[0])
    for column in columns[1:]:
        table.add_column(column, justify="right")
    return table


def _counts(runs: Sequence[Run]) -> Table:
    table = _table("", *(run.mode for run in runs))
    for name, figure in _FIGURES:
        table.add_row(name, *(figure(run) for run in runs))
    return table


def _times(runs: Sequence[Run]) -> Table:
    table = _table("milliseconds", *(f"{run.mode}\n{p}" for run in runs for p in _PERCENTILES))
    for stage in runs[0].stages:
        table.add_row(stage, *_spreads([run.stages[stage] for run in runs]))
    table.add_section()
    table.add_row("model call, in the server", *_spreads([run.call for run in runs]), style="bold")
    table.add_row("any request, in the server", *_spreads([run.request for run in runs]))
    table.add_row("first request in a document", *_spreads([run.first for run in runs]))
    table.add_row("round trip until shown", *_spreads([run.shown for run in runs]))
    return table


_PERCENTILES = ("mean", "p50", "p90", "p95", "p99")


def _spreads(spreads: Sequence[Spread]) -> list[str]:
    return [
        _ms(getattr(spread, name)) if spread.count else "-"
        for spread in spreads
        for name in _PERCENTILES
    ]


def _ms(value: float) -> str:
    return f"{value:,.0f}" if value >= 99.5 else f"{value:.1f}"


def _of(part: int, whole: int) -> str:
    return f"{part:,} ({100 * part / whole:.0f} %)" if whole else f"{part:,}"


def _each_gap(runs: Sequence[GapRun]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("kind", "before the cursor", "as written", *(run.mode for run in runs)):
        table.add_column(
            column, no_wrap=True, overflow="ellipsis", ratio=2 if column != "kind" else None
        )
    for number, first in enumerate(runs[0].filled):
        case, text = first.case, source_text(first.case.file)
        line = text[text.rfind("\n", 0, case.start) + 1 : case.start].lstrip()
        table.add_row(
            case.kind,
            Text(f"…{line[-21:]}" if len(line) > 22 else line, style="dim"),
            Text(_one_line(text[case.start : case.end])),
            *(_offered(run.filled[number]) for run in runs),
        )
    return table


def _offered(filled: Filled) -> Text:
    if not filled.offered:
        return Text("∅", style="dim")
    style = "green" if filled.exact else "yellow" if filled.similarity >= 0.5 else "red"
    return Text(f"{'✓' if filled.exact else '✗'} {_one_line(filled.offered)}", style=style)


def _one_line(text: str) -> str:
    return text.replace("\n", "⏎")


def _by_kind(runs: Sequence[GapRun]) -> Table:
    table = _table("exact", "gaps", *(run.mode for run in runs))
    for kind in KINDS:
        mine = [[gap for gap in run.filled if gap.case.kind == kind] for run in runs]
        if mine[0]:
            counts = [sum(gap.exact for gap in gaps) for gaps in mine]
            table.add_row(kind, str(len(mine[0])), *map(str, counts))
    table.add_section()
    total = len(runs[0].filled)
    table.add_row("all", str(total), *(_of(run.exact, total) for run in runs), style="bold")
    table.add_row("similarity, mean", "", *(f"{run.similarity:.3f}" for run in runs))
    table.add_row("tokens per step", "", *(f"{run.tokens_per_step:.2f}" for run in runs))
    return table
