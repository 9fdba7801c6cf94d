"""Gaps as rows of a network: a clean stream to predict token by token, and noisy blocks beside it.

The clean stream is `[suffix_id] suffix [prefix_id] prefix [middle_id] middle [eos_id]`, causal. A
block stands in for some tokens of it: the first is known, the others are corrupted, and each of its
rows sees what comes before the block and the whole block (arXiv:2503.09573). Outputs keep the
autoregressive shift: row j predicts token j + 1.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mercury_model.noise import Clipped, Linear, corrupt, times
from mercury_model.spec.fim_format import FimFormat
from mercury_model.training.gaps import draw_span

NO_SUFFIX = 0.2
MIDDLE_WEIGHT = 3.0
BLOCKS_IN_MIDDLE, BLOCKS_BEFORE = 2, 4
NOISE = Clipped(Linear(), 0.3, 1.0)
"""Lower rates teach a small model little; at 1 a whole block is open, as when decoding begins."""
FROM_THE_LEFT = 0.4
"""The share of blocks that are masked from some position on instead."""
SHORT_BLOCKS = 0.25
PAST_END_WEIGHT = 0.1

Encode = Callable[[str], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Example:
    """The clean stream of one gap; prefix and middle begin at `ids[prefix]`, `ids[middle]`."""

    ids: tuple[int, ...]
    prefix: int
    middle: int


@dataclass(frozen=True, slots=True)
class Batch:
    """B examples of N rows each, clean rows first.

    `ids`, `positions`, `targets` [B, N]; `attend` [B, 1, N, N]; `weights` [B, N], 0 where nothing
    is to be predicted. `noisy` [B, N] marks masked rows to learn from, `teacher` [B, N] the clean
    row that predicts the same token, or -1.
    """

    ids: Tensor
    positions: Tensor
    attend: Tensor
    targets: Tensor
    weights: Tensor
    noisy: Tensor
    teacher: Tensor


def examples(
    texts: Sequence[str], encode: Encode, format: FimFormat, draw: Random
) -> Iterator[Example]:
    """Gaps in `texts`, without end; a text is as likely as it is long."""
    lengths = [len(text) for text in texts]
    while True:
        (text,) = draw.choices(texts, lengths)
        span = draw_span(text, 1, draw)
        if span is None:
            continue
        cursor = span.cuts[0]
        low = max(0, cursor.start - format.prefix_tokens * format.characters_per_token)
        before, after = text[low : cursor.start], text[cursor.end :]
        suffix: Sequence[int] = ()
        if draw.random() > NO_SUFFIX:
            suffix = encode(after[: format.suffix_tokens * format.characters_per_token])
        prefix = encode(before)[-format.prefix_tokens :]
        middle = encode(text[cursor.start : cursor.end])
        if len(middle) > format.middle_tokens:
            continue
        suffix = suffix[: format.suffix_tokens]
        start = format.before_prefix(suffix)
        head = [*start, *prefix, *format.after_prefix(suffix)]
        yield Example((*head, *middle, format.eos_id), len(start), len(head))


def collate(chosen: Sequence[Example], format: FimFormat, rng: np.random.Generator) -> Batch:
    """Lay out both streams of each example; shorter ones are padded at the end of the clean one."""
    clean = max(len(example.ids) for example in chosen)
    blocks = BLOCKS_IN_MIDDLE + BLOCKS_BEFORE
    rows = clean + blocks * format.block_length
    shape = (len(chosen), rows)
    layout = _Layout(
        ids=np.full(shape, format.eos_id),
        positions=np.tile(np.arange(rows), (len(chosen), 1)),
        attend=np.tile(np.eye(rows, dtype=np.bool_), (len(chosen), 1, 1)),
        targets=np.zeros(shape, np.int64),
        weights=np.zeros(shape, np.float32),
        noisy=np.zeros(shape, np.bool_),
        teacher=np.full(shape, -1),
    )
    layout.attend[:, :clean, :clean] = np.tri(clean, dtype=np.bool_)
    t = times(len(chosen) * blocks, rng)
    rng.shuffle(t)
    for row, example in enumerate(chosen):
        layout.put_clean(row, example, format)
        for index, start in enumerate(_block_starts(example, rng)):
            block = _block(example, start, float(t[row * blocks + index]), format, rng)
            layout.put_block(row, clean + index * format.block_length, start, block)
    return layout.batch()


def _block_starts(example: Example, rng: np.random.Generator) -> list[int]:
    """Where blocks begin: at the middle's first token, elsewhere in it, and in the prefix."""
    low = min(example.prefix + 7, example.middle - 1)
    inside = rng.integers(example.middle, len(example.ids), BLOCKS_IN_MIDDLE - 1)
    before = rng.integers(low, example.middle, BLOCKS_BEFORE)
    return [example.middle, *inside.tolist(), *before.tolist()]


