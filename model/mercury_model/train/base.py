"""Between weights by name, as checkpoints hold them, and the grouped ones that training runs on."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mercury_model.config import ModelConfig
from mercury_model.train.network import GROUPS, Adapters, Frozen, FrozenLayer


def frozen(
    config: ModelConfig,
    tensors: Mapping[str, NDArray[np.float32]],
    device: torch.device,
    dtype: torch.dtype,
) -> Frozen:
    """The merged weights of a checkpoint, those of a group stacked.

    Raises ValueError for architectures that training does not cover.
    """
    if config.qkv_bias or config.qk_norm or not config.tied_head:
        raise ValueError("only tied Llama-shaped networks without biases can be adapted")

    def moved(values: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(values).to(device, dtype)

    layers = []
    for i in range(config.layers):
        name = f"layers.{i}"
        matrices = {
            group: moved(np.concatenate([tensors[f"{name}.{part}"] for part in parts]))
            for group, parts in GROUPS.items()
        }
        norms = (moved(tensors[f"{name}.{norm}_norm"]) for norm in ("attention", "mlp"))
        layers.append(FrozenLayer(matrices, *norms))
    return Frozen(config, moved(tensors["embedding"]), moved(tensors["norm"]), tuple(layers))


def training_dtype(device: torch.device) -> torch.dtype:
    """bf16 where the device multiplies it fast, fp32 elsewhere."""
    if device.type == "cuda" or torch.cpu._is_avx512_bf16_supported():
        return torch.bfloat16
    return torch.float32


def delta(config: ModelConfig, plain: Adapters, gated: Adapters) -> dict[str, NDArray[Any]]:
    """Both adapters as a delta: int8 rows with a scale each, under the names of a checkpoint.

    Layers below the adapters' first have none.
    """
    rows = {
        "q": config.heads * config.head_width,
        "k": config.kv_heads * config.head_width,
        "v": config.kv_heads * config.head_width,
        "o": config.width,
        "g": config.mlp_width,
        "u": config.mlp_width,
        "d": config.width,
    }
    result: dict[str, NDArray[Any]] = {}
    for adapters, prefix in ((plain, ""), (gated, "mask_")):
        for i in range(adapters.first, config.layers):
            for group, parts in GROUPS.items():
                pair = adapters.pair(i, group)
                assert pair is not None
                a, b = pair
                for part, own in zip(parts, torch.split(b, [rows[p] for p in parts]), strict=True):
                    name = f"layers.{i}.{part}.{prefix}"
                    for key, values in ((f"{name}a", a), (f"{name}b", own)):
                        result[key], result[f"{key}.scale"] = quantised(values)
    return result


def quantised(values: Tensor) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Rows [R, C] as int8 and a scale [R] each; the largest of a row is exact to half a step."""
    wide = values.detach().float().cpu()
    scale = wide.abs().amax(1).clamp(min=1e-12) / 127
    return (wide / scale[:, None]).round().to(torch.int8).numpy(), scale.numpy()
