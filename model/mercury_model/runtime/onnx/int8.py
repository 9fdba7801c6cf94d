"""Prepares weights for 8-bit arithmetic: rotates away the outliers, then rounds.

A few coordinates of such networks are a hundred times larger than the others, and rounding to 256
levels loses the small ones. A change of basis keeps the network's output and spreads every vector
evenly over its coordinates (QuaRot, Ashkboos et al. 2024, arXiv:2404.00456). The weights of the
norms are merged into the matrices after them. Then the residual stream and the values of each head
are rotated, and, by one small product at run time, the input of the MLP's last matrix. All
activations then lie within a few times the root mean square of their row, so that one fixed grid
serves all rows, independent of the batch.

What is lost, mini against fp32 on code of the standard library: 0.005 nats of divergence on
average, 0.02 of the likeliest token's probability; the likeliest token is the same in 96 % of all
rows, and in 99.6 % of those where it has more than half. Rounded as they are, with one grid for all
rows of a chunk, the same weights lose 0.06 nats, and agree in 88 %.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mercury_model.spec.model_config import ModelConfig
from mercury_model.weights.checkpoint import Tensors

Matrix = NDArray[np.float32]

MAX_ROTATION = 64
"""The widest block that is rotated at run time: wider spreads better and costs more."""

ROWS_AT_A_TIME = 4096
"""Of a large matrix, when it is rotated: a second copy of the whole would double the memory."""

MAX_LEVEL = 127
"""Steps of the grid on either side of zero."""

_NORM_BEFORE = {"q": "attention_norm", "k": "attention_norm", "v": "attention_norm",
                "g": "mlp_norm", "u": "mlp_norm"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class QuantizedMatrix:
    """A matrix M for x·M: `values` [in, out] in int8 and `scales` [out]; M ≈ values · scales."""

    values: NDArray[np.int8]
    scales: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ActivationRange:
    """How far the grid of activations goes, in units of a row's root mean square.

    Gaussian coordinates stay within `stream`; those of attention stick out more, since heads
    differ in size; one single large entry of the MLP's hidden vector just fits into `hidden`.
    """

    stream: float
    heads: float
    hidden: float


def activation_range(config: ModelConfig) -> ActivationRange:
    """The grids of a network."""
    return ActivationRange(
        4.5, 7.0, max(4.5, float(np.sqrt(config.intermediate_size / rotation_block(config))))
    )


def rotation_block(config: ModelConfig) -> int:
    """The size of the blocks in which the MLP's hidden vector is rotated."""
    return min(config.intermediate_size & -config.intermediate_size, MAX_ROTATION)


def rotation(size: int) -> Matrix:
    """An orthogonal matrix [size, size] with entries of about size^-½ everywhere.

    A Hadamard matrix for the powers of two in `size` and a cosine transform for the rest, with
    signs that keep constant vectors from ending up in one coordinate.
    """
    power = size & -size
    rest = size // power
    signs = np.random.default_rng(size).choice([-1.0, 1.0], size)
    return np.asarray(np.kron(_hadamard(power), _cosines(rest)) * signs, np.float32)


def quantize_columns(matrix: Matrix) -> QuantizedMatrix:
    """Round a matrix [out, in] on a grid for each output, whose ends are its largest entry."""
    scales = np.maximum(matrix.max(axis=1), -matrix.min(axis=1)) / MAX_LEVEL
    scales[scales == 0] = 1
    values = np.empty(matrix.shape[::-1], np.int8)
    for start in range(0, len(matrix), ROWS_AT_A_TIME):
        rows = slice(start, start + ROWS_AT_A_TIME)
        values[:, rows] = np.rint(matrix[rows] / scales[rows, None]).T
    return QuantizedMatrix(values, scales.astype(np.float32))


def rotated_embedding(config: ModelConfig, embedding: Matrix) -> NDArray[np.float16]:
    """The embedding for a rotated stream, in fp16."""
    stream = rotation(config.hidden_size)
    result = np.empty(embedding.shape, np.float16)
    for start in range(0, len(embedding), ROWS_AT_A_TIME):
        rows = slice(start, start + ROWS_AT_A_TIME)
        result[rows] = embedding[rows] @ stream.T
    return result


def rotated_head(config: ModelConfig, head: Matrix, norm: Matrix) -> tuple[Matrix, Matrix]:
    """Norm and head for a rotated stream: the norm is ones. `head` is overwritten."""
    stream = rotation(config.hidden_size)
    for start in range(0, len(head), ROWS_AT_A_TIME):
        rows = slice(start, start + ROWS_AT_A_TIME)
        head[rows] = (head[rows] * norm) @ stream.T
    return np.ones(config.hidden_size, np.float32), head


def rotated_layer(config: ModelConfig, layer: Mapping[str, Matrix]) -> Tensors:
    """A layer for a rotated stream, with its tensors named as in `layers.{i}.…`; norms are ones.

    `d` expects the hidden vector rotated in blocks by `rotation(rotation_block(config))`. Adapters
    are rotated like their matrices: `mask_a` reads and `mask_b` writes rotated vectors.
    """
    stream, value = rotation(config.hidden_size), rotation(config.head_dim)
    hidden = rotation(rotation_block(config))

    def reading(part: str, matrix: Matrix) -> NDArray[Any]:
        if part in _NORM_BEFORE:
            return (matrix * layer[_NORM_BEFORE[part]]) @ stream.T
        block = value if part == "o" else hidden
        blocks = matrix.reshape(len(matrix), -1, len(block))
        return (blocks @ block.T).reshape(matrix.shape)

    def writing(part: str, matrix: Matrix) -> Matrix:
        if part in "od":
            return stream @ matrix
        if part == "v":
            heads = matrix.reshape(config.num_kv_heads, config.head_dim, -1)
            return (value @ heads).reshape(matrix.shape)
        return matrix

    result: dict[str, Matrix] = {}
    for name, values in layer.items():
        part, _, kind = name.partition(".")
        if part.endswith("norm"):
            result[name] = np.ones_like(values) if part in _NORM_BEFORE.values() else values
        elif kind == "mask_a":
            result[name] = reading(part, values)
        elif kind in ("mask_b", "bias"):
            result[name] = writing(part, values)
        else:
            result[name] = writing(part, reading(part, values))
    return result


def _hadamard(size: int) -> NDArray[np.float64]:
    """Sylvester's matrix, scaled to be orthogonal; `size` is a power of two."""
    matrix = np.ones((1, 1))
    while len(matrix) < size:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return np.asarray(matrix / np.sqrt(size))


def _cosines(size: int) -> NDArray[np.float64]:
    """The orthogonal cosine transform (DCT-II)."""
    index = np.arange(size)
    matrix = np.cos(np.pi * (index + 0.5) * index[:, None] / size) * np.sqrt(2 / size)
    matrix[0] /= np.sqrt(2)
    return np.asarray(matrix)
