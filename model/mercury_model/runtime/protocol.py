"""The interface of a runtime: ids in, numpy out, whether torch, ONNX Runtime or CUDA runs it.

A runtime knows no text, no clock and no policy. One thread uses it at a time.
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
    """What the network predicts at each of R rows, without the full logits.

    `ids` [R, K], likeliest first; `probs` [R, K], their probabilities under the softmax over the
    vocabulary, or over the ids that the row is restricted to; `entropy` [R] of that softmax, in
    nats. A row that is restricted to fewer than K ids ends in candidates of probability 0.
    """

    ids: NDArray[np.int64]
    probs: NDArray[np.float32]
    entropy: NDArray[np.float32]

    def at(self, rows: slice) -> "Predictions":
        """The predictions of some rows."""
        return Predictions(self.ids[rows], self.probs[rows], self.entropy[rows])


class KVCache(Protocol):
    """Keys and values of a causal context.

    They are exact: a context that is extended in chunks equals one that is extended at once.
    """

    @property
    def length(self) -> int:
        """The number of tokens."""

    @property
    def nbytes(self) -> int:
        """The memory it takes, in bytes."""

    def reserve(self, rows: int) -> None:
        """Make room for `rows` more tokens at once, so that it does not grow in steps."""

    def truncate(self, length: int) -> None:
        """Forget every token from position `length` on."""

    def fork(self, length: int) -> "KVCache":
        """An independent copy of the first `length` tokens."""


@dataclass(frozen=True, slots=True)
class ForwardCall:
    """One call of a runtime, to be made later.

    `kind` names the method of `Runtime`; `first` is that of `verify`. `allowed` [R, V] restricts
    the R rows that are predicted to the ids that are True, V being the whole vocabulary; None
    restricts nothing.
    """

    kind: Literal["extend", "verify", "denoise"]
    kv: KVCache
    ids: Sequence[int]
    first: int = 0
    allowed: NDArray[np.bool_] | None = None

    @property
    def predicted(self) -> int:
        """The first of the rows that are predicted."""
        return len(self.ids) - 1 if self.kind == "extend" else self.first

    @property
    def num_predicted(self) -> int:
        """The number R of rows that are predicted."""
        return len(self.ids) - self.predicted

    def on(self, runtime: "Runtime") -> Predictions:
        """Make the call, alone."""
        return runtime.forward_batch([self])[0]


class Runtime(Protocol):
    """The denoiser on some device."""

    @property
    def config(self) -> ModelConfig:
        """The architecture of the network."""

    @property
    def vocabulary(self) -> NDArray[np.int64] | None:
        """The ids that can be predicted, ascending; None if all can."""

    @property
    def name(self) -> str:
        """Device, precision and threads, for logs and `doctor`."""

    @property
    def max_batch_size(self) -> int:
        """The most calls that one `forward_batch` takes."""

    def new_kv_cache(self) -> KVCache:
        """An empty context."""

    def kv_bytes(self, tokens: int) -> int:
        """The memory that a context of `tokens` tokens takes, in bytes."""

    def forward_batch(self, calls: Sequence[ForwardCall]) -> list[Predictions]:
        """Make up to `max_batch_size` calls in one pass, each with another context.

        Each answer is the one that the call would have got alone. Raises ValueError for calls that
        `check_batch` refuses.
        """

    def extend(self, kv: KVCache, ids: Sequence[int]) -> Predictions:
        """Append up to CHUNK_TOKENS tokens causally; predicts the one that follows (R = 1)."""

    def verify(self, kv: KVCache, ids: Sequence[int], first: int = 0) -> Predictions:
        """`extend`, with predictions for all rows from `first` on (R = len(ids) - first).

        Masks may stand at the end. They see each other and all rows before them, are predicted like
        those of a block, and do not become part of `kv`.
        """

    def denoise(self, kv: KVCache, ids: Sequence[int]) -> Predictions:
        """Run a block that sees the context and, in both directions, itself; `kv` stays as it is.

        A block has up to CHUNK_TOKENS ids. A runtime with canvases takes blocks as long as these:
        a network that fills a canvas runs it as a block behind an empty context.

        Row j is the network's output at block position j. It predicts position j, or j + 1 for
        weights with the autoregressive shift; the caller knows which.
        """


class SingleCalls(Protocol):
    """The three calls of a `Runtime`, each as a batch of one."""

    def forward_batch(self, calls: Sequence[ForwardCall]) -> list[Predictions]:
        """See `Runtime`."""
        ...

    def extend(self, kv: KVCache, ids: Sequence[int]) -> Predictions:
        """See `Runtime`."""
        return self.forward_batch([ForwardCall("extend", kv, ids)])[0]

    def verify(self, kv: KVCache, ids: Sequence[int], first: int = 0) -> Predictions:
        """See `Runtime`."""
        return self.forward_batch([ForwardCall("verify", kv, ids, first)])[0]

    def denoise(self, kv: KVCache, ids: Sequence[int]) -> Predictions:
        """See `Runtime`."""
        return self.forward_batch([ForwardCall("denoise", kv, ids)])[0]


class CanvasRuntime(Runtime, Protocol):
    """A runtime whose contexts can be canvases: text, masks and text that all see each other."""

    def renew(self, kv: KVCache, ids: Sequence[int], at: int = 0) -> Predictions:
        """Run the rows of a canvas from position `at` on, keep them in `kv`, and predict each.

        They see the whole canvas: each other as they are now, the other rows as they were when
        these were last run (Fast-dLLM's dual cache, Wu et al. 2025, arXiv:2505.22618). The
        predictions are exact if only these rows have changed since the whole canvas was run, and
        if no other row was run since. The canvas grows to `at + len(ids)` tokens if it is shorter.
        Raises ValueError if `at` is beyond its end.
        """


class ReloadableRuntime(Runtime, Protocol):
    """A runtime whose weights can be replaced while it runs, as between two steps of training."""

    def load_weights(self, tensors: Mapping[str, NDArray[np.float32]]) -> None:
        """Replace the weights by those of another checkpoint, named as `checkpoint` does.

        Contexts read before hold keys and values of the old weights; the caller drops them. Raises
        ValueError, and changes nothing, where names or shapes do not fit.
        """


def check_canvas_rows(kv: KVCache, ids: Sequence[int], at: int, most: int) -> int:
    """The number of rows that a canvas grows by. Raises ValueError for rows that do not fit it."""
    if not 1 <= len(ids) <= most:
        raise ValueError(f"a canvas has 1 to {most} tokens, not {len(ids)}")
    if not 0 <= at <= kv.length:
        raise ValueError(f"position {at} is outside of a canvas of {kv.length} tokens")
    return max(0, at + len(ids) - kv.length)


def check_batch(
    calls: Sequence[ForwardCall], max_batch_size: int, vocab_size: int, canvas: int = CHUNK_TOKENS
) -> None:
    """Raise ValueError for calls that cannot share a pass, or that cannot be made at all.

    A block to denoise has up to `canvas` ids. A restriction is bool [R, vocab_size].
    """
    if not 1 <= len(calls) <= max_batch_size or len({id(call.kv) for call in calls}) < len(calls):
        raise ValueError(f"a pass takes 1 to {max_batch_size} calls, each of another context")
    for call in calls:
        name, most = ("block", canvas) if call.kind == "denoise" else ("chunk", CHUNK_TOKENS)
        if not 1 <= len(call.ids) <= most:
            raise ValueError(f"a {name} has 1 to {most} tokens, not {len(call.ids)}")
        shape, allowed = (call.num_predicted, vocab_size), call.allowed
        if allowed is not None and (allowed.shape != shape or allowed.dtype != np.bool_):
            raise ValueError(f"`allowed` is {allowed.dtype} {allowed.shape}, not bool {shape}")


def restriction(
    calls: Sequence[ForwardCall], vocabulary: NDArray[np.int64] | None
) -> NDArray[np.bool_] | None:
    """The `allowed` of a pass [R, V'], one row for each that is predicted; None if all are free.

    V' counts the ids that can be predicted, `vocabulary` if that is given. Raises ValueError for a
    row that allows none of them.
    """
    given = next((call.allowed for call in calls if call.allowed is not None), None)
    if given is None:
        return None
    allowed = np.concatenate(
        [
            np.ones((call.num_predicted, given.shape[1]), np.bool_)
            if call.allowed is None
            else call.allowed
            for call in calls
        ]
    )
    if vocabulary is not None:
        allowed = allowed[:, vocabulary]
    if not allowed.any(axis=1).all():
        raise ValueError("a row is restricted to ids that are never predicted")
    return allowed


def split_predictions(predictions: Predictions, rows: Sequence[int]) -> list[Predictions]:
    """The predictions of a pass for each of its calls, `rows` being their numbers of rows."""
    ends = np.cumsum(rows)[:-1]
    parts = (np.split(x, ends) for x in (predictions.ids, predictions.probs, predictions.entropy))
    return [Predictions(*part) for part in zip(*parts, strict=True)]


def count_before_masks(ids: Sequence[int], mask_id: int) -> int:
    """The number of ids before the masks at the end."""
    count = len(ids)
    while count and ids[count - 1] == mask_id:
        count -= 1
    return count
