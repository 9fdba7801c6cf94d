"""Many blocks at once, settled on the device: several steps between two looks of the host.

What is settled is decided as `unmask.Threshold` and `choose.Chooser` decide it, without
temperature. Not asking for the next blocks is cancelling.
"""

from collections.abc import Iterator, Sequence

import torch

from mercury_kernels.passes import Denoising
from mercury_kernels.step import Bucket, Rules
from mercury_model.config import InfillFormat
from mercury_model.runtime import KV, TOP_K
from mercury_model.runtime.kernels import Block, KernelRuntime, fill, own


class Bulk:
    """`steps` denoising steps of a runtime between two looks, for weights of a `format`."""

    def __init__(self, runtime: KernelRuntime, format: InfillFormat, steps: int) -> None:
        network = runtime.engine.network
        marks = (format.mask_id, format.suffix_id, format.prefix_id, format.middle_id)
        forbidden = torch.tensor([*marks, format.file_id], dtype=torch.int32)
        self._runtime = runtime
        self._steps = steps
        self._rules = Rules(
            mask_id=format.mask_id,
            end_id=format.end_id,
            shift=int(format.shift),
            forbidden=forbidden.to(network.embedding.device),
            top=min(TOP_K, len(network.head.values)),
        )
        self._moved = 0
        self._passes: dict[Bucket, Denoising] = {}

    def settle(
        self, kvs: Sequence[KV], blocks: Sequence[Sequence[int]], threshold: float
    ) -> Iterator[list[list[int]]]:
        """The blocks behind the contexts after each `steps` steps, the last without masks.

        What is at least as sure as the `threshold` is settled, and the leftmost mask always is.
        Blocks have as many ids each. The contexts stay as they are.
        """
        own_kvs = [own(kv) for kv in kvs]
        rows = len(blocks[0])
        bucket = self._runtime.bucket(len(kvs), rows, max(kv.length for kv in own_kvs))
        for kv in own_kvs:
            kv.reserve(rows)
        now = [list(block) for block in blocks]
        while any(self._rules.mask_id in block for block in now):
            work = self._pass(bucket)
            work.policy.bound.fill_(threshold)
            fill(work.given, [Block(kv, ids) for kv, ids in zip(own_kvs, now, strict=True)])
            work.run()
            now = [ids[:rows] for ids in work.ids[: len(now)].tolist()]
            yield now

    def _pass(self, bucket: Bucket) -> Denoising:
        runtime = self._runtime
        if self._moved != runtime.pool.moved:
            self._passes.clear()
            self._moved = runtime.pool.moved
        if bucket not in self._passes:
            self._passes[bucket] = Denoising(
                runtime.engine, bucket, runtime.pool.pages, self._rules, self._steps
            )
        return self._passes[bucket]
