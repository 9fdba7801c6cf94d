"""How a matrix product is tiled.

Every product is computed as W_tile · Xᵀ: the features are the rows (M ≥ 64) of the tensor-core
instruction of a warp group (wgmma), and the few tokens of a block are its columns. With tokens as
rows, 16 tokens would use a quarter of the instruction.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

PROGRAMS = 132
"""The SMs of an H100 or H200. Fewer programs do not use the full memory bandwidth."""

MIN_STEPS = 2
"""The minimum of steps over the depth in a split, so that its loads can be pipelined."""

MAX_SPLITS = 8

QUERY_ROWS = 64
"""The queries of an attention program: the M of a tensor-core instruction (wgmma)."""

MANY_QUERIES = 512
"""With more queries for each key head, a program takes twice as many, so that each key is read half
as often."""

MAX_CONTEXT_SPLITS = 16


@dataclass(frozen=True, slots=True)
class Tile:
    """The tile of one program: `tokens` columns and `features` rows, `depth` elements in a step."""

    tokens: int
    features: int
    depth: int
    warps: int
    stages: int


def token_tile(tokens: int) -> int:
    """The smallest tile for this number of tokens, at most 128."""
    return next((size for size in (16, 32, 64) if tokens <= size), 128)


def step_depth(values: torch.dtype, rows: torch.dtype, tokens: int) -> int:
    """The depth of a step: 128 bytes of each row if the registers suffice.

    Quantized weights are converted in registers unless the rows are quantized too. From 64 tokens
    on, the converted weights and the accumulators would spill.
    """
    widened = values.itemsize < rows.itemsize
    return 128 if values.itemsize == 1 and not (widened and tokens >= 64) else 64


def tile_for(tokens: int, values: torch.dtype, rows: torch.dtype) -> Tile:
    """The tile of a product. Few tokens get fewer features in a tile, for more programs."""
    size = token_tile(tokens)
    depth = step_depth(values, rows, size)
    return Tile(size, 128, depth, 8, 3) if size == 128 else Tile(size, 64, depth, 4, 4)


def with_adapter(tile: Tile) -> Tile:
    """The tile with an adapter, whose inner product takes the shared memory of one stage."""
    return replace(tile, stages=3) if tile.tokens < 128 else replace(tile, stages=2)


def splits(tokens: int, features: int, depth: int, tile: Tile) -> int:
    """The number of splits of the depth (split-K): a power of two that keeps all SMs busy."""
    programs = -(-tokens // tile.tokens) * -(-features // tile.features)
    count = 1
    while (
        count < MAX_SPLITS
        and programs * count < PROGRAMS
        and depth >= 2 * count * MIN_STEPS * tile.depth
    ):
        count *= 2
    return count


def query_rows(queries: int) -> int:
    """The queries of one program, out of those that share a key head."""
    return 2 * QUERY_ROWS if queries > MANY_QUERIES else QUERY_ROWS


def context_splits(programs: int, pages: int) -> int:
    """The number of splits of the keys: a power of two that keeps all SMs busy."""
    count = 1
    while count < MAX_CONTEXT_SPLITS and count < pages and programs * count < PROGRAMS:
        count *= 2
    return count


def precision(x: Tensor) -> str:
    """The input precision of `tl.dot`: exact products in fp32, which only checks use."""
    return "ieee" if x.dtype == torch.float32 else "tf32"
