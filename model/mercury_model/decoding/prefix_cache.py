"""The keys and values that are kept between requests: the least recently used go first.

A context is lent to one generator at a time and comes back when that generator ends, is closed or
is forgotten; what another holds is never touched. Knows token ids, no text and no documents.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType

from mercury_model.decoding.call_generator import CallGenerator
from mercury_model.runtime.limits import CHUNK_TOKENS
from mercury_model.runtime.protocol import ForwardCall, KVCache, Predictions, Runtime

MAX_REWIND_TOKENS = 16
"""A context that loses no more than this many tokens is handed over; otherwise it lends a copy."""


@dataclass(slots=True)
class CachedPrefix:
    """Keys and values of `ids`; `next` predicts what follows them, once something is held."""

    kv: KVCache
    ids: list[int] = field(default_factory=list)
    next: Predictions | None = None

    def fill(self, wanted: Sequence[int]) -> CallGenerator[int]:
        """Extend to `wanted`, of which `ids` is a beginning; a call for each chunk.

        Yields after each how many tokens are still to do.
        """
        self.kv.reserve(len(wanted) - len(self.ids))
        while len(self.ids) < len(wanted):
            chunk = wanted[len(self.ids) : len(self.ids) + CHUNK_TOKENS]
            self.read(chunk, (yield ForwardCall("extend", self.kv, chunk)))
            yield len(wanted) - len(self.ids)

    def last_chunk(self, wanted: Sequence[int]) -> Sequence[int]:
        """What the last of the calls of `fill` reads; nothing if there is nothing to read."""
        left = len(wanted) - len(self.ids)
        return wanted[len(wanted) - ((left - 1) % CHUNK_TOKENS + 1) :] if left else ()

    def read(self, ids: Sequence[int], predictions: Predictions) -> None:
        """A call has extended `kv` by `ids` and predicts what follows them."""
        self.next = predictions
        self.ids.extend(ids)

    def rewind(self, length: int) -> None:
        """Forget what follows the first `length` ids."""
        self.kv.truncate(length)
        if length < len(self.ids):
            del self.ids[length:]
            self.next = None


class PrefixCache:
    """A store of contexts, bounded in bytes; what is lent out does not count."""

    def __init__(self, runtime: Runtime, limit_bytes: int) -> None:
        self._runtime = runtime
        self._limit_bytes = limit_bytes
        self._kept: list[CachedPrefix] = []  # most recently used last

    @property
    def nbytes(self) -> int:
        """Memory of what is kept."""
        return sum(context.kv.nbytes for context in self._kept)

    def bound(self, limit_bytes: int, wanted: Sequence[int] = ()) -> None:
        """Keep no more than this from now on, and what helps with `wanted` the longest.

        A context that `acquire` would hand over for it is as good as lent, and does not count.
        """
        self._limit_bytes = limit_bytes
        best, lent = self._best(wanted), 0
        if best is not None:
            self._kept.remove(best)
            self._kept.append(best)
            lent = best.kv.nbytes if _is_moved(best, wanted) else 0
        self._drop(lent)

    def acquire(self, wanted: Sequence[int]) -> "Lease":
        """A context that holds the longest known beginning of `wanted`, for one borrower.

        `wanted` is at least one id.
        """
        return Lease(self, self._take(wanted))

    def _take(self, wanted: Sequence[int]) -> CachedPrefix:
        best = self._best(wanted)
        if best is None:
            return CachedPrefix(self._runtime.new_kv_cache())
        common = _usable_length(best, wanted)
        if not _is_moved(best, wanted):
            return CachedPrefix(best.kv.fork(common), best.ids[:common])
        self._kept.remove(best)
        best.rewind(common)
        return best

    def _best(self, wanted: Sequence[int]) -> CachedPrefix | None:
        """What is kept that begins as `wanted` does, for the longest; of equals the last used."""
        latest = reversed(self._kept)
        best = max(latest, key=lambda kept: _common_length(kept.ids, wanted), default=None)
        return best if best is not None and _common_length(best.ids, wanted) else None

    def _drop(self, lent_bytes: int = 0) -> None:
        while self.nbytes - lent_bytes > self._limit_bytes:
            del self._kept[0]

    def release(self, context: CachedPrefix) -> None:
        """Keep `context`, in place of all that are no more than a beginning of it."""
        if not context.ids:
            return
        context.rewind(len(context.ids))
        self._kept = [
            kept for kept in self._kept if _common_length(kept.ids, context.ids) < len(kept.ids)
        ]
        self._kept.append(context)
        self._drop()


@dataclass(frozen=True, slots=True)
class Lease:
    """A `with` block that has `context` for itself.

    It goes back to the store when the block ends or its generator is closed. After an error
    nobody knows what its keys and values are worth: it is dropped.
    """

    store: PrefixCache
    context: CachedPrefix

    def __enter__(self) -> CachedPrefix:
        return self.context

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None or issubclass(kind, GeneratorExit):
            self.store.release(self.context)


def _usable_length(context: CachedPrefix, wanted: Sequence[int]) -> int:
    """How many tokens of a context are of use for `wanted`."""
    common = _common_length(context.ids, wanted)
    if common == len(wanted) and (common < len(context.ids) or context.next is None):
        return common - 1  # the prediction after the last token has to be made again
    return common


def _is_moved(context: CachedPrefix, wanted: Sequence[int]) -> bool:
    """Whether a context is lent itself, since it loses little, and not a copy."""
    return len(context.ids) - _usable_length(context, wanted) <= MAX_REWIND_TOKENS


def _common_length(one: Sequence[int], other: Sequence[int]) -> int:
    """How many leading ids agree."""
    for index, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return index
    return min(len(one), len(other))
