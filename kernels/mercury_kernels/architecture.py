"""The shapes of the networks that the kernels are tuned, compiled and timed for."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Architecture:
    """The shape of a Llama-like decoder. The head has `vocabulary` rows.

    The last `gated_layers` layers have adapters of rank `gated_rank` that act at masks.
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
        """The columns of the fused query, key and value projection."""
        return (self.num_heads + 2 * self.num_kv_heads) * self.head_dim

    @property
    def matrix_parameters(self) -> int:
        """The weights that every denoising step reads: all matrices except the embedding."""
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
"""The rows of a step and the hidden size from which products in fp8 pay off. Below them, quantizing
the activations costs more time than it saves."""


def quantize_activations_from(hidden_size: int, gated_rank: int) -> int | None:
    """The rows of a step from which activations are quantized for fp8 weights; None for never."""
    return FP8_ROWS if hidden_size >= FP8_WIDTH and not gated_rank else None
