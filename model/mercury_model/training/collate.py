"""Lays out a span as the rows of two streams: tokens, positions, attention and targets.

Clean rows are a chain `[suffix_id] suffix [prefix_id] prefix` up to the last cut, and a branch for
each cut, `tail [middle_id] middle [eos_id]`, that sees only the chain before it. The `tail` are the
tokens before the cut that differ because the text ends there. Mask rows are blocks in place of the
tokens after a clean row: a block sees the keys that this row sees, and itself.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mercury_model.network.operations import QueryRange
from mercury_model.spec.fim_format import FimFormat
from mercury_model.training.gaps import Span

RANGE_ROWS = 128
CHAIN_WEIGHT = 0.3
PADDING_WEIGHT = 0.1


@dataclass(frozen=True, slots=True)
class Stream:
    """Rows to run: `ids` and `positions` [N]; `ranges` cover all rows and say what each sees."""

    ids: Tensor
    positions: Tensor
    ranges: Sequence[QueryRange]


@dataclass(frozen=True, slots=True)
class Window:
    """How much of a document one example shows, in tokens."""

    prefix: int
    suffix: int
    middle: int


@dataclass(frozen=True, slots=True)
class Branch:
    """`ids` follow the first `after` tokens of the chain; the middle begins at `ids[middle]`.

    If `ended`, the middle is whole and its end token is the last id.
    """

    after: int
    ids: tuple[int, ...]
    middle: int
    ended: bool


@dataclass(frozen=True, slots=True)
class Example:
    """Tokens of one span. The prefix starts at `chain[code]`; the suffix stands before it."""

    chain: tuple[int, ...]
    code: int
    branches: tuple[Branch, ...]


MOST_MASKS = 7
"""The most masks of a block; metrics count masks up to this distance from the context."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """How many mask blocks to lay, and of which lengths, in masks (at most MOST_MASKS)."""

    per_branch: int = 4
    on_chain: int = 24
    shortest: int = 2
    longest: int = 4
    decay: float = 0.85

    def __post_init__(self) -> None:
        if not 1 <= self.shortest <= self.longest <= MOST_MASKS:
            raise ValueError(f"a block has 1 to {MOST_MASKS} masks, at least `shortest` of them")


@dataclass(frozen=True, slots=True)
class Packed:
    """Both streams, and the targets of their rows.

    `clean_rows`, `clean_targets`, `clean_weights` [R]; `is_middle` [R] marks those of middles.
    For the masks, all [M]: `mask_targets`, `mask_weights`, `distance` (1 for the first mask of a
    block), and `teacher`, the index into the R clean rows that predicts the same token, or -1.
    """

    clean: Stream
    clean_rows: Tensor
    clean_targets: Tensor
    clean_weights: Tensor
    is_middle: Tensor
    masks: Stream
    mask_targets: Tensor
    mask_weights: Tensor
    distance: Tensor
    teacher: Tensor


Encode = Callable[[str], Sequence[int]]


def tokens(text: str, span: Span, window: Window, encode: Encode, fmt: FimFormat) -> Example | None:
    """The example of a span, or None if its cuts lie too far apart for the window."""
    low = max(0, span.cuts[0].start - window.prefix * fmt.characters_per_token)
    low = text.find("\n", low) + 1 if low else 0
    longest = list(encode(text[low : span.cuts[-1].start]))
    cut = max(0, len(longest) - window.prefix)
    prefix = longest[cut:]
    suffix = list(encode(text[span.end : span.end + window.suffix * fmt.characters_per_token]))
    suffix = suffix[: window.suffix]
    head, tail = fmt.before_prefix(suffix), fmt.after_prefix(suffix)
    branches = []
    for place in span.cuts:
        mine = list(encode(text[low : place.start]))[cut:]
        if cut and len(mine) < window.prefix // 4:
            continue
        shared = _common(mine, prefix)
        middle = list(encode(text[place.start : place.end]))
        end = [fmt.eos_id] if len(middle) <= window.middle else []
        ids = [*mine[shared:], *tail, *middle[: window.middle], *end]
        start = len(mine) - shared + len(tail)
        branches.append(Branch(len(head) + shared, tuple(ids), start, bool(end)))
    if not branches:
        return None
    return Example((*head, *prefix), len(head), tuple(branches))


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    return next(
        (i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


@dataclass(frozen=True, slots=True)
class _MaskBlock:
    """A block of `masks` masks after clean row `row`.

    `follow` are the clean rows from that row on, with the tokens that they predict. Masks after the
    last of them learn the end token, with weight `padding`.
    """

    row: int
    masks: int
    follow: tuple[tuple[int, int], ...]
    weight: float
    padding: float


def pack(example: Example, blocks: Blocks, fmt: FimFormat, draw: random.Random) -> Packed:
    """Lay out both streams of an example, its blocks drawn by `draw`."""
    ids, positions, sight, starts = _clean_rows(example)
    mask_blocks = [
        *_branch_blocks(example, starts, blocks, draw),
        *_chain_blocks(example, blocks, draw),
    ]
    predicted: dict[int, tuple[int, float]] = {}
    for mask_block in mask_blocks:
        if mask_block.weight < 1:
            predicted.update((row, (token, CHAIN_WEIGHT)) for row, token in mask_block.follow)
    for branch, start in zip(example.branches, starts, strict=True):
        for j in range(branch.middle - 1, len(branch.ids) - 1):
            predicted[start + j] = (branch.ids[j + 1], 1.0)
    rows = sorted(predicted)
    weights = torch.tensor([predicted[r][1] for r in rows])
    clean = Stream(torch.tensor(ids), torch.from_numpy(positions), _ranges(sight))
    index = {row: i for i, row in enumerate(rows)}
    masks = _mask_rows(mask_blocks, index, positions, sight, blocks, fmt)
    return Packed(
        clean,
        torch.tensor(rows),
        torch.tensor([predicted[r][0] for r in rows]),
        weights,
        weights == 1.0,
        *masks,
    )


def _clean_rows(
    example: Example,
) -> tuple[list[int], NDArray[np.int64], NDArray[np.bool_], list[int]]:
    """Ids, positions, the attention mask, and the row where each branch starts."""
    chain = len(example.chain)
    total = chain + sum(len(b.ids) for b in example.branches)
    ids = list(example.chain)
    positions = np.arange(total)
    sight = np.tril(np.ones((total, total), dtype=bool))
    starts = []
    for branch in example.branches:
        start = len(ids)
        starts.append(start)
        ids.extend(branch.ids)
        positions[start : len(ids)] = branch.after + np.arange(len(branch.ids))
        sight[start : len(ids), branch.after : start] = False
    return ids, positions, sight, starts


def _branch_blocks(
    example: Example, starts: Sequence[int], blocks: Blocks, draw: random.Random
) -> list[_MaskBlock]:
    """Blocks after the first token of each middle, and after a few of its other tokens."""
    found = []
    for branch, start in zip(example.branches, starts, strict=True):
        length = len(branch.ids) - branch.middle
        padding = PADDING_WEIGHT if branch.ended else 0.0
        offsets = {1} | {draw.randrange(length) for _ in range(blocks.per_branch - 1)}
        for offset in sorted(o for o in offsets if o < length):
            j = branch.middle - 1 + offset
            follow = [(start + i, branch.ids[i + 1]) for i in range(j, len(branch.ids) - 1)]
            masks = draw.randint(blocks.shortest, blocks.longest)
            found.append(_MaskBlock(start + j, masks, tuple(follow), 1.0, padding))
    return found


def _chain_blocks(example: Example, blocks: Blocks, draw: random.Random) -> list[_MaskBlock]:
    """Blocks inside the prefix: more examples of the task, which cost only their masks."""
    low, high = example.code + 1, len(example.chain) - 1 - blocks.longest
    found = []
    for _ in range(blocks.on_chain if high > low else 0):
        row = draw.randrange(low, high)
        masks = draw.randint(blocks.shortest, blocks.longest)
        follow = [(i, example.chain[i + 1]) for i in range(row, row + masks + 1)]
        found.append(_MaskBlock(row, masks, tuple(follow), 0.5, 0.0))
    return found


def _mask_rows(
    mask_blocks: Sequence[_MaskBlock],
    index: dict[int, int],
    positions: NDArray[np.int64],
    sight: NDArray[np.bool_],
    blocks: Blocks,
    fmt: FimFormat,
) -> tuple[Stream, Tensor, Tensor, Tensor, Tensor]:
    count, clean = sum(a.masks for a in mask_blocks), len(positions)
    seen = np.zeros((count, clean + count), dtype=bool)
    where = np.empty(count, dtype=np.int64)
    targets, weights, distances, teachers = [], [], [], []
    at = 0
    for mask_block in mask_blocks:
        block = slice(at, at + mask_block.masks)
        seen[block, :clean] = sight[mask_block.row]
        seen[block, clean + at : clean + at + mask_block.masks] = True
        where[block] = positions[mask_block.row] + 1 + np.arange(mask_block.masks)
        at += mask_block.masks
        for d in range(1, mask_block.masks + 1):
            real = d < len(mask_block.follow)
            row, token = mask_block.follow[d] if real else (-1, fmt.eos_id)
            targets.append(token)
            weights.append(
                mask_block.weight * blocks.decay ** (d - 1) * (1 if real else mask_block.padding)
            )
            distances.append(d if real else 0)
            teachers.append(index.get(row, -1))
    stream = Stream(torch.full((count,), fmt.mask_id), torch.from_numpy(where), _ranges(seen))
    return (
        stream,
        torch.tensor(targets),
        torch.tensor(weights),
        torch.tensor(distances),
        torch.tensor(teachers),
    )


def _ranges(sight: NDArray[np.bool_]) -> list[QueryRange]:
    """Ranges of query rows, each with the keys up to the last that one of its rows sees."""
    ranges = []
    for start in range(0, len(sight), RANGE_ROWS):
        stop = min(start + RANGE_ROWS, len(sight))
        keys = int(np.flatnonzero(sight[start:stop].any(0))[-1]) + 1
        bias = torch.zeros(stop - start, keys)
        bias.masked_fill_(torch.from_numpy(~sight[start:stop, :keys]), float("-inf"))
        ranges.append(QueryRange(start, stop, keys, bias))
    return ranges
