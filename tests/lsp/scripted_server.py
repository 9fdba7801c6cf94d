"""The real server with a scripted model, for tests: `scripted_server.py '{"writes": "abc"}'`.

`writes` is what the model writes; `endless` makes it go on up to every limit, and `fails` makes it
raise with the document's text in the message. `missing` is a file without which there are no
weights; pulling creates it. While the file `altered` exists, loading fails as it does for damaged
weights; `broken` makes it fail as nobody expects. `hurry` is how much too fast the clock runs.
`calls` is a file that grows by the first letter of each call to the model, `gate` a named pipe
from which each call takes a byte before it begins, until it is closed. `prints` is printed to
standard output, where it does not belong. `unsure` makes the model trust what is repeated elsewhere
more than itself. `quick` are the tokens of the quick window, before the cursor and behind it.
"""

import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from fakes import FORMAT, LetterTokenizer, ScriptedRuntime, card, spell

from mercury_lsp.config import Config
from mercury_lsp.lsp.server import make_server
from mercury_lsp.lsp.transport import over_stdio
from mercury_lsp.service import ModelStore
from mercury_model.errors import WeightsCorrupted, WeightsMissing
from mercury_model.load import LoadedModel
from mercury_model.spec.card import CacheTrust
from mercury_model.weights.sources import Progress


class Failing(ScriptedRuntime):
    def extend(self, kv: Any, ids: Any) -> Any:
        raise RuntimeError(f"secret_{LetterTokenizer().decode(ids)}")

    def verify(self, kv: Any, ids: Any, first: int = 0) -> Any:
        return self.extend(kv, ids)


class Turnstile(list[tuple[str, tuple[int, ...]]]):
    """The log of a runtime's calls, which lets one through for each byte of `gate`."""

    def __init__(self, calls: str, gate: str | None) -> None:
        self._calls = Path(calls)
        self._gate = open(gate, "rb", buffering=0) if gate else None  # noqa: SIM115  to the end

    def append(self, call: tuple[str, tuple[int, ...]]) -> None:
        with self._calls.open("a") as calls:
            calls.write(call[0][0])
        if self._gate is not None:
            self._gate.read(1)


def store(scenario: dict[str, Any]) -> ModelStore:
    weights = Path(scenario["missing"]) if "missing" in scenario else None

    def altered() -> bool:
        return "altered" in scenario and Path(scenario["altered"]).exists()

    def stamp(name: str) -> object:
        return None if weights is not None and not weights.exists() else altered()

    def load(name: str, threads: int) -> LoadedModel:
        if weights is not None and not weights.exists():
            raise WeightsMissing("The weights are not on this machine.", "Pull them.")
        if scenario.get("broken"):
            raise OSError(28, "No space left on device")
        if altered():
            raise WeightsCorrupted("The weights were altered.", "Delete them.")
        text, end = scenario.get("writes", "abc"), not scenario.get("endless")
        infill = FORMAT if end else replace(FORMAT, middle_tokens=1_000_000)
        if quick := scenario.get("quick", 0):
            infill = replace(infill, quick_prefix_tokens=quick, quick_suffix_tokens=quick)
        kind = Failing if scenario.get("fails") else ScriptedRuntime
        unsure = scenario.get("unsure", False)
        runtime = kind(spell(text, end, 0.5 if unsure else 0.95), infill)
        trust = CacheTrust(10, 0, 0, 0) if unsure else None
        if "calls" in scenario:
            runtime.calls = Turnstile(scenario["calls"], scenario.get("gate"))
        os.write(1, scenario.get("prints", "").encode())
        return LoadedModel(card(infill, trust), LetterTokenizer(), runtime)  # type: ignore[arg-type]

    def pull(name: str, progress: Progress) -> None:
        assert weights is not None
        progress(1, 2)
        weights.touch()

    return ModelStore(load, stamp, lambda name: True, pull)


if __name__ == "__main__":
    scenario = json.loads(sys.argv[1] if sys.argv[1:] else "{}")
    hurry = scenario.get("hurry", 1)
    mercury = make_server(Config(), store(scenario), clock=lambda: time.monotonic_ns() * hurry)
    sys.exit(over_stdio(mercury))
