"""The denoiser on the kernels of `mercury_kernels`: how a server runs on a CUDA GPU.

A call is one pass of the smallest bucket that holds its rows and its context. The launches of each
pass are captured once. With the reference operations the same code runs, and is tested, on a CPU.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mercury_kernels.head.reference import Predicted
from mercury_kernels.paged import PAGE
from mercury_kernels.passes import ModelRunner, PredictionPass, RowKind
from mercury_kernels.step import BUCKETS, CANVASES, Bucket, Inputs, smallest_bucket
from mercury_model.errors import RuntimeUnavailable
from mercury_model.runtime.cuda.paged_kv import PagedKVCache, PagePool
from mercury_model.runtime.cuda.weights import load_weights, replace_weights
from mercury_model.runtime.limits import CHUNK_TOKENS, TOP_K
from mercury_model.runtime.protocol import (
    ForwardCall,
    KVCache,
    Predictions,
    SingleCalls,
    check_batch,
    check_canvas_rows,
    count_before_masks,
    restriction,
)
from mercury_model.spec.model_config import ModelConfig

FIRST_PAGES = 64
"""The number of pages of a new pool."""

MAX_BATCH_SIZE, MAX_SHARED_ROWS = 8, 32
"""The batch and block of the bucket for calls that share a pass."""

MIN_SHARED_CANDIDATES = 0.75
"""The least share of candidates in common that `require_agreement` asks for."""

MAX_PROBABILITY_ERROR = 0.1
"""The largest difference of probabilities that `require_agreement` accepts."""


@dataclass(frozen=True, slots=True)
class Block:
    """Rows after a context, or from position `at` on, where they replace the rows of the context.

    The first `causal` rows see the rows up to their own. The others see all rows, and the context
    after them. The last R rows are restricted to `allowed` [R, V'], if it is given.
    """

    kv: PagedKVCache
    ids: Sequence[int]
    causal: int = 0
    at: int | None = None
    allowed: NDArray[np.bool_] | None = None

    @property
    def start(self) -> int:
        """The position of the first row."""
        return self.kv.length if self.at is None else self.at

    @property
    def seen(self) -> int:
        """The number of keys, those of the context included."""
        return max(self.kv.length, self.start + len(self.ids))


class CudaRuntime(SingleCalls):
    """The denoiser on a CUDA GPU; implements `CanvasRuntime` and `ReloadableRuntime`.

    Keys and values are stored in `cache`, by default in the type of the activations.
    """

    def __init__(
        self,
        engine: ModelRunner,
        config: ModelConfig,
        mask_id: int,
        cache: torch.dtype | None = None,
    ) -> None:
        self.engine = engine
        self.pool = PagePool(engine.network, FIRST_PAGES, cache)
        self._config = config
        self.mask_id = mask_id
        self._reallocations = 0
        self._passes: dict[tuple[Bucket, RowKind], PredictionPass] = {}

    @property
    def config(self) -> ModelConfig:
        """See `Runtime`."""
        return self._config

    @property
    def vocabulary(self) -> NDArray[np.int64] | None:
        """See `Runtime`."""
        ids = self.engine.network.vocabulary
        return None if ids is None else ids.cpu().numpy().astype(np.int64)

    @property
    def name(self) -> str:
        """See `Runtime`: the device, and the types of the weights and contexts."""
        network = self.engine.network
        kinds = (network.layers[0].qkv.values.dtype, self.pool.pages.kv.dtype)
        weights, cache = (str(kind).removeprefix("torch.") for kind in kinds)
        device = network.embedding.device
        return f"{self.engine.ops.name} {device} {weights} weights, {cache} contexts"

    @property
    def max_batch_size(self) -> int:
        """See `Runtime`."""
        return MAX_BATCH_SIZE

    def load_weights(self, tensors: Mapping[str, NDArray[np.float32]]) -> None:
        """See `ReloadableRuntime`. The tensors are converted on the CPU."""
        network, cpu = self.engine.network, torch.device("cpu")
        dtype = network.layers[0].qkv.values.dtype
        try:
            other = load_weights(self.config, tensors, cpu, self.mask_id, 1, dtype)
        except KeyError as error:
            raise ValueError(f"the weights do not fit the network: {error} is missing") from error
        replace_weights(network, other)

    def new_kv_cache(self) -> KVCache:
        """See `Runtime`."""
        return PagedKVCache(self.pool)

    def kv_bytes(self, tokens: int) -> int:
        """See `Runtime`."""
        return -(-tokens // PAGE) * self.pool.page_bytes

    def warm(self, tokens: int, kinds: Sequence[RowKind] = ("free",)) -> None:
        """Capture the passes of one sequence for contexts of up to `tokens` tokens.

        Canvases are left out. `kinds` has "restricted" where a format heals.
        """
        most = self.bucket(1, CHUNK_TOKENS, tokens)
        for bucket in BUCKETS:
            small = bucket.block <= most.block and bucket.pages <= most.pages
            for kind in kinds if bucket.batch == 1 and small else ():
                self._pass(bucket, kind)

    def renew(self, kv: KVCache, ids: Sequence[int], at: int = 0) -> Predictions:
        """See `CanvasRuntime`.

        With gated adapters, tokens among these rows see no row after their own.
        """
        mine = as_paged(kv)
        more = check_canvas_rows(mine, ids, at, CANVASES[-1])
        found = self._run([Block(mine, ids, at=at)])
        mine.advance(more)
        return found[0]

    def forward_batch(self, calls: Sequence[ForwardCall]) -> list[Predictions]:
        """See `Runtime`. Results differ by the rounding of sums in another order.

        A call of more than MAX_SHARED_ROWS ids has a pass of its own: it fills the device alone.
        """
        check_batch(calls, self.max_batch_size, self._config.vocab_size, CANVASES[-1])
        blocks = [self._block(call) for call in calls]
        alone = [[block] for block in blocks if len(block.ids) > MAX_SHARED_ROWS]
        shared = [block for block in blocks if len(block.ids) <= MAX_SHARED_ROWS]
        found: dict[int, Predictions] = {}
        for group in filter(None, (*alone, shared)):
            found |= zip(map(id, group), self._run(group), strict=True)
        for call, block in zip(calls, blocks, strict=True):
            if call.kind != "denoise":
                block.kv.advance(block.causal)
        return [
            found[id(block)].at(slice(call.predicted, None))
            for call, block in zip(calls, blocks, strict=True)
        ]

    def verify_all(self, kvs: Sequence[KVCache], ids: Sequence[Sequence[int]]) -> list[Predictions]:
        """`verify` for several contexts in one pass; at most as many as a bucket holds."""
        blocks = [
            self._block(ForwardCall("verify", kv, each)) for kv, each in zip(kvs, ids, strict=True)
        ]
        found = self._run(blocks)
        for block in blocks:
            block.kv.advance(block.causal)
        return found

    def _block(self, call: ForwardCall) -> Block:
        causal = 0 if call.kind == "denoise" else count_before_masks(call.ids, self.mask_id)
        allowed = restriction([call], self.vocabulary)
        return Block(as_paged(call.kv), call.ids, causal, allowed=allowed)

    def bucket(self, batch: int, rows: int, context: int) -> Bucket:
        """The smallest bucket for `batch` sequences of `context` tokens and `rows` new rows each.

        Raises ValueError if there is none.
        """
        if not 1 <= rows <= CANVASES[-1]:
            raise ValueError(f"a block has 1 to {CANVASES[-1]} tokens, not {rows}")
        positions = len(self.engine.network.rotation.cos)
        if context + rows > positions:
            raise ValueError(f"{context + rows} tokens are more than {positions} positions")
        found = smallest_bucket(BUCKETS, batch, rows, context)
        if found is None:
            raise ValueError(
                f"no bucket holds {batch} contexts of {context} tokens and {rows} more each"
            )
        return found

    def make_room(self, blocks: Sequence[Block]) -> Bucket:
        """Reserve room for the rows of these blocks; returns their bucket. Raises ValueError."""
        rows = max(len(block.ids) for block in blocks)
        bucket = self.bucket(len(blocks), rows, max(b.seen - len(b.ids) for b in blocks))
        for block in blocks:
            block.kv.reserve(len(block.ids), block.at)
        return bucket

    def _run(self, blocks: Sequence[Block]) -> list[Predictions]:
        bucket = self.make_room(blocks)
        restricted = any(block.allowed is not None for block in blocks)
        work = self._pass(bucket, "restricted" if restricted else "free")
        write_inputs(work.inputs, blocks)
        if work.allowed is not None:
            _write_restrictions(work.allowed, bucket, blocks)
        work.run()
        first = [index * bucket.block for index in range(len(blocks))]
        return [
            _predictions(work.outputs, slice(at, at + len(block.ids)))
            for at, block in zip(first, blocks, strict=True)
        ]

    def _pass(self, bucket: Bucket, kind: RowKind = "free") -> PredictionPass:
        """The pass of a bucket, captured again after the pool has reallocated its pages."""
        if self._reallocations != self.pool.reallocations:
            self._passes.clear()
            self._reallocations = self.pool.reallocations
        if (bucket, kind) not in self._passes:
            top = min(TOP_K, len(self.engine.network.head.values))
            made = PredictionPass(self.engine, bucket, self.pool.pages, top, kind)
            self._passes[bucket, kind] = made
        return self._passes[bucket, kind]


def write_inputs(given: Inputs, blocks: Sequence[Block]) -> None:
    """Write the inputs of a pass for `blocks`, whose contexts have reserved their rows."""
    given.buffer.zero_()
    for index, block in enumerate(blocks):
        rows, start, pages = len(block.ids), block.start, block.kv.pages
        given.ids[index, :rows] = torch.tensor(block.ids)
        given.start[index] = start
        given.visible[index, :rows] = block.seen
        given.visible[index, : block.causal] = torch.arange(block.causal) + start + 1
        given.table[index, : len(pages)] = torch.tensor(pages)


def _write_restrictions(given: Tensor, bucket: Bucket, blocks: Sequence[Block]) -> None:
    """Restrict the rows of a pass [B · T, V'] as `blocks` say; other rows may predict every id."""
    given.fill_(True)
    for index, block in enumerate(blocks):
        if block.allowed is not None:
            end = index * bucket.block + len(block.ids)
            given[end - len(block.allowed) : end] = torch.from_numpy(block.allowed)


def require_agreement(runtime: CudaRuntime, reference: CudaRuntime) -> None:
    """Raise RuntimeUnavailable unless both predict nearly the same; a check at load.

    A few tokens and masks go through both, with the same weights. Rounding changes the likeliest
    candidates a little; kernels that are wrong on a device or with a compiler change all of them.
    """
    vocabulary = runtime.config.vocab_size
    ids = [(n * n + 7) % vocabulary for n in range(CHUNK_TOKENS)]
    found, expected = (
        (each.extend(kv, ids), each.denoise(kv, [runtime.mask_id] * 8))
        for each in (runtime, reference)
        for kv in [each.new_kv_cache()]
    )
    for ours, theirs in zip(found, expected, strict=True):
        pairs = zip(ours.ids, theirs.ids, strict=True)
        shared = np.mean([len(np.intersect1d(mine, its)) for mine, its in pairs])
        error = np.abs(ours.probs - theirs.probs).max()
        if not (
            shared >= MIN_SHARED_CANDIDATES * ours.ids.shape[1] and error <= MAX_PROBABILITY_ERROR
        ):
            raise RuntimeUnavailable(
                f"The kernels are wrong on this device: they share {shared:.1f} of "
                f"{ours.ids.shape[1]} candidates with their reference, and probabilities differ "
                f"by {error:.2f}.",
                "Use another runtime, and report it.",
            )


def as_paged(kv: KVCache) -> PagedKVCache:
    """`kv`, which belongs to this runtime. Raises TypeError for another runtime's."""
    if not isinstance(kv, PagedKVCache):
        raise TypeError(f"kv belongs to another runtime: {type(kv).__name__}")
    return kv


def _predictions(found: Predicted, rows: slice) -> Predictions:
    logits, lse = found.logits[rows].numpy(), found.lse[rows].numpy()
    return Predictions(
        found.ids[rows].numpy().astype(np.int64),
        np.exp(logits - lse[:, None]),
        found.entropy[rows].numpy().copy(),
    )
