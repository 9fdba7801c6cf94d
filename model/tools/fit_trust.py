"""Fit the weight of the cache language model of mini by likelihood.

`python model/tools/fit_trust.py`, after `mercury-lsp models pull mini` and `mercury-lsp train
data`, reads gaps of training packages with their truth, without other files and with four of them.
For each token it compares the probability of the network with the share of votes. Writes
`model/results/trust.json`. The four numbers of `CacheTrust` belong in
`model/mercury_model/weights/mini.json`, and the two log odds that a vote comes true in
`lookup.ACCEPTANCE_LOG_ODDS`.
"""

import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from mercury_lsp.bench.mini import options, origin, predicted
from mercury_lsp.cli.evaluate import OTHERS
from mercury_lsp.config import surroundings
from mercury_lsp.core.similar import DOCUMENT_CHARS
from mercury_lsp.evaluation.cases import SINGLE_LINE, Case, draw
from mercury_lsp.evaluation.fit import minimize
from mercury_model.decoding.lookup import (
    MAX_MATCH_BYTES,
    CacheLM,
    interpolate,
    lookup_weight,
    trust_terms,
)
from mercury_model.load import LoadedModel, load
from mercury_model.spec.card import CacheTrust
from mercury_model.training.data import read
from mercury_model.training.feed import by_language
from mercury_model.training.start import TRAIN

FOUND = Path(__file__).parents[1] / "results" / "trust.json"
OPEN = (0, 4)
UNKNOWN = 1e-5
"""The assumed probability of a token that is not among the candidates of the network."""


@dataclass(frozen=True, slots=True)
class Row:
    """A token of the truth at a position with votes, and its probabilities in both models.

    `terms` are those of the log odds of the weight. `agreed`: the token with most votes is also the
    likeliest one of the interpolated model.
    """

    terms: tuple[float, float, float, float]
    network: float
    votes: float
    agreed: bool


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
    cases = draw(by_language(read(given.corpus / TRAIN)), counts, 99, max(OPEN))
    rows = [row for case in cases for row in read_rows(model, case)]
    trust = fitted(rows)
    report = {
        "model": given.model,
        "gaps": len(cases),
        "open": OPEN,
        **origin(),
        "rows": len(rows),
        "cache_trust": {name: round(value, 2) for name, value in asdict(trust).items()},
        "agreed": [round(value, 2) for value in agreed(rows)],
        "nats_a_row": {
            "network": round(nats(rows, CacheTrust(-math.inf, 0, 0, 0)), 4),
            "both": round(nats(rows, trust), 4),
        },
    }
    given.output.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


def read_rows(model: LoadedModel, case: Case) -> Iterator[Row]:
    """The tokens of one gap, for each number of open files; the end of a line is left out."""
    tokenizer, eos_id = model.tokenizer, model.card.infill.eos_id
    assert model.card.cache_trust is not None
    context = tokenizer.fim_context(case.before, case.after)
    owed = context.owed.decode("utf-8", "replace")
    before = case.before.removesuffix(owed)
    truth = tokenizer.encode(owed + case.truth)
    found = predicted(model.runtime, context.ids, truth)
    wanted = truth if case.kind in SINGLE_LINE else [*truth, eos_id]
    for count in OPEN:
        others = [text[:DOCUMENT_CHARS] for text in case.others[len(case.others) - count :]]
        cache = CacheLM([*others, case.after, case.before], tokenizer.encode)
        for index, token in enumerate(wanted):
            votes = cache.candidates(before[-MAX_MATCH_BYTES:] + tokenizer.decode(truth[:index]))
            if not votes.tokens:
                continue
            row = found.at(slice(index, index + 1))
            known = dict(zip(row.ids[0].tolist(), row.probs[0].tolist(), strict=True))
            ends = known.get(eos_id, 0.0)
            share = ends if token == eos_id else (1 - ends) * votes.shares().get(token, 0.0)
            best = int(interpolate(row, votes, model.card.cache_trust, {eos_id}).ids[0, 0])
            yield Row(
                trust_terms(votes, max(known.values())),
                known.get(token, UNKNOWN),
                share,
                best == max(votes.tokens, key=lambda voted: votes.tokens[voted]),
            )


def fitted(rows: Sequence[Row]) -> CacheTrust:
    """The maximum-likelihood weight."""
    known = torch.tensor([row.terms for row in rows])
    network = torch.tensor([row.network for row in rows])
    votes = torch.tensor([row.votes for row in rows])

    def loss(factors: torch.Tensor) -> torch.Tensor:
        weight = torch.sigmoid(known @ factors)
        return -torch.log((1 - weight) * network + weight * votes + UNKNOWN / 10).mean()

    return CacheTrust(*minimize(loss, 4))


def agreed(rows: Sequence[Row]) -> list[float]:
    """The log odds that a vote comes true: a constant and a factor of the log of the length."""
    known = torch.tensor([row.terms[:2] for row in rows])
    true = torch.tensor([float(row.agreed) for row in rows])
    return minimize(
        lambda factors: torch.nn.functional.binary_cross_entropy_with_logits(known @ factors, true),
        2,
    )


def nats(rows: Sequence[Row], trust: CacheTrust) -> float:
    """The mean negative log likelihood of a row."""
    total = 0.0
    for row in rows:
        weight = lookup_weight(row.terms, trust)
        total -= math.log((1 - weight) * row.network + weight * row.votes + UNKNOWN / 10)
    return total / max(1, len(rows))


if __name__ == "__main__":
    main()
