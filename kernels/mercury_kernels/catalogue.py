"""Every operation by name: its cases, its reference and its kernel.

A kernel module is imported on demand, since it needs Triton.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import product
from typing import Any, cast

import torch

from mercury_kernels.case import Case, Source, Tolerance


@dataclass(frozen=True, slots=True)
class Operation:
    """The function `name` in `mercury_kernels.<folder>`, and the dtypes that it ships for."""

    folder: str
    name: str
    weights: tuple[torch.dtype | None, ...] = (None,)
    caches: tuple[torch.dtype | None, ...] = (None,)
    rows: tuple[torch.dtype | None, ...] = (None,)

    def reference(self) -> Callable[..., Any]:
        """The reference function."""
        return self._function("reference")

    def kernel(self) -> Callable[..., Any]:
        """The wrapper of the Triton kernel. Raises ImportError without Triton."""
        return self._function("kernel")

    @property
    def tests(self) -> Sequence[Case]:
        """Small and odd shapes."""
        return cast("Sequence[Case]", self._cases().TESTS)

    def tests_of(self, source: Source) -> list[Case]:
        """The tests for a source: fp8 activations are never used with an adapter."""
        return [
            case for case in self.tests if source.row_dtype is None or not getattr(case, "rank", 0)
        ]

    @property
    def tolerance(self) -> Tolerance:
        """The allowed difference from the reference, unless a case has its own."""
        return cast("Tolerance", self._cases().TOLERANCE)

    def sources(self, device: str, dtype: torch.dtype = torch.bfloat16) -> tuple[Source, ...]:
        """Activations of `dtype` with every shipped dtype of weights, caches and rows.

        Rows in fp8 are combined with weights in fp8 and bf16 activations only.
        """
        return tuple(
            Source(device, dtype, weights, cache, rows)
            for weights, cache, rows in product(self.weights, self.caches, self.rows)
            if rows is None or (rows == weights and dtype == torch.bfloat16)
        )

    def result(self, output: Any) -> Any:
        """The specified part of the output: all of it unless the cases have `specified`."""
        specified = getattr(self._cases(), "specified", None)
        return output if specified is None else specified(output)

    def _cases(self) -> Any:
        return import_module(f"mercury_kernels.{self.folder}.cases")

    def _function(self, module: str) -> Callable[..., Any]:
        found = getattr(import_module(f"mercury_kernels.{self.folder}.{module}"), self.name)
        return cast("Callable[..., Any]", found)


WEIGHTS = (None, torch.float8_e4m3fn, torch.int8)
"""The dtypes of weights; None is the activation dtype."""

CACHES = (None, torch.float8_e4m3fn)
"""The dtypes of cached keys and values."""

ROWS = (None, torch.float8_e4m3fn)
"""The dtypes of the activations that products read."""

OPERATIONS = (
    Operation("norm", "add_rmsnorm"),
    Operation("quantize", "quantize"),
    Operation("linear", "linear", WEIGHTS, rows=ROWS),
    Operation("swiglu", "swiglu", WEIGHTS, rows=ROWS),
    Operation("rope", "rotate_and_cache", caches=CACHES),
    Operation("attention", "attend", caches=CACHES),
    Operation("head", "predict", WEIGHTS, rows=ROWS),
    Operation("choose", "choose"),
    Operation("kl_divergence", "kl_divergence"),
    Operation("commit", "commit"),
)
