"""A small network with adapters in one layer, as torch and as the kernels have it."""

from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch

from mercury_kernels.adapter import Adapter
from mercury_kernels.case import Source
from mercury_kernels.launch import Launch
from mercury_kernels.rope.cases import rotation
from mercury_kernels.rope.reference import QkvEpilogue
from mercury_kernels.step import Adapters, Bucket, LayerWeights, Network, TokenConstraints
from mercury_kernels.weights import Weight, quantized
from mercury_model.network.adapters import LowRankAdapters
from mercury_model.network.denoiser import Denoiser
from mercury_model.spec.model_config import ModelConfig

MASK, END = 99, 98
CONFIG = ModelConfig(
    vocab_size=100,
    hidden_size=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    intermediate_size=48,
    rope_theta=1e4,
    rms_norm_eps=1e-5,
    tie_word_embeddings=False,
    qkv_bias=True,
    qk_norm=True,
)
RANK = 3
BUCKET = Bucket(batch=2, block=6, pages=2)


def denoiser() -> Denoiser:
    """A network of random weights, its norms away from one; its second layer is adapted."""
    torch.manual_seed(3)
    model = Denoiser(CONFIG, LowRankAdapters.zeros(CONFIG, RANK), MASK).eval().requires_grad_(False)
    for layer in model.layers:
        for part, module in layer.named_children():
            for parameter in module.parameters():
                if parameter.dim() == 1:
                    parameter.add_(torch.randn_like(parameter) * 0.1)
            pair = model.gated.pair(1, part) if layer.index == 1 else None
            if pair is not None:
                pair.a.copy_(torch.randn_like(pair.a) * 0.3)
                pair.b.copy_(torch.randn_like(pair.b) * 0.3)
    model.norm.weight.add_(torch.randn_like(model.norm.weight) * 0.1)
    return model


def adapter(gated: LowRankAdapters, layer: int, parts: str) -> Adapter:
    """That of some projections which read the same rows, each with an inner half of its own."""
    pairs = [gated.pair(layer, part) for part in parts]
    return Adapter(
        torch.cat([pair.a for pair in pairs]), torch.block_diag(*(pair.b for pair in pairs))
    )


def network(model: Denoiser, dtype: torch.dtype = torch.float32, positions: int = 128) -> Network:
    """The same weights as the kernels take them."""

    def weight(matrix: torch.Tensor) -> Weight:
        return quantized(matrix.detach(), dtype)

    layers = tuple(
        LayerWeights(
            attention_norm=layer.attention_norm.weight,
            qkv=weight(torch.cat([layer.q.weight, layer.k.weight, layer.v.weight])),
            epilogue=QkvEpilogue(
                bias=torch.cat([layer.q.bias, layer.k.bias, layer.v.bias]),
                q_norm=layer.q_norm.weight,
                k_norm=layer.k_norm.weight,
                eps=CONFIG.rms_norm_eps,
            ),
            output=weight(layer.o.weight),
            mlp_norm=layer.mlp_norm.weight,
            gate=weight(layer.g.weight),
            up=weight(layer.u.weight),
            down=weight(layer.d.weight),
            adapters=Adapters(
                *(adapter(model.gated, layer.index, parts) for parts in ("qkv", "o", "gu", "d"))
            )
            if layer.index
            else None,
        )
        for layer in model.layers
    )
    return Network(
        embedding=model.embedding.weight.detach(),
        layers=layers,
        norm=model.norm.weight,
        head=weight(model.head.weight),
        rotation=rotation(positions, CONFIG.head_dim, Source()),
        num_heads=CONFIG.num_heads,
        num_kv_heads=CONFIG.num_kv_heads,
        head_dim=CONFIG.head_dim,
        eps=CONFIG.rms_norm_eps,
        mask_id=MASK,
    )


RULES = TokenConstraints(
    MASK, END, shift=0, forbidden=torch.tensor([MASK], dtype=torch.int32), top=4
)


def mapped(value: Any, change: Any) -> Any:
    """The same structure, every tensor changed."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, tuple):
        return tuple(mapped(part, change) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        parts = {f.name: mapped(getattr(value, f.name), change) for f in fields(value)}
        return replace(value, **parts)
    return value


def tensors(value: Any) -> list[torch.Tensor]:
    """Every tensor of a structure, in order."""
    found: list[torch.Tensor] = []
    mapped(value, lambda tensor: found.append(tensor) or tensor)
    return found


def described(launch: Launch) -> tuple[Any, ...]:
    """What a captured graph would hold of a launch, less the addresses."""
    arguments = [
        (name, tuple(value.shape) if isinstance(value, torch.Tensor) else value)
        for name, value in launch.arguments.items()
    ]
    return launch.name, launch.grid, tuple(arguments), launch.warps, launch.stages
