"""One denoise step over a batch of blocks: the network, the choice of tokens, their commitment.

Everything it reads and writes between steps lives in a `State` whose buffers never move, and
nothing in it depends on their contents, so that `passes` can capture it once and replay it. Knows
no text and no clock.
"""

# mypy: allow-untyped-calls

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import embedding

from mercury_kernels.adapter import Adapter, Gated
from mercury_kernels.attention.reference import Apart
from mercury_kernels.choose.reference import Noise
from mercury_kernels.commit.reference import Policy
from mercury_kernels.dispatch import Operations
from mercury_kernels.head.reference import Predicted
from mercury_kernels.kl_divergence.reference import PreviousPredictions
from mercury_kernels.paged import PAGE, Paged, Pages
from mercury_kernels.rope.reference import Projection, Rotation
from mercury_kernels.weights import Rows, Weight


@dataclass(frozen=True, slots=True)
class Adapters:
    """Those of one layer that act at masks, of the products that `LayerWeights` has."""

    qkv: Adapter
    output: Adapter
    gate_up: Adapter
    down: Adapter


@dataclass(frozen=True, slots=True)
class LayerWeights:
    """One layer. `qkv` [(H_q + 2 H_kv) · D, N]: queries, keys, values."""

    attention_norm: Tensor
    qkv: Weight
    after: Projection
    output: Weight
    mlp_norm: Tensor
    gate: Weight
    up: Weight
    down: Weight
    adapters: Adapters | None = None


@dataclass(frozen=True, slots=True)
class Network:
    """A Llama-shaped decoder on one device. `embedding` [V, N] sets the activation type.

    `vocabulary` as in `predict`. `mask_id` is the id that adapters act at, None without adapters;
    with them the tokens of a block see no masks, and stay the autoregressive network's. A step of
    `quantize_activations_from` rows or more quantizes its activations before each product: the
    weights must be fp8.
    """

    embedding: Tensor
    layers: tuple[LayerWeights, ...]
    norm: Tensor
    head: Weight
    rotation: Rotation
    num_heads: int
    num_kv_heads: int
    head_dim: int
    eps: float
    vocabulary: Tensor | None = None
    mask_id: int | None = None
    quantize_activations_from: int | None = None

    def empty_pages(self, count: int, dtype: torch.dtype) -> Pages:
        """Room for keys and values in all layers, of the activations' type or fp8."""
        heads = (self.num_kv_heads, self.head_dim)
        return Pages.empty(len(self.layers), count, heads, dtype, self.embedding)


@dataclass(frozen=True, slots=True)
class TokenConstraints:
    """What the weights' format asks of every step; see `mercury_model.spec.card.InfillFormat`.

    `forbidden` [F] int32: ids that are never chosen. `top`: candidates a position has.
    """

    mask_id: int
    eos_id: int
    shift: int
    forbidden: Tensor
    top: int = 16


@dataclass(frozen=True, slots=True)
class Bucket:
    """Sizes that a captured step is for: sequences, positions of a block, pages of a sequence."""

    batch: int
    block: int
    pages: int


CANVASES = (128, 256, 512, 1024, 2048, 4096)
"""Blocks of networks that fill a whole canvas at once: one at a time, each fills the device."""

SIZES = ((1, 32), (1, 16), (1, 64), (8, 32), (32, 32), *((1, length) for length in CANVASES))
"""(batch, block): interactive, with shorter and longer blocks and for context, then served, then
canvases."""

PAGES = (8, 32, 128)
"""Pages of a sequence: contexts and blocks of up to 512, 2,048 and 8,192 tokens."""

BUCKETS = tuple(
    Bucket(batch, block, pages)
    for batch, block in SIZES
    for pages in PAGES
    if block <= pages * PAGE
)


