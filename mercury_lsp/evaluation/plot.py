"""Reliability as a picture: what share is right at each confidence."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mercury_lsp import figure


def save(path: Path, bins: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Write a PNG with a curve a setting. Raises SettingsError without matplotlib."""
    picture = figure.blank(5, 4.6, dpi=130)
    axes = picture.subplots()
    axes.plot([0, 1], [0, 1], color="0.7", linestyle="--")
    for name, values in bins.items():
        filled = [b for b in values if b["count"]]
        axes.plot(
            [b["confidence"] for b in filled], [b["right"] for b in filled], marker="o", label=name
        )
    axes.set(xlabel="confidence", ylabel="right", title="single lines", xlim=(0, 1), ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.save(picture, path)
