"""Where the network runs: one interface for torch, ONNX Runtime and CUDA. Ids in, numpy out.

A runtime knows no text, no clock and no policy. It is used by one thread at a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mercury_model.config import ModelConfig

CHUNK_TOKENS = 64
"""The most tokens one `extend` takes: what bounds the time to cancel."""

TOP_K = 16
"""How many candidates a prediction carries for each row."""

ROOM_TOKENS = 256
"""A context on a CPU has room for a multiple of so many tokens."""

POSITIONS = 8192
"""Rows of the rotary tables of a graph: no context is longer."""


def room(tokens: int) -> int:
    """For how many tokens a context that holds `tokens` has room."""
    return max(1, -(-tokens // ROOM_TOKENS)) * ROOM_TOKENS


def has_graph(config: ModelConfig) -> bool:
    """Whether ONNX Runtime has an attention for a network: without norms, of a width of 16s."""
    return not config.qk_norm and config.head_width % 16 == 0


@dataclass(frozen=True, slots=True)
class Predictions:
    """What the network expects at each of R rows, without the full logits.

    `ids` [R, K] likeliest first; `probs` [R, K] their probabilities under the softmax over the
    whole vocabulary; `entropy` [R] of that softmax, in nats.
    """

    ids: NDArray[np.int64]
    probs: NDArray[np.float32]
    entropy: NDArray[np.float32]


class KV(Protocol):
    """Keys and values of a causal context. Exact: extending by chunks equals extending at once."""

    @property
    def length(self) -> int:
        """How many tokens are held."""

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""

    def reserve(self, rows: int) -> None:
        """Make room for `rows` more tokens at once, which spares growing by steps."""

    def truncate(self, length: int) -> None:
        """Forget every token from position `length` on."""

    def fork(self, length: int) -> "KV":
        """An independent copy of the first `length` tokens."""


class Runtime(Protocol):
    """The denoiser on some device."""

    @property
    def config(self) -> ModelConfig:
        """The architecture that runs."""

    @property
    def name(self) -> str:
        """For logs and `doctor`: device, precision, threads."""

    def new_kv(self) -> KV:
        """An empty context."""

    def extend(self, kv: KV, ids: Sequence[int]) -> Predictions:
        """Append at most CHUNK_TOKENS tokens causally; predicts (R = 1) what follows the last."""

    def verify(self, kv: KV, ids: Sequence[int]) -> Predictions:
        """`extend`, predicting what follows each of the tokens (R = len(ids)).

        Masks may stand at the end: they see each other and all before them, are predicted like
        those of a block, and do not become part of `kv`.
        """

    def denoise(self, kv: KV, ids: Sequence[int]) -> Predictions:
        """Run a block that sees the context and, in both directions, itself; `kv` stays as it is.

        Row j is the network's output at block position j; what it predicts (j, or j + 1 where the
        weights keep the autoregressive shift) is for the caller to know.
        """
