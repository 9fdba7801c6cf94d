"""A roofline model of a denoising step: the bytes and FLOPs of its cases at the rates of a chip.

This is a model, not a measurement. An operation takes the longer of its memory traffic and its
arithmetic, each at an assumed share of the peak of the chip, and every launch adds the gap between
two nodes of a CUDA graph. Partial sums count as memory traffic, though most stay in the L2 cache.
Quantized weights save bytes but no arithmetic, since they are converted to bf16 before a product.
Products run at the fp8 rate if the activations are quantized too.
"""

from dataclasses import dataclass

from mercury_kernels.case import Cost
from mercury_kernels.workload import Workload, parts


@dataclass(frozen=True, slots=True)
class Chip:
    """Peaks from the data sheet: bytes a second, dense FLOPs a second in bf16 and in fp8."""

    name: str
    bandwidth: float
    bf16: float
    fp8: float


H100 = Chip("H100 SXM", 3.35e12, 989e12, 1979e12)
H200 = Chip("H200", 4.8e12, 989e12, 1979e12)
PRODUCTS = ("linear", "swiglu", "head")


@dataclass(frozen=True, slots=True)
class Assumptions:
    """The reached shares of the peaks, seconds between launches, and the shortest kernel."""

    memory: float = 0.75
    arithmetic: float = 0.6
    gap_seconds: float = 1e-6
    shortest_seconds: float = 0.0


EXPECTED = Assumptions()
CAUTIOUS = Assumptions(shortest_seconds=3e-6)
IDEAL = Assumptions(1.0, 1.0, 0.0)


def cost(work: Workload) -> Cost:
    """The bytes and FLOPs of one step."""
    return sum((p.case.cost(work.source).times(p.count) for p in parts(work)), Cost(0, 0))


def launches(work: Workload) -> int:
    """The kernel launches of one step."""
    return sum(part.count * part.launches for part in parts(work))


def seconds(work: Workload, chip: Chip, assumed: Assumptions = EXPECTED) -> float:
    """The modelled seconds of one step."""
    total = 0.0
    for part in parts(work):
        once = part.case.cost(work.source)
        memory = once.bytes / (chip.bandwidth * assumed.memory)
        in_fp8 = work.source.row_dtype is not None and part.operation in PRODUCTS
        peak = chip.fp8 if in_fp8 else chip.bf16
        arithmetic = once.flops / (peak * assumed.arithmetic)
        busy = max(memory, arithmetic, assumed.shortest_seconds * part.launches)
        total += part.count * (busy + assumed.gap_seconds * part.launches)
    return total


def tokens_per_second(work: Workload, step_seconds: float, tokens_per_step: float) -> float:
    """Of one sequence. A block takes its steps, and one more pass to cache its keys and values."""
    steps = work.block / tokens_per_step + 1
    return work.block / (steps * step_seconds)


def tokens_per_step_for(work: Workload, step_seconds: float, speed: float) -> float | None:
    """The tokens that each step must commit for `speed` tokens a second; None if impossible."""
    steps = work.block / (speed * step_seconds) - 1
    return work.block / steps if steps >= 1 else None
