"""Runs kernels in Triton's interpreter, on CPU tensors, repaired where it is silently wrong.

The interpreter of Triton 3.9 multiplies the raw 16-bit patterns of bf16 operands in `tl.dot`,
truncates where a GPU rounds to nearest even when it narrows fp32 to bf16, keeps an integer's bits
when it converts it to bf16, and loses the carry when it narrows to fp8. The kernels do all other
arithmetic in fp32, where it is right.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pytest
import torch

from mercury_kernels.case import Case, Source
from mercury_kernels.catalogue import Operation

os.environ.setdefault("TRITON_INTERPRET", "1")


def _widen(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _narrow(values: np.ndarray, dtype: torch.dtype, bits: type) -> np.ndarray:
    rounded = torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(dtype)
    return rounded.view(torch.uint8 if bits is np.uint8 else torch.int16).numpy().view(bits)


@pytest.fixture(scope="session")
def interpreter() -> None:
    """Triton, interpreting and repaired; skips where it is not installed."""
    triton = pytest.importorskip(
        "triton", reason="Triton is not installed: mercury-lsp[dev] has it"
    )
    from triton import language as tl
    from triton.runtime import interpreter as inner

    if isinstance(tl.sum, triton.runtime.jit.JITFunction):
        pytest.fail("triton was imported before TRITON_INTERPRET=1 was set")
    narrowed = {
        "bf16": (torch.bfloat16, np.uint16),
        "fp8e4nv": (torch.float8_e4m3fn, np.uint8),
    }
    dot, cast = inner.InterpreterBuilder.create_dot, inner.InterpreterBuilder.cast_impl
    convert = inner.InterpreterBuilder.create_fp_to_fp

    def wide(handle: Any) -> Any:
        if handle.dtype.scalar != tl.bfloat16:
            return handle
        return inner.TensorHandle(_widen(handle.data), tl.float32)

    def create_dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        return dot(self, wide(a), wide(b), *rest)

    def rounding(otherwise: Callable[..., Any]) -> Callable[..., Any]:
        def narrow(self: Any, value: Any, to: Any, *rest: Any) -> Any:
            kind = narrowed.get(to.scalar.name)
            exact = value.dtype.scalar == tl.float32 or value.dtype.scalar.is_int()
            if kind is None or not exact:
                return otherwise(self, value, to, *rest)
            return inner.TensorHandle(_narrow(value.data, *kind), to.scalar)

        return narrow

    inner.InterpreterBuilder.create_dot = create_dot
    inner.InterpreterBuilder.cast_impl = rounding(cast)
    inner.InterpreterBuilder.create_fp_trunc = rounding(cast)
    inner.InterpreterBuilder.create_fp_to_fp = rounding(convert)


@pytest.fixture
def poisoned() -> Iterator[None]:
    """`torch.empty` is full of NaN, so that what a kernel forgot to write shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def _wide(value: Any) -> Any:
    """In fp64, where the type is one that the reference widens anyway."""
    if isinstance(value, torch.Tensor) and value.dtype in (torch.float32, torch.bfloat16):
        return value.double()
    return value


def _flat(result: Any) -> list[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        return [result]
    return [part for part in result if isinstance(part, torch.Tensor)]


Agree = Callable[[Operation, Case, Source], None]


@pytest.fixture
def agree(interpreter: None, poisoned: None) -> Agree:
    """Checks a kernel against its reference in fp64: results, and arguments changed in place."""

    def check(operation: Operation, case: Case, source: Source) -> None:
        given: Mapping[str, Any] = case.inputs(source)
        wanted_arguments = {name: _wide(value) for name, value in case.inputs(source).items()}
        wanted = _flat(operation.result(operation.reference()(**wanted_arguments)))
        got = _flat(operation.result(operation.kernel()(**given)))
        assert len(got) == len(wanted)
        pairs = [(f"result {i}", *pair) for i, pair in enumerate(zip(got, wanted, strict=True))]
        pairs += [
            (name, value, wanted_arguments[name])
            for name, value in given.items()
            if isinstance(value, torch.Tensor)
        ]
        for name, have, want in pairs:
            if not want.is_floating_point():
                assert torch.equal(have, want), name
                continue
            have, want = have.double(), want.double()
            infinite = want.isinf()
            assert torch.equal(have.isinf(), infinite), name
            have, want = have[~infinite], want[~infinite]
            scale = max(want.abs().max().item(), 1e-30) if want.numel() else 1.0
            error = (have - want).abs().max().item() / scale if want.numel() else 0.0
            assert error <= operation.tolerance[source.dtype], f"{name} is off by {error:.2e}"

    return check
