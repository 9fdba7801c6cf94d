"""Whether a kernel agrees with its reference, for the tests and the benchmark."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mercury_kernels.case import Case, Source
from mercury_kernels.catalogue import Operation


def disagreement(operation: Operation, case: Case, source: Source) -> str | None:
    """Run both on the same inputs, the reference in fp64; the first excessive difference, or None.

    Compares the results, and the arguments, which may have been changed in place.
    """
    arguments = case.inputs(source)
    in_fp64 = {name: _in_fp64(value) for name, value in case.inputs(source).items()}
    wanted = operation.result(operation.reference()(**in_fp64))
    got = operation.result(operation.kernel()(**arguments))
    have = _tensors({"result": got, "argument": arguments}, operation.name)
    want = _tensors({"result": wanted, "argument": in_fp64}, operation.name)
    if [name for name, _ in have] != [name for name, _ in want]:
        return f"{operation.name} returns other tensors than its reference"
    tolerance = getattr(case, "tolerance", operation.tolerance)
    for (name, mine), (_, its) in zip(have, want, strict=True):
        allowed = tolerance.get(mine.dtype)
        if allowed is None:
            whole = not (mine.is_floating_point() and its.is_floating_point())
            allowed = 0.0 if whole else tolerance[source.dtype]
        error = difference(mine, its)
        if not error <= allowed:
            return f"{name} is off by {error:.2e}, {allowed:.0e} is allowed"
    return None


def difference(have: Tensor, want: Tensor) -> float:
    """The largest difference relative to the largest magnitude of `want`; NaN if there is a NaN.

    For integers the share that differs. Infinite if shapes or infinities differ.
    """
    if have.shape != want.shape:
        return float("inf")
    if want.numel() == 0:
        return 0.0
    if not want.is_floating_point():
        return (have != want).double().mean().item()
    have, want = have.double(), want.double()
    infinite = want.isinf()
    if not torch.equal(have.isinf(), infinite):
        return float("inf")
    have, want = have[~infinite], want[~infinite]
    if want.numel() == 0:
        return 0.0
    return (have - want).abs().max().item() / max(want.abs().max().item(), 1e-30)


def _in_fp64(value: Any) -> Any:
    """Floats of fp32 and bf16 in fp64; quantized values stay as they are."""
    if isinstance(value, Tensor) and value.dtype in (torch.float32, torch.bfloat16):
        return value.double()
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _in_fp64(getattr(value, f.name)) for f in fields(value)})
    return value


def _tensors(value: Any, name: str) -> list[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        return [(name, value)]
    if is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in fields(value)}
    if isinstance(value, Mapping):
        return [found for key, part in value.items() for found in _tensors(part, f"{name}.{key}")]
    return []
