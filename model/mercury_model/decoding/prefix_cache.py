"""The prefix cache: keys and values kept between requests, the least recently used dropped first.

One generator at a time holds a context. It releases it when it ends, is closed or is garbage
collected; nobody else touches it until then. Knows token ids, no text and no documents.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType

from mercury_model.decoding.call_generator import CallGenerator
from mercury_model.decoding.healing import Healing
from mercury_model.runtime.limits import CHUNK_TOKENS
from mercury_model.runtime.protocol import ForwardCall, KVCache, Predictions, Runtime

MAX_REWIND_TOKENS = 16
"""A context that loses at most this many tokens is handed over itself, otherwise as a copy."""


@dataclass(slots=True)
class CachedPrefix:
    """Keys and values of `ids`; `next` predicts the token that follows them, if it is known.

    `next` is restricted to the tokens that agree with `next_owed` (see `healing`).
    """

    kv: KVCache
    ids: list[int] = field(default_factory=list)
    next: Predictions | None = None
    next_owed: bytes = b""

    def fill(
        self,
        wanted: Sequence[int],
        healing: Healing,
        chunk_tokens: Callable[[], int] = lambda: CHUNK_TOKENS,
    ) -> CallGenerator[int]:
        """Extend to `wanted`, which begins with `ids`, by a call for each chunk.

        Each step yields the number of tokens still to read. The last call predicts a token that
        agrees with what `healing` owes. `chunk_tokens` is asked before each call how many tokens it
        may read, at most CHUNK_TOKENS.
        """
        self.kv.reserve(len(wanted) - len(self.ids))
        while len(self.ids) < len(wanted):
            chunk = wanted[len(self.ids) : len(self.ids) + chunk_tokens()]
            left = len(wanted) - len(self.ids) - len(chunk)
            owed = b"" if left else healing.owed
            allowed = healing.rows([owed])
            predictions = yield ForwardCall("extend", self.kv, chunk, allowed=allowed)
            self.read(chunk, predictions, owed)
            yield left

    def last_chunk(self, wanted: Sequence[int], chunk_tokens: int = CHUNK_TOKENS) -> Sequence[int]:
        """The ids that the last call of `fill` reads; none if there is nothing to read."""
        left = len(wanted) - len(self.ids)
        return wanted[len(wanted) - ((left - 1) % chunk_tokens + 1) :] if left else ()

    def read(self, ids: Sequence[int], predictions: Predictions, owed: bytes) -> None:
        """Take note of a call that extended `kv` by `ids`; its predictions agree with `owed`."""
        self.next, self.next_owed = predictions, owed
        self.ids.extend(ids)

    def rewind(self, length: int) -> None:
        """Forget what follows the first `length` ids."""
        self.kv.truncate(length)
        if length < len(self.ids):
            del self.ids[length:]
            self.next = None


class PrefixCache:
    """Contexts, bounded in bytes; those that are held do not count."""

    def __init__(self, runtime: Runtime, limit_bytes: int) -> None:
        self._runtime = runtime
        self._limit_bytes = limit_bytes
        self._contexts: list[CachedPrefix] = []  # most recently used last

    @property
    def nbytes(self) -> int:
        """The memory of the contexts that nobody holds, in bytes."""
        return sum(context.kv.nbytes for context in self._contexts)

    def set_capacity(self, limit_bytes: int, wanted: Sequence[int] = (), owed: bytes = b"") -> None:
        """Keep at most `limit_bytes` from now on; the context that helps with `wanted` goes last.

        A context that `acquire` would hand over itself does not count: it is as good as acquired.
        """
        self._limit_bytes = limit_bytes
        best, moved = self._best(wanted), 0
        if best is not None:
            self._contexts.remove(best)
            self._contexts.append(best)
            moved = best.kv.nbytes if _is_moved(best, wanted, owed) else 0
        self._drop(moved)

    def acquire(self, wanted: Sequence[int], owed: bytes = b"") -> "Lease":
        """The context with the longest known beginning of `wanted`, for one holder.

        `wanted` is at least one id. The prediction behind it must agree with `owed`.
        """
        return Lease(self, self._take(wanted, owed))

    def unread(self, wanted: Sequence[int]) -> int:
        """The number of tokens of `wanted` that no cached context has."""
        best = self._best(wanted)
        return len(wanted) - (0 if best is None else _common_length(best.ids, wanted))

    def _take(self, wanted: Sequence[int], owed: bytes) -> CachedPrefix:
        best = self._best(wanted)
        if best is None:
            return CachedPrefix(self._runtime.new_kv_cache())
        common = _usable_length(best, wanted, owed)
        if not _is_moved(best, wanted, owed):
            return CachedPrefix(best.kv.fork(common), best.ids[:common])
        self._contexts.remove(best)
        best.rewind(common)
        return best

    def _best(self, wanted: Sequence[int]) -> CachedPrefix | None:
        """The cached context that shares the longest prefix with `wanted`; ties go to the most
        recently used."""
        latest = reversed(self._contexts)
        best = max(latest, key=lambda cached: _common_length(cached.ids, wanted), default=None)
        return best if best is not None and _common_length(best.ids, wanted) else None

    def _drop(self, moved_bytes: int = 0) -> None:
        while self.nbytes - moved_bytes > self._limit_bytes:
            del self._contexts[0]

    def release(self, context: CachedPrefix) -> None:
        """Keep `context`, and drop the contexts that are beginnings of it."""
        if not context.ids:
            return
        context.rewind(len(context.ids))
        self._contexts = [
            cached
            for cached in self._contexts
            if _common_length(cached.ids, context.ids) < len(cached.ids)
        ]
        self._contexts.append(context)
        self._drop()


@dataclass(frozen=True, slots=True)
class Lease:
    """A `with` block that holds `context` alone.

    It is released when the block ends or its generator is closed. After an error its keys and
    values may be wrong, so it is dropped.
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


def _usable_length(context: CachedPrefix, wanted: Sequence[int], owed: bytes) -> int:
    """The number of tokens of a context that are of use for `wanted`."""
    common = _common_length(context.ids, wanted)
    known = common == len(context.ids) and context.next is not None and context.next_owed == owed
    if common == len(wanted) and not known:
        return common - 1  # the prediction after the last token has to be made again
    return common


def _is_moved(context: CachedPrefix, wanted: Sequence[int], owed: bytes) -> bool:
    """Whether a context is handed over itself and not as a copy, since it loses little."""
    return len(context.ids) - _usable_length(context, wanted, owed) <= MAX_REWIND_TOKENS


def _common_length(one: Sequence[int], other: Sequence[int]) -> int:
    """The number of leading ids that agree."""
    for index, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return index
    return min(len(one), len(other))
