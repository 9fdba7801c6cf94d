"""The shapes of the networks that the kernels are tuned, compiled and timed for."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Architecture:
    """A Llama-shaped decoder, as far as kernels care. `vocabulary` rows in the head.

    The last `gated_layers` have adapters of `gated_rank` that act at masks.
    """

    name: str
    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    vocabulary: int
    qkv_bias: bool = False
    gated_rank: int = 0
    gated_layers: int = 0

    @property
    def qkv_width(self) -> int:
        """Columns of the fused query, key and value projection."""
        return (self.num_heads + 2 * self.num_kv_heads) * self.head_dim

    @property
    def matrix_parameters(self) -> int:
        """Weights that every denoise step reads: all matrices but the embedding's."""
        attention = self.hidden_size * (self.qkv_width + self.num_heads * self.head_dim)
        return self.num_layers * (attention + 3 * self.hidden_size * self.intermediate_size) + (
            self.vocabulary * self.hidden_size
        )


MINI = Architecture("mini", 30, 576, 9, 3, 64, 1536, 49152, gated_rank=32, gated_layers=22)
QWEN_HALF = Architecture("qwen2.5-0.5b", 24, 896, 14, 2, 64, 4864, 151936, qkv_bias=True)
QWEN_7B = Architecture("qwen2.5-7b", 28, 3584, 28, 4, 128, 18944, 152064, qkv_bias=True)
LLAMA_8B = Architecture("llama-8b", 32, 4096, 32, 8, 128, 14336, 128256)

ARCHITECTURES = (MINI, QWEN_HALF, QWEN_7B, LLAMA_8B)

FP8_ROWS, FP8_WIDTH = 256, 2048
"""From so many rows of a step on, in networks so wide, it is worth multiplying in fp8: with fewer,
narrowing rows takes more time than arithmetic loses."""


def quantize_activations_from(hidden_size: int, gated_rank: int) -> int | None:
    """From how many rows of a step on weights in fp8 are multiplied in fp8; None for never."""
    return FP8_ROWS if hidden_size >= FP8_WIDTH and not gated_rank else None
