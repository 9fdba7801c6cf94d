"""What is captured of a step: numbers in from the host, the network, numbers out to the host.

A pass is for one bucket. Its host buffers stay where they are, pinned where the network is on a
GPU: fill `given`, run it, and read what was found. Knows no contexts and no text.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from mercury_kernels.dispatch import Operations
from mercury_kernels.head.reference import Predicted
from mercury_kernels.paged import Pages
from mercury_kernels.replay import Capture, finish
from mercury_kernels.step import Bucket, Inputs, Network, State, TokenConstraints, denoise, expect


@dataclass(frozen=True, slots=True)
class Engine:
    """A network, what computes it, and how its work is captured."""

    network: Network
    do: Operations
    capture: Capture


Rowwise: TypeAlias = Literal["free", "restricted"]
"""Whether the rows of a pass may give every token."""


class Expectation:
    """What the network expects at each row; settles nothing. `found` has the rows in order.

    `allowed` [B · T, V] on the host is what each row is restricted to, None in a pass of free rows.
    """

    def __init__(
        self, engine: Engine, bucket: Bucket, pages: Pages, top: int, rowwise: Rowwise = "free"
    ) -> None:
        network = engine.network
        state = State.empty(network, bucket, pages)
        rows = bucket.batch * bucket.block
        self.given = _given(state, bucket)
        self.allowed: Tensor | None = None
        if rowwise == "restricted":
            state = state.restricted(len(network.head.values))
            self.allowed = _on_host((rows, len(network.head.values)), torch.bool, state.left)
            self.allowed.fill_(True)
        self.found = Predicted(
            _on_host((rows, top), torch.int32, state.left),
            _on_host((rows, top), torch.float32, state.left),
            _on_host((rows,), torch.float32, state.left),
            _on_host((rows,), torch.float32, state.left),
        )

        def call() -> None:
            state.inputs.whole.copy_(self.given.whole, non_blocking=True)
            if state.allowed is not None and self.allowed is not None:
                state.allowed.copy_(self.allowed, non_blocking=True)
            expected = expect(network, state, top, engine.do)
            self.found.ids.copy_(expected.ids, non_blocking=True)
            self.found.logits.copy_(expected.logits, non_blocking=True)
            self.found.lse.copy_(expected.lse, non_blocking=True)
            self.found.entropy.copy_(expected.entropy, non_blocking=True)

        self._replay = engine.capture(call)

    def run(self) -> None:
        """From `given` to `found`."""
        self._replay.start()
        finish(self._replay)


Captured: TypeAlias = Literal["threshold", "klass"]
"""The kinds of policy that a step is captured with."""


class Denoising:
    """`steps` denoising steps at once: k = 1 where every draft is shown, more in bulk.

    `ids` [B, T] are the blocks after them, `committed` [B, T] the confidence with which each was
    settled, `left` [B] how many positions each still has open. What is set of `noise` and `policy`
    on the device holds until it is set again. So does `before`, which a policy of the kind "klass"
    has: a block begins with NOTHING in its ids.
    """

    def __init__(
        self,
        engine: Engine,
        bucket: Bucket,
        pages: Pages,
        rules: TokenConstraints,
        steps: int,
        kind: Captured = "threshold",
    ) -> None:
        network = engine.network
        state = State.empty(network, bucket, pages)
        if kind == "klass":
            state = state.klass(rules.top)
        self.given = _given(state, bucket)
        self.noise, self.policy, self.before = state.noise, state.policy, state.before
        self.ids = _on_host((bucket.batch, bucket.block), torch.int32, state.left)
        self.committed = _on_host((bucket.batch, bucket.block), torch.float32, state.left)
        self.left = _on_host((bucket.batch,), torch.int32, state.left)

        def call() -> None:
            state.inputs.whole.copy_(self.given.whole, non_blocking=True)
            for _ in range(steps):
                denoise(network, state, rules, engine.do)
            self.ids.copy_(state.inputs.ids, non_blocking=True)
            self.committed.copy_(state.inputs.committed, non_blocking=True)
            self.left.copy_(state.left, non_blocking=True)

        self._replay = engine.capture(call)

    def start(self) -> None:
        """Begin; returns at once."""
        self._replay.start()

    def run(self) -> None:
        """From `given` to `ids` and `left`."""
        self.start()
        finish(self._replay)


def _given(state: State, bucket: Bucket) -> Inputs:
    whole = state.inputs.whole
    return Inputs.of(_on_host(tuple(whole.shape), whole.dtype, whole), bucket)


def _on_host(shape: tuple[int, ...], dtype: torch.dtype, beside: Tensor) -> Tensor:
    """Zeros in host memory, pinned if `beside` is on a GPU."""
    return torch.zeros(shape, dtype=dtype, pin_memory=beside.device.type == "cuda")
