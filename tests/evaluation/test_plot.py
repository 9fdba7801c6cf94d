from collections.abc import Callable
from pathlib import Path

import pytest

from mercury_lsp.evaluation import plot
from mercury_lsp.evaluation.plot import Settings

BINS = [{"count": 3, "confidence": 0.2, "right": 0.3}, {"count": 0, "confidence": 0, "right": 0}]
SETTINGS = {
    name: {
        "tokens_per_step": steps,
        "all": {"exact": {"mean": 0.1, "low": 0.05, "high": 0.2}},
        "calibration": {"bins": BINS},
    }
    for name, steps in {"verified": 2, "0.5": 1.1, "1": 8, "top:2": 2, "top:4": 4}.items()
}


@pytest.mark.parametrize("draw", [plot.reliability, plot.pareto])
def test_a_picture_is_drawn_of_all_settings(
    draw: Callable[[Path, Settings], None], tmp_path: Path
) -> None:
    draw(tmp_path / "one.png", {"verified": SETTINGS["verified"]})
    draw(tmp_path / "all.png", SETTINGS)
    one, all_ = ((tmp_path / f"{name}.png").read_bytes() for name in ("one", "all"))
    assert one.startswith(b"\x89PNG")
    assert one != all_
