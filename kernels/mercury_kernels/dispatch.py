"""Select the implementation for a device: once, when a model is loaded, with a log message.

The choice is a value, `Operations`, that is passed to the step. Importing decides nothing.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import torch
from torch import Tensor

from mercury_kernels.adapter import Gated
from mercury_kernels.attention.reference import CausalTokens, attend
from mercury_kernels.choose.reference import Choices, SamplingTensors, choose
from mercury_kernels.commit.reference import Policy, commit
from mercury_kernels.head.reference import Predicted, predict
from mercury_kernels.kl_divergence.reference import PreviousPredictions, kl_divergence
from mercury_kernels.launch import Submit, run
from mercury_kernels.linear.reference import linear
from mercury_kernels.norm.reference import add_rmsnorm
from mercury_kernels.paged import PagedKVCache
from mercury_kernels.quantize.reference import quantize
from mercury_kernels.rope.reference import QkvEpilogue, Rotation, rotate_and_cache
from mercury_kernels.swiglu.reference import swiglu
from mercury_kernels.weights import Rows, Weight

log = logging.getLogger(__name__)

BF16_CAPABILITY = (8, 0)
FP8_CAPABILITY = (8, 9)
TUNED_CAPABILITY = (9, 0)


@dataclass(frozen=True, slots=True)
class Operations:
    """One implementation of every operation; the `reference` modules specify them.

    `quantized_dtypes` are the dtypes that weights and caches can have besides the activation dtype.
    """

    name: str
    quantized_dtypes: tuple[torch.dtype, ...]
    add_rmsnorm: Callable[[Tensor, Tensor, Tensor, float], Tensor]
    quantize: Callable[[Tensor], Weight]
    linear: Callable[[Rows, Weight, Gated | None], Tensor]
    swiglu: Callable[[Rows, Weight, Weight, Gated | None], Tensor]
    rotate_and_cache: Callable[
        [Tensor, QkvEpilogue, Rotation, Tensor, Tensor, Tensor, PagedKVCache], None
    ]
    attend: Callable[[Tensor, Tensor, PagedKVCache, CausalTokens | None], Tensor]
    predict: Callable[[Rows, Weight, int, Tensor | None, Tensor | None], Predicted]
    choose: Callable[[Predicted, Tensor, SamplingTensors, Tensor, int, int], Choices]
    kl_divergence: Callable[[Predicted, PreviousPredictions, int], Tensor]
    commit: Callable[[Tensor, Tensor, Choices, Policy, int, Tensor], None]


def reference_operations() -> Operations:
    """The references, for any device. Some of them synchronize with the device."""
    return Operations(
        name="reference",
        quantized_dtypes=(torch.float8_e4m3fn, torch.int8),
        add_rmsnorm=add_rmsnorm,
        quantize=quantize,
        linear=linear,
        swiglu=swiglu,
        rotate_and_cache=rotate_and_cache,
        attend=attend,
        predict=predict,
        choose=choose,
        kl_divergence=kl_divergence,
        commit=commit,
    )


def triton_operations(
    quantized_dtypes: tuple[torch.dtype, ...] = (torch.float8_e4m3fn, torch.int8),
    submit: Submit = run,
) -> Operations:
    """The kernels; `submit` receives every launch. Raises ImportError without Triton."""
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
        name="triton",
        quantized_dtypes=quantized_dtypes,
        add_rmsnorm=partial(norm.add_rmsnorm, submit=submit),
        quantize=partial(quantization.quantize, submit=submit),
        linear=partial(product.linear, submit=submit),
        swiglu=partial(gated.swiglu, submit=submit),
        rotate_and_cache=partial(rope.rotate_and_cache, submit=submit),
        attend=partial(attention.attend, submit=submit),
        predict=partial(head.predict, submit=submit),
        choose=partial(choice.choose, submit=submit),
        kl_divergence=partial(divergence.kl_divergence, submit=submit),
        commit=partial(commitment.commit, submit=submit),
    )


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether the kernels are used, their quantized dtypes, and the reason, for the log."""

    kernels: bool
    quantized_dtypes: tuple[torch.dtype, ...]
    why: str


def decide(device: str, capability: tuple[int, int], triton: bool) -> Decision:
    """The decision for a device type and CUDA capability; `triton` says whether it is installed."""
    both = (torch.float8_e4m3fn, torch.int8)
    if device != "cuda":
        return Decision(False, both, f"{device} is not a GPU that the kernels support")
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
    """The operations for a device of this machine; the decision is logged."""
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0)
    decision = decide(device.type, capability, find_spec("triton") is not None)
    chosen = (
        triton_operations(decision.quantized_dtypes) if decision.kernels else reference_operations()
    )
    log.info("operations on %s: %s (%s)", device, chosen.name, decision.why)
    return chosen
