"""A plot of a replayed trace: the latency of model calls and the time of each stage."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mercury_lsp import figure
from mercury_lsp.bench.document import Environment
from mercury_lsp.bench.report import STAGES, TraceReport

_LINES = ("#3b6fb6", "#d1772f", "#5a9a68")
_STAGE_COLOURS = ("#8c8c8c", "#b7a7d1", "#7db3c9", "#3b6fb6", "#9fc08a", "#d8c38a")


def save(path: Path, where: Environment, runs: Sequence[TraceReport], deadline_ms: int) -> None:
    """Write a PNG. Raises SettingsError without matplotlib or if the file cannot be written."""
    picture = figure.blank(11, 4.6, dpi=150)
    left, right = picture.subplots(1, 2, width_ratios=(3, 2))
    _latencies(left, runs, deadline_ms)
    _stages(right, runs)
    picture.suptitle(
        f"{runs[0].model}, {runs[0].runtime}\n{where.machine.processor}, "
        f"{where.machine.cores} cores ({' '.join(where.machine.flags)})",
        fontsize=9,
    )
    figure.save(picture, path)


def _latencies(axes: Any, runs: Sequence[TraceReport], deadline_ms: int) -> None:
    """The cumulative distribution of model call times."""
    for run, colour in zip(runs, _LINES, strict=False):
        shares = [100 * n / (len(run.curve) - 1) for n in range(len(run.curve))]
        label = f"{run.mode}: p50 {run.call.p50:.0f} ms, p95 {run.call.p95:.0f} ms"
        axes.plot(run.curve, shares, color=colour, linewidth=2, label=label)
    axes.axvline(deadline_ms, color="#999999", linewidth=1, linestyle="--")
    axes.annotate(
        f"deadline {deadline_ms} ms",
        (deadline_ms, 2),
        xytext=(-3, 0),
        textcoords="offset points",
        rotation=90,
        fontsize=8,
        color="#666666",
        ha="right",
        va="bottom",
    )
    slowest = max((max(run.curve, default=0.0) for run in runs), default=0.0)
    axes.set_xlim(0, max(deadline_ms, slowest) * 1.05)
    axes.set_ylim(0, 100)
    axes.set_xlabel("milliseconds in the server")
    axes.set_ylabel("model calls done, %")
    axes.set_title("How long a model call takes", fontsize=10)
    axes.grid(alpha=0.25)
    axes.legend(loc="center right", fontsize=8, framealpha=0.9)


def _stages(axes: Any, runs: Sequence[TraceReport]) -> None:
    """The mean time of each stage of a model call."""
    names = [run.mode for run in runs]
    left = [0.0] * len(runs)
    for stage, colour in zip(STAGES, _STAGE_COLOURS, strict=True):
        means = [run.stages[stage].mean for run in runs]
        axes.barh(names, means, left=left, height=0.5, color=colour, label=stage)
        left = [start + mean for start, mean in zip(left, means, strict=True)]
    for row, total in enumerate(left):
        axes.annotate(
            f"{total:.0f}",
            (total, row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
        )
    axes.set_xlim(0, max(left, default=0.0) * 1.12 or 1)
    axes.set_ylim(-0.6, max(len(runs), 2) - 0.4)
    axes.invert_yaxis()
    axes.set_xlabel("mean milliseconds of a model call")
    axes.set_title("Where the time goes", fontsize=10)
    axes.legend(ncols=3, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.16), frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
