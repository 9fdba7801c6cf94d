"""The shapes that memory is planned for. Knows no model by its name, and reads no files."""

from collections.abc import Mapping
from dataclasses import dataclass

from mercury_kernels.architecture import LLAMA_8B, QWEN_7B, QWEN_HALF, Architecture
from mercury_model.spec.card import ModelCard
from mercury_model.spec.model_config import ModelConfig

BLOCK, TOKENS = 32, 2048
"""Positions of a block, and tokens in all, where no weights say how many they were taught."""


@dataclass(frozen=True, slots=True)
class NetworkShape:
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


def _shape(known: Architecture, *, tie_word_embeddings: bool) -> NetworkShape:
    return NetworkShape(
        known.name,
        ModelConfig(
            vocab_size=known.vocabulary,
            hidden_size=known.hidden_size,
            num_layers=known.num_layers,
            num_heads=known.num_heads,
            num_kv_heads=known.num_kv_heads,
            head_dim=known.head_dim,
            intermediate_size=known.intermediate_size,
            rope_theta=10_000.0,
            tie_word_embeddings=tie_word_embeddings,
            qkv_bias=known.qkv_bias,
        ),
    )


PRESETS: Mapping[str, NetworkShape] = {
    shape.name: shape
    for shape in (
        _shape(QWEN_HALF, tie_word_embeddings=True),
        _shape(QWEN_7B, tie_word_embeddings=False),
        _shape(LLAMA_8B, tie_word_embeddings=False),
    )
}
"""Shapes without weights here, by name."""


def shape_of(
    card: ModelCard, gated_rank: int = 0, vocabulary: int = 0, *, merged: bool = False
) -> NetworkShape:
    """The shape of a model: what its card says, and what its weights add to that."""
    taught = card.infill
    return NetworkShape(
        card.name,
        card.architecture,
        gated_rank,
        taught.block_length,
        taught.context_tokens,
        merged,
        vocabulary,
    )
