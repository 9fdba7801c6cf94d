"""Creates and saves matplotlib figures. matplotlib is an optional dependency."""

from pathlib import Path
from typing import TYPE_CHECKING

from mercury_lsp.config import surroundings
from mercury_lsp.errors import SettingsError
from mercury_model import dependencies

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def blank(width: float, height: float, dpi: int) -> "Figure":
    """A figure of `width` by `height` inches. Raises SettingsError without matplotlib."""
    dependencies.keep_files("matplotlib", surroundings().cache_dir)
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise SettingsError(
            "Plots need matplotlib.", 'Install it with: pip install "mercury-lsp[bench]"'
        ) from error
    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: "Figure", path: Path) -> None:
    """Write a PNG. Raises SettingsError if the file cannot be written."""
    try:
        figure.savefig(path, format="png")
    except OSError as error:
        raise SettingsError(
            f"The plot cannot be written: {error}.", "Name another file."
        ) from error
