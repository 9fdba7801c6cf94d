"""Measure what quantization to int8 costs mini: the same held-out gaps in int8 and in fp32.

`python model/tools/check_int8.py`, after `mercury-lsp models pull mini` and `mercury-lsp train
data`, reads each gap with its truth in both precisions and compares the predictions at every
token. A gap is exact if every token of the truth, and the end after it, is the likeliest. The
script works for `--seconds` and continues from `model/results/int8.json`, which has the compared
gaps and the figures.
"""

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mercury_lsp.bench.mini import (
    CARD,
    int8_precision,
    on_onnx,
    options,
    origin,
    predicted,
    weights,
)
from mercury_lsp.cli.evaluate import held_out
from mercury_lsp.evaluation import scores
from mercury_lsp.evaluation.cases import SINGLE_LINE, Case
from mercury_model.runtime.onnx.arithmetic import Precision
from mercury_model.runtime.protocol import Predictions, Runtime
from mercury_model.spec.fim_format import FimFormat
from mercury_model.spec.tokenizer import Tokenizer
from mercury_model.weights import registry

FOUND = Path(__file__).parents[1] / "results" / "int8.json"
SURE = 0.5


@dataclass(frozen=True, slots=True)
class Compared:
    """The comparison of one gap of `tokens` tokens, its end included.

    At `same` of them both precisions have the same likeliest token. `sure` counts those where fp32
    gives it a probability above SURE, and `sure_same` those of them that agree. `off` is the
    largest difference of the probability of the likeliest token of fp32, `off_sum` the sum.
    """

    kind: str
    language: str
    tokens: int
    same: int
    sure: int
    sure_same: int
    off_sum: float
    off: float
    exact_int8: bool
    exact_fp32: bool


def main() -> None:
    """See the module's docstring."""
    parser = options(__doc__, FOUND)
    parser.add_argument("--corpus", type=Path, default=Path("runs/corpus"))
    parser.add_argument("--gaps", type=int, default=1_000, help="how many, spread over all")
    parser.add_argument("--before", type=int, default=448, help="tokens before a gap that are read")
    parser.add_argument("--behind", type=int, default=128, help="and behind it")
    parser.add_argument("--seconds", type=float, default=240, help="how long to work now")
    given = parser.parse_args()
    format = replace(CARD.infill, prefix_tokens=given.before, suffix_tokens=given.behind)
    tokenizer = Tokenizer(registry.BUNDLED / registry.find("mini").tokenizer, format)
    cases = held_out(given.corpus, 1_000, 100, given.gaps)
    what = {"gaps": len(cases), "before": given.before, "behind": given.behind}
    done = earlier(given.output, what)
    with tempfile.TemporaryDirectory() as folder:
        pair = runtimes(Path(folder), given.threads)
        until = time.monotonic() + given.seconds
        while len(done) < len(cases) and time.monotonic() < until:
            done.append(compared(cases[len(done)], tokenizer, format, pair))
    figures = summed(done)
    report = {
        "model": "mini",
        **what,
        "runtimes": [runtime.name for runtime in pair],
        **origin(),
        "figures": figures,
        "compared": [list(asdict(one).values()) for one in done],
    }
    text = json.dumps({k: v for k, v in report.items() if k != "compared"}, indent=1)
    rows = ",\n".join(f"  {json.dumps(row)}" for row in report["compared"])
    given.output.write_text(f'{text[:-2]},\n "compared": [\n{rows}\n ]\n}}\n', "utf-8")
    sys.stdout.write(json.dumps(figures, indent=1) + f"\n{len(done)} of {len(cases)} gaps\n")


def earlier(path: Path, what: dict[str, int]) -> list[Compared]:
    """The comparisons of an earlier run with the same settings."""
    if not path.exists():
        return []
    report = json.loads(path.read_text("utf-8"))
    if {name: report[name] for name in what} != what:
        return []
    return [Compared(*row) for row in report["compared"]]


def runtimes(folder: Path, threads: int) -> tuple[Runtime, Runtime]:
    """The int8 runtime of the server on this machine, and the same in fp32."""
    tensors = weights()
    rounded = on_onnx(folder, tensors, int8_precision(), threads)
    return rounded, on_onnx(folder, tensors, Precision.FP32, threads)


def compared(
    case: Case, tokenizer: Tokenizer, format: FimFormat, pair: tuple[Runtime, Runtime]
) -> Compared:
    """Compare both runtimes on one gap with its truth."""
    context, truth = (
        tokenizer.fim_context(case.before, case.after).ids,
        tokenizer.encode(case.truth),
    )
    rounded, whole = (predicted(runtime, context, truth) for runtime in pair)
    likeliest, sure = whole.ids[:, 0], whole.probs[:, 0] > SURE
    same = rounded.ids[:, 0] == likeliest
    found = (rounded.probs * (rounded.ids == likeliest[:, None])).sum(axis=1)
    off = np.abs(found - whole.probs[:, 0])

    def exact(predictions: Predictions) -> bool:
        *tokens, after = predictions.ids[:, 0].tolist()
        ends = after == format.eos_id
        if case.kind in SINGLE_LINE:  # a text is cut at the end of its line
            ends = ends or tokenizer.decode([after]).startswith("\n")
        return bool(tokens == truth and ends)

    return Compared(
        kind=case.kind.value,
        language=case.language,
        tokens=len(same),
        same=int(same.sum()),
        sure=int(sure.sum()),
        sure_same=int(same[sure].sum()),
        off_sum=round(float(off.sum()), 5),
        off=round(float(off.max()), 5),
        exact_int8=exact(rounded),
        exact_fp32=exact(whole),
    )


def summed(done: Sequence[Compared]) -> dict[str, Any]:
    """The figures over all compared gaps."""
    tokens, sure = sum(one.tokens for one in done), sum(one.sure for one in done)
    less = [float(one.exact_int8) - float(one.exact_fp32) for one in done]
    return {
        "gaps": len(done),
        "tokens": tokens,
        "same": round(sum(one.same for one in done) / max(1, tokens), 5),
        "same_where_sure": round(sum(one.sure_same for one in done) / max(1, sure), 5),
        "probability_off_mean": round(sum(one.off_sum for one in done) / max(1, tokens), 5),
        "probability_off_most": max((one.off for one in done), default=0.0),
        "exact_int8": asdict(scores.interval([float(one.exact_int8) for one in done])),
        "exact_fp32": asdict(scores.interval([float(one.exact_fp32) for one in done])),
        "exact_int8_less_fp32": asdict(scores.interval(less)),
        "exact_in_one_only": sum(one.exact_int8 != one.exact_fp32 for one in done),
    }


if __name__ == "__main__":
    main()
