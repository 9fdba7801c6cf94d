"""Check operations against their references, then time them within a budget.

Knows no chip and no file. An operation that disagrees with its reference is not timed.
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
from mercury_kernels.weights import Rows, dequantize_rows, output_dtype


class Timer(Protocol):
    """Times a call on its device."""

    def seconds(self, call: Callable[[], object]) -> list[float]:
        """The seconds of several runs with cold caches, after compilation and warm-up."""


@dataclass(frozen=True, slots=True)
class Timing:
    """The median and 95th percentile of `runs` runs, in seconds."""

    median: float
    p95: float
    runs: int

    @classmethod
    def of(cls, seconds: list[float]) -> "Timing":
        """Raises ValueError for no runs."""
        if not seconds:
            raise ValueError("there are no runs to summarize")
        ordered = sorted(seconds)
        index = min(len(ordered) - 1, int(0.95 * len(ordered)))
        return cls(statistics.median(ordered), ordered[index], len(ordered))


@dataclass(frozen=True, slots=True)
class Result:
    """The result of one case: `wrong` is the disagreement, if any; then nothing is timed."""

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
    """A time limit in seconds, on a clock in seconds."""

    seconds: float
    clock: Callable[[], float]
    began: float

    @classmethod
    def of(cls, seconds: float, clock: Callable[[], float]) -> "Budget":
        """A budget that begins now."""
        return cls(seconds, clock, clock())

    def left(self) -> float:
        """The remaining seconds."""
        return self.seconds - (self.clock() - self.began)


Compiler = Callable[[Callable[[], object]], Callable[[], object]]


def measure(
    work: Iterator[tuple[Operation, Case, Source]],
    timer: Timer,
    budget: Budget,
    compiler: Compiler | None = None,
) -> Iterator[Result]:
    """One result for each case, until less than a tenth of the budget is left.

    `compiler` compiles a baseline; None skips compiled baselines.
    """
    for operation, case, source in work:
        if budget.left() < 0.1 * budget.seconds:
            return
        yield check_and_time(operation, case, source, timer, compiler)


def check_and_time(
    operation: Operation, case: Case, source: Source, timer: Timer, compiler: Compiler | None
) -> Result:
    """Check one case, then time the kernel and its baselines."""
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
        operation=operation.name,
        case=case.name,
        types=types(source),
        wrong=wrong,
        bytes=cost.bytes,
        flops=cost.flops,
        kernel=timing,
        others=others,
    )


def types(source: Source) -> str:
    """The dtypes as text, for example `bf16, fp8 weights`."""
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


def _dequantized(x: Rows) -> Tensor:
    return dequantize_rows(x, output_dtype(x))


def _linear(arguments: dict[str, Any]) -> Callable[[], object]:
    x = _dequantized(arguments["x"])
    weight = arguments["weight"].dequantize(x.dtype)
    return lambda: linear(x, weight)


def _swiglu(arguments: dict[str, Any]) -> Callable[[], object]:
    x = _dequantized(arguments["x"])
    gate, up = (arguments[name].dequantize(x.dtype) for name in ("gate", "up"))
    return lambda: silu(linear(x, gate)) * linear(x, up)


def _add_rmsnorm(arguments: dict[str, Any]) -> Callable[[], object]:
    parts, residual, weight = arguments["parts"], arguments["residual"], arguments["weight"]
    return lambda: rms_norm(
        residual + parts.sum(0).to(residual.dtype), weight.shape, weight, arguments["eps"]
    )


def _attend(arguments: dict[str, Any]) -> Callable[[], object]:
    """The attention of PyTorch over contiguous keys."""
    q, keys, values = (x.transpose(1, 2).contiguous() for x in _dense(arguments))
    return lambda: scaled_dot_product_attention(q, keys, values, enable_gqa=True)


def _flash(arguments: dict[str, Any]) -> Callable[[], object]:
    """The `flash_attn` package over contiguous keys."""
    q, keys, values = _dense(arguments)
    attention = import_module("flash_attn").flash_attn_func
    return lambda: attention(q, keys, values)


def _dense(arguments: dict[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
    """Contiguous queries, keys and values [B, T or L, H, D] in the dtype of the queries."""
    q, cache, length = arguments["q"], arguments["cache"], int(arguments["visible"].max())
    positions = torch.arange(length, device=q.device)
    each = [cache.read(b, positions, q.dtype) for b in range(len(q))]
    keys, values = (torch.stack(tensors) for tensors in zip(*each, strict=True))
    return q, keys, values


def _predict(arguments: dict[str, Any]) -> Callable[[], object]:
    x, top = _dequantized(arguments["x"]), arguments["top"]
    weight = arguments["weight"].dequantize(x.dtype)

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
"""The same work in PyTorch, with weights dequantized beforehand."""
