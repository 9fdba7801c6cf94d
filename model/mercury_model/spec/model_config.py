"""The architecture of a network, in the words of the hub's `config.json`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A Llama-shaped decoder. Qwen2 adds `qkv_bias`, Qwen3 `qk_norm`; sizes in units, not bytes."""

    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    rope_theta: float
    rms_norm_eps: float = 1e-5
    tie_word_embeddings: bool = True
    qkv_bias: bool = False
    qk_norm: bool = False

    @property
    def can_be_adapted(self) -> bool:
        """Whether training covers it: a tied head, and heads that are not normed."""
        return self.tie_word_embeddings and not self.qk_norm

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """[out, in] of the matrices of a layer: query, key, value, output; gate, up, down."""
        queries, keys = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        return {
            "q": (queries, self.hidden_size),
            "k": (keys, self.hidden_size),
            "v": (keys, self.hidden_size),
            "o": (self.hidden_size, queries),
            "g": (self.intermediate_size, self.hidden_size),
            "u": (self.intermediate_size, self.hidden_size),
            "d": (self.hidden_size, self.intermediate_size),
        }

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values of one token over all layers, in fp32."""
        return self.num_layers * 2 * self.num_kv_heads * self.head_dim * 4
