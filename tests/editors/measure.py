"""How long ghost text takes in real editors: `python tests/editors/measure.py`, with mini here.

Types the bench's trace, as fast as a person does, into Neovim and VS Code with the settings that
everybody starts with. Every frame is looked at: one with a flicker or with ghost text that fits
nothing ends the command without figures. With `--keep` they go to `editors/results`, a file an
editor; `--table` prints what is there as it stands in editors/README.md.
"""

import argparse
import asyncio
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from editors.conftest import SERVER
from editors.seen import Figures, Recording, flickers, stale

from editors import record, vscode
from mercury_lsp.bench import document
from mercury_lsp.bench.sources import sources
from mercury_lsp.bench.trace import Trace, type_out
from mercury_lsp.config import surroundings

RESULTS = Path(__file__).parents[2] / "editors" / "results"
SECONDS = 112.0
"""At a person's pace; 523 keys."""


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("editors", nargs="*", metavar="EDITOR", help="neovim, vscode; or both")
    parser.add_argument("--keep", action="store_true", help="write the figures to editors/results")
    parser.add_argument("--table", action="store_true", help="print the figures that are kept")
    given = parser.parse_args()
    if given.table:
        sys.stdout.write(table(kept()))
        return
    for name in given.editors or EDITORS:
        if name not in EDITORS:
            raise SystemExit(f"There is no {name} to type into; choose from {', '.join(EDITORS)}.")
        report = measured(EDITORS[name])
        sys.stdout.write(table([report]))
        if given.keep:
            text = json.dumps(report, indent=1, ensure_ascii=False) + "\n"
            (RESULTS / f"{name}.json").write_text(text, "utf-8")


def measured(type_into: Callable[[Trace], Recording]) -> dict[str, Any]:
    """The figures of one editor. Raises SystemExit where somebody saw what nobody should."""
    trace = typed(SECONDS)
    recording = type_into(trace)
    if wrong := complaints(recording):
        raise SystemExit("\n".join(wrong))
    return {
        "kind": "typing",
        **asdict(document.environment({})),
        "trace": {"seed": trace.seed, "digest": trace.digest, "seconds": round(trace.seconds, 3)},
        **asdict(Figures.of(recording)),
    }


def kept() -> list[dict[str, Any]]:
    """The figures in editors/results."""
    files = [RESULTS / f"{name}.json" for name in EDITORS]
    return [json.loads(file.read_text("utf-8")) for file in files]


def typed(seconds: float) -> Trace:
    """The beginnings of all sessions of the bench's trace."""
    return type_out(sources("trace")).cut(seconds)


def in_neovim(trace: Trace, speed: float = 1.0) -> Recording:
    """What Neovim showed. Raises SystemExit if it is not here."""
    binary = shutil.which(os.environ.get("MERCURY_NVIM") or "nvim")
    if binary is None:
        raise SystemExit("Neovim is not here; run editors/install-test-editors.")
    cache_dir = surroundings().cache_dir
    return asyncio.run(record.neovim(binary, cache_dir, trace, speed, SERVER))


def in_vscode(trace: Trace, speed: float = 1.0) -> Recording:
    """What VS Code showed. Raises SystemExit if it is not here."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            environment = vscode.surroundings(Path(folder))
        except vscode.Absent as reason:
            raise SystemExit(str(reason)) from None
        cache = {"MERCURY_CACHE": str(surroundings().cache_dir)}
        return record.in_vscode({**environment, **cache}, trace, speed)


def complaints(recording: Recording) -> list[str]:
    """The frames that nobody should see, each in words."""
    kinds = {"flickered": flickers(recording), "is stale": stale(recording)}
    return [
        f"{recording.editor}: {frame} {kind}" for kind, frames in kinds.items() for frame in frames
    ]


def table(runs: Sequence[Mapping[str, Any]]) -> str:
    """The figures as Markdown, an editor a column."""
    rows = {
        "keys / frames": [f"{run['keys']} / {run['frames']}" for run in runs],
        "flickers / stale ghosts": [f"{run['flickers']} / {run['stale']}" for run in runs],
        "new ghosts": [str(run["ghost"]["count"]) for run in runs],
        "key to new ghost, p50 / p95": [_spread(run["ghost"]) for run in runs],
        "of that in the server": [_spread(run["server"]) for run in runs],
        "of that elsewhere": [_spread(run["rest"]) for run in runs],
        "key to what is left of a ghost": [_spread(run["kept"]) for run in runs],
    }
    head = [f"| | {' | '.join(run['editor'] for run in runs)} |", "|---|" + "---|" * len(runs)]
    lines = [f"| {name} | {' | '.join(values)} |" for name, values in rows.items()]
    return "\n".join([*head, *lines]) + "\n"


def _spread(spread: Mapping[str, float]) -> str:
    return f"{spread['p50']:.0f} / {spread['p95']:.0f} ms"


EDITORS: Mapping[str, Callable[[Trace], Recording]] = {"neovim": in_neovim, "vscode": in_vscode}


if __name__ == "__main__":
    main()