@dataclass(frozen=True, slots=True)
class _Block:
    """`tokens` [L] as they should be; `masked` [L]; what the loss of each weighs; `real` [L] is
    false past the end mark, where the end mark repeats; `seen` [L, L], row sees column.
    """

    tokens: NDArray[np.int64]
    masked: NDArray[np.bool_]
    weights: NDArray[np.float64]
    real: NDArray[np.bool_]
    seen: NDArray[np.bool_]
    mask_id: int


def _block(
    example: Example, start: int, t: float, format: FimFormat, rng: np.random.Generator
) -> _Block:
    """Corrupt the tokens from `start` on, but for the first; now and then a shorter block.

    Some blocks are noisy as at time `t`, others masked from some position on, as decoding from the
    left finds them. In half of those the tokens see no masks, as where masks follow tokens that are
    being verified.
    """
    size = format.block_length
    if rng.random() < SHORT_BLOCKS:
        size = int(rng.integers(2, size + 1))
    found = example.ids[start : start + size]
    tokens = np.array([*found, *[format.eos_id] * (size - len(found))])
    real = np.arange(size) < len(found)
    weights = np.where(real, 1.0, PAST_END_WEIGHT)
    weights[np.isin(tokens, format.marks)] = 0
    seen = np.ones((size, size), np.bool_)
    if rng.random() < FROM_THE_LEFT:
        first = int(rng.integers(1, size)) if rng.random() < 0.5 else 1
        masked = np.arange(size) >= first
        if rng.random() < 0.5:
            seen[:first] = np.tri(first, size, dtype=np.bool_)
    else:
        _, masked = corrupt(tokens, NOISE.mask_rate(t), format.mask_id, rng)
        weights = weights * float(NOISE.gamma(t))
        masked[0] = False
    return _Block(tokens, masked, weights, real, seen, format.mask_id)


@dataclass(frozen=True, slots=True)
class _Layout:
    """A batch as numpy arrays, being filled."""

    ids: NDArray[np.int64]
    positions: NDArray[np.int64]
    attend: NDArray[np.bool_]
    targets: NDArray[np.int64]
    weights: NDArray[np.float32]
    noisy: NDArray[np.bool_]
    teacher: NDArray[np.int64]

    def put_clean(self, row: int, example: Example, format: FimFormat) -> None:
        """The clean stream, each row predicting the next token unless that is a mark's place."""
        ids = np.array(example.ids)
        self.ids[row, : ids.size] = ids
        self.targets[row, : ids.size - 1] = ids[1:]
        weights = np.where(np.arange(1, ids.size) < example.middle, 1.0, MIDDLE_WEIGHT)
        weights[np.isin(ids[1:], format.marks)] = 0
        self.weights[row, : ids.size - 1] = weights

    def put_block(self, row: int, at: int, start: int, block: _Block) -> None:
        """A noisy copy of the tokens from position `start` on, at the rows from `at` on."""
        size = block.tokens.size
        here, ahead = slice(at, at + size), slice(at, at + size - 1)
        self.ids[row, here] = np.where(block.masked, block.mask_id, block.tokens)
        self.positions[row, here] = start + np.arange(size)
        self.attend[row, here, :start] = True
        self.attend[row, here, here] = block.seen
        self.targets[row, ahead] = block.tokens[1:]
        self.noisy[row, ahead] = block.masked[1:]
        self.weights[row, ahead] = (block.masked * block.weights)[1:]
        self.teacher[row, ahead] = np.where(block.real[1:], start + np.arange(size - 1), -1)

    def batch(self) -> Batch:
        """The same as tensors."""
        return Batch(
            ids=torch.from_numpy(self.ids),
            positions=torch.from_numpy(self.positions),
            attend=torch.from_numpy(self.attend)[:, None],
            targets=torch.from_numpy(self.targets),
            weights=torch.from_numpy(self.weights),
            noisy=torch.from_numpy(self.noisy),
            teacher=torch.from_numpy(self.teacher),
        )
