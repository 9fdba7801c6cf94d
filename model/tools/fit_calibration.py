"""Fit the calibration of mini: from token probabilities to the chance that a text is right.

`python model/tools/fit_calibration.py`, after `mercury-lsp models pull mini` and `mercury-lsp train
data`, fills gaps within a line of training packages with four other files open. Every prefix of a
completion is right or wrong; the whole is right if it also ends where the truth ends. Writes
`model/results/calibration.json`; its two maximum-likelihood numbers of `Calibration` belong in
`model/mercury_model/weights/mini.json`.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import accumulate
from operator import mul
from pathlib import Path

import torch

from mercury_lsp.bench.mini import options, origin
from mercury_lsp.cli.evaluate import OTHERS
from mercury_lsp.config import surroundings
from mercury_lsp.core.similar import DOCUMENT_CHARS
from mercury_lsp.evaluation.cases import SINGLE_LINE, Case, draw
from mercury_lsp.evaluation.fit import minimize
from mercury_lsp.evaluation.scores import calibration_error, exact, reliability
from mercury_model.decoding.infiller import Infiller
from mercury_model.decoding.params import SamplingParams
from mercury_model.decoding.prompt import FimPrompt
from mercury_model.load import LoadedModel, load
from mercury_model.spec.card import Calibration
from mercury_model.training.data import read
from mercury_model.training.feed import by_language
from mercury_model.training.start import TRAIN

FOUND = Path(__file__).parents[1] / "results" / "calibration.json"
OPEN = 4

Known = tuple[float, bool]
"""The product of the token probabilities of a text, and whether the text is right."""


def main() -> None:
    """See the module's docstring."""
    parser = options(__doc__, FOUND)
    parser.add_argument("--corpus", type=Path, default=Path("runs/corpus"))
    parser.add_argument("--python", type=int, default=400, help="gaps in Python")
    parser.add_argument("--others", type=int, default=40, help="and in each other language")
    parser.add_argument("--model", default="mini")
    given = parser.parse_args()
    model = load(given.model, cache_dir=surroundings().cache_dir, threads=given.threads)
    counts = {"python": given.python, **dict.fromkeys(OTHERS, given.others)}
    drawn = draw(by_language(read(given.corpus / TRAIN)), counts, 99, OPEN)
    cases = [case for case in drawn if case.kind in SINGLE_LINE]
    known = [pair for case in cases for pair in filled(model, case)]
    found = fitted(known)
    report = {
        "model": given.model,
        "gaps": len(cases),
        "open": OPEN,
        **origin(),
        "beginnings": len(known),
        "calibration": {name: round(value, 2) for name, value in asdict(found).items()},
        "expected_calibration_error": {
            "before": error(known),
            "after": error([(found(product), right) for product, right in known]),
        },
    }
    given.output.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


def filled(model: LoadedModel, case: Case) -> Iterator[Known]:
    """Every prefix of a completion of one gap, and last the whole text."""
    others = tuple(text[:DOCUMENT_CHARS] for text in case.others)
    gap = FimPrompt(case.before, case.after, elsewhere=others)
    infiller = Infiller(model.card, model.tokenizer, model.runtime)
    *_, last = infiller.drafts(gap, SamplingParams(mode="verified", stop=("\n",)))
    whole = 1.0
    for whole, end in zip(accumulate(last.confidences, mul), last.ends, strict=True):
        if end:  # a token that only spells what stands before the cursor has no text of its own
            yield whole, case.truth.startswith(last.text[:end])
    yield whole * last.ending, exact(last.text, case.truth)


def fitted(known: Sequence[Known]) -> Calibration:
    """The maximum-likelihood calibration."""
    products = torch.tensor([product for product, _ in known], dtype=torch.float64)
    right = torch.tensor([float(right) for _, right in known], dtype=torch.float64)
    odds = torch.logit(products, eps=1e-6)

    def loss(factors: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.binary_cross_entropy_with_logits(
            factors[0] * odds + factors[1], right
        )

    return Calibration(*minimize(loss, 2))


def error(known: Sequence[Known]) -> float:
    """The expected calibration error."""
    chances, right = zip(*known, strict=True)
    return calibration_error(reliability(chances, right))


if __name__ == "__main__":
    main()
