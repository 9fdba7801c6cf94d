"""Time the calls of mini on the CPU of this machine, and compute their lower bound.

`python model/tools/bench_runtime.py` on a quiet machine, with mini pulled, writes
`model/results/runtime.json`. Every runtime must first agree with torch in fp32, within its
precision; otherwise it is not timed. `--spin` sets other spin times of the threads of ONNX Runtime.
`python model/tools/runtime_table.py` shows the results.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper

from mercury_lsp.bench.mini import (
    CARD,
    MASK,
    context_ids,
    int8_precision,
    measured,
    on_onnx,
    options,
    origin,
    read,
    weights,
)
from mercury_model.load import network_shape
from mercury_model.memory.shape import NetworkShape
from mercury_model.network.denoiser import load_denoiser
from mercury_model.runtime.limits import CHUNK_TOKENS
from mercury_model.runtime.onnx import graph
from mercury_model.runtime.onnx.arithmetic import CONTRIB, Int8, Nodes, Precision
from mercury_model.runtime.onnx.files import MAX_BATCH_SIZE
from mercury_model.runtime.onnx.ort import ort
from mercury_model.runtime.onnx.runtime import SPIN_US, session_options
from mercury_model.runtime.protocol import ForwardCall, Runtime
from mercury_model.runtime.torch import TorchRuntime, has_bf16_arithmetic
from mercury_model.weights.checkpoint import Tensors

FOUND = Path(__file__).parents[1] / "results" / "runtime.json"
ROWS = (1, 2, 4, 6, 8, 12, 16, 64)
SHARED_ROWS = (1, 4)

TOLERANCES = {"fp32": 0.002, "bf16": 0.03, "int8": 0.03}
"""The allowed mean difference of the probability of the likeliest token, by precision."""

SEEN = {"fp32": 1e-4, "bf16": 0.1, "int8": 1e-4}
"""The allowed difference of any probability between a batched call and the call alone."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The times of one call: `denoise` of a block of masks, or `extend` by clean tokens.

    A pass of `verify` has `contexts` contexts with `rows` rows each.
    """

    runtime: str
    call: str
    contexts: int
    rows: int
    median_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class Floor:
    """The bytes and operations of a step of `rows` rows, and the time they take at least."""

    rows: int
    bytes: int
    operations: int
    floor_ms: float


def main() -> None:
    """See the module's docstring."""
    parser = options(__doc__, FOUND)
    parser.add_argument("--runs", type=int, default=50, help="calls a figure is made of")
    parser.add_argument("--context", type=int, default=300, help="tokens before the block")
    parser.add_argument("--spin", type=int, nargs="+", default=[SPIN_US], help="microseconds")
    given = parser.parse_args()
    threads = given.threads
    ids = context_ids(given.context + CHUNK_TOKENS)
    timings = []
    with tempfile.TemporaryDirectory() as folder:
        for name, runtime in checked(Path(folder), threads, given.spin, ids):
            for timing in timed(name, runtime, ids[: given.context], given.runs):
                rows = f"{timing.contexts} x {timing.rows:2}"
                sys.stdout.write(
                    f"{timing.runtime:24} {timing.call:8} {rows} rows "
                    f"{timing.median_ms:8.2f} ms  p95 {timing.p95_ms:8.2f} ms\n"
                )
                timings.append(timing)
        rates = {"bytes": bandwidth(threads), "operations": int8_rate(Path(folder), threads)}
    floors = [floor(rows, given.context, rates) for rows in ROWS]
    for line in floors:
        sys.stdout.write(f"floor {line.rows:3} rows {line.floor_ms:8.2f} ms\n")
    report = {
        "model": "mini",
        "context": given.context,
        "threads": threads,
        "runs": given.runs,
        **origin(),
        "rates_per_second": rates,
        "timings": [asdict(timing) for timing in timings],
        "floors": [asdict(line) for line in floors],
    }
    given.output.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


def runtimes(
    folder: Path, threads: int, spins: Sequence[int], tensors: Tensors
) -> Iterator[tuple[str, str, Runtime]]:
    """(name, precision, runtime), one at a time, so that only one is in memory."""
    network = load_denoiser(CARD.architecture, tensors, MASK)
    yield "torch fp32", "fp32", TorchRuntime(network, dtype=torch.float32, threads=threads)
    if has_bf16_arithmetic():
        yield "torch bf16", "bf16", TorchRuntime(network, dtype=torch.bfloat16, threads=threads)
    del network
    for precision, kind in ((Precision.FP32, "fp32"), (int8_precision(), "int8")):
        for spin in spins:
            name = f"onnx {precision}" + (f" spin {spin} us" if len(spins) > 1 else "")
            yield name, kind, on_onnx(folder, tensors, precision, threads, spin)


