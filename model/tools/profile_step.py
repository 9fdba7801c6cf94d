"""Profile a step of mini on the CPU of this machine: products, attention, adapters and the rest.

`python model/tools/profile_step.py` on a quiet machine, with mini pulled, writes
`model/results/profile.json` and prints the table of model/README.md. Each part is timed in a graph
of its own that has only its operations, as often as a step runs them. A profiler between operations
would take longer than the small ones.
"""

import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from mercury_lsp.bench.mini import (
    CARD,
    context_ids,
    int8_precision,
    measured,
    on_onnx,
    options,
    origin,
    read,
    weights,
)
from mercury_model.runtime.onnx.ort import ort
from mercury_model.runtime.onnx.runtime import (
    OnnxKVCache,
    OnnxRuntime,
    attention_bias,
    session_options,
)

RESULTS = Path(__file__).parents[1] / "results"
FOUND = RESULTS / "profile.json"
ROWS = (2, 4, 8, 16, 64)
FED = {"MatMulIntegerToFloat": TensorProto.UINT8, "GroupQueryAttention": TensorProto.FLOAT}
"""The operations that are timed alone, and the dtype of their first input."""


@dataclass(frozen=True, slots=True)
class Step:
    """The milliseconds of a pass that reads `rows` tokens and predicts the next token of each.

    `bare_ms` is for a network without the adapters of masks; no row is a mask. `products_ms` and
    `attention_ms` are parts of it.
    """

    rows: int
    whole_ms: float
    bare_ms: float
    products_ms: float
    attention_ms: float


def main() -> None:
    """See the module's docstring."""
    parser = options(__doc__, FOUND)
    parser.add_argument("--runs", type=int, default=50, help="calls a figure is made of")
    parser.add_argument("--context", type=int, default=512, help="tokens before the rows")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        steps = timed(Path(folder), given.threads, given.context, given.runs)
    report = {
        "model": "mini",
        "precision": int8_precision(),
        "context": given.context,
        "threads": given.threads,
        "runs": given.runs,
        **origin(),
        "steps": [asdict(step) for step in steps],
    }
    given.output.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    sys.stdout.write(table(report))


def timed(folder: Path, threads: int, context: int, runs: int) -> list[Step]:
    """The step of each number of rows; graphs are written to `folder`."""
    tensors, ids = weights(), context_ids(context + max(ROWS))
    plain = {name: values for name, values in tensors.items() if ".mask_" not in name}
    whole, bare = folder / "whole", folder / "bare"
    for made in (whole, bare):
        made.mkdir()
    precision = int8_precision()
    runtimes = (
        on_onnx(whole, tensors, precision, threads),
        on_onnx(bare, plain, precision, threads),
    )
    require_same(runtimes, ids)
    graph = bare / f"{precision}.onnx"
    parts = [Alone(graph, operation, threads) for operation in FED]
    steps = []
    for rows in ROWS:
        adapted, without = (pass_of(runtime, ids, context, rows) for runtime in runtimes)
        calls = [adapted, without, *(part.call(context, rows) for part in parts)]
        took = [1e3 * median(measured(call, runs)) for call in calls]
        steps.append(Step(rows, *took))
    return steps


def require_same(runtimes: Sequence[OnnxRuntime], ids: Sequence[int]) -> None:
    """Exit unless both predict the same without masks."""
    first, second = (runtime.verify(read(runtime, ids[:-8]), ids[-8:]) for runtime in runtimes)
    if not np.array_equal(first.probs, second.probs):
        sys.exit("Adapters of masks change what is predicted without masks; no times are taken.")


def pass_of(
    runtime: OnnxRuntime, ids: Sequence[int], context: int, rows: int
) -> Callable[[], object]:
    """A call that reads `rows` ids after the first `context`, and drops them again."""
    kv = read(runtime, ids[:context])

    def call() -> None:
        runtime.verify(kv, ids[context : context + rows])
        kv.truncate(context)

    return call


class Alone:
    """A graph with all nodes of one operation and nothing else; each reads the same random rows."""

    def __init__(self, graph: Path, operation: str, threads: int) -> None:
        model = onnx.load(graph, load_external_data=False)
        shapes = {constant.name: constant.dims for constant in model.graph.initializer}
        nodes = [node for node in model.graph.node if node.op_type == operation]
        self._type, self._widths = FED[operation], dict[str, int]()
        for node in nodes:
            width = int(shapes[node.input[1]][0]) if node.input[1] else _qkv_width()
            node.input[0] = f"fed.{width}"
            self._widths[node.input[0]] = width
        _keep(model.graph, nodes)
        for name, width in self._widths.items():
            shape: list[str | int | None] = [1, "R", width]
            model.graph.input.append(helper.make_tensor_value_info(name, self._type, shape))
        self._last = nodes[-1].output[0]
        last = helper.make_tensor_value_info(self._last, TensorProto.FLOAT, None)
        model.graph.output.append(last)
        self._attends = any(value.name.startswith("past") for value in model.graph.input)
        path = graph.with_name(f"{operation}.onnx")
        onnx.save(model, path)
        providers = ["CPUExecutionProvider"]
        self._session = ort.InferenceSession(path, session_options(threads), providers=providers)

    def call(self, context: int, rows: int) -> Callable[[], object]:
        """A run of all of them for `rows` rows after `context` others."""
        binding, random = self._session.io_binding(), np.random.default_rng(0)
        dtype = helper.tensor_dtype_to_np_dtype(self._type)
        given = {
            name: random.normal(128 if dtype == np.uint8 else 0, 1, (1, rows, width)).astype(dtype)
            for name, width in self._widths.items()
        }
        if self._attends:
            total = context + rows
            given["attend.0"] = attention_bias(context, [False] * rows)
            given["last.0"] = np.array([total - 1], np.int32)
            given["total.0"] = np.array([total], np.int32)
            for name, value in OnnxKVCache(CARD.architecture, total).values.items():
                binding.bind_ortvalue_input(f"past.0.{name}", value)
                binding.bind_ortvalue_output(f"present.0.{name}", value)
        for name, values in given.items():
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(values))
        binding.bind_output(self._last)
        return lambda: self._session.run_with_iobinding(binding)


def _qkv_width() -> int:
    """The width of queries, keys and values together."""
    return sum(CARD.architecture.projections[part][0] for part in "qkv")


def _keep(graph: onnx.GraphProto, nodes: Sequence[onnx.NodeProto]) -> None:
    """Keep only these nodes of a graph, with their constants, inputs and outputs."""
    names = {name for node in nodes for name in (*node.input, *node.output)}
    kept = {
        field: [one for one in getattr(graph, field) if one.name in names]
        for field in ("initializer", "input", "output")
    }
    for field, values in {"node": nodes, **kept}.items():
        graph.ClearField(field)
        getattr(graph, field).extend(values)


def table(report: dict[str, Any]) -> str:
    """One line for each number of rows: the whole step and its parts."""
    lines = [
        "| rows | step | products | attention | adapters | the rest |",
        "|---|---|---|---|---|---|",
    ]
    for found in report["steps"]:
        step = Step(**found)
        parts = [
            step.products_ms,
            step.attention_ms,
            step.whole_ms - step.bare_ms,
            step.bare_ms - step.products_ms - step.attention_ms,
        ]
        shown = " | ".join(f"{ms:.1f}" for ms in (step.whole_ms, *parts))
        lines.append(f"| {step.rows} | {shown} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
