"""Correctness first, then time: what the bench does with a device, a clock and a budget.

Knows no chip and no file. An operation that disagrees with its reference gets no time.
"""

import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import linear, rms_norm, scaled_dot_product_attention, silu

from mercury_kernels.agreement import disagreement
from mercury_kernels.case import Case, Source
from mercury_kernels.catalogue import Operation
from mercury_kernels.weights import Rows, plain_type, wide_rows


class Timer(Protocol):
    """Measures a call on the device it runs on."""

    def seconds(self, call: Callable[[], object]) -> list[float]:
        """How long each of several runs took, caches cold, compilation and warming up excluded."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Median and 95th percentile of some runs, in seconds."""

    median: float
    p95: float
    runs: int

    @classmethod
    def of(cls, seconds: list[float]) -> "Timing":
        """Raises ValueError for no runs."""
        if not seconds:
            raise ValueError("there is nothing to summarise")
        ordered = sorted(seconds)
        index = min(len(ordered) - 1, int(0.95 * len(ordered)))
        return cls(statistics.median(ordered), ordered[index], len(ordered))


@dataclass(frozen=True, slots=True)
class Result:
    """One case: what disagreed (then nothing is timed), times, and the work they were for."""

    operation: str
    case: str
    types: str
    wrong: str | None
    bytes: int
    flops: int
    kernel: Timing | None
    others: Mapping[str, Timing]


@dataclass(frozen=True, slots=True)
class Budget:
    """Seconds that may be spent, on a clock in seconds."""

    seconds: float
    clock: Callable[[], float]
    began: float

    @classmethod
    def of(cls, seconds: float, clock: Callable[[], float]) -> "Budget":
        """A budget that begins now."""
        return cls(seconds, clock, clock())

    def left(self) -> float:
        """What is left of it."""
        return self.seconds - (self.clock() - self.began)


Compiler = Callable[[Callable[[], object]], Callable[[], object]]


def measure(
    work: Iterator[tuple[Operation, Case, Source]],
    timer: Timer,
    budget: Budget,
    compiler: Compiler | None = None,
) -> Iterator[Result]:
    """A result a case, until less than a tenth of the budget is left.

    `compiler` makes the compiled form of a baseline; None leaves compiled baselines out.
    """
    for operation, case, source in work:
        if budget.left() < 0.1 * budget.seconds:
            return
        yield measured(operation, case, source, timer, compiler)


def measured(
    operation: Operation, case: Case, source: Source, timer: Timer, compiler: Compiler | None
) -> Result:
    """Compare, then time the kernel and what else could do the work."""
    cost = case.cost(source)
    wrong = disagreement(operation, case, source)
    timing, others = None, {}
    if wrong is None:
        inputs = case.inputs(source)
        function = operation.kernel()
        timing = Timing.of(timer.seconds(lambda: function(**inputs)))
        eager = BASELINES.get(operation.name)
        if eager is not None:
            call = eager(inputs)
            others["eager"] = Timing.of(timer.seconds(call))
            if compiler is not None:
                others["compiled"] = Timing.of(timer.seconds(compiler(call)))
        if operation.name == "attend" and find_spec("flash_attn") is not None:
            others["flash"] = Timing.of(timer.seconds(_flash(inputs)))
    return Result(
        operation.name, case.name, types(source), wrong, cost.bytes, cost.flops, timing, others
    )


def types(source: Source) -> str:
    """As in `bf16, fp8 weights`."""
    short = {torch.bfloat16: "bf16", torch.float32: "fp32", torch.float8_e4m3fn: "fp8"}
    named = [short[source.dtype]]
    kinds = {
        "weights": source.weight_dtype,
        "cache": source.cache_dtype,
        "rows": source.row_dtype,
    }
    for what, dtype in kinds.items():
        if dtype is not None:
            named.append(f"{short.get(dtype, 'int8')} {what}")
    return ", ".join(named)


def _plain(x: Rows) -> Tensor:
    return wide_rows(x, plain_type(x))


def _linear(given: dict[str, Any]) -> Callable[[], object]:
    x = _plain(given["x"])
    weight = given["weight"].wide(x.dtype)
    return lambda: linear(x, weight)


def _swiglu(given: dict[str, Any]) -> Callable[[], object]:
    x = _plain(given["x"])
    gate, up = (given[name].wide(x.dtype) for name in ("gate", "up"))
    return lambda: silu(linear(x, gate)) * linear(x, up)


def _add_rmsnorm(given: dict[str, Any]) -> Callable[[], object]:
    parts, residual, weight = given["parts"], given["residual"], given["weight"]
    return lambda: rms_norm(
        residual + parts.sum(0).to(residual.dtype), weight.shape, weight, given["eps"]
    )


def _attend(given: dict[str, Any]) -> Callable[[], object]:
    """PyTorch's attention over keys without pages."""
    q, keys, values = (x.transpose(1, 2).contiguous() for x in _dense(given))
    return lambda: scaled_dot_product_attention(q, keys, values, enable_gqa=True)


def _flash(given: dict[str, Any]) -> Callable[[], object]:
    """FlashAttention's own package, over keys without pages."""
    q, keys, values = _dense(given)
    attention = import_module("flash_attn").flash_attn_func
    return lambda: attention(q, keys, values)


def _dense(given: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values [B, T or L, H, D] out of their pages, in the queries' type."""
    q, cache, length = given["q"], given["cache"], int(given["visible"].max())
    positions = torch.arange(length, device=q.device)
    each = [cache.read(b, positions, q.dtype) for b in range(len(q))]
    keys, values = (torch.stack(kept) for kept in zip(*each, strict=True))
    return q, keys, values


def _predict(given: dict[str, Any]) -> Callable[[], object]:
    x, top = _plain(given["x"]), given["top"]
    weight = given["weight"].wide(x.dtype)

    def call() -> object:
        logits = linear(x, weight).float()
        log_probs = logits.log_softmax(-1)
        entropy = -(log_probs.exp() * log_probs).sum(-1)
        return logits.topk(top), logits.logsumexp(-1), entropy

    return call


BASELINES: Mapping[str, Callable[[dict[str, Any]], Callable[[], object]]] = {
    "linear": _linear,
    "swiglu": _swiglu,
    "add_rmsnorm": _add_rmsnorm,
    "attend": _attend,
    "predict": _predict,
}
"""What PyTorch offers for the same work, weights widened beforehand."""
