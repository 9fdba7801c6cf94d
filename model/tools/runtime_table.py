"""Print the results of `bench_runtime.py` as the table of model/README.md, and plot them.

`python model/tools/runtime_table.py` needs matplotlib for the plot, which goes to `model/results`.
"""

import json
import sys
from pathlib import Path
from typing import Any

from mercury_lsp import figure

RESULTS = Path(__file__).parents[1] / "results"
FOUND = RESULTS / "runtime.json"
COLOURS = ("#8c8c8c", "#d1772f", "#3b6fb6", "#5a9a68")


def main() -> None:
    """See the module's docstring."""
    report = json.loads(FOUND.read_text("utf-8"))
    sys.stdout.write(table(report))
    draw(report)


def table(report: dict[str, Any]) -> str:
    """The milliseconds of a block by rows, and the share of the floor in the last runtime."""
    names = runtimes(report)
    lines = [
        f"| rows | {' | '.join(names)} | floor | its share of {names[-1]} |",
        f"|---|{'---|' * len(names)}---|---|",
    ]
    for floor in report["floors"]:
        rows, least = floor["rows"], floor["floor_ms"]
        times = [steps(report, name)[rows] for name in names]
        shown = " | ".join(f"{time:.1f}" for time in times)
        lines.append(f"| {rows} | {shown} | {least:.1f} | {100 * least / times[-1]:.0f} % |")
    return "\n".join(lines) + "\n"


def runtimes(report: dict[str, Any]) -> list[str]:
    """The names of the runtimes, in the order of timing."""
    return list(dict.fromkeys(timing["runtime"] for timing in report["timings"]))


def steps(report: dict[str, Any], runtime: str) -> dict[int, float]:
    """Median milliseconds of a block, by its rows."""
    return {
        timing["rows"]: timing["median_ms"]
        for timing in report["timings"]
        if timing["runtime"] == runtime and timing["call"] == "denoise"
    }


def draw(report: dict[str, Any]) -> None:
    """Plot times against rows, both on logarithmic scales."""
    picture = figure.blank(7, 4.4, dpi=150)
    axes: Any = picture.subplots()
    for name, colour in zip(runtimes(report), COLOURS, strict=False):
        found = steps(report, name)
        axes.plot(list(found), list(found.values()), "o-", color=colour, label=name)
    floors = {floor["rows"]: floor["floor_ms"] for floor in report["floors"]}
    axes.plot(list(floors), list(floors.values()), "k--", linewidth=1, label="floor of int8")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    ticks = list(floors)
    axes.set_xticks(ticks, [str(rows) for rows in ticks])
    axes.set_yticks([5, 10, 20, 50, 100, 200], ["5", "10", "20", "50", "100", "200"])
    axes.minorticks_off()
    axes.set_xlabel("rows of a block")
    axes.set_ylabel("milliseconds")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)
    machine = report["machine"]
    axes.set_title(
        f"A denoising step of {report['model']} after {report['context']} tokens\n"
        f"{machine['processor']}, {report['threads']} threads ({' '.join(machine['flags'])})",
        fontsize=9,
    )
    figure.save(picture, RESULTS / "runtime.png")


if __name__ == "__main__":
    main()
