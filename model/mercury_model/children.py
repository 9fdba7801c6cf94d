"""How another Python is started: it imports nothing from the folder that it is started in.

An editor starts the server in its user's workspace, whose files must not run.
"""

import os
import site
import sys
from collections.abc import Mapping
from pathlib import Path


def environment(ours: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Our environment without Python's variables, which may name the working folder."""
    return {name: value for name, value in ours.items() if not name.upper().startswith("PYTHON")}


def interpreter(here: Path = Path(__file__)) -> tuple[str, ...]:
    """The command of this interpreter, isolated; to be run in `environment()`.

    `-I` also hides the user's own site-packages. An installation that is there gets `-P` instead.
    """
    users = site.ENABLE_USER_SITE and here.is_relative_to(site.getusersitepackages())
    return (sys.executable, "-P" if users else "-I")
