"""Which implementation serves a device, decided once, at load, and logged.

Nothing here is decided at import, and no kernel asks again: what comes out is a value that the
step is given.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor

from mercury_kernels.adapter import Gated
from mercury_kernels.attention.reference import Apart, attend
from mercury_kernels.choose.reference import Choices, Noise, choose
from mercury_kernels.commit.reference import Policy, commit
from mercury_kernels.head.reference import Predicted, predict
from mercury_kernels.kl_divergence.reference import PreviousPredictions, kl_divergence
from mercury_kernels.launch import Submit, run
from mercury_kernels.linear.reference import linear
from mercury_kernels.norm.reference import add_rmsnorm
from mercury_kernels.paged import Paged
from mercury_kernels.quantize.reference import quantize
from mercury_kernels.rope.reference import Projection, Rotation, rotate_and_cache
from mercury_kernels.swiglu.reference import swiglu
from mercury_kernels.weights import Rows, Weight

log = logging.getLogger(__name__)

BF16_CAPABILITY = (8, 0)
FP8_CAPABILITY = (8, 9)
TUNED_CAPABILITY = (9, 0)


@dataclass(frozen=True, slots=True)
class Operations:
    """One implementation of every operation; each module's `reference` says what they mean.

    `quantized_dtypes` are those, besides the activations' own, that weights and caches can have.
    """

    name: str
    quantized_dtypes: tuple[torch.dtype, ...]
    add_rmsnorm: Callable[[Tensor, Tensor, Tensor, float], Tensor]
    quantize: Callable[[Tensor], Weight]
    linear: Callable[[Rows, Weight, Gated | None], Tensor]
    swiglu: Callable[[Rows, Weight, Weight, Gated | None], Tensor]
    rotate_and_cache: Callable[[Tensor, Projection, Rotation, Tensor, Tensor, Tensor, Paged], None]
    attend: Callable[[Tensor, Tensor, Paged, Apart | None], Tensor]
    predict: Callable[[Rows, Weight, int, Tensor | None, Tensor | None], Predicted]
    choose: Callable[[Predicted, Tensor, Noise, Tensor, int, int], Choices]
    kl_divergence: Callable[[Predicted, PreviousPredictions, int], Tensor]
    commit: Callable[[Tensor, Tensor, Choices, Policy, int, Tensor], None]


def reference_operations() -> Operations:
    """The specification, for any device; some of it waits for the device."""
    return Operations(
        "reference",
        (torch.float8_e4m3fn, torch.int8),
        add_rmsnorm,
        quantize,
        linear,
        swiglu,
        rotate_and_cache,
        attend,
        predict,
        choose,
        kl_divergence,
        commit,
    )


def triton_operations(
    quantize: tuple[torch.dtype, ...] = (torch.float8_e4m3fn, torch.int8), submit: Submit = run
) -> Operations:
    """The kernels. Raises ImportError without Triton. `submit` takes every launch."""
    from mercury_kernels.attention import kernel as attention
    from mercury_kernels.choose import kernel as choice
    from mercury_kernels.commit import kernel as commitment
    from mercury_kernels.head import kernel as head
    from mercury_kernels.kl_divergence import kernel as divergence
    from mercury_kernels.linear import kernel as product
    from mercury_kernels.norm import kernel as norm
    from mercury_kernels.quantize import kernel as quantization
    from mercury_kernels.rope import kernel as rope
    from mercury_kernels.swiglu import kernel as gated

    return Operations(
        "triton",
        quantize,
        partial(norm.add_rmsnorm, submit=submit),
        partial(quantization.quantize, submit=submit),
        partial(product.linear, submit=submit),
        partial(gated.swiglu, submit=submit),
        partial(rope.rotate_and_cache, submit=submit),
        partial(attention.attend, submit=submit),
        partial(head.predict, submit=submit),
        partial(choice.choose, submit=submit),
        partial(divergence.kl_divergence, submit=submit),
        partial(commitment.commit, submit=submit),
    )


@dataclass(frozen=True, slots=True)
class Decision:
    """`kernels` or the reference, the narrow types that go with it, and `why`, for the log."""

    kernels: bool
    quantized_dtypes: tuple[torch.dtype, ...]
    why: str


def decide(device: str, capability: tuple[int, int], triton: bool) -> Decision:
    """What suits a device of this type and CUDA capability, given whether Triton is installed."""
    both = (torch.float8_e4m3fn, torch.int8)
    if device != "cuda":
        return Decision(False, both, f"{device} is not a GPU that kernels are for")
    if not triton:
        return Decision(False, both, "Triton is not installed; mercury-lsp[cuda] has it")
    shown = f"sm_{capability[0]}{capability[1]}"
    if capability < BF16_CAPABILITY:
        return Decision(False, both, f"{shown} has no bf16 tensor cores")
    if capability < FP8_CAPABILITY:
        return Decision(True, (torch.int8,), f"{shown} has no fp8")
    tuned = "tuned for it" if capability >= TUNED_CAPABILITY else "tuned for sm_90"
    return Decision(True, both, f"{shown}, {tuned}")


def select(device: torch.device) -> Operations:
    """Decide for a device of this machine, log it, and load what was chosen."""
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0)
    decision = decide(device.type, capability, find_spec("triton") is not None)
    chosen = (
        triton_operations(decision.quantized_dtypes) if decision.kernels else reference_operations()
    )
    log.info("operations on %s: %s (%s)", device, chosen.name, decision.why)
    return chosen