def checked(
    folder: Path, threads: int, spins: Sequence[int], ids: Sequence[int]
) -> Iterator[tuple[str, Runtime]]:
    """The runtimes, after a check against the first, torch in fp32. Exits if one disagrees."""
    reference = None
    for name, precision, runtime in runtimes(folder, threads, spins, weights()):
        kv = read(runtime, ids[:-20])
        found = runtime.verify(kv, [*ids[-20:], *[MASK] * 6])
        reference = reference or found
        off = float(np.abs(found.probs[:, 0] - reference.probs[:, 0]).mean())
        if off > TOLERANCES[precision]:
            sys.exit(f"{name} is wrong by {off:.3f} on average; no times are taken.")
        shared = runtime.forward_batch(
            [ForwardCall("verify", read(runtime, ids[: -20 - n]), ids[-20 - n :]) for n in (0, 7)]
        )
        if np.abs(shared[0].probs - found.probs[:20]).max() > SEEN[precision]:
            sys.exit(f"{name} depends on the batch; no times are taken.")
        yield name, runtime


def timed(name: str, runtime: Runtime, ids: Sequence[int], runs: int) -> Iterator[Timing]:
    """The times of all calls on one context."""
    kv = read(runtime, ids)
    length = kv.length

    def extend(rows: int) -> Callable[[], object]:
        def call() -> None:
            runtime.extend(kv, ids[:rows])
            kv.truncate(length)

        return call

    def denoise(rows: int) -> Callable[[], object]:
        block = [ids[0], *[MASK] * (rows - 1)]
        return lambda: runtime.denoise(kv, block)

    kvs = [kv, *(kv.fork(length) for _ in range(MAX_BATCH_SIZE - 1))]

    def verify(contexts: int, rows: int) -> Callable[[], object]:
        block = [ids[0], *[MASK] * (rows - 1)]
        calls = [ForwardCall("verify", kv, block) for kv in kvs[:contexts]]

        def call() -> None:
            runtime.forward_batch(calls)
            for one in kvs[:contexts]:
                one.truncate(length)

        return call

    calls = [("extend", 1, rows, extend(rows)) for rows in (1, CHUNK_TOKENS)]
    calls += [("denoise", 1, rows, denoise(rows)) for rows in ROWS]
    calls += [
        ("verify", contexts, rows, verify(contexts, rows))
        for rows in SHARED_ROWS
        for contexts in range(1, MAX_BATCH_SIZE + 1)
    ]
    for kind, contexts, rows, call in calls:
        seconds = measured(call, runs)
        p95 = float(np.percentile(seconds, 95))
        yield Timing(
            runtime=name,
            call=kind,
            contexts=contexts,
            rows=rows,
            median_ms=1e3 * median(seconds),
            p95_ms=1e3 * p95,
        )


def bandwidth(threads: int) -> float:
    """Bytes a second that `threads` threads read from memory, past any cache."""
    blocks = [np.ones(1 << 25, np.int64) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        seconds = measured(lambda: list(pool.map(np.sum, blocks)), 9)
    return sum(block.nbytes for block in blocks) / min(seconds)


def int8_rate(folder: Path, threads: int) -> float:
    """Operations a second of a large product in int8: two for each multiplication."""
    config, rows = CARD.architecture, 1024
    path = folder / "product.onnx"
    with path.with_suffix(".weights").open("wb") as file:
        nodes = Nodes(file, "product.weights")
        arithmetic = Int8(nodes, config, int8_precision())
        ones = nodes.constant("ones", np.ones(config.hidden_size, np.float32))
        matrix = np.ones((4 * config.intermediate_size, config.hidden_size), np.float32)
        y = arithmetic.product(arithmetic.normed("x", ones), "matrix", matrix, "")
    value = helper.make_tensor_value_info
    model = helper.make_model(
        helper.make_graph(
            nodes.nodes,
            "product",
            [value("x", TensorProto.FLOAT, [1, rows, config.hidden_size])],
            [value(y, TensorProto.FLOAT, [1, rows, len(matrix)])],
            initializer=nodes.constants,
        ),
        opset_imports=[helper.make_opsetid("", graph.OPSET), helper.make_opsetid(CONTRIB, 1)],
        ir_version=graph.IR_VERSION,
    )
    onnx.save(model, path)
    session = ort.InferenceSession(path, session_options(threads))
    x = np.ones((1, rows, config.hidden_size), np.float32)
    return 2 * rows * matrix.size / min(measured(lambda: session.run(None, {"x": x}), 20))


def floor(rows: int, context: int, rates: dict[str, float]) -> Floor:
    """Reading every weight (in int8), key and value once, or multiplying them: the longer one."""
    config, weights = CARD.architecture, parameters(network_shape("mini"))
    keys = context + rows
    attention = 4 * config.num_heads * config.head_dim * keys * config.num_layers
    moved = weights + keys * config.kv_bytes_per_token
    operations = rows * (2 * weights + attention)
    seconds = max(moved / rates["bytes"], operations / rates["operations"])
    return Floor(rows=rows, bytes=moved, operations=operations, floor_ms=1e3 * seconds)


def parameters(shape: NetworkShape) -> int:
    """Weights of all matrices that a row is multiplied by, the head included."""
    config = shape.config
    layer = sum(outputs * inputs for outputs, inputs in config.projections.values())
    return config.num_layers * layer + (shape.vocabulary or config.vocab_size) * config.hidden_size


if __name__ == "__main__":
    main()
