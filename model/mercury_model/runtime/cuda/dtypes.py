"""How the kernels can keep weights and contexts: what plans choose from is what runs.

Knows no tensors: a plan is made without torch.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

WeightDtype: TypeAlias = Literal["bf16", "int8", "fp8"]
CacheDtype: TypeAlias = Literal["bf16", "fp8"]


@dataclass(frozen=True, slots=True)
class KernelDtypes:
    """The types of the matrices, and of keys and values; all else is bf16, and sums fp32.

    Narrow matrices have a scale for each row, narrow keys and values one for each head of a token.
    """

    weights: WeightDtype = "bf16"
    contexts: CacheDtype = "bf16"


_WEIGHT_DTYPES: tuple[WeightDtype, ...] = ("bf16", "int8", "fp8")
_CACHE_DTYPES: tuple[CacheDtype, ...] = ("bf16", "fp8")

KERNEL_DTYPES = tuple(
    KernelDtypes(weights, contexts) for weights in _WEIGHT_DTYPES for contexts in _CACHE_DTYPES
)
"""All there are: the most exact weights first, then the most exact contexts."""
