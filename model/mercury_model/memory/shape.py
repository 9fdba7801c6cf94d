"""The networks that can be planned for: models of the table, and shapes of larger ones."""

from collections.abc import Mapping
from dataclasses import dataclass

from mercury_kernels.architecture import LLAMA_8B, QWEN_7B, QWEN_HALF, Architecture
from mercury_model import models, tensors
from mercury_model.config import ModelConfig
from mercury_model.errors import WeightsUnknown

BLOCK, TOKENS = 32, 2048
"""Positions of a block, and tokens in all, where no weights say how many they were taught."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What memory depends on: the architecture, the rank of gated adapters, and as they were
    taught the block and how many tokens a sequence has. `merged`: from a base and deltas;
    `vocabulary`: how many tokens are ever predicted, 0 for all.
    """

    name: str
    config: ModelConfig
    gated_rank: int = 0
    block: int = BLOCK
    tokens: int = TOKENS
    merged: bool = False
    vocabulary: int = 0


def _shape(known: Architecture, *, tied_head: bool) -> Shape:
    return Shape(
        known.name,
        ModelConfig(
            vocab_size=known.vocabulary,
            width=known.width,
            layers=known.layers,
            heads=known.heads,
            kv_heads=known.kv_heads,
            head_width=known.head_width,
            mlp_width=known.mlp_width,
            rope_theta=10_000.0,
            tied_head=tied_head,
            qkv_bias=known.qkv_bias,
        ),
    )


PRESETS: Mapping[str, Shape] = {
    shape.name: shape
    for shape in (
        _shape(QWEN_HALF, tied_head=True),
        _shape(QWEN_7B, tied_head=False),
        _shape(LLAMA_8B, tied_head=False),
    )
}
"""Shapes without weights here, by name."""


def find(name: str) -> Shape:
    """The shape of a model of the table, by name or alias, or of PRESETS. Raises WeightsUnknown."""
    if name.lower() in PRESETS:
        return PRESETS[name.lower()]
    try:
        entry = models.find(name)
    except WeightsUnknown as error:
        shapes = f"Known shapes: {', '.join(PRESETS)}."
        raise WeightsUnknown(error.what, f"{error.remedy} {shapes}") from None
    card = models.card(entry.name)
    lengths = {
        tensor.rpartition(".")[2]: len(values)
        for weights in entry.weights
        for tensor, values in tensors.read(models.BUNDLED / weights.file).tensors.items()
    }
    taught = card.infill
    tokens = taught.prefix_tokens + taught.suffix_tokens + taught.file_tokens + taught.middle_tokens
    return Shape(
        entry.name,
        card.architecture,
        lengths.get("mask_a", 0),
        taught.block_length,
        tokens,
        entry.base is not None,
        lengths.get("vocabulary", 0),
    )
