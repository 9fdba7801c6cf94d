"""How much of a context is read in one call, and which window is read before a deadline.

The cost model decides both. Knows no text and no clock; the time left is an argument.
"""

from mercury_model.runtime.limits import CHUNK_TOKENS
from mercury_model.serving.cost_model import CostModel

MAX_CHUNK_MS = 60.0
"""The expected time of a call that reads a chunk. A key that arrives meanwhile waits for it."""

MIN_CHUNK_TOKENS = 8
"""A chunk is a multiple of this. Smaller ones would cost the fixed time of a call too often."""

READING_SHARE = 0.5
"""The share of the time left in which the full window must be read; the rest is for decoding."""


def chunk_tokens(cost_model: CostModel) -> int:
    """The largest chunk that should take at most MAX_CHUNK_MS; MIN_CHUNK_TOKENS if none does.

    Where one row alone takes half of that or longer, a chunk may take twice as long as the row:
    smaller chunks would hardly end earlier, and reading would take several times as long.
    """
    row_ns = cost_model.expected_ns(1) if cost_model.knows_rows else 0.0
    limit_ns = max(MAX_CHUNK_MS * 1e6, 2 * row_ns)
    for rows in range(CHUNK_TOKENS, MIN_CHUNK_TOKENS, -MIN_CHUNK_TOKENS):
        if cost_model.expected_ns(rows) <= limit_ns:
            return rows
    return MIN_CHUNK_TOKENS


def is_read_in_time(tokens: int, left_ns: float, cost_model: CostModel) -> bool:
    """Whether `tokens` should be read in the share of `left_ns` that is for reading.

    Up to a chunk always is: decoding needs a call anyway, which reads it too. Before the first
    measurement, nothing else is.
    """
    chunk = chunk_tokens(cost_model)
    if tokens <= chunk or not cost_model.has_measured:
        return tokens <= chunk
    chunks, rest = divmod(tokens, chunk)
    expected_ns = chunks * cost_model.expected_ns(chunk)
    expected_ns += cost_model.expected_ns(rest) if rest else 0
    return expected_ns <= READING_SHARE * left_ns
