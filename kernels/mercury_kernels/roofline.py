"""How fast a denoise step could be on a chip: bytes and FLOPs of its cases over the chip's rates.

A model, not a measurement. Every operation takes as long as the slower of its memory traffic and
its arithmetic at an assumed share of the chip's peak, and every launch adds the gap between two
nodes of a CUDA graph. Partial sums count as memory traffic, though most stay in the second-level
cache. Narrow weights save bytes, not arithmetic: they are widened to bf16 before they are
multiplied.
"""

from dataclasses import dataclass

import torch

from mercury_kernels.architecture import Architecture
from mercury_kernels.attention.cases import AttentionCase
from mercury_kernels.case import Case, Cost, Source
from mercury_kernels.choose.cases import ChooseCase
from mercury_kernels.commit.cases import CommitCase
from mercury_kernels.head.cases import HeadCase
from mercury_kernels.linear.cases import LinearCase
from mercury_kernels.norm.cases import NormCase
from mercury_kernels.rope.cases import RopeCase
from mercury_kernels.swiglu.cases import SwigluCase


@dataclass(frozen=True, slots=True)
class Chip:
    """Peaks from the data sheet: bytes a second, dense bf16 FLOPs a second."""

    name: str
    bandwidth: float
    bf16: float


H100 = Chip("H100 SXM", 3.35e12, 989e12)
H200 = Chip("H200", 4.8e12, 989e12)


@dataclass(frozen=True, slots=True)
class Assumptions:
    """Shares of the peaks that are reached, seconds between launches, the shortest kernel."""

    memory: float = 0.75
    arithmetic: float = 0.6
    gap_seconds: float = 1e-6
    shortest_seconds: float = 0.0


EXPECTED = Assumptions()
CAUTIOUS = Assumptions(shortest_seconds=3e-6)
IDEAL = Assumptions(1.0, 1.0, 0.0)


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
    rope = RopeCase(starts, work.block, heads, a.head_width, qkv.splits(source))
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


def cost(work: Workload) -> Cost:
    """Bytes and FLOPs of one step."""
    return sum((p.case.cost(work.source).times(p.count) for p in parts(work)), Cost(0, 0))


def launches(work: Workload) -> int:
    """Kernels that one step launches."""
    return sum(part.count * part.launches for part in parts(work))


def seconds(work: Workload, chip: Chip, assumed: Assumptions = EXPECTED) -> float:
    """What the model says that one step takes."""
    total = 0.0
    for part in parts(work):
        once = part.case.cost(work.source)
        memory = once.bytes / (chip.bandwidth * assumed.memory)
        arithmetic = once.flops / (chip.bf16 * assumed.arithmetic)
        busy = max(memory, arithmetic, assumed.shortest_seconds * part.launches)
        total += part.count * (busy + assumed.gap_seconds * part.launches)
    return total


def tokens_per_second(work: Workload, step_seconds: float, tokens_per_step: float) -> float:
    """Of one sequence. A block costs its steps and one more pass that keeps its keys and values."""
    steps = work.block / tokens_per_step + 1
    return work.block / (steps * step_seconds)


def tokens_per_step_for(work: Workload, step_seconds: float, speed: float) -> float | None:
    """How many tokens each step must settle for `speed` tokens a second; None if none suffice."""
    steps = work.block / (speed * step_seconds) - 1
    return work.block / steps if steps >= 1 else None
