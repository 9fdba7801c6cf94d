"""The networks that can be planned for: models of the table, and shapes of larger ones."""

from collections.abc import Mapping
from dataclasses import dataclass

from mercury_kernels.architecture import LLAMA_8B, QWEN_7B, QWEN_HALF, Architecture
from mercury_model.errors import WeightsUnsupported
from mercury_model.spec.model_config import ModelConfig
from mercury_model.weights import registry, tensor_file

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


def find(name: str) -> NetworkShape:
    """The shape of a model of the table, by name or alias, or of PRESETS. Raises
    WeightsUnsupported."""
    if name.lower() in PRESETS:
        return PRESETS[name.lower()]
    try:
        entry = registry.find(name)
    except WeightsUnsupported as error:
        shapes = f"Known shapes: {', '.join(PRESETS)}."
        raise WeightsUnsupported(error.what, f"{error.remedy} {shapes}") from None
    card = registry.card(entry.name)
    lengths = {
        tensor.rpartition(".")[2]: len(values)
        for weights in entry.weights
        for tensor, values in tensor_file.read(registry.BUNDLED / weights.file).tensors.items()
    }
    taught = card.infill
    tokens = taught.prefix_tokens + taught.suffix_tokens + taught.file_tokens + taught.middle_tokens
    return NetworkShape(
        entry.name,
        card.architecture,
        lengths.get("mask_a", 0),
        taught.block_length,
        tokens,
        entry.base is not None,
        lengths.get("vocabulary", 0),
    )
