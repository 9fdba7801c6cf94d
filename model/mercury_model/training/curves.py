"""Loss curves of a run as a picture. Needs matplotlib; knows the log and nothing else."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

WINDOW = 25
"""Steps that a point of a curve is the mean of: single steps are too noisy to read."""


def smoothed(values: Sequence[float]) -> list[float]:
    """Means over the last WINDOW values."""
    return [
        sum(values[max(0, i - WINDOW + 1) : i + 1]) / min(i + 1, WINDOW) for i in range(len(values))
    ]


def save(path: Path, log: Sequence[dict[str, Any]]) -> None:
    """Write a PNG: losses at the left, agreement of masks with the autoregressive head right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = [e for e in log if "rows" in e]
    probes = [e for e in log if "probe" in e]
    figure = Figure(figsize=(10, 4.6), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    x = [e["step"] for e in steps]
    left.plot(x, smoothed([e["loss"] for e in steps]), label="next token, middles")
    right.plot(x, smoothed([e["drafted"] for e in steps]), "k", label="drafted in a row")
    for i in range(4):
        left.plot(x, smoothed([e["mask_loss"][i] for e in steps]), label=f"mask {i + 1}")
        right.plot(x, smoothed([e["agreement"][i] for e in steps]), label=f"mask {i + 1}")
    dots = {"marker": "o", "linestyle": "none", "color": "k"}
    left.plot([e["step"] for e in probes], [e["loss"] for e in probes], label="held out", **dots)
    right.plot([e["step"] for e in probes], [e["drafted"] for e in probes], **dots)
    left.set(xlabel="step", ylabel="nats", title=f"loss, mean of {WINDOW} steps")
    right.set(xlabel="step", title="agreement with the autoregressive head")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, fontsize=8)
    figure.savefig(path, format="png")
