"""Inputs for `attend`."""

from dataclasses import dataclass
from typing import Any, Literal

import torch

from mercury_kernels.attention.reference import CausalTokens
from mercury_kernels.case import Cost, Source, Tolerance
from mercury_kernels.paged import PAGE
from mercury_kernels.rope.cases import scattered
from mercury_kernels.tile import context_splits, query_rows

TOLERANCE: Tolerance = {torch.float32: 2e-6, torch.bfloat16: 8e-3}

MASK = 9


@dataclass(frozen=True, slots=True)
class AttentionCase:
    """Blocks of `tokens` after contexts [B], with `after` tokens of text behind them.

    A context of −1 is a row without a sequence.
    """

    contexts: tuple[int, ...]
    tokens: int
    heads: tuple[int, int]
    head_dim: int
    after: int = 0
    pattern: Literal["block", "causal", "causal-tokens"] = "block"
    pages: int = 0

    @property
    def name(self) -> str:
        """For example `C300,17-T32-H14/2-D64`."""
        contexts = ",".join(map(str, self.contexts))
        if len(self.contexts) > 4:
            contexts = f"{len(self.contexts)}x{self.contexts[0]}"
        shape = f"C{contexts}-T{self.tokens}-H{self.heads[0]}/{self.heads[1]}-D{self.head_dim}"
        return (
            shape
            + (f"-after{self.after}" if self.after else "")
            + ("" if self.pattern == "block" else f"-{self.pattern}")
        )

    def lengths(self) -> list[int]:
        """The number of keys of each sequence."""
        return [c + self.tokens + self.after if c >= 0 else 0 for c in self.contexts]

    def splits(self) -> int:
        """The number of programs that the keys are split among."""
        group = self.heads[0] // self.heads[1]
        queries = self.tokens * group
        tiles = -(-queries // query_rows(queries))
        return context_splits(len(self.contexts) * self.heads[1] * tiles, self.page_count())

    def page_count(self) -> int:
        """`pages` if given, otherwise those of the longest sequence."""
        return self.pages or -(-max(*self.lengths(), 1) // PAGE)

    def inputs(self, source: Source) -> dict[str, Any]:
        """Whole pages of random keys, more than any row attends to."""
        generator = source.generator()
        batch = len(self.contexts)
        pages = self.page_count()
        if self.pattern == "causal":
            visible = [
                [c + t + 1 if c >= 0 else 0 for t in range(self.tokens)] for c in self.contexts
            ]
        else:
            visible = [[length] * self.tokens for length in self.lengths()]
        return {
            "q": source.normal(generator, batch, self.tokens, self.heads[0], self.head_dim),
            "visible": source.numbers(visible),
            "cache": scattered(batch, pages, (self.heads[1], self.head_dim), source, generator),
            "causal_tokens": self.causal_tokens(source)
            if self.pattern == "causal-tokens"
            else None,
        }

    def causal_tokens(self, source: Source) -> CausalTokens:
        """Blocks that alternate between two tokens and two masks."""
        block = [MASK if t % 4 > 1 else t for t in range(self.tokens)]
        starts = [max(0, context) for context in self.contexts]
        return CausalTokens(source.numbers([block] * len(starts)), MASK, source.numbers(starts))

    def cost(self, source: Source) -> Cost:
        """Keys, values and queries are read once; partial results are written and read."""
        keys = sum(self.lengths())
        rows = len(self.contexts) * self.tokens * self.heads[0]
        element = (source.cache_dtype or source.dtype).itemsize
        scale = 0 if source.cache_dtype is None else 4
        moved = 2 * keys * self.heads[1] * (self.head_dim * element + scale)
        moved += 2 * rows * self.head_dim * source.dtype.itemsize
        splits = self.splits()
        if splits > 1:
            moved += 2 * splits * rows * (self.head_dim + 1) * 4
        return Cost(moved, 4 * keys * self.tokens * self.heads[0] * self.head_dim)


TESTS = (
    AttentionCase((0,), 1, (1, 1), 16),
    AttentionCase((63,), 3, (3, 1), 16),
    AttentionCase((300, 17, -1), 5, (14, 2), 32),
    AttentionCase((130, 64), 9, (8, 8), 16, after=37),
    AttentionCase((0, 200), 20, (9, 3), 64, pattern="causal"),
    AttentionCase((1,), 32, (7, 1), 16, pages=9),
    AttentionCase((61, 0, -1), 7, (3, 1), 16, pattern="causal-tokens"),
    AttentionCase((0,), 65, (1, 1), 16, after=37),
    AttentionCase((9,), 127, (1, 1), 16, pattern="causal-tokens"),
    AttentionCase((0,), 200, (3, 1), 16),
)
