"""Runs kernels in Triton's interpreter, on CPU tensors, repaired where it is silently wrong.

The interpreter of Triton 3.9 multiplies the raw 16-bit patterns of bf16 operands in `tl.dot`,
truncates where a GPU rounds to nearest even when it narrows fp32 to bf16, keeps an integer's bits
when it converts it to bf16, and loses the carry when it narrows to fp8. The kernels do all other
arithmetic in fp32, where it is right.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from mercury_kernels.agreement import disagreement
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
    quantized = {
        "bf16": (torch.bfloat16, np.uint16),
        "fp8e4nv": (torch.float8_e4m3fn, np.uint8),
    }
    dot, cast = inner.InterpreterBuilder.create_dot, inner.InterpreterBuilder.cast_impl
    convert = inner.InterpreterBuilder.create_fp_to_fp

    def widened(handle: Any) -> Any:
        if handle.dtype.scalar != tl.bfloat16:
            return handle
        return inner.TensorHandle(_widen(handle.data), tl.float32)

    def create_dot(self: Any, a: Any, b: Any, *rest: Any) -> Any:
        return dot(self, widened(a), widened(b), *rest)

    def rounding(otherwise: Callable[..., Any]) -> Callable[..., Any]:
        def narrow(self: Any, value: Any, to: Any, *rest: Any) -> Any:
            kind = quantized.get(to.scalar.name)
            exact = value.dtype.scalar == tl.float32 or value.dtype.scalar.is_int()
            if kind is None or not exact:
                return otherwise(self, value, to, *rest)
            return inner.TensorHandle(_narrow(value.data, *kind), to.scalar)

        return narrow

    inner.InterpreterBuilder.create_dot = create_dot
    inner.InterpreterBuilder.cast_impl = rounding(cast)
    inner.InterpreterBuilder.create_fp_trunc = rounding(cast)
    inner.InterpreterBuilder.create_fp_to_fp = rounding(convert)
    _hasten(inner, tl)


def _hasten(inner: Any, tl: Any) -> None:
    """Xor in one go rather than element by element; patch the language once a launch.

    Without it a sort takes a minute: it is many calls of small library functions.
    """
    reduce, launch = inner.ReduceOps.apply_impl, inner.GridExecutor.__call__
    patched: set[tuple[bool, bool]] = set()

    def apply_impl(self: Any, value: Any) -> Any:
        if self.combine_fn is not tl.standard._xor_combine:
            return reduce(self, value)
        data = np.bitwise_xor.reduce(value[0].handle.data, axis=self.axis, keepdims=self.keep_dims)
        return self.to_tensor(data, value[0].dtype)

    def whole(self: Any, *arguments: Any, **options: Any) -> None:
        patched.clear()
        launch(self, *arguments, **options)

    def nested(self: Any, *arguments: Any, **options: Any) -> Any:
        seen = [value for value in self.fn.__globals__.values() if value in (tl, tl.core)]
        sees = (tl in seen, tl.core in seen)
        if sees not in patched:
            patched.add(sees)
            inner._patch_lang(self.fn)
        return self.rewrite()(*arguments, **options)

    inner.ReduceOps.apply_impl = apply_impl
    inner.GridExecutor.__call__ = whole
    inner.InterpretedFunction.__call__ = nested


@pytest.fixture
def poisoned() -> Iterator[None]:
    """`torch.empty` is full of NaN, so that what a kernel forgot to write shows."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


Agree = Callable[[Operation, Case, Source], None]


@pytest.fixture
def agree(interpreter: None, poisoned: None) -> Agree:
    """Checks a kernel against its reference in fp64."""

    def check(operation: Operation, case: Case, source: Source) -> None:
        assert disagreement(operation, case, source) is None

    return check
