"""What the benchmarks and checks of mini beside this file share: options, origin, mini itself."""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from mercury_lsp import machine
from mercury_lsp.config import surroundings
from mercury_model.load import cores, cpu_flags, graph_precision
from mercury_model.runtime.limits import CHUNK_TOKENS
from mercury_model.runtime.onnx import graph
from mercury_model.runtime.onnx.arithmetic import Precision
from mercury_model.runtime.onnx.runtime import SPIN_US, OnnxRuntime, session_options
from mercury_model.runtime.protocol import KVCache, Predictions, Runtime
from mercury_model.spec.tokenizer import Tokenizer
from mercury_model.weights import registry
from mercury_model.weights.checkpoint import Tensors

RESULTS = Path(__file__).parents[1] / "results"
CARD = registry.card("mini")
MASK = CARD.infill.mask_id
INT8 = Precision(graph_precision(cpu_flags()))
"""As the server has it on this machine."""

TEXT = Path(registry.__file__)


def options(about: str | None, output: str) -> argparse.ArgumentParser:
    """Those that all have; the results are `output` unless another file is given."""
    made = argparse.ArgumentParser(description=about)
    every = cores()
    made.add_argument("--threads", type=int, default=every, help="as many as cores if not given")
    made.add_argument("--output", type=Path, default=RESULTS / output)
    return made


def origin() -> dict[str, Any]:
    """Where figures are from."""
    return {
        "machine": asdict(machine.describe()),
        "versions": machine.versions(),
        "commit": machine.commit(),
    }


def weights() -> Tensors:
    """In fp32; mini must be pulled."""
    return registry.merged(registry.find("mini"), surroundings().cache_dir)


def tokenizer() -> Tokenizer:
    """As the weights were taught."""
    return Tokenizer(registry.BUNDLED / registry.find("mini").tokenizer, CARD.infill)


def context_ids(length: int) -> list[int]:
    """Ids of real code."""
    return tokenizer().encode(TEXT.read_text("utf-8"))[:length]


def on_onnx(
    folder: Path, tensors: Tensors, precision: Precision, threads: int, spin_us: int = SPIN_US
) -> OnnxRuntime:
    """A runtime whose graph is in `folder`, written there if it is not yet."""
    path = folder / f"{precision}.onnx"
    if not path.exists():
        graph.write_graph(path, CARD.architecture, tensors, precision, MASK)
    return OnnxRuntime(path, CARD.architecture, MASK, precision, session_options(threads, spin_us))


def read(runtime: Runtime, ids: Sequence[int]) -> KVCache:
    """A context."""
    kv = runtime.new_kv_cache()
    for start in range(0, len(ids), CHUNK_TOKENS):
        runtime.extend(kv, ids[start : start + CHUNK_TOKENS])
    return kv


def predicted(runtime: Runtime, context: Sequence[int], truth: Sequence[int]) -> Predictions:
    """What follows the context, and each token of the truth."""
    kv, parts = read(runtime, context[:-1]), []
    rest = [context[-1], *truth]
    for start in range(0, len(rest), CHUNK_TOKENS):
        parts.append(runtime.verify(kv, rest[start : start + CHUNK_TOKENS]))
    return Predictions(
        np.concatenate([part.ids for part in parts]),
        np.concatenate([part.probs for part in parts]),
        np.concatenate([part.entropy for part in parts]),
    )


def measured(call: Callable[[], object], runs: int) -> list[float]:
    """Seconds of each of `runs` calls, after three that do not count."""
    seconds = []
    for index in range(runs + 3):
        began = time.perf_counter()
        call()
        if index >= 3:
            seconds.append(time.perf_counter() - began)
    return seconds
