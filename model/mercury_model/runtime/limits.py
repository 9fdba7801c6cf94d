"""Sizes that every runtime keeps to, in tokens."""

CHUNK_TOKENS = 64
"""The most tokens that one `extend` takes. It bounds the time to cancel."""


TOP_K = 16
"""The number of candidates of a prediction, for each row."""


BLOCKED_LOGIT = -1e30
"""The logit of an id that a row must not give. It is finite, so that the entropy stays a number."""


KV_BLOCK_TOKENS = 128
"""The capacity of a context on a CPU is a multiple of this."""


MAX_POSITIONS = 8192
"""Rows of the rotary tables of a graph: no context is longer."""


def kv_capacity(tokens: int) -> int:
    """The capacity of a context that holds `tokens` tokens."""
    return max(1, -(-tokens // KV_BLOCK_TOKENS)) * KV_BLOCK_TOKENS