def smallest_bucket(
    buckets: Iterable[Bucket], batch: int, block: int, context: int
) -> Bucket | None:
    """The cheapest bucket that holds `batch` blocks after `context` tokens each, if any does."""
    fits = [
        bucket
        for bucket in buckets
        if bucket.batch >= batch
        and bucket.block >= block
        and bucket.pages * PAGE >= context + bucket.block
    ]
    return min(fits, key=lambda b: (b.batch * b.block, b.pages), default=None)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a step is told, as parts of one int32 buffer `whole`, so that one copy brings it all.

    `ids` [B, T]; `committed` [B, T], bits of fp32, see `commit`; `start` [B], the block's first
    position in its sequence; `visible` [B, T], see `attend`; `table` [B, P], see `Paged`. Zeros
    everywhere stand for no sequence.
    """

    whole: Tensor
    ids: Tensor
    committed: Tensor
    start: Tensor
    visible: Tensor
    table: Tensor

    @classmethod
    def of(cls, whole: Tensor, bucket: Bucket) -> "Inputs":
        """The parts of a buffer of `size(bucket)` numbers."""
        parts, at = [], 0
        for shape in _shapes(bucket):
            count = math.prod(shape)
            parts.append(whole.narrow(0, at, count).view(shape))
            at += _aligned(count)
        ids, committed, *others = parts
        return cls(whole, ids, committed.view(torch.float32), *others)

    @staticmethod
    def size(bucket: Bucket) -> int:
        """How many numbers that takes."""
        return sum(_aligned(math.prod(shape)) for shape in _shapes(bucket))


def _shapes(bucket: Bucket) -> tuple[tuple[int, ...], ...]:
    block = (bucket.batch, bucket.block)
    return block, block, (bucket.batch,), block, (bucket.batch, bucket.pages)


def _aligned(count: int) -> int:
    """Kernels rely on addresses that are multiples of 16 bytes."""
    return -(-count // 4) * 4


@dataclass(frozen=True, slots=True)
class State:
    """The buffers of a bucket, on the device.

    `caches`, one a layer, share the table of the inputs; `left` [B] int32, how many positions are
    open after the step; `before`, what it predicted, None unless the policy asks; `allowed` [B · T,
    V], the tokens that each row may give, None if no row is restricted. A row without a sequence
    has no open position, sees nothing, and leaves no keys.
    """

    inputs: Inputs
    caches: tuple[Paged, ...]
    noise: Noise
    policy: Policy
    left: Tensor
    before: PreviousPredictions | None = None
    allowed: Tensor | None = None

    @classmethod
    def empty(cls, network: Network, bucket: Bucket, pages: Pages) -> "State":
        """Buffers with no sequence in them over some pages (`Network.empty_pages`); the policy a
        threshold. All tables point at page 0.
        """
        device = network.embedding.device
        batch = bucket.batch
        whole = torch.zeros(Inputs.size(bucket), dtype=torch.int32, device=device)
        inputs = Inputs.of(whole, bucket)
        real = torch.zeros(batch, dtype=torch.float32, device=device)
        none = torch.zeros(batch, dtype=torch.int32, device=device)
        return cls(
            inputs=inputs,
            caches=pages.caches(inputs.table),
            noise=Noise(
                seeds=torch.zeros(batch, dtype=torch.int64, device=device),
                start=none.clone(),
                temperature=real.clone(),
                rank=none.clone(),
            ),
            policy=Policy("threshold", torch.full_like(real, 0.9), real.clone()),
            left=none.clone(),
        )

    def restricted(self, vocabulary: int) -> "State":
        """These buffers with a restriction of every row to some of `vocabulary` tokens."""
        ids = self.inputs.ids
        allowed = torch.ones(ids.numel(), vocabulary, dtype=torch.bool, device=ids.device)
        return replace(self, allowed=allowed)

    def klass(self, top: int) -> "State":
        """These buffers under a policy of that kind, which remembers the `top` candidates of a
        position.
        """
        bound = self.policy.bound
        policy = replace(self.policy, kind="klass", nats=torch.full_like(bound, 0.01))
        shape = (*self.inputs.ids.shape, top)
        return replace(self, policy=policy, before=PreviousPredictions.nothing(shape, bound.device))


def hidden_states(network: Network, state: State, do: Operations) -> Rows:
    """The network over every block: [B · T, N] after the last norm, as `predict` takes
    them; caches hold the blocks too."""
    given = state.inputs
    batch, block = given.ids.shape
    rows = batch * block
    ids = given.ids.view(rows)
    residual = embedding(ids, network.embedding)
    width = residual.shape[1]
    parts = torch.empty(0, rows, width, dtype=torch.float32, device=residual.device)
    narrows = (
        network.quantize_activations_from is not None and rows >= network.quantize_activations_from
    )

    def taken(x: Tensor) -> Rows:
        return do.quantize(x) if narrows else x

    mask_id = network.mask_id
    apart = None if mask_id is None else Apart(given.ids, mask_id, given.start)
    for layer, cache in zip(network.layers, state.caches, strict=True):
        gated = _gated(layer.adapters, ids, mask_id)
        x = do.add_rmsnorm(parts, residual, layer.attention_norm, network.eps)
        q = x.new_empty(batch, block, network.num_heads, network.head_dim)
        projected = do.linear(taken(x), layer.qkv, gated["qkv"])
        do.rotate_and_cache(
            projected, layer.after, network.rotation, given.start, given.visible, q, cache
        )
        mixed = do.attend(q, given.visible, cache, apart)
        parts = do.linear(taken(mixed.view(rows, -1)), layer.output, gated["output"])
        x = do.add_rmsnorm(parts, residual, layer.mlp_norm, network.eps)
        inner = do.swiglu(taken(x), layer.gate, layer.up, gated["gate_up"])
        parts = do.linear(taken(inner), layer.down, gated["down"])
    return taken(do.add_rmsnorm(parts, residual, network.norm, network.eps))


def _gated(
    adapters: Adapters | None, ids: Tensor, mask_id: int | None
) -> Mapping[str, Gated | None]:
    """The adapters of a layer, at the masks among its rows."""
    if adapters is None or mask_id is None:
        return dict.fromkeys(("qkv", "output", "gate_up", "down"))
    return {
        "qkv": Gated(adapters.qkv, ids, mask_id),
        "output": Gated(adapters.output, ids, mask_id),
        "gate_up": Gated(adapters.gate_up, ids, mask_id),
        "down": Gated(adapters.down, ids, mask_id),
    }


def expect(network: Network, state: State, top: int, do: Operations) -> Predicted:
    """Run every block: what the network expects at each of its rows. Settles nothing."""
    hidden = hidden_states(network, state, do)
    return do.predict(hidden, network.head, top, network.vocabulary, state.allowed)


def denoise(network: Network, state: State, rules: TokenConstraints, do: Operations) -> None:
    """One step: run every block, settle what the policy chooses, count what is left."""
    predicted = expect(network, state, rules.top, do)
    ids, committed = state.inputs.ids, state.inputs.committed
    choices = do.choose(predicted, ids, state.noise, rules.forbidden, rules.eos_id, rules.shift)
    if state.before is not None:
        choices = replace(choices, moved=do.kl_divergence(predicted, state.before, rules.shift))
    do.commit(ids, committed, choices, state.policy, rules.mask_id, state.left)
