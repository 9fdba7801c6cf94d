"""Converts the tensors of a checkpoint to the network that the kernels run."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mercury_kernels.adapter import Adapter
from mercury_kernels.architecture import quantize_activations_from
from mercury_kernels.dispatch import Operations
from mercury_kernels.rope.reference import QkvEpilogue, Rotation
from mercury_kernels.step import Adapters, LayerWeights, Network
from mercury_kernels.weights import Weight, quantized
from mercury_model.runtime.cuda.dtypes import KERNEL_DTYPES, CacheDtype, KernelDtypes, WeightDtype
from mercury_model.spec.model_config import ModelConfig

Tensors = Mapping[str, NDArray[np.float32]]

DTYPES: Mapping[WeightDtype | CacheDtype, torch.dtype] = {
    "bf16": torch.bfloat16,
    "int8": torch.int8,
    "fp8": torch.float8_e4m3fn,
}
"""The torch types of the names in `KernelDtypes`."""


def load_weights(
    config: ModelConfig,
    tensors: Tensors,
    device: torch.device,
    mask_id: int,
    positions: int,
    weights: torch.dtype = torch.bfloat16,
) -> Network:
    """The weights of a checkpoint, named as in `checkpoint`, on a device.

    The rotary tables have `positions` rows. Matrices are stored in `weights`: fp32, bf16, int8 or
    fp8. Activations are fp32 if the weights are, and bf16 otherwise.
    """
    dtype = torch.float32 if weights == torch.float32 else torch.bfloat16

    def plain(values: NDArray[np.float32]) -> Tensor:
        # A copy even on a CPU: weights that are replaced later must not change the checkpoint.
        return torch.from_numpy(np.ascontiguousarray(values)).to(device, dtype, copy=True)

    def weight(*parts: NDArray[np.float32]) -> Weight:
        return quantized(torch.from_numpy(np.concatenate(parts)).to(device), weights)

    layers = tuple(
        _layer(config, _of_layer(tensors, index), plain, weight)
        for index in range(config.num_layers)
    )
    head = tensors["embedding" if config.tie_word_embeddings else "head"]
    vocabulary = tensors.get("vocabulary")
    if vocabulary is not None:
        head = head[vocabulary.astype(np.int64)]
    embedding = plain(tensors["embedding"])
    ranks = [len(layer.adapters.qkv.down) for layer in layers if layer.adapters]
    fp8 = weights == DTYPES["fp8"]
    shared = config.tie_word_embeddings and vocabulary is None and weights == dtype
    return Network(
        embedding=embedding,
        layers=layers,
        norm=plain(tensors["norm"]),
        head=Weight(embedding) if shared else weight(head),
        rotation=_rotation(config, positions, device),
        num_heads=config.num_heads,
        num_kv_heads=config.num_kv_heads,
        head_dim=config.head_dim,
        eps=config.rms_norm_eps,
        vocabulary=None if vocabulary is None else torch.from_numpy(vocabulary).to(device),
        mask_id=mask_id if ranks else None,
        quantize_activations_from=quantize_activations_from(
            config.hidden_size, max(ranks, default=0)
        )
        if fp8
        else None,
    )


def replace_weights(network: Network, other: Network) -> None:
    """Copy the weights of `other` into the tensors of `network`; captured passes stay valid.

    The rotary tables stay. Raises ValueError, and changes nothing, if names, shapes or types
    differ.
    """
    old, new = dict(_named_weights(network)), dict(_named_weights(other))
    kinds, others = (
        {name: (tensor.shape, tensor.dtype) for name, tensor in each.items()} for each in (old, new)
    )
    if kinds != others:
        differ = ", ".join(sorted({name for name, _ in kinds.items() ^ others.items()}))
        raise ValueError(f"the weights do not fit the network: {differ}")
    for name, values in old.items():
        values.copy_(new[name])


def _named_weights(value: Any, name: str = "network") -> Iterator[tuple[str, Tensor]]:
    """Every tensor of a structure of dataclasses and tuples, by its path."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, tuple):
        for index, part in enumerate(value):
            yield from _named_weights(part, f"{name}.{index}")
    elif is_dataclass(value) and not isinstance(value, Rotation):
        for field in fields(value):
            yield from _named_weights(getattr(value, field.name), f"{name}.{field.name}")


def supported_dtypes(do: Operations) -> tuple[KernelDtypes, ...]:
    """The types that these operations support, best first."""
    types = (torch.bfloat16, *do.quantized_dtypes)
    return tuple(
        each
        for each in KERNEL_DTYPES
        if DTYPES[each.weights] in types and DTYPES[each.contexts] in types
    )


def _of_layer(tensors: Tensors, index: int) -> Tensors:
    start = f"layers.{index}."
    return {
        name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)
    }


def _layer(
    config: ModelConfig,
    layer: Tensors,
    plain: Callable[[NDArray[np.float32]], Tensor],
    weight: Callable[..., Weight],
) -> LayerWeights:
    bias = None
    if config.qkv_bias:
        bias = plain(np.concatenate([layer[f"{part}.bias"] for part in "qkv"]))
    norms = [plain(layer[f"{part}_norm"]) if config.qk_norm else None for part in "qk"]
    groups = ("qkv", "o", "gu", "d") if _has_adapters(layer) else ()
    adapters = [_adapter(layer, parts, plain) for parts in groups]
    return LayerWeights(
        attention_norm=plain(layer["attention_norm"]),
        qkv=weight(*(layer[part] for part in "qkv")),
        epilogue=QkvEpilogue(bias, norms[0], norms[1], config.rms_norm_eps),
        output=weight(layer["o"]),
        mlp_norm=plain(layer["mlp_norm"]),
        gate=weight(layer["g"]),
        up=weight(layer["u"]),
        down=weight(layer["d"]),
        adapters=Adapters(*adapters) if adapters else None,
    )


def _has_adapters(layer: Tensors) -> bool:
    """Whether a layer has gated adapters that are not all zero."""
    return any(name.endswith(".mask_b") and values.any() for name, values in layer.items())


def _adapter(layer: Tensors, parts: str, plain: Callable[[NDArray[np.float32]], Tensor]) -> Adapter:
    """One adapter for the matrices of a group; inner halves that differ are stacked."""
    downs, ups = ([layer[f"{part}.mask_{half}"] for part in parts] for half in "ab")
    if all(np.array_equal(down, downs[0]) for down in downs):
        return Adapter(plain(downs[0]), plain(np.concatenate(ups)))
    ranks, rows = ([len(matrix) for matrix in halves] for halves in (downs, ups))
    up = np.zeros((sum(rows), sum(ranks)), np.float32)
    for index, block in enumerate(ups):
        row, column = sum(rows[:index]), sum(ranks[:index])
        up[row : row + rows[index], column : column + ranks[index]] = block
    return Adapter(plain(np.concatenate(downs)), plain(up))


def _rotation(config: ModelConfig, positions: int, device: torch.device) -> Rotation:
    """The rotary tables of `network.operations`, in fp32."""
    half = torch.arange(0, config.head_dim, 2, dtype=torch.float32)
    frequencies = config.rope_theta ** -(half / config.head_dim)
    angles = torch.arange(positions)[:, None].float() * frequencies
    return Rotation(angles.cos().to(device), angles.sin().to(device))
