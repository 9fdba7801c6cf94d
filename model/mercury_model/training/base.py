"""Frozen networks and adapters, from and to tensors named as checkpoints name them."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mercury_model.network.adapters import GROUPS, LowRankAdapters
from mercury_model.network.denoiser import Denoiser, load_denoiser
from mercury_model.spec.model_config import ModelConfig


def frozen(
    config: ModelConfig,
    tensors: Mapping[str, NDArray[np.float32]],
    device: torch.device,
    dtype: torch.dtype,
) -> Denoiser:
    """The network of a checkpoint, without gradients.

    Raises ValueError for architectures that training does not cover.
    """
    if not config.can_be_adapted:
        raise ValueError("only networks with a tied head and without normed heads can be adapted")
    return load_denoiser(config, tensors).to(device, dtype).requires_grad_(False)


def training_dtype(device: torch.device) -> torch.dtype:
    """bf16 where the device multiplies it fast, fp32 elsewhere."""
    if device.type == "cuda" or torch.cpu._is_avx512_bf16_supported():
        return torch.bfloat16
    return torch.float32


def delta(tensors: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    """Both adapters as a delta: int8 rows with a scale each, under the names of a checkpoint.

    `tensors` are trained parameters by name (see `adapters.named`); others are passed over. Each
    matrix gets a copy of the half that it shares with its group.
    """
    result: dict[str, NDArray[Any]] = {}
    for name, values in tensors.items():
        found = _ADAPTER.fullmatch(name)
        if found is None:
            continue
        layer, part, half = found.groups()
        group = next(group for group in GROUPS if part in group)
        for each in group if half.endswith("a") else part:
            key = f"{layer}.{each}.{half}"
            result[key], result[f"{key}.scale"] = quantized(values)
    return result


_ADAPTER = re.compile(r"(layers\.\d+)\.([qkvogud])\.((?:mask_)?[ab])")


def inherit(
    adapters: LowRankAdapters, learnt: Mapping[str, NDArray[np.float32]], kind: str
) -> None:
    """Start adapters from those of a delta, where it has some of the same shape.

    `kind` is "mask_" for gated adapters and "" for plain ones. Adapters made by training share
    their first half within a group, so nothing is lost.
    """
    with torch.no_grad():
        for name, parameter in adapters.named_parameters():
            start, _, half = name.rpartition(".")
            values = learnt.get(f"{start}.{kind}{half}")
            if values is not None and values.shape == parameter.shape:
                parameter.copy_(torch.from_numpy(values))


def quantized(values: Tensor) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Rows [R, C] as int8 and a scale [R] each; every value is exact to half a step."""
    wide = values.detach().float().cpu()
    scale = wide.abs().amax(1).clamp(min=1e-12) / 127
    return (wide / scale[:, None]).round().to(torch.int8).numpy(), scale.numpy()
