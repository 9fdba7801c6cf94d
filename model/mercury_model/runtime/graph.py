"""The denoiser as an ONNX file, written from a checkpoint's tensors. No torch, and nothing runs.

One graph serves extending, verifying and denoising: what each row sees is an input. It reads keys
and values from buffers [1, G, capacity, W], writes those of its rows in place behind the context,
and answers with the likeliest tokens instead of logits. R rows, S rows and context together,
P rows that are predicted, K candidates, G key-value heads of width W.

inputs    ids [1, R] · predicted [P] (which rows) · attend [1, 1, R, S] (0, or very negative) ·
          last [1] = S - 1 · total [1] = S · past.{layer}.{k|v}
outputs   top [1, P, K] · probs [1, P, K] · entropy [1, P] · present.{layer}.{k|v}
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mercury_model.config import ModelConfig
from mercury_model.runtime import TOP_K, int8
from mercury_model.runtime.onnx import POSITIONS

OPSET = 21
IR_VERSION = 10
PAGE_BYTES = 4096
INLINE_BYTES = 1024

_CONTRIB = "com.microsoft"
_CONTRIB_OPS = {"GatedAdd", "GroupQueryAttention", "MatMulIntegerToFloat", "QuickGelu"}

Tensors = Mapping[str, NDArray[np.float32]]


class Precision(StrEnum):
    """How matrices are multiplied.

    INT8: unsigned activations by signed weights, exact on chips with VNNI or the like of it.
    INT8_UNSIGNED: by unsigned weights, exact on all chips, slower where the other is exact.
    """

    INT8 = "int8"
    INT8_UNSIGNED = "int8-unsigned"
    FP32 = "fp32"


def weights_path(path: Path) -> Path:
    """Where the large constants of the graph at `path` are."""
    return path.with_suffix(".weights")


def write(
    path: Path, config: ModelConfig, tensors: Tensors, precision: Precision, mask_id: int
) -> None:
    """Write `path` and `weights_path(path)`, each as a whole or not at all.

    `tensors` are named as in `checkpoint`. Gated adapters act on rows with `mask_id`.
    """
    weights = weights_path(path)
    half_weights, half = (file.with_name(f".{file.name}.{os.getpid()}") for file in (weights, path))
    try:
        with half_weights.open("wb") as file:
            nodes = _Nodes(file, weights.name)
            model = _Builder(nodes, config, tensors, precision).build(mask_id)
        half.write_bytes(model.SerializeToString())
        half_weights.replace(weights)
        half.replace(path)
    finally:
        half_weights.unlink(missing_ok=True)
        half.unlink(missing_ok=True)


class _Nodes:
    """Collects nodes and constants; large constants go to `file`, which is mapped when loaded."""

    def __init__(self, file: BinaryIO, location: str) -> None:
        self._file = file
        self._location = location
        self._names: set[str] = set()
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[TensorProto] = []

    def constant(self, name: str, values: NDArray[Any]) -> str:
        """A constant called `name`, added unless it is there already."""
        if name not in self._names:
            self._names.add(name)
            values = np.ascontiguousarray(values)
            large = values.nbytes >= INLINE_BYTES
            self.constants.append(
                self._external(name, values) if large else numpy_helper.from_array(values, name)
            )
        return name

    def _external(self, name: str, values: NDArray[Any]) -> TensorProto:
        self._file.write(b"\0" * (-self._file.tell() % PAGE_BYTES))
        tensor = TensorProto(
            name=name,
            dims=values.shape,
            data_type=helper.np_dtype_to_tensor_dtype(values.dtype),
            data_location=TensorProto.EXTERNAL,
        )
        place = {"location": self._location, "offset": self._file.tell(), "length": values.nbytes}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        self._file.write(values.data)
        return tensor

    def add(
        self, op: str, inputs: Sequence[str], outputs: Sequence[str] = (), **attributes: Any
    ) -> str:
        """A node; returns the name of its first output."""
        name = f"{op}.{len(self.nodes)}"
        names = list(outputs) or [name]
        domain = _CONTRIB if op in _CONTRIB_OPS else ""
        node = helper.make_node(op, list(inputs), names, name, domain=domain, **attributes)
        self.nodes.append(node)
        return names[0]


@dataclass(frozen=True, slots=True)
class _Rows:
    """What matrices are multiplied by; `grid` is the constant with its scale, if it is rounded."""

    name: str
    grid: str = ""


class _Arithmetic(Protocol):
    """How rows are normed and multiplied."""

    def ends(self, tensors: Tensors) -> Tensors:
        """`embedding`, `norm` and `head`, as this arithmetic wants them."""

    def layer(self, tensors: Tensors) -> Tensors:
        """The tensors of a layer, as this arithmetic wants them."""

    def normed(self, x: str, norm: str) -> _Rows:
        """x / rms(x) · norm."""

    def product(self, rows: _Rows, name: str, matrix: NDArray[np.float32], bias: str) -> str:
        """rows · matrixᵀ + bias; `name` is for the constants, `bias` may be empty."""

    def added(self, x: str, y: str, part: str, product: Callable[[_Rows], str]) -> str:
        """x + product(y), where `part` is the matrix in the product: "o" or "d"."""


class _Fp32:
    """Single precision."""

    def __init__(self, nodes: _Nodes, config: ModelConfig) -> None:
        self._nodes = nodes
        self._eps = config.norm_eps

    def ends(self, tensors: Tensors) -> Tensors:
        """See `_Arithmetic`; as they are."""
        return {"head": tensors["embedding"], **tensors}

    def layer(self, tensors: Tensors) -> Tensors:
        """See `_Arithmetic`; as they are."""
        return tensors

    def normed(self, x: str, norm: str) -> _Rows:
        """See `_Arithmetic`."""
        return _Rows(self._nodes.add("SimplifiedLayerNormalization", [x, norm], epsilon=self._eps))

    def product(self, rows: _Rows, name: str, matrix: NDArray[np.float32], bias: str) -> str:
        """See `_Arithmetic`."""
        y = self._nodes.add("MatMul", [rows.name, self._nodes.constant(name, matrix.T)])
        return self._nodes.add("Add", [y, bias]) if bias else y

    def added(self, x: str, y: str, part: str, product: Callable[[_Rows], str]) -> str:
        """See `_Arithmetic`."""
        return self._nodes.add("Add", [x, product(_Rows(y))])


class _Int8:
    """Both sides rounded to 8 bits: a fixed grid for activations, one for each output of a matrix.

    Rows are brought to a root mean square of one before they are rounded, and back after the
    product. Nothing a row gives depends on the rows beside it: the sums are of whole numbers.
    """

    def __init__(self, nodes: _Nodes, config: ModelConfig, precision: Precision) -> None:
        self._nodes = nodes
        self._config = config
        self._reach = int8.reach(config)
        self._unsigned = precision == Precision.INT8_UNSIGNED
        self._middle = nodes.constant("middle", np.array(128, np.uint8))

    def ends(self, tensors: Tensors) -> Tensors:
        """See `_Arithmetic`."""
        return int8.turned_ends(self._config, tensors)

    def layer(self, tensors: Tensors) -> Tensors:
        """See `_Arithmetic`."""
        return int8.turned_layer(self._config, tensors)

    def normed(self, x: str, norm: str) -> _Rows:
        """See `_Arithmetic`."""
        eps = self._config.norm_eps
        y = self._nodes.add("SimplifiedLayerNormalization", [x, norm], epsilon=eps)
        return self._rounded(y, "stream", self._reach.stream)

    def product(self, rows: _Rows, name: str, matrix: NDArray[np.float32], bias: str) -> str:
        """See `_Arithmetic`."""
        rounded = int8.round_columns(matrix)
        values: NDArray[Any] = rounded.values
        if self._unsigned:
            values = (values.astype(np.int16) + 128).astype(np.uint8)
        scales = self._nodes.constant(f"{name}.scales", rounded.scales)
        zero = self._middle if self._unsigned else ""
        inputs = [rows.name, self._nodes.constant(name, values), rows.grid, scales]
        return self._nodes.add("MatMulIntegerToFloat", [*inputs, self._middle, zero, bias])

    def added(self, x: str, y: str, part: str, product: Callable[[_Rows], str]) -> str:
        """See `_Arithmetic`."""
        nodes, config = self._nodes, self._config
        size = config.mlp_width if part == "d" else config.heads * config.head_width
        ones = nodes.constant(f"ones.{size}", np.ones(size, np.float32))
        inverse = f"{y}.inverse"
        even = nodes.add(
            "SimplifiedLayerNormalization", [y, ones], [f"{y}.even", inverse], epsilon=1e-12
        )
        if part == "d":
            rows = self._turned(even, size)
        else:
            rows = self._rounded(even, "heads", self._reach.heads)
        return nodes.add("GatedAdd", [x, product(rows), nodes.add("Reciprocal", [inverse])])

    def _turned(self, x: str, size: int) -> _Rows:
        nodes, block = self._nodes, int8.hidden_block(self._config)
        blocks = nodes.constant("blocks", np.array([1, -1, size // block, block]))
        whole = nodes.constant("whole", np.array([1, -1, size]))
        turn = nodes.constant("turn", int8.turn(block).T)
        y = nodes.add("MatMul", [nodes.add("Reshape", [x, blocks]), turn])
        rows = self._rounded(y, "hidden", self._reach.hidden)
        return _Rows(nodes.add("Reshape", [rows.name, whole]), rows.grid)

    def _rounded(self, x: str, name: str, reach: float) -> _Rows:
        grid = self._nodes.constant(f"grid.{name}", np.array(reach / int8.LEVELS, np.float32))
        return _Rows(self._nodes.add("QuantizeLinear", [x, grid, self._middle]), grid)


class _Builder:
    """Builds the graph of one network, one layer's tensors at a time."""

    def __init__(
        self, nodes: _Nodes, config: ModelConfig, tensors: Tensors, precision: Precision
    ) -> None:
        self._nodes = nodes
        self._config = config
        self._tensors = tensors
        self._arithmetic: _Arithmetic = (
            _Fp32(nodes, config) if precision == Precision.FP32 else _Int8(nodes, config, precision)
        )

    def build(self, mask_id: int) -> onnx.ModelProto:
        """The whole model."""
        nodes, config = self._nodes, self._config
        ends = self._arithmetic.ends(self._tensors)
        table = nodes.constant("embedding", ends["embedding"].astype(np.float16))
        x = nodes.add("Cast", [nodes.add("Gather", [table, "ids"])], to=TensorProto.FLOAT)
        gate = self._gate(mask_id)
        for index in range(config.layers):
            x = self._layer(index, x, gate)
        rows = self._arithmetic.normed(x, nodes.constant("norm", ends["norm"]))
        self._predict(self._arithmetic.product(rows, "head", ends["head"], ""))
        graph = helper.make_graph(
            nodes.nodes, "denoiser", *_interface(config), initializer=nodes.constants
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(_CONTRIB, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)

    def _gate(self, mask_id: int) -> str:
        """[1, R, 1], 1 where a row is a mask; empty if there are no gated adapters."""
        if "layers.0.q.mask_a" not in self._tensors:
            return ""
        nodes = self._nodes
        masked = nodes.add("Equal", ["ids", nodes.constant("mask", np.array(mask_id))])
        gate = nodes.add("Cast", [masked], to=TensorProto.FLOAT)
        return nodes.add("Unsqueeze", [gate, nodes.constant("last_axis", np.array([-1]))])

    def _layer(self, index: int, x: str, gate: str) -> str:
        nodes, start = self._nodes, f"layers.{index}."
        layer = self._arithmetic.layer(
            {
                name.removeprefix(start): values
                for name, values in self._tensors.items()
                if name.startswith(start)
            }
        )
        norms = [
            nodes.constant(start + norm, layer[norm]) for norm in ("attention_norm", "mlp_norm")
        ]

        def product(rows: _Rows, *parts: str) -> str:
            return self._product(start, layer, rows, parts, gate)

        rows = self._arithmetic.normed(x, norms[0])
        y = self._attention(index, layer, product(rows, "q", "k", "v"))
        if index == self._config.layers - 1:  # what is not predicted goes no further
            x, y = (nodes.add("Gather", [rows, "predicted"], axis=1) for rows in (x, y))
            gate = nodes.add("Gather", [gate, "predicted"], axis=1) if gate else ""
        x = self._arithmetic.added(x, y, "o", lambda rows: product(rows, "o"))
        rows = self._arithmetic.normed(x, norms[1])
        opened = nodes.add("QuickGelu", [product(rows, "g")], alpha=1.0)
        hidden = nodes.add("Mul", [opened, product(rows, "u")])
        return self._arithmetic.added(x, hidden, "d", lambda rows: product(rows, "d"))

    def _product(
        self, start: str, layer: Tensors, rows: _Rows, parts: Sequence[str], gate: str
    ) -> str:
        """rows times the matrices of `parts`, side by side, with biases and gated adapters."""
        nodes, name = self._nodes, start + "".join(parts)
        bias = ""
        if f"{parts[0]}.bias" in layer:
            whole = np.concatenate([layer[f"{part}.bias"] for part in parts])
            bias = nodes.constant(f"{name}.bias", whole)
        matrix = np.concatenate([layer[part] for part in parts])
        y = self._arithmetic.product(rows, name, matrix, bias)
        if not gate:
            return y
        down = np.concatenate([layer[f"{part}.mask_a"] for part in parts])
        narrow = self._arithmetic.product(rows, f"{name}.mask_a", down, "")
        opened = nodes.add("Mul", [narrow, gate])
        up = nodes.constant(
            f"{name}.mask_b", _diagonal([layer[f"{part}.mask_b"] for part in parts]).T
        )
        return nodes.add("Add", [y, nodes.add("MatMul", [opened, up])])

    def _attention(self, index: int, layer: Tensors, qkv: str) -> str:
        nodes, config = self._nodes, self._config
        half = np.arange(0, config.head_width, 2) / config.head_width
        angles = np.outer(np.arange(POSITIONS), config.rope_theta**-half)
        past, present = ([f"{when}.{index}.{x}" for x in "kv"] for when in ("past", "present"))
        inputs = [qkv, "", "", *past, "last", "total"]
        inputs += [
            nodes.constant("cos", np.cos(angles).astype(np.float32)),
            nodes.constant("sin", np.sin(angles).astype(np.float32)),
        ]
        inputs += ["", "attend"]
        options: dict[str, Any] = {}
        if config.qk_norm:
            inputs += ["", "", ""]
            inputs += [
                nodes.constant(f"layers.{index}.{norm}", layer[norm])
                for norm in ("q_norm", "k_norm")
            ]
            options["qk_norm_epsilon"] = config.norm_eps
        return nodes.add(
            "GroupQueryAttention",
            inputs,
            [f"mixed.{index}", *present],
            num_heads=config.heads,
            kv_num_heads=config.kv_heads,
            do_rotary=1,
            causal=0,
            **options,
        )

    def _predict(self, logits: str) -> None:
        """The K likeliest tokens, their probabilities, and the entropy Σ -p log p of all."""
        nodes = self._nodes
        count = nodes.constant("count", np.array([min(TOP_K, self._config.vocab_size)]))
        axis = nodes.constant("last_axis", np.array([-1]))
        largest = nodes.add("TopK", [logits, count], ["largest", "top"])
        chances = nodes.add("Softmax", [logits], axis=-1)
        probs = nodes.add("GatherElements", [chances, "top"], ["probs"], axis=-1)
        peak = nodes.add("ReduceMax", [largest, axis], keepdims=0)
        share = nodes.add("Log", [nodes.add("ReduceMax", [probs, axis], keepdims=0)])
        total = nodes.add("Sub", [peak, share])  # log Σ exp(logits)
        mean = nodes.add("ReduceSum", [nodes.add("Mul", [chances, logits]), axis], keepdims=0)
        nodes.add("Relu", [nodes.add("Sub", [total, mean])], ["entropy"])


def _diagonal(blocks: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """A matrix with `blocks` along its diagonal and zeros elsewhere."""
    rows, columns = np.sum([block.shape for block in blocks], axis=0)
    result = np.zeros((rows, columns), np.float32)
    row = column = 0
    for block in blocks:
        result[row : row + block.shape[0], column : column + block.shape[1]] = block
        row, column = row + block.shape[0], column + block.shape[1]
    return result


def _interface(
    config: ModelConfig,
) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    """Inputs and outputs, as the module's docstring lists them."""
    value, k = helper.make_tensor_value_info, min(TOP_K, config.vocab_size)
    inputs = [
        value("ids", TensorProto.INT64, [1, "R"]),
        value("predicted", TensorProto.INT64, ["P"]),
        value("attend", TensorProto.FLOAT, [1, 1, "R", "S"]),
        value("last", TensorProto.INT32, [1]),
        value("total", TensorProto.INT32, [1]),
    ]
    outputs = [
        value("top", TensorProto.INT64, [1, "P", k]),
        value("probs", TensorProto.FLOAT, [1, "P", k]),
        value("entropy", TensorProto.FLOAT, [1, "P"]),
    ]
    shape: list[str | int | None] = [1, config.kv_heads, "capacity", config.head_width]
    for layer in range(config.layers):
        for part in "kv":
            inputs.append(value(f"past.{layer}.{part}", TensorProto.FLOAT, shape))
            outputs.append(value(f"present.{layer}.{part}", TensorProto.FLOAT, shape))
    return inputs, outputs
