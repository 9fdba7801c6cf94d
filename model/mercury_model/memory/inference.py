"""Bytes that filling gaps takes: weights, keys and values, and what one call needs besides.

Counted from the code that runs: `transformer` and `runtime.torch` on a CPU, `runtime.graph` for
ONNX Runtime, the kernels' step on CUDA. What making weights ready takes, once, is counted apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, TypeAlias

from mercury_model.memory.footprint import MB, Footprint
from mercury_model.memory.shape import Shape
from mercury_model.runtime import CHUNK_TOKENS, POSITIONS, TOP_K, has_graph, room

Device: TypeAlias = Literal["cpu", "cuda"]

PAGE = 64
"""As in `mercury_kernels.paged`, which imports torch."""

LIBRARIES: Mapping[str, int] = MappingProxyType(
    {"onnx": 75 * MB, "torch": 250 * MB, "kernels": 500 * MB}
)
"""Of the process, by runtime: measured on Linux, but for CUDA, where it is what is usual."""


@dataclass(frozen=True, slots=True)
class Precision:
    """How numbers are kept, in bytes each: those of the matrices; of embedding and norms; of what
    passes between operations; of keys and values. `scale`: of each row of a matrix.
    """

    name: str
    kv_name: str
    runtime: Literal["onnx", "torch", "kernels"]
    matrix: int
    other: int
    activation: int
    kv: int
    scale: int = 0


CPU = (
    Precision("int8", "fp32", "onnx", 1, 2, 4, 4, 4),
    Precision("bf16", "bf16", "torch", 2, 2, 2, 2),
    Precision("fp32", "fp32", "torch", 4, 4, 4, 4),
)
"""Best first: int8 is what the server runs, four times as fast and next to lossless."""

CUDA = tuple(
    Precision(name, kv_name, "kernels", matrix, 2, 2, kv, scale)
    for name, matrix, scale in (("bf16", 2, 0), ("int8", 1, 4))
    for kv_name, kv in (("bf16", 2), ("fp8", 1))
)
"""Best first: the most exact weights, then the most exact keys and values. Weights in fp8 take what
int8 does and keep less of it."""


def precisions(shape: Shape, device: Device) -> tuple[Precision, ...]:
    """Those in which a network can run, best first."""
    if device == "cuda":
        return CUDA
    return CPU if has_graph(shape.config) else tuple(p for p in CPU if p.runtime != "onnx")


@dataclass(frozen=True, slots=True)
class Load:
    """`batch` sequences of `tokens`, the last `block` of which are denoised, all in one call."""

    batch: int
    tokens: int
    block: int


def weight_bytes(shape: Shape, precision: Precision) -> int:
    """The network's parameters. A tied head is there twice if matrices are narrower than the rest.

    ONNX Runtime maps the embedding from its file and reads the few rows it needs: not counted.
    """
    c, p = shape.config, precision
    shapes = c.projections
    layer = sum(rows * (columns * p.matrix + p.scale) for rows, columns in shapes.values())
    layer += 2 * c.width * p.other
    if c.qkv_bias:
        layer += sum(shapes[part][0] for part in "qkv") * p.other
    if c.qk_norm:
        layer += 2 * c.head_width * p.other
    embedding = c.vocab_size * c.width * p.other
    head = _predicted(shape, p) * (c.width * p.matrix + p.scale)
    if c.tied_head and p.matrix == p.other:
        head = 0
    total = c.layers * (layer + _gated_bytes(shape, p)) + c.width * p.other + embedding + head
    if p.runtime == "onnx":
        total += POSITIONS * c.head_width * 4 - embedding
    return total


def first_load_bytes(shape: Shape, precision: Precision) -> int:
    """The base, the weights merged from it, and what is made of them for a graph: each in fp32."""
    if not shape.merged or precision.runtime != "onnx":
        return 0
    return 3 * weight_bytes(replace(shape, gated_rank=0), CPU[-1])


def _gated_bytes(shape: Shape, p: Precision) -> int:
    """The adapters at masks, of one layer. ONNX Runtime has their outer halves in fp32, and one
    inner half for the matrices that read the same rows.
    """
    rank, sizes = shape.gated_rank, shape.config.projections
    if p.runtime != "onnx":
        return sum(rank * (out + width) for out, width in sizes.values()) * p.other
    inner = sum(rank * sizes[part][1] for part in "qogd") * p.matrix
    return inner + sum(out * rank for out, _ in sizes.values()) * 4


def kv_bytes(shape: Shape, precision: Precision, load: Load) -> int:
    """Keys and values of the whole batch, with the room to grow that contexts have."""
    c = shape.config
    cuda = precision.runtime == "kernels"
    tokens = -(-load.tokens // PAGE) * PAGE if cuda else room(load.tokens)
    each = c.kv_bytes_per_token // 4 * precision.kv
    return load.batch * tokens * each


def workspace_bytes(shape: Shape, precision: Precision, load: Load) -> int:
    """The most that one call needs at a time: in a layer's MLP, in its attention, or at the head.

    A call reads a chunk of a context and predicts one row, or denoises the whole batch of blocks.
    """
    c, e = shape.config, precision.activation
    chunk = min(CHUNK_TOKENS, load.tokens)
    rows = load.batch * load.block
    most = max(chunk, rows)
    queries = c.heads * c.head_width
    wide = 4 if shape.gated_rank else 3
    mlp = most * (wide * c.mlp_width + 3 * c.width + 2 * queries) * e
    mask = chunk * load.tokens * (1 + e)
    attention = most * (3 * c.width + 4 * queries) * e + mask
    return max(mlp, attention, _head_bytes(shape, precision, rows))


def _predicted(shape: Shape, p: Precision) -> int:
    """How many rows the head has: a graph has those of the vocabulary alone."""
    return shape.vocabulary if shape.vocabulary and p.runtime == "onnx" else shape.config.vocab_size


def _head_bytes(shape: Shape, precision: Precision, rows: int) -> int:
    """Log-probabilities, probabilities and their product, all in fp32; the kernels' head keeps no
    logits, only the likeliest of each tile of the vocabulary.
    """
    c, predicted = shape.config, _predicted(shape, precision)
    if precision.runtime == "kernels":
        tiles = -(-predicted // 128)
        return rows * (tiles * (TOP_K + 1) * 8 + 2 * c.width * precision.activation)
    return rows * (3 * predicted * 4 + 2 * c.width * precision.activation)


def footprint(shape: Shape, precision: Precision, load: Load) -> Footprint:
    """Everything that a load takes in a precision."""
    return Footprint(
        LIBRARIES[precision.runtime],
        MappingProxyType(
            {
                "weights": weight_bytes(shape, precision),
                "kv": kv_bytes(shape, precision, load),
                "workspace": workspace_bytes(shape, precision, load),
            }
        ),
    )
