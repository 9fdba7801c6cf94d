"""How a matrix product is cut into programs.

Every product is computed as W_tile · Xᵀ: the features of the weight matrix are the 64 rows or more
that a warp group's tensor-core instruction wants, the few tokens of a block its columns. The other
way round, sixteen tokens would waste three quarters of it.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

PROGRAMS = 132
"""Multiprocessors of an H100 or H200: fewer programs than this leave memory bandwidth unused."""

FEWEST_STEPS = 2
"""Steps over the depth that a split must keep, for its loads to overlap at all."""

MOST_SPLITS = 8

QUERY_ROWS = 64
"""Queries of an attention program: the least that the tensor cores' wide instruction takes."""

MANY_QUERIES = 512
"""Where more than so many queries share a key head, a program takes twice as many: each key is then
read half as often."""

MOST_CONTEXT_SPLITS = 16


@dataclass(frozen=True, slots=True)
class Tile:
    """One program's share: `tokens` columns by `features` rows, `depth` at a time."""

    tokens: int
    features: int
    depth: int
    warps: int
    stages: int


def token_tile(tokens: int) -> int:
    """The narrowest tile that holds the tokens, at most 128."""
    return next((size for size in (16, 32, 64) if tokens <= size), 128)


def step_depth(values: torch.dtype, rows: torch.dtype, tokens: int) -> int:
    """How much of the depth to load at a time: 128 bytes of each row, where registers allow it.

    Narrow weights are widened in registers unless the rows are narrow, too; from 64 tokens on, that
    and the sums would spill.
    """
    widened = values.itemsize < rows.itemsize
    return 128 if values.itemsize == 1 and not (widened and tokens >= 64) else 64


def tile_for(tokens: int, values: torch.dtype, rows: torch.dtype) -> Tile:
    """Narrow over the features where tokens are few: more programs, more bandwidth."""
    size = token_tile(tokens)
    depth = step_depth(values, rows, size)
    return Tile(size, 128, depth, 8, 3) if size == 128 else Tile(size, 64, depth, 4, 4)


def inner_half(tile: Tile) -> Tile:
    """Where an adapter is computed besides: its inner half takes the memory of a stage."""
    return replace(tile, stages=3) if tile.tokens < 128 else replace(tile, stages=2)


def splits(tokens: int, features: int, depth: int, tile: Tile) -> int:
    """Into how many partial sums to cut the depth, a power of two, so that the chip is full."""
    programs = -(-tokens // tile.tokens) * -(-features // tile.features)
    count = 1
    while (
        count < MOST_SPLITS
        and programs * count < PROGRAMS
        and depth >= 2 * count * FEWEST_STEPS * tile.depth
    ):
        count *= 2
    return count


def query_rows(queries: int) -> int:
    """How many of the queries that share a key head one program takes."""
    return 2 * QUERY_ROWS if queries > MANY_QUERIES else QUERY_ROWS


def context_splits(programs: int, pages: int) -> int:
    """Among how many programs to share the keys, a power of two, so that the chip is full."""
    count = 1
    while count < MOST_CONTEXT_SPLITS and count < pages and programs * count < PROGRAMS:
        count *= 2
    return count


def precision(x: Tensor) -> str:
    """fp32 is for checking: exact products there; bf16 has only one kind."""
    return "ieee" if x.dtype == torch.float32 else "tf32"
