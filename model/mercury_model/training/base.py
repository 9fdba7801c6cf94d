"""Between weights by name, as checkpoints hold them, and the grouped ones that training runs on."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mercury_model.spec.model_config import ModelConfig
from mercury_model.training.network import GROUPS, Adapters, FrozenLayer, FrozenNetwork


def frozen(
    config: ModelConfig,
    tensors: Mapping[str, NDArray[np.float32]],
    device: torch.device,
    dtype: torch.dtype,
) -> FrozenNetwork:
    """The merged weights of a checkpoint, those of a group stacked.

    Raises ValueError for architectures that training does not cover.
    """
    if not config.can_be_adapted:
        raise ValueError("only tied Llama-shaped networks without biases can be adapted")

    def moved(values: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(values).to(device, dtype)

    layers = []
    for i in range(config.num_layers):
        name = f"layers.{i}"
        matrices = {
            group: moved(np.concatenate([tensors[f"{name}.{part}"] for part in parts]))
            for group, parts in GROUPS.items()
        }
        norms = (moved(tensors[f"{name}.{norm}_norm"]) for norm in ("attention", "mlp"))
        layers.append(FrozenLayer(matrices, *norms))
    return FrozenNetwork(config, moved(tensors["embedding"]), moved(tensors["norm"]), tuple(layers))


def training_dtype(device: torch.device) -> torch.dtype:
    """bf16 where the device multiplies it fast, fp32 elsewhere."""
    if device.type == "cuda" or torch.cpu._is_avx512_bf16_supported():
        return torch.bfloat16
    return torch.float32


def delta(config: ModelConfig, parameters: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    """Both adapters as a delta: int8 rows with a scale each, under the names of a checkpoint.

    `parameters` are those of a `Network` by name; others are passed over. Layers without adapters
    are left out.
    """
    result: dict[str, NDArray[Any]] = {}
    for name, values in parameters.items():
        found = _PARAMETER.fullmatch(name)
        if found is None:
            continue
        kind, layer, group, half = found.groups()
        parts = GROUPS[group]
        shares = (
            torch.split(values, [config.projections[p][0] for p in parts])
            if half == "b"
            else [values] * 3
        )
        for part, share in zip(parts, shares, strict=False):
            key = f"layers.{layer}.{part}.{'mask_' if kind == 'gated' else ''}{half}"
            result[key], result[f"{key}.scale"] = quantised(share)
    return result


_PARAMETER = re.compile(r"(plain|gated)\.weights\.(\d+)_(qkv|o|gu|d)_([ab])")


def inherit(adapters: Adapters, learnt: Mapping[str, NDArray[np.float32]], kind: str) -> None:
    """Let adapters go on from those of a delta, where it has some of the same shape.

    `kind` is "mask_" for gated adapters and "" for plain ones, as in names. Adapters of our own
    making share the inner half within a group, so nothing is lost.
    """
    with torch.no_grad():
        for key, parameter in adapters.weights.items():
            layer, group, half = key.split("_")
            parts = [f"layers.{layer}.{part}.{kind}{half}" for part in GROUPS[group]]
            if parts[0] not in learnt:
                continue
            whole = [learnt[parts[0]]] if half == "a" else [learnt[part] for part in parts]
            values = torch.from_numpy(np.concatenate(whole))
            if values.shape == parameter.shape:
                parameter.copy_(values)


def quantised(values: Tensor) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Rows [R, C] as int8 and a scale [R] each; the largest of a row is exact to half a step."""
    wide = values.detach().float().cpu()
    scale = wide.abs().amax(1).clamp(min=1e-12) / 127
    return (wide / scale[:, None]).round().to(torch.int8).numpy(), scale.numpy()
