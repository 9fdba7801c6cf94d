"""Every operation by name: its cases, its reference, where its kernel is.

A kernel module is imported when it is asked for, since that needs Triton.
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
    """`name` is the function, in `mercury_kernels.<folder>`; the rest the types it ships for."""

    folder: str
    name: str
    weights: tuple[torch.dtype | None, ...] = (None,)
    caches: tuple[torch.dtype | None, ...] = (None,)
    rows: tuple[torch.dtype | None, ...] = (None,)

    def reference(self) -> Callable[..., Any]:
        """The specification."""
        return self._function("reference")

    def kernel(self) -> Callable[..., Any]:
        """The Triton kernel's wrapper. Raises ImportError without Triton."""
        return self._function("kernel")

    @property
    def tests(self) -> Sequence[Case]:
        """Small and odd shapes."""
        return cast("Sequence[Case]", self._cases().TESTS)

    def tests_of(self, source: Source) -> list[Case]:
        """Those that this source is for: narrow rows never meet an adapter."""
        return [
            case for case in self.tests if source.row_dtype is None or not getattr(case, "rank", 0)
        ]

    @property
    def tolerance(self) -> Tolerance:
        """What agreement with the reference means, unless a case says otherwise."""
        return cast("Tolerance", self._cases().TOLERANCE)

    def sources(self, device: str, dtype: torch.dtype = torch.bfloat16) -> tuple[Source, ...]:
        """These activations with every type of weights, cached keys and rows that ships.

        Narrow rows go with weights of their own type alone, and stand for bf16.
        """
        return tuple(
            Source(device, dtype, weights, cache, rows)
            for weights, cache, rows in product(self.weights, self.caches, self.rows)
            if rows is None or (rows == weights and dtype == torch.bfloat16)
        )

    def result(self, output: Any) -> Any:
        """What of the output is specified: all of it, unless the cases say otherwise."""
        specified = getattr(self._cases(), "specified", None)
        return output if specified is None else specified(output)

    def _cases(self) -> Any:
        return import_module(f"mercury_kernels.{self.folder}.cases")

    def _function(self, module: str) -> Callable[..., Any]:
        found = getattr(import_module(f"mercury_kernels.{self.folder}.{module}"), self.name)
        return cast("Callable[..., Any]", found)


WEIGHTS = (None, torch.float8_e4m3fn, torch.int8)
"""Types that weights are stored in; None is the activations' own."""

CACHES = (None, torch.float8_e4m3fn)
"""Types that keys and values are kept in."""

ROWS = (None, torch.float8_e4m3fn)
"""Types of the activations that products take."""

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
