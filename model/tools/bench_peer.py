"""Time mini beside llama.cpp, on the same base file and the same cores, in turn.

`pip install llama-cpp-python`, then `python model/tools/bench_peer.py` on a quiet machine, with
mini pulled; writes `model/results/peer.json`. llama.cpp decodes the base as it was published
(Q4_1); mini runs in int8. First llama.cpp must agree with torch in fp32 on the same file; otherwise
nothing is timed.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np
import torch
from llama_cpp import Llama

from mercury_lsp.bench.mini import context_ids, measured, options, origin, read
from mercury_lsp.config import surroundings
from mercury_model.load import load
from mercury_model.network.denoiser import load_denoiser
from mercury_model.runtime.limits import CHUNK_TOKENS
from mercury_model.runtime.protocol import Runtime
from mercury_model.runtime.torch import TorchRuntime
from mercury_model.weights import registry
from mercury_model.weights.gguf import GgufTensors, open_gguf

FOUND = Path(__file__).parents[1] / "results" / "peer.json"
ALIKE = 0.9
"""The minimum share of positions with the same likeliest token."""

IN_TURN = 5


def main() -> None:
    """See the module's docstring."""
    parser = options(__doc__, FOUND)
    parser.add_argument("--runs", type=int, default=40, help="calls a figure is made of")
    parser.add_argument("--context", type=int, default=448, help="tokens before what is timed")
    given = parser.parse_args()
    threads, cache_dir = given.threads, surroundings().cache_dir
    ids = context_ids(given.context)
    file = registry.pull(
        "mini", cache_dir=cache_dir, offline=True, progress=lambda _done, _total: None
    )
    base = next(file.glob("*.gguf"))
    check(base, threads, ids[:CHUNK_TOKENS])
    llama = loaded(base, threads, 2 * given.context)
    mini = load("mini", cache_dir=cache_dir, threads=threads).runtime
    figures = timed(calls(llama, mini, ids), given.runs)
    for name, milliseconds in figures.items():
        sys.stdout.write(f"{name:32} {milliseconds:8.2f} ms\n")
    report = {
        "base": base.name,
        "context": given.context,
        "threads": threads,
        "runs": given.runs,
        "llama-cpp-python": version("llama-cpp-python"),
        **origin(),
        "median_ms": figures,
    }
    given.output.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


def loaded(base: Path, threads: int, context: int, *, logits_all: bool = False) -> Llama:
    """llama.cpp with the base model."""
    return Llama(
        str(base),
        n_ctx=context,
        n_threads=threads,
        n_threads_batch=threads,
        logits_all=logits_all,
        verbose=False,
    )


def check(base: Path, threads: int, ids: Sequence[int]) -> None:
    """Exit unless llama.cpp and torch mostly predict the same tokens from the same file."""
    file = open_gguf(base)
    config = file.config()
    weights = GgufTensors(file, config)
    reference = TorchRuntime(load_denoiser(config, weights), dtype=torch.float32)
    expected = reference.logits(reference.new_kv_cache(), ids).argmax(-1).numpy()
    llama = loaded(base, threads, len(ids), logits_all=True)
    llama.eval(ids)
    alike = float((np.argmax(llama.scores[: len(ids)], axis=-1) == expected).mean())
    if alike < ALIKE:
        sys.exit(f"llama.cpp predicts the same token in {alike:.0%} only; no times are taken.")


def calls(llama: Llama, mini: Runtime, ids: Sequence[int]) -> Mapping[str, Callable[[], object]]:
    """The timed calls by name: reading a context from scratch, and decoding after it."""
    kv = read(mini, ids)

    def llama_reads() -> None:
        llama.reset()
        llama.eval(ids)

    def llama_decodes() -> None:
        llama.n_tokens = len(ids)
        llama.eval(ids[:1])

    def mini_decodes(rows: int) -> Callable[[], None]:
        def call() -> None:
            mini.verify(kv, ids[:rows])
            kv.truncate(len(ids))

        return call

    return {
        "llama.cpp reads": llama_reads,
        "mini reads": lambda: read(mini, ids),
        "llama.cpp decodes 1 token": llama_decodes,
        "mini decodes 1 token": mini_decodes(1),
        "mini checks 4 tokens": mini_decodes(4),
    }


def timed(calls: Mapping[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """The median milliseconds of each call.

    The calls take turns, so that a disturbance affects all of them. Each turn has a warm-up, since
    threads of the other library may still be spinning.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(-(-runs // IN_TURN)):
        for name, call in calls.items():
            seconds[name] += measured(call, IN_TURN)
    return {name: round(1e3 * median(values), 2) for name, values in seconds.items()}


if __name__ == "__main__":
    main()
