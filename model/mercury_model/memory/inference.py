"""Bytes that filling gaps takes: weights, keys and values, and what one call needs besides.

Counted from the code that runs: `network` and `runtime.torch` on a CPU, `runtime.onnx` for ONNX
Runtime, the kernels' step on CUDA. What converting weights takes, once, is counted separately.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

from mercury_kernels.architecture import quantize_activations_from
from mercury_model.memory.footprint import MB, Footprint
from mercury_model.memory.shape import NetworkShape
from mercury_model.runtime.cuda.dtypes import KERNEL_DTYPES, KernelDtypes
from mercury_model.runtime.limits import CHUNK_TOKENS, MAX_POSITIONS, TOP_K, kv_capacity
from mercury_model.runtime.onnx.files import has_graph

Device: TypeAlias = Literal["cpu", "cuda"]

PAGE = 64
"""As in `mercury_kernels.paged`, which imports torch."""

LIBRARIES: Mapping[str, int] = MappingProxyType(
    {"onnx": 75 * MB, "torch": 250 * MB, "kernels": 500 * MB}
)
"""Of the process, by runtime: measured on Linux, but for CUDA, where it is what is usual."""


CONVERSION = 125 * MB
"""Of a first load, besides tensors: about 60 MB for the tokenizer and modules, and up to 64 MB that
glibc keeps of freed layers. Measured on Linux."""


@dataclass(frozen=True, slots=True)
class Precision:
    """How numbers are kept, in bytes each: those of the matrices; of embedding and norms; of what
    passes between operations; of keys and values. `scale`: of each row of a matrix, `kv_scale` of
    each head of a token.
    """

    name: str
    kv_name: str
    runtime: Literal["onnx", "torch", "kernels"]
    matrix: int
    other: int
    activation: int
    kv: int
    scale: int = 0
    kv_scale: int = 0


CPU = (
    Precision("int8", "fp32", "onnx", 1, 2, 4, 4, 4),
    Precision("bf16", "bf16", "torch", 2, 2, 2, 2),
    Precision("fp32", "fp32", "torch", 4, 4, 4, 4),
)
"""Best first: int8 is what the server runs, four times as fast and next to lossless."""


def on_cuda(kept: KernelDtypes) -> Precision:
    """What the kernels keep so, in bytes."""
    matrix, scale = (2, 0) if kept.weights == "bf16" else (1, 4)
    kv, kv_scale = (2, 0) if kept.contexts == "bf16" else (1, 4)
    return Precision(kept.weights, kept.contexts, "kernels", matrix, 2, 2, kv, scale, kv_scale)


def precisions(
    shape: NetworkShape, device: Device, rows: int, kept: Collection[KernelDtypes] = KERNEL_DTYPES
) -> tuple[Precision, ...]:
    """Those in which a network can run `rows` at a time, best first; on a GPU those of `kept`.

    Weights in fp8 take what int8 does and keep less of it: they are chosen instead where they are
    multiplied in fp8, twice as fast.
    """
    if device == "cuda":
        least = quantize_activations_from(shape.config.hidden_size, shape.gated_rank)
        fast = least is not None and rows >= least and any(k.weights == "fp8" for k in kept)
        unwanted = "int8" if fast else "fp8"
        return tuple(on_cuda(each) for each in kept if each.weights != unwanted)
    return CPU if has_graph(shape.config) else tuple(p for p in CPU if p.runtime != "onnx")


@dataclass(frozen=True, slots=True)
class InferenceLoad:
    """`batch` sequences of `tokens`, the last `block` of which are denoised, all in one call."""

    batch: int
    tokens: int
    block: int


def weight_bytes(shape: NetworkShape, precision: Precision) -> int:
    """The network's parameters. A tied head is there twice if matrices are narrower than the rest,
    or if fewer tokens are predicted than read. The rotary tables are in fp32.

    ONNX Runtime maps the embedding from its file and reads the few rows it needs: not counted.
    """
    c, p = shape.config, precision
    shapes = c.projections
    layer = sum(rows * (columns * p.matrix + p.scale) for rows, columns in shapes.values())
    layer += 2 * c.hidden_size * p.other
    if c.qkv_bias:
        layer += sum(shapes[part][0] for part in "qkv") * p.other
    if c.qk_norm:
        layer += 2 * c.head_dim * p.other
    embedding = c.vocab_size * c.hidden_size * p.other
    predicted = _predicted(shape, p)
    head = predicted * (c.hidden_size * p.matrix + p.scale)
    if c.tie_word_embeddings and p.matrix == p.other and predicted == c.vocab_size:
        head = 0
    total = (
        c.num_layers * (layer + _gated_bytes(shape, p)) + c.hidden_size * p.other + embedding + head
    )
    if p.runtime == "onnx":
        total -= embedding
    if p.runtime != "torch":
        total += MAX_POSITIONS * c.head_dim * 4
    return total


def first_load_bytes(shape: NetworkShape, precision: Precision) -> int:
    """The most that converting a base to a graph takes at a time, once.

    Tensors are dequantized one after the other, so the largest decide: the embedding or head in
    fp32 and a copy of it, or a layer before and after its rotation. Adapters are in memory
    throughout, in fp32. The rank of plain adapters is not known here; that of the gated ones is
    counted for both.
    """
    if not shape.merged or precision.runtime != "onnx":
        return 0
    c = shape.config
    sizes = c.projections.values()
    ends = 2 * c.vocab_size * c.hidden_size * 4
    layer = 3 * sum(rows * columns for rows, columns in sizes) * 4
    pairs = sum(shape.gated_rank * (rows + columns) for rows, columns in sizes)
    return max(ends, layer) + 2 * c.num_layers * pairs * 4 + CONVERSION


def _gated_bytes(shape: NetworkShape, p: Precision) -> int:
    """The adapters at masks, of one layer. Matrices that read the same rows share one inner half,
    but in torch. ONNX Runtime has the outer halves in fp32, the kernels both as the rest.
    """
    rank, sizes = shape.gated_rank, shape.config.projections
    outer = sum(rank * out for out, _ in sizes.values())
    if p.runtime == "torch":
        return (outer + sum(rank * width for _, width in sizes.values())) * p.other
    inner = sum(rank * sizes[part][1] for part in "qogd")
    if p.runtime == "kernels":
        return (outer + inner) * p.other
    return inner * p.matrix + outer * 4


def kv_bytes(shape: NetworkShape, precision: Precision, load: InferenceLoad) -> int:
    """Keys and values of the whole batch, with the room to grow that contexts have."""
    c = shape.config
    cuda = precision.runtime == "kernels"
    tokens = -(-load.tokens // PAGE) * PAGE if cuda else kv_capacity(load.tokens)
    each = 2 * c.num_layers * c.num_kv_heads * (c.head_dim * precision.kv + precision.kv_scale)
    return load.batch * tokens * each


def workspace_bytes(shape: NetworkShape, precision: Precision, load: InferenceLoad) -> int:
    """The most that one call needs at a time: in a layer's MLP, in its attention, or at the head.

    A call reads a chunk of a context and predicts one row, or denoises the whole batch of blocks.
    """
    c, e = shape.config, precision.activation
    chunk = min(CHUNK_TOKENS, load.tokens)
    rows = load.batch * load.block
    most = max(chunk, rows)
    queries = c.num_heads * c.head_dim
    wide = 4 if shape.gated_rank else 3
    mlp = most * (wide * c.intermediate_size + 3 * c.hidden_size + 2 * queries) * e
    mask = chunk * load.tokens * (1 + e)
    attention = most * (3 * c.hidden_size + 4 * queries) * e + mask
    return max(mlp, attention, _head_bytes(shape, precision, rows))


def _predicted(shape: NetworkShape, p: Precision) -> int:
    """How many rows the head has: but in torch those alone that are ever predicted."""
    if shape.vocabulary and p.runtime != "torch":
        return shape.vocabulary
    return shape.config.vocab_size


def _head_bytes(shape: NetworkShape, precision: Precision, rows: int) -> int:
    """Log-probabilities, probabilities and their product, all in fp32; the kernels' head keeps no
    logits, only the likeliest of each tile of the vocabulary.
    """
    c, predicted = shape.config, _predicted(shape, precision)
    if precision.runtime == "kernels":
        tiles = -(-predicted // 128)
        return rows * (tiles * (TOP_K + 1) * 8 + 2 * c.hidden_size * precision.activation)
    return rows * (3 * predicted * 4 + 2 * c.hidden_size * precision.activation)


def footprint(shape: NetworkShape, precision: Precision, load: InferenceLoad) -> Footprint:
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
