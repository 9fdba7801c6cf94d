"""How the kernels can keep weights and contexts: what plans choose from is what runs.

Knows no tensors: a plan is made without torch.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Weights: TypeAlias = Literal["bf16", "int8", "fp8"]
Contexts: TypeAlias = Literal["bf16", "fp8"]


@dataclass(frozen=True, slots=True)
class Kept:
    """The types of the matrices, and of keys and values; all else is bf16, and sums fp32.

    Narrow matrices have a scale for each row, narrow keys and values one for each head of a token.
    """

    weights: Weights = "bf16"
    contexts: Contexts = "bf16"


_WEIGHTS: tuple[Weights, ...] = ("bf16", "int8", "fp8")
_CONTEXTS: tuple[Contexts, ...] = ("bf16", "fp8")

KEPT = tuple(Kept(weights, contexts) for weights in _WEIGHTS for contexts in _CONTEXTS)
"""All there are: the most exact weights first, then the most exact contexts."""
