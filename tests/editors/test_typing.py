"""Typing in real editors at four times a person's speed, with the real server and mini.

How long ghost text takes is measured by `measure.py`; here nothing is timed, and every frame is
looked at.
"""

from pathlib import Path

import pytest
from editors.conftest import SERVER
from editors.measure import SECONDS, typed
from editors.seen import Recording, flickers, stale

from editors import record

pytestmark = [pytest.mark.editors, pytest.mark.mini]

SPEED = 4.0


def assert_calm(recording: Recording) -> None:
    """No frame is one that nobody should see."""
    assert len(recording.keys) >= 500
    assert any(frame.ghost for frame in recording.frames)
    assert flickers(recording) == []
    assert stale(recording) == []


async def test_in_neovim_no_ghost_flickers_or_is_stale_in_500_keys(
    nvim_binary: str, cache_dir: Path
) -> None:
    trace = typed(SECONDS)
    assert_calm(await record.neovim(nvim_binary, cache_dir, trace, SPEED, SERVER))


def test_in_vscode_no_ghost_flickers_or_is_stale_in_500_keys(
    surroundings: dict[str, str], cache_dir: Path
) -> None:
    environment = {**surroundings, "MERCURY_CACHE": str(cache_dir)}
    assert_calm(record.in_vscode(environment, typed(SECONDS), SPEED))
