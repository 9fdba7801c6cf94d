"""Whether a kernel does what its reference says, for the tests and the bench alike."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from mercury_kernels.case import Case, Source
from mercury_kernels.catalogue import Operation


def disagreement(operation: Operation, case: Case, source: Source) -> str | None:
    """Run both on the same inputs, the reference in fp64; what differs most, or None.

    Results are compared, and arguments that may have been changed in place.
    """
    given = case.inputs(source)
    wide = {name: _wide(value) for name, value in case.inputs(source).items()}
    wanted = operation.result(operation.reference()(**wide))
    got = operation.result(operation.kernel()(**given))
    have = _tensors({"result": got, "argument": given}, operation.name)
    want = _tensors({"result": wanted, "argument": wide}, operation.name)
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
    """The largest difference relative to the largest magnitude wanted; NaN where one is.

    For whole numbers the share that differs; infinite where shapes or infinities differ.
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


def _wide(value: Any) -> Any:
    """In fp64, where the type is one that the reference widens anyway."""
    if isinstance(value, Tensor) and value.dtype in (torch.float32, torch.bfloat16):
        return value.double()
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _wide(getattr(value, f.name)) for f in fields(value)})
    return value


def _tensors(value: Any, name: str) -> list[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        return [(name, value)]
    if is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in fields(value)}
    if isinstance(value, Mapping):
        return [found for key, part in value.items() for found in _tensors(part, f"{name}.{key}")]
    return []
