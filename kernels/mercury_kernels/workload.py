"""What one denoise step runs, as cases: for the roofline, the compiler and the bench.

What ships is what a step of these workloads launches, nothing else.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from mercury_kernels.architecture import ARCHITECTURES, Architecture
from mercury_kernels.attention.cases import AttentionCase
from mercury_kernels.case import Case, Source
from mercury_kernels.catalogue import CACHES, WEIGHTS, Operation
from mercury_kernels.choose.cases import ChooseCase
from mercury_kernels.commit.cases import KINDS, CommitCase
from mercury_kernels.head.cases import HeadCase
from mercury_kernels.linear.cases import LinearCase
from mercury_kernels.norm.cases import NormCase
from mercury_kernels.rope.cases import Before, RopeCase
from mercury_kernels.swiglu.cases import SwigluCase

PLAIN = Source("meta", torch.bfloat16)
NARROW = Source("meta", torch.bfloat16, torch.float8_e4m3fn)


@dataclass(frozen=True, slots=True)
class Workload:
    """`batch` sequences, each a block of `block` after `context` tokens."""

    architecture: Architecture
    batch: int
    block: int = 32
    context: int = 2048
    source: Source = PLAIN

    @property
    def rows(self) -> int:
        """Tokens of a step."""
        return self.batch * self.block


@dataclass(frozen=True, slots=True)
class Part:
    """An operation of a step, how often it occurs, and how many kernels it launches."""

    operation: str
    case: Case
    count: int
    launches: int = 1


def parts(work: Workload) -> list[Part]:
    """Everything that one denoise step runs."""
    a, rows, source = work.architecture, work.rows, work.source
    heads = (a.heads, a.kv_heads)
    qkv = LinearCase(rows, a.qkv_width, a.width)
    output = LinearCase(rows, a.width, a.heads * a.head_width)
    down = LinearCase(rows, a.width, a.mlp_width)
    attention = AttentionCase((work.context,) * work.batch, work.block, heads, a.head_width)
    starts = (work.context,) * work.batch
    before: Before = "bias" if a.qkv_bias else "nothing"
    rope = RopeCase(starts, work.block, heads, a.head_width, qkv.splits(source), before)
    return [
        Part("norm", NormCase(rows, a.width, 0), 1),
        Part("norm", NormCase(rows, a.width, output.splits(source)), a.layers),
        Part("norm", NormCase(rows, a.width, down.splits(source)), a.layers),
        Part("linear", qkv, a.layers),
        Part("rope", rope, a.layers),
        Part("attention", attention, a.layers, 2 if attention.splits() > 1 else 1),
        Part("linear", output, a.layers),
        Part("swiglu", SwigluCase(rows, a.mlp_width, a.width), a.layers),
        Part("linear", down, a.layers),
        Part("head", HeadCase(rows, a.vocabulary, a.width, 16), 1, 2),
        Part("choose", ChooseCase((0.0,) * work.batch, work.block, 16), 1),
        Part("commit", CommitCase((1.0,) * work.batch, work.block, "threshold", 0.9), 1),
    ]


Sizes = Sequence[tuple[int, int]]

SIZES: Sizes = ((1, 32), (1, 16), (1, 64), (8, 32), (32, 32))
"""(batch, block): interactive, with shorter and longer blocks and for context, then served."""


def shipped(
    operation: Operation, device: str, sizes: Sizes = SIZES
) -> Iterator[tuple[Case, Source]]:
    """Every case of an operation that ships, once, those in plain types first."""
    seen = set()
    for weights in WEIGHTS:
        for cache in CACHES:
            source = Source(device, torch.bfloat16, weights, cache)
            own = replace(
                source,
                weight_dtype=weights if weights in operation.weights else None,
                cache_dtype=cache if cache in operation.caches else None,
            )
            for case in _cases(operation.folder, source, sizes):
                if (case, own) not in seen:
                    seen.add((case, own))
                    yield case, own


def _cases(folder: str, source: Source, sizes: Sizes) -> Iterator[Case]:
    for batch, block in sizes:
        for architecture in ARCHITECTURES:
            work = Workload(architecture, batch, block, source=source)
            yield from (part.case for part in parts(work) if part.operation == folder)
        if folder == "commit":
            opened = (1.0,) * batch
            yield from (CommitCase(opened, block, *kind, floor=0.3) for kind in KINDS)
            yield from (CommitCase(opened, block, *kind) for kind in KINDS)
