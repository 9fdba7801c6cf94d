"""The types in which the kernels can store weights and contexts, for the planner and the runtime.

Imports no torch, so that the planner works without it.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

WeightDtype: TypeAlias = Literal["bf16", "int8", "fp8"]
CacheDtype: TypeAlias = Literal["bf16", "fp8"]


@dataclass(frozen=True, slots=True)
class KernelDtypes:
    """The types of the matrices, and of keys and values. All else is bf16; sums are fp32.

    8-bit matrices have a scale for each row, 8-bit keys and values one for each head of a token.
    """

    weights: WeightDtype = "bf16"
    contexts: CacheDtype = "bf16"


_WEIGHT_DTYPES: tuple[WeightDtype, ...] = ("bf16", "int8", "fp8")
_CACHE_DTYPES: tuple[CacheDtype, ...] = ("bf16", "fp8")

KERNEL_DTYPES = tuple(
    KernelDtypes(weights, contexts) for weights in _WEIGHT_DTYPES for contexts in _CACHE_DTYPES
)
"""All combinations: the most exact weights first, then the most exact contexts."""
