"""The configuration that editors/README.md shows, in a real Emacs with lsp-mode and mini."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
README = HERE.parents[1] / "editors" / "README.md"
SERVER = "exec mercury-lsp --stdio"

pytestmark = [pytest.mark.editors, pytest.mark.mini]


@pytest.fixture(scope="module")
def emacs() -> list[str]:
    """The command of an Emacs that has a recent lsp-mode, with `-L` for what it loads if needed."""
    command = shlex.split(os.environ.get("MERCURY_EMACS", "emacs"))
    if shutil.which(command[0]) is None:
        pytest.skip("Emacs is not here; install it, or set MERCURY_EMACS to its command")
    batch = [*command, "--batch"]
    probe = subprocess.run(
        [*batch, "--eval", "(require 'lsp-inline-completion)"], capture_output=True, check=False
    )
    if probe.returncode:
        pytest.skip(
            "Emacs finds no lsp-mode from after 2024; set MERCURY_EMACS='emacs -L FOLDER …'"
        )
    return batch


def test_the_documented_configuration_shows_ghost_text_and_accepts_it(
    emacs: list[str], circle: Path, cache_dir: Path, tmp_path: Path
) -> None:
    (snippet,) = re.findall(r"```elisp\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    assert SERVER in snippet
    own = shlex.join([sys.executable, "-I", "-m", "mercury_lsp", "--stdio"])
    configuration = tmp_path / "configuration.el"
    configuration.write_text(snippet.replace(SERVER, f"exec {own}"), "utf-8")
    before = circle.read_text("utf-8")

    done = subprocess.run(
        [*emacs, "-l", str(HERE / "emacs.el"), str(configuration), str(circle), str(circle.parent)],
        env={
            **os.environ,
            "MERCURY_CACHE": str(cache_dir),
            "TMPDIR": str(tmp_path),
            "HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert "radius" in seen["ghost"]
    assert seen["text"] == before.rstrip("\n") + seen["ghost"] + "\n"
