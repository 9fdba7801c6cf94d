"""Reliability as a picture: what share is right at each confidence."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mercury_lsp.errors import SettingsError


def save(path: Path, bins: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Write a PNG with a curve a setting. Raises SettingsError without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SettingsError(
            "Plots need matplotlib.", 'Install it with: pip install "mercury-lsp[bench]"'
        ) from error
    figure = Figure(figsize=(5, 4.6), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.7", linestyle="--")
    for name, values in bins.items():
        filled = [b for b in values if b["count"]]
        axes.plot(
            [b["confidence"] for b in filled], [b["right"] for b in filled], marker="o", label=name
        )
    axes.set(xlabel="confidence", ylabel="right", title="single lines", xlim=(0, 1), ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, format="png")
