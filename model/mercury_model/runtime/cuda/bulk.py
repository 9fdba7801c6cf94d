"""Denoises many blocks on the device, with several steps between two transfers to the host.

Positions are committed and remasked by the same rules as in `unmasking.Threshold`, `Klass` and
`Remask` and in `sampler.Sampler`; with a temperature the noise comes from another generator. To
cancel is not to ask for the next blocks.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from mercury_kernels.kl_divergence.reference import PreviousPredictions
from mercury_kernels.passes import CapturedPolicy, DenoisingPass
from mercury_kernels.step import CANVASES, Bucket, TokenConstraints
from mercury_model.decoding.unmasking import Klass, Threshold
from mercury_model.runtime.cuda.runtime import Block, CudaRuntime, as_paged, write_inputs
from mercury_model.runtime.limits import TOP_K
from mercury_model.runtime.protocol import KVCache, check_canvas_rows
from mercury_model.spec.fim_format import FimFormat


@dataclass(frozen=True, slots=True)
class BulkParams:
    """How a step commits tokens.

    The `policy` chooses the positions, the leftmost mask always among them. Positions right of that
    mask are masked again if they were committed with less confidence than `remask`. With a
    `temperature` tokens are sampled: block i draws from `seed` + i, for positions of the middle
    from `start` on, with the same noise at every step.
    """

    policy: Threshold | Klass
    remask: float = 0.0
    temperature: float = 0.0
    seed: int = 0
    start: int = 0


class BulkDenoiser:
    """Runs `steps` denoising steps of a runtime per transfer to the host, for a `format`."""

    def __init__(self, runtime: CudaRuntime, format: FimFormat, steps: int) -> None:
        network = runtime.engine.network
        marks = (format.mask_id, format.suffix_id, format.prefix_id, format.middle_id)
        forbidden = torch.tensor([*marks, format.file_id], dtype=torch.int32)
        self._runtime = runtime
        self._steps = steps
        self._constraints = TokenConstraints(
            mask_id=format.mask_id,
            eos_id=format.eos_id,
            shift=int(format.shift),
            forbidden=forbidden.to(network.embedding.device),
            top=min(TOP_K, len(network.head.values)),
        )
        self._reallocations = 0
        self._passes: dict[tuple[Bucket, CapturedPolicy], DenoisingPass] = {}

    def commit(
        self,
        kvs: Sequence[KVCache],
        blocks: Sequence[Sequence[int]],
        params: BulkParams,
        at: int | None = None,
    ) -> Iterator[list[list[int]]]:
        """Yield the blocks after each `steps` steps; the last have no masks.

        All blocks have the same number of ids; ids other than masks stay. Blocks follow their
        contexts, which stay as they are. With `at`, the contexts are canvases, the blocks replace
        their rows from position `at` on (see `CanvasRuntime.renew`), and the canvases keep the keys
        and values of the last step. Raises ValueError for blocks that reach beyond a canvas.
        """
        own_kvs = [as_paged(kv) for kv in kvs]
        for kv, block in zip(own_kvs, blocks, strict=True):
            if at is not None and check_canvas_rows(kv, block, at, CANVASES[-1]):
                raise ValueError(f"{len(block)} tokens from {at} on reach beyond the canvas")
        now = [Block(kv, block, at=at) for kv, block in zip(own_kvs, blocks, strict=True)]
        rows, count = len(blocks[0]), len(kvs)
        bucket = self._runtime.make_room(now)
        committed = torch.full((count, rows), math.inf)
        before: PreviousPredictions | None = None
        while any(self._constraints.mask_id in block.ids for block in now):
            work = self._pass(bucket, params.policy)
            _write_params(work, params)
            _restore_previous(work, before)
            write_inputs(work.inputs, now)
            work.inputs.committed[:count, :rows] = committed
            work.run()
            found = work.ids[:count, :rows].tolist()
            now = [replace(block, ids=ids) for block, ids in zip(now, found, strict=True)]
            committed = work.committed[:count, :rows].clone()
            before = None if work.previous is None else work.previous.clone()
            yield found

    def _pass(self, bucket: Bucket, policy: Threshold | Klass) -> DenoisingPass:
        kind: CapturedPolicy = "klass" if isinstance(policy, Klass) else "threshold"
        runtime = self._runtime
        if self._reallocations != runtime.pool.reallocations:
            self._passes.clear()
            self._reallocations = runtime.pool.reallocations
        if (bucket, kind) not in self._passes:
            self._passes[bucket, kind] = DenoisingPass(
                runtime.engine, bucket, runtime.pool.pages, self._constraints, self._steps, kind
            )
        return self._passes[bucket, kind]


def _write_params(work: DenoisingPass, params: BulkParams) -> None:
    policy, noise = work.policy, work.sampling
    policy.bound.fill_(params.policy.confidence)
    policy.floor.fill_(params.remask)
    if isinstance(params.policy, Klass) and policy.max_kl is not None:
        policy.max_kl.fill_(params.policy.nats)
    noise.temperature.fill_(params.temperature)
    noise.start.fill_(params.start)
    torch.arange(params.seed, params.seed + len(noise.seeds), out=noise.seeds)


def _restore_previous(work: DenoisingPass, before: PreviousPredictions | None) -> None:
    """Restore the predictions of these blocks' last step: other blocks may have run since."""
    if work.previous is None:
        return
    if before is None:
        work.previous.reset()
    else:
        work.previous.copy_from(before)
