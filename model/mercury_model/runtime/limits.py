"""Sizes that every runtime keeps to, in tokens."""

CHUNK_TOKENS = 64
"""The most tokens one `extend` takes: what bounds the time to cancel."""


TOP_K = 16
"""How many candidates a prediction carries for each row."""


KV_BLOCK_TOKENS = 128
"""A context on a CPU has room for a multiple of so many tokens."""


MAX_POSITIONS = 8192
"""Rows of the rotary tables of a graph: no context is longer."""


def kv_capacity(tokens: int) -> int:
    """For how many tokens a context that holds `tokens` has room."""
    return max(1, -(-tokens // KV_BLOCK_TOKENS)) * KV_BLOCK_TOKENS
