"""How matrices are multiplied in an ONNX graph: in single precision, or in whole numbers.

Nodes and constants are collected here and put together in `graph`. Nothing runs.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, BinaryIO, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mercury_model.runtime.onnx import int8
from mercury_model.spec.model_config import ModelConfig

PAGE_BYTES = 4096
INLINE_BYTES = 1024
CONTRIB = "com.microsoft"

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


class Nodes:
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
        domain = CONTRIB if op in _CONTRIB_OPS else ""
        node = helper.make_node(op, list(inputs), names, name, domain=domain, **attributes)
        self.nodes.append(node)
        return names[0]


@dataclass(frozen=True, slots=True)
class Rows:
    """What matrices are multiplied by; `grid` is the constant with its scale, if it is rounded."""

    name: str
    grid: str = ""


def predicted_rows(tensors: Tensors) -> NDArray[np.float32]:
    """The rows of the head for the tokens that are predicted; the caller may write to them."""
    head = tensors["head" if "head" in tensors else "embedding"]
    vocabulary = tensors.get("vocabulary")
    return head.copy() if vocabulary is None else head[vocabulary]


class Arithmetic(Protocol):
    """How rows are normed and multiplied."""

    def embedding(self, tensors: Tensors) -> NDArray[np.float16]:
        """The table of the tokens that are read."""

    def head(self, tensors: Tensors) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The last norm, and the head with a row for each token that is predicted."""

    def layer(self, tensors: Tensors) -> Tensors:
        """The tensors of a layer, as this arithmetic wants them."""

    def normed(self, x: str, norm: str) -> Rows:
        """x / rms(x) · norm."""

    def product(self, rows: Rows, name: str, matrix: NDArray[np.float32], bias: str) -> str:
        """rows · matrixᵀ + bias; `name` is for the constants, `bias` may be empty."""

    def added(self, x: str, y: str, part: str, product: Callable[[Rows], str]) -> str:
        """x + product(y), where `part` is the matrix in the product: "o" or "d"."""


class Fp32:
    """Single precision."""

    def __init__(self, nodes: Nodes, config: ModelConfig) -> None:
        self._nodes = nodes
        self._eps = config.rms_norm_eps

    def embedding(self, tensors: Tensors) -> NDArray[np.float16]:
        """See `Arithmetic`."""
        return tensors["embedding"].astype(np.float16)

    def head(self, tensors: Tensors) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See `Arithmetic`; as they are."""
        return tensors["norm"], predicted_rows(tensors)

    def layer(self, tensors: Tensors) -> Tensors:
        """See `Arithmetic`; as they are."""
        return tensors

    def normed(self, x: str, norm: str) -> Rows:
        """See `Arithmetic`."""
        return Rows(self._nodes.add("SimplifiedLayerNormalization", [x, norm], epsilon=self._eps))

    def product(self, rows: Rows, name: str, matrix: NDArray[np.float32], bias: str) -> str:
        """See `Arithmetic`."""
        y = self._nodes.add("MatMul", [rows.name, self._nodes.constant(name, matrix.T)])
        return self._nodes.add("Add", [y, bias]) if bias else y

    def added(self, x: str, y: str, part: str, product: Callable[[Rows], str]) -> str:
        """See `Arithmetic`."""
        return self._nodes.add("Add", [x, product(Rows(y))])


class Int8:
    """Both sides rounded to 8 bits: a fixed grid for activations, one for each output of a matrix.

    Rows are brought to a root mean square of one before they are rounded, and back after the
    product. Nothing a row gives depends on the rows beside it: the sums are of whole numbers.
    """

    def __init__(self, nodes: Nodes, config: ModelConfig, precision: Precision) -> None:
        self._nodes = nodes
        self._config = config
        self._reach = int8.activation_range(config)
        self._unsigned = precision == Precision.INT8_UNSIGNED
        self._middle = nodes.constant("middle", np.array(128, np.uint8))

    def embedding(self, tensors: Tensors) -> NDArray[np.float16]:
        """See `Arithmetic`."""
        return int8.rotated_embedding(self._config, tensors["embedding"])

    def head(self, tensors: Tensors) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See `Arithmetic`."""
        return int8.rotated_head(self._config, predicted_rows(tensors), tensors["norm"])

    def layer(self, tensors: Tensors) -> Tensors:
        """See `Arithmetic`."""
        return int8.rotated_layer(self._config, tensors)

    def normed(self, x: str, norm: str) -> Rows:
        """See `Arithmetic`."""
        eps = self._config.rms_norm_eps
        y = self._nodes.add("SimplifiedLayerNormalization", [x, norm], epsilon=eps)
        return self._rounded(y, "stream", self._reach.stream)

    def product(self, rows: Rows, name: str, matrix: NDArray[np.float32], bias: str) -> str:
        """See `Arithmetic`."""
        rounded = int8.quantize_columns(matrix)
        values: NDArray[Any] = rounded.values
        if self._unsigned:
            values = (values.astype(np.int16) + 128).astype(np.uint8)
        scales = self._nodes.constant(f"{name}.scales", rounded.scales)
        zero = self._middle if self._unsigned else ""
        inputs = [rows.name, self._nodes.constant(name, values), rows.grid, scales]
        return self._nodes.add("MatMulIntegerToFloat", [*inputs, self._middle, zero, bias])

    def added(self, x: str, y: str, part: str, product: Callable[[Rows], str]) -> str:
        """See `Arithmetic`."""
        nodes, config = self._nodes, self._config
        size = config.intermediate_size if part == "d" else config.num_heads * config.head_dim
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

    def _turned(self, x: str, size: int) -> Rows:
        nodes, block = self._nodes, int8.rotation_block(self._config)
        blocks = nodes.constant("blocks", np.array([1, -1, size // block, block]))
        whole = nodes.constant("whole", np.array([1, -1, size]))
        rotation = nodes.constant("rotation", int8.rotation(block).T)
        y = nodes.add("MatMul", [nodes.add("Reshape", [x, blocks]), rotation])
        rows = self._rounded(y, "hidden", self._reach.hidden)
        return Rows(nodes.add("Reshape", [rows.name, whole]), rows.grid)

    def _rounded(self, x: str, name: str, reach: float) -> Rows:
        grid = self._nodes.constant(f"grid.{name}", np.array(reach / int8.MAX_LEVEL, np.float32))
        return Rows(self._nodes.add("QuantizeLinear", [x, grid, self._middle]), grid)
