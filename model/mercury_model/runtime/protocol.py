"""Where the network runs: one interface for torch, ONNX Runtime and CUDA. Ids in, numpy out.

A runtime knows no text, no clock and no policy. It is used by one thread at a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mercury_model.runtime.limits import CHUNK_TOKENS
from mercury_model.spec.model_config import ModelConfig


@dataclass(frozen=True, slots=True)
class Predictions:
    """What the network expects at each of R rows, without the full logits.

    `ids` [R, K] likeliest first; `probs` [R, K] their probabilities under the softmax over the
    whole vocabulary; `entropy` [R] of that softmax, in nats.
    """

    ids: NDArray[np.int64]
    probs: NDArray[np.float32]
    entropy: NDArray[np.float32]

    def at(self, rows: slice) -> "Predictions":
        """Those of some rows."""
        return Predictions(self.ids[rows], self.probs[rows], self.entropy[rows])


class KVCache(Protocol):
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

    def fork(self, length: int) -> "KVCache":
        """An independent copy of the first `length` tokens."""


@dataclass(frozen=True, slots=True)
class ForwardCall:
    """One call of a runtime, not made yet: `kind` names its method, `first` is for `verify`."""

    kind: Literal["extend", "verify", "denoise"]
    kv: KVCache
    ids: Sequence[int]
    first: int = 0

    @property
    def predicted(self) -> int:
        """The first of the rows that are predicted."""
        return len(self.ids) - 1 if self.kind == "extend" else self.first

    def on(self, runtime: "Runtime") -> Predictions:
        """Make it, alone."""
        match self.kind:
            case "extend":
                return runtime.extend(self.kv, self.ids)
            case "verify":
                return runtime.verify(self.kv, self.ids, self.first)
            case "denoise":
                return runtime.denoise(self.kv, self.ids)


class Runtime(Protocol):
    """The denoiser on some device."""

    @property
    def config(self) -> ModelConfig:
        """The architecture that runs."""

    @property
    def name(self) -> str:
        """For logs and `doctor`: device, precision, threads."""

    @property
    def max_batch_size(self) -> int:
        """How many calls may share a pass."""

    def new_kv_cache(self) -> KVCache:
        """An empty context."""

    def kv_bytes(self, tokens: int) -> int:
        """What a context takes that holds so many tokens, in bytes."""

    def forward_batch(self, calls: Sequence[ForwardCall]) -> list[Predictions]:
        """Make up to `max_batch_size` calls in one pass, each of another context.

        Their answers are those that each would have got alone: what shares a pass is not seen.
        """

    def extend(self, kv: KVCache, ids: Sequence[int]) -> Predictions:
        """Append at most CHUNK_TOKENS tokens causally; predicts (R = 1) what follows the last."""

    def verify(self, kv: KVCache, ids: Sequence[int], first: int = 0) -> Predictions:
        """`extend`, predicting what follows each token from row `first` on (R = len(ids) - first).

        Masks may stand at the end: they see each other and all before them, are predicted like
        those of a block, and do not become part of `kv`.
        """

    def denoise(self, kv: KVCache, ids: Sequence[int]) -> Predictions:
        """Run a block that sees the context and, in both directions, itself; `kv` stays as it is.

        It has at most CHUNK_TOKENS ids, or where the runtime takes canvases as many as these have:
        networks that fill a canvas, with text before and after its masks, run it after no context.

        Row j is the network's output at block position j; what it predicts (j, or j + 1 where the
        weights keep the autoregressive shift) is for the caller to know.
        """


class CanvasRuntime(Runtime, Protocol):
    """One whose contexts can be canvases: text, masks and text that all see each other."""

    def renew(self, kv: KVCache, ids: Sequence[int], at: int = 0) -> Predictions:
        """Run the rows of a canvas from position `at` on, and keep them in `kv`; predicts each.

        They see all of the canvas: the rows that are run as they are, the others, before and behind
        them, as they were when they were run (Fast-dLLM's dual cache, Wu et al. 2025,
        arXiv:2505.22618). So what is predicted is exact as long as only these rows have changed
        since the whole canvas was run, and no row beyond them was run since. The canvas grows to
        `at + len(ids)` tokens if it is shorter. Raises ValueError where `at` is beyond its end.
        """


class ReloadableRuntime(Runtime, Protocol):
    """A runtime whose weights can be replaced while it runs, as between two steps of training."""

    def load_weights(self, tensors: Mapping[str, NDArray[np.float32]]) -> None:
        """Replace the weights by those of another checkpoint, named as `checkpoint` does.

        Contexts read before hold keys and values of the old weights; the caller drops them. Raises
        ValueError, and changes nothing, where names or shapes do not fit.
        """


def check_canvas_rows(kv: KVCache, ids: Sequence[int], at: int, most: int) -> int:
    """How many rows a canvas grows by. Raises ValueError for rows that cannot be renewed."""
    if not 1 <= len(ids) <= most:
        raise ValueError(f"a canvas has 1 to {most} tokens, not {len(ids)}")
    if not 0 <= at <= kv.length:
        raise ValueError(f"position {at} is outside of a canvas of {kv.length} tokens")
    return max(0, at + len(ids) - kv.length)


def check_batch(
    calls: Sequence[ForwardCall], max_batch_size: int, canvas: int = CHUNK_TOKENS
) -> None:
    """Raises ValueError for calls that cannot share a pass, or cannot be made at all.

    A block to denoise has up to `canvas` ids.
    """
    if not 1 <= len(calls) <= max_batch_size or len({id(call.kv) for call in calls}) < len(calls):
        raise ValueError(f"a pass takes 1 to {max_batch_size} calls, each of another context")
    for call in calls:
        name, most = ("block", canvas) if call.kind == "denoise" else ("chunk", CHUNK_TOKENS)
        if not 1 <= len(call.ids) <= most:
            raise ValueError(f"a {name} has 1 to {most} tokens, not {len(call.ids)}")


def split_predictions(predictions: Predictions, rows: Sequence[int]) -> list[Predictions]:
    """The predictions of a pass for each of its calls, which have so many rows."""
    ends = np.cumsum(rows)[:-1]
    parts = (np.split(x, ends) for x in (predictions.ids, predictions.probs, predictions.entropy))
    return [Predictions(*part) for part in zip(*parts, strict=True)]


def count_before_masks(ids: Sequence[int], mask_id: int) -> int:
    """How many ids there are before the masks at the end."""
    count = len(ids)
    while count and ids[count - 1] == mask_id:
        count -= 1
    return count
