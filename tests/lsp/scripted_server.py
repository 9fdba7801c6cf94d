"""The real server with a scripted model, for tests: `scripted_server.py '{"writes": "abc"}'`.

`writes` is what the model writes, `missing` a file without which there are no weights; pulling
creates it. `altered` makes loading fail as it does for damaged weights, `endless` makes the model
write up to every limit, and `fails` makes it raise with the document's text in the message.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from fakes import FORMAT, LetterTokenizer, ScriptedRuntime, card, spell

from mercury_lsp.config import Config
from mercury_lsp.lsp.server import make_server
from mercury_lsp.lsp.transport import over_stdio
from mercury_lsp.lsp.weights import Shelf
from mercury_model.errors import WeightsAltered, WeightsMissing
from mercury_model.models import LoadedModel
from mercury_model.sources import Progress


class Failing(ScriptedRuntime):
    def extend(self, kv: Any, ids: Any) -> Any:
        raise RuntimeError(f"secret_{LetterTokenizer().decode(ids)}")


def shelf(scenario: dict[str, Any]) -> Shelf:
    weights = Path(scenario["missing"]) if "missing" in scenario else None

    def load(name: str, threads: int) -> LoadedModel:
        if weights is not None and not weights.exists():
            raise WeightsMissing("The weights are not on this machine.", "Pull them.")
        if scenario.get("altered"):
            raise WeightsAltered("The weights were altered.", "Delete them.")
        text, end = scenario.get("writes", "abc"), not scenario.get("endless")
        infill = FORMAT if end else replace(FORMAT, middle_tokens=1_000_000)
        kind = Failing if scenario.get("fails") else ScriptedRuntime
        return LoadedModel(card(infill), LetterTokenizer(), kind(spell(text, end), infill))  # type: ignore[arg-type]

    def pull(name: str, progress: Progress) -> None:
        assert weights is not None
        progress(1, 2)
        weights.touch()

    return Shelf(load, lambda name: weights is None or weights.exists(), pull)


if __name__ == "__main__":
    mercury = make_server(Config(), shelf(json.loads(sys.argv[1] if sys.argv[1:] else "{}")))
    sys.exit(over_stdio(mercury))
