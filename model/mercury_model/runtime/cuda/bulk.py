"""Many blocks at once, settled on the device: several steps between two looks of the host.

What is settled, and what opened again, is decided as `unmask.Threshold`, `unmask.Klass`,
`unmask.Remask` and `choose.Chooser` decide it; with a temperature the noise is another generator's.
Not asking for the next blocks is cancelling.
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
    """What a step settles: what the `policy` chooses, which the leftmost mask always is part of.

    Right of that, what was settled with less confidence than `remask` is opened again. With a
    `temperature` tokens are sampled: block i draws from `seed` + i, for positions of the middle
    from `start` on, alike at every step.
    """

    policy: Threshold | Klass
    remask: float = 0.0
    temperature: float = 0.0
    seed: int = 0
    start: int = 0


class BulkDenoiser:
    """`steps` denoising steps of a runtime between two looks, for weights of a `format`."""

    def __init__(self, runtime: CudaRuntime, format: FimFormat, steps: int) -> None:
        network = runtime.engine.network
        marks = (format.mask_id, format.suffix_id, format.prefix_id, format.middle_id)
        forbidden = torch.tensor([*marks, format.file_id], dtype=torch.int32)
        self._runtime = runtime
        self._steps = steps
        self._rules = TokenConstraints(
            mask_id=format.mask_id,
            eos_id=format.eos_id,
            shift=int(format.shift),
            forbidden=forbidden.to(network.embedding.device),
            top=min(TOP_K, len(network.head.values)),
        )
        self._moved = 0
        self._passes: dict[tuple[Bucket, CapturedPolicy], DenoisingPass] = {}

    def commit(
        self,
        kvs: Sequence[KVCache],
        blocks: Sequence[Sequence[int]],
        rules: BulkParams,
        at: int | None = None,
    ) -> Iterator[list[list[int]]]:
        """The blocks behind the contexts after each `steps` steps, the last without masks.

        Blocks have as many ids each; those that are no masks stay. The contexts stay as they are,
        unless the blocks stand from position `at` on in canvases that these are (see
        `CanvasRuntime.renew`): there they keep what the last step ran.
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
        while any(self._rules.mask_id in block.ids for block in now):
            work = self._pass(bucket, rules.policy)
            _tell(work, rules)
            _remind(work, before)
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
        if self._moved != runtime.pool.moved:
            self._passes.clear()
            self._moved = runtime.pool.moved
        if (bucket, kind) not in self._passes:
            self._passes[bucket, kind] = DenoisingPass(
                runtime.engine, bucket, runtime.pool.pages, self._rules, self._steps, kind
            )
        return self._passes[bucket, kind]


def _tell(work: DenoisingPass, rules: BulkParams) -> None:
    policy, noise = work.policy, work.sampling
    policy.bound.fill_(rules.policy.confidence)
    policy.floor.fill_(rules.remask)
    if isinstance(rules.policy, Klass) and policy.max_kl is not None:
        policy.max_kl.fill_(rules.policy.nats)
    noise.temperature.fill_(rules.temperature)
    noise.start.fill_(rules.start)
    torch.arange(rules.seed, rules.seed + len(noise.seeds), out=noise.seeds)


def _remind(work: DenoisingPass, before: PreviousPredictions | None) -> None:
    """Of what the last step predicted for these blocks, which others may have run after."""
    if work.previous is None:
        return
    if before is None:
        work.previous.reset()
    else:
        work.previous.copy_from(before)
