"""Plots of an evaluation. All functions raise SettingsError without matplotlib."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mercury_lsp import figure

Settings = Mapping[str, Mapping[str, Any]]
"""The settings of a `report.document`, by name."""

MIN_GAPS = 10


def reliability(path: Path, settings: Settings) -> None:
    """Write a PNG of the share that is right at each confidence, one curve per setting.

    Bins with fewer than `MIN_GAPS` gaps are omitted.
    """
    picture = figure.blank(5, 4.6, dpi=130)
    axes = picture.subplots()
    axes.plot([0, 1], [0, 1], color="0.7", linestyle="--")
    for name, values in settings.items():
        filled = [b for b in values["calibration"]["bins"] if b["count"] >= MIN_GAPS]
        axes.plot(
            [b["confidence"] for b in filled], [b["right"] for b in filled], marker="o", label=name
        )
    axes.set(
        xlabel="confidence",
        ylabel="right",
        title=f"single lines, at least {MIN_GAPS} gaps per point",
        xlim=(0, 1),
        ylim=(0, 1),
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.save(picture, path)


def pareto(path: Path, settings: Settings) -> None:
    """Write a PNG of exactness against tokens per step, one line per kind of setting."""
    picture = figure.blank(7, 4.6, dpi=130)
    axes = picture.subplots()
    kinds: dict[str, list[tuple[float, Mapping[str, float], str]]] = defaultdict(list)
    for name, values in settings.items():
        kind, _, number = name.rpartition(":")
        if not kind:
            kind, number = ("dial", name) if name[0].isdigit() else (name, "")
        kinds[kind].append((values["tokens_per_step"], values["all"]["exact"], number))
    for kind, points in kinds.items():
        steps, exact, numbers = zip(*sorted(points, key=lambda point: point[0]), strict=True)
        means = [100 * e["mean"] for e in exact]
        below = [100 * (e["mean"] - e["low"]) for e in exact]
        above = [100 * (e["high"] - e["mean"]) for e in exact]
        line = axes.errorbar(steps, means, yerr=[below, above], elinewidth=0.4, alpha=0.8)
        axes.plot(steps, means, "o-", color=line[0].get_color(), label=kind)
        for x, y, number in zip(steps, means, numbers, strict=True):
            axes.annotate(number, (x, y), xytext=(4, 4), textcoords="offset points", fontsize=7)
    axes.set(xlabel="tokens per step", ylabel="exact, %", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.save(picture, path)
