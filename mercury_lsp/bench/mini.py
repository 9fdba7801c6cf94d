"""The default model as the scripts in `model/tools` measure it: its weights, runtimes and contexts.

Everything here needs the weights of mini (`mercury-lsp models pull mini`), `options` and `origin`
aside. Knows no editor and no protocol.
"""

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

CARD = registry.card("mini")
MASK = CARD.infill.mask_id
SAMPLE_CODE = Path(registry.__file__)
"""A file of real code; contexts are its first tokens."""

WARM_UP_RUNS = 3


def options(description: str | None, output: Path) -> argparse.ArgumentParser:
    """A parser with the options of every script; the report goes to `output` by default."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, default=cores(), help="default: one for each core")
    parser.add_argument("--output", type=Path, default=output)
    return parser


def origin() -> dict[str, Any]:
    """The machine, the versions and the commit of a measurement."""
    return {
        "machine": asdict(machine.describe()),
        "versions": machine.versions(),
        "commit": machine.commit(),
    }


def int8_precision() -> Precision:
    """The precision that the server uses on this machine."""
    return Precision(graph_precision(cpu_flags()))


def weights() -> Tensors:
    """The weights of mini in fp32. Raises WeightsMissing unless they were pulled."""
    return registry.merged(registry.find("mini"), surroundings().cache_dir)


def tokenizer() -> Tokenizer:
    """The tokenizer and FIM format of mini."""
    return registry.tokenizer("mini", surroundings().cache_dir)


def context_ids(length: int) -> list[int]:
    """The first `length` token ids of SAMPLE_CODE."""
    return tokenizer().encode(SAMPLE_CODE.read_text("utf-8"))[:length]


def on_onnx(
    folder: Path, tensors: Tensors, precision: Precision, threads: int, spin_us: int = SPIN_US
) -> OnnxRuntime:
    """A runtime over the graph in `folder`; the graph is written first if it is missing."""
    path = folder / f"{precision}.onnx"
    if not path.exists():
        graph.write_graph(path, CARD.architecture, tensors, precision, MASK)
    return OnnxRuntime(path, CARD.architecture, MASK, precision, session_options(threads, spin_us))


def read(runtime: Runtime, ids: Sequence[int]) -> KVCache:
    """A cache of the keys and values of `ids`, computed in chunks."""
    kv = runtime.new_kv_cache()
    for start in range(0, len(ids), CHUNK_TOKENS):
        runtime.extend(kv, ids[start : start + CHUNK_TOKENS])
    return kv


def predicted(runtime: Runtime, context: Sequence[int], truth: Sequence[int]) -> Predictions:
    """The predictions after `context` and after each token of `truth`: `len(truth) + 1` rows."""
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
    """The seconds of `runs` calls, after WARM_UP_RUNS calls that are not timed."""
    for _ in range(WARM_UP_RUNS):
        call()
    seconds = []
    for _ in range(runs):
        began = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - began)
    return seconds
