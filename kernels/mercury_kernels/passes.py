"""What one captured graph contains: a copy from the host, the network, and a copy to the host.

A pass serves one bucket. Its host buffers never move, and are pinned where the network is on a GPU:
fill `inputs`, run the pass, read the outputs. Knows no contexts and no text.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from mercury_kernels.dispatch import Operations
from mercury_kernels.head.reference import Predicted
from mercury_kernels.paged import Pages
from mercury_kernels.replay import Capture, wait
from mercury_kernels.step import (
    Bucket,
    Inputs,
    Network,
    State,
    TokenConstraints,
    denoise,
    predict_rows,
)


@dataclass(frozen=True, slots=True)
class ModelRunner:
    """A network, the operations that compute it, and how its passes are captured."""

    network: Network
    ops: Operations
    capture: Capture


RowKind: TypeAlias = Literal["free", "restricted"]
"""Whether the rows of a pass may give every token."""


class PredictionPass:
    """Runs the network over every block and commits nothing.

    `outputs` are the `top` candidates of each of the B · T rows, in order. `allowed` [B · T, V] on
    the host restricts each row; it is None in a pass of free rows.
    """

    def __init__(
        self,
        runner: ModelRunner,
        bucket: Bucket,
        pages: Pages,
        top: int,
        kind: RowKind = "free",
    ) -> None:
        network = runner.network
        state = State.empty(network, bucket, pages)
        rows = bucket.batch * bucket.block
        self.inputs = _host_inputs(state, bucket)
        self.allowed: Tensor | None = None
        if kind == "restricted":
            state = state.restricted(len(network.head.values))
            self.allowed = _on_host((rows, len(network.head.values)), torch.bool, state.remaining)
            self.allowed.fill_(True)
        self.outputs = Predicted(
            ids=_on_host((rows, top), torch.int32, state.remaining),
            logits=_on_host((rows, top), torch.float32, state.remaining),
            lse=_on_host((rows,), torch.float32, state.remaining),
            entropy=_on_host((rows,), torch.float32, state.remaining),
        )

        def call() -> None:
            state.inputs.buffer.copy_(self.inputs.buffer, non_blocking=True)
            if state.allowed is not None and self.allowed is not None:
                state.allowed.copy_(self.allowed, non_blocking=True)
            predicted = predict_rows(network, state, top, runner.ops)
            self.outputs.ids.copy_(predicted.ids, non_blocking=True)
            self.outputs.logits.copy_(predicted.logits, non_blocking=True)
            self.outputs.lse.copy_(predicted.lse, non_blocking=True)
            self.outputs.entropy.copy_(predicted.entropy, non_blocking=True)

        self._replay = runner.capture(call)

    def run(self) -> None:
        """Compute `outputs` from `inputs`."""
        self._replay.start()
        wait(self._replay)


CapturedPolicy: TypeAlias = Literal["threshold", "klass"]
"""The kinds of policy that a step is captured with."""


class DenoisingPass:
    """`steps` denoising steps in one graph: one where every draft is shown, more in bulk.

    After a run, `ids` [B, T] are the blocks, `committed` [B, T] the confidence that each position
    was committed with, and `remaining` [B] the number of masks left in each block. The device
    tensors `sampling` and `policy` keep their values until they are set again. So does `previous`,
    which exists for the kind "klass" only: reset it before the first step of new blocks.
    """

    def __init__(
        self,
        runner: ModelRunner,
        bucket: Bucket,
        pages: Pages,
        constraints: TokenConstraints,
        steps: int,
        kind: CapturedPolicy = "threshold",
    ) -> None:
        network = runner.network
        state = State.empty(network, bucket, pages)
        if kind == "klass":
            state = state.klass(constraints.top)
        self.inputs = _host_inputs(state, bucket)
        self.sampling, self.policy, self.previous = state.sampling, state.policy, state.previous
        self.ids = _on_host((bucket.batch, bucket.block), torch.int32, state.remaining)
        self.committed = _on_host((bucket.batch, bucket.block), torch.float32, state.remaining)
        self.remaining = _on_host((bucket.batch,), torch.int32, state.remaining)

        def call() -> None:
            state.inputs.buffer.copy_(self.inputs.buffer, non_blocking=True)
            for _ in range(steps):
                denoise(network, state, constraints, runner.ops)
            self.ids.copy_(state.inputs.ids, non_blocking=True)
            self.committed.copy_(state.inputs.committed, non_blocking=True)
            self.remaining.copy_(state.remaining, non_blocking=True)

        self._replay = runner.capture(call)

    def start(self) -> None:
        """Start the pass and return at once."""
        self._replay.start()

    def run(self) -> None:
        """Compute `ids`, `committed` and `remaining` from `inputs`."""
        self.start()
        wait(self._replay)


def _host_inputs(state: State, bucket: Bucket) -> Inputs:
    buffer = state.inputs.buffer
    return Inputs.split(_on_host(tuple(buffer.shape), buffer.dtype, buffer), bucket)


def _on_host(shape: tuple[int, ...], dtype: torch.dtype, like: Tensor) -> Tensor:
    """Zeros in host memory, pinned if `like` is on a GPU."""
    return torch.zeros(shape, dtype=dtype, pin_memory=like.device.type == "cuda")
