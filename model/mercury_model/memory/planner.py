"""Plans memory: lists candidate configurations, best first, and takes the first that fits.

Inference gives up, in this order, block length, the precision of keys and values, the precision of
weights (see `inference.precisions`), and batch size. Training gives up time (checkpointing), then
the precision of the base, then the examples of a step.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from mercury_model.errors import InsufficientMemory, WeightsUnsupported
from mercury_model.memory.available import free_memory
from mercury_model.memory.footprint import Footprint, readable
from mercury_model.memory.inference import (
    CPU,
    LIBRARIES,
    Device,
    InferenceLoad,
    Precision,
    first_load_bytes,
    footprint,
    precisions,
)
from mercury_model.memory.shape import NetworkShape
from mercury_model.runtime.cuda.dtypes import KERNEL_DTYPES, KernelDtypes


@dataclass(frozen=True, slots=True)
class Configuration:
    """How to run, and the memory that takes.

    `batch` counts sequences of `tokens` tokens, or the examples of a training step. `block` is the
    number of positions denoised at once, 0 in training. In training `micro_batch` examples run at a
    time, and `recompute` is gradient checkpointing.
    """

    precision: Precision
    batch: int
    tokens: int
    footprint: Footprint
    block: int = 0
    micro_batch: int = 0
    recompute: bool = False

    def settings(self) -> dict[str, str | int | bool]:
        """The chosen settings by name."""
        p = self.precision
        if self.micro_batch:
            return {
                "base": p.name,
                "checkpointing": self.recompute,
                "micro_batch": self.micro_batch,
                "batch": self.batch,
            }
        return {
            "weights": p.name,
            "kv": p.kv_name,
            "runtime": p.runtime,
            "batch": self.batch,
            "block": self.block,
        }


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The `best` of the `considered` configurations (best first) that fits `free_bytes`.

    `why` says what it gave up. `first_load_bytes` are needed once, when weights are first loaded,
    and are in no footprint.
    """

    model: str
    device: Device
    free_bytes: int
    best: Configuration
    considered: tuple[Configuration, ...]
    why: str
    first_load_bytes: int = 0


Candidates = Callable[[int], Iterator[Configuration]]
"""All configurations for sequences of so many tokens, best first."""


class MemoryEfficientDiffusion:
    """Plans the memory of one network on one device.

    `free_bytes` is the limit of the whole process; by default, the memory that is free now.
    `dtypes` are the types that the GPU supports, best first.
    """

    def __init__(
        self,
        shape: NetworkShape,
        free_bytes: int | None = None,
        device: Device = "cpu",
        dtypes: Collection[KernelDtypes] = KERNEL_DTYPES,
    ) -> None:
        self.shape = shape
        self.device: Device = device
        self.free_bytes = free_memory(device) if free_bytes is None else free_bytes
        self._dtypes = dtypes

    def optimize_memory_usage(self, batch_size: int, sequence_length: int) -> MemoryPlan:
        """Plan inference with `batch_size` sequences at once, of `sequence_length` tokens each.

        Raises InsufficientMemory when nothing fits.
        """
        plan = self._first_that_fits(
            lambda tokens: self._inference(batch_size, tokens), sequence_length
        )
        once = first_load_bytes(self.shape, plan.best.precision)
        return replace(plan, first_load_bytes=once)

    def optimize_training_memory(self, batch_size: int, sequence_length: int) -> MemoryPlan:
        """Plan the adaptation with `batch_size` examples a step, of `sequence_length` clean rows.

        Needs torch. Raises InsufficientMemory when nothing fits, and WeightsUnsupported for
        networks that training does not cover.
        """
        if not self.shape.config.can_be_adapted:
            raise WeightsUnsupported(
                f"{self.shape.name} cannot be adapted: it has normed heads or its own head.",
                "Plan for mini or tiny, or without --train.",
            )
        return self._first_that_fits(
            lambda tokens: self._training(batch_size, tokens), sequence_length
        )

    def _inference(self, batch_size: int, tokens: int) -> Iterator[Configuration]:
        longest = min(self.shape.block, tokens)
        for batch in _halvings(batch_size):
            for precision in precisions(self.shape, self.device, batch * longest, self._dtypes):
                for block in _halvings(longest):
                    load = InferenceLoad(batch, tokens, block)
                    needs = footprint(self.shape, precision, load)
                    yield Configuration(precision, batch, tokens, needs, block)

    def _training(self, batch_size: int, tokens: int) -> Iterator[Configuration]:
        import torch

        from mercury_model.memory import training
        from mercury_model.training.adaptation import AdapterConfig as Settings
        from mercury_model.training.base import training_dtype

        own = training_dtype(torch.device(self.device))
        bf16, fp32 = (p for p in CPU if p.runtime == "torch")
        libraries = LIBRARIES["kernels" if self.device == "cuda" else "torch"]
        for examples in _halvings(batch_size):
            for precision in (bf16, fp32) if own == torch.bfloat16 else (fp32, bf16):
                for recompute in (False, True):
                    settings = Settings(examples=examples, recompute=recompute)
                    work = training.TrainingLoad(examples, tokens, settings)
                    needs = replace(
                        training.footprint(self.shape, precision, work), libraries=libraries
                    )
                    yield Configuration(
                        precision, examples, tokens, needs, micro_batch=1, recompute=recompute
                    )

    def _first_that_fits(self, candidates: Candidates, tokens: int) -> MemoryPlan:
        considered = tuple(candidates(tokens))
        best = self._fitting(considered)
        if best is None:
            raise self._short(considered, candidates, tokens)
        why = _why(best, considered[0])
        return MemoryPlan(self.shape.name, self.device, self.free_bytes, best, considered, why)

    def _fitting(self, configurations: Iterable[Configuration]) -> Configuration | None:
        return next((c for c in configurations if c.footprint.peak <= self.free_bytes), None)

    def _short(
        self, considered: tuple[Configuration, ...], candidates: Candidates, tokens: int
    ) -> InsufficientMemory:
        least = min(c.footprint.peak for c in considered)
        fitting, failing = 0, tokens
        while failing - fitting > 1:
            middle = (fitting + failing) // 2
            fits = self._fitting(candidates(middle)) is not None
            fitting, failing = (middle, failing) if fits else (fitting, middle)
        fewer = f"or use --tokens {fitting}" if fitting else "or take a smaller model"
        return InsufficientMemory(
            f"{self.shape.name} with {tokens} tokens needs at least {readable(least)}, "
            f"and {readable(self.free_bytes)} are free.",
            f"Close other programs, {fewer}.",
        )


def _halvings(count: int) -> Iterator[int]:
    """`count`, its half, and so on down to 1."""
    if count < 1:
        raise ValueError(f"there must be at least 1, not {count}")
    while count:
        yield count
        count //= 2


def _why(best: Configuration, first: Configuration) -> str:
    """How the best that fits differs from the first choice."""
    if best == first:
        return "the first choice fits"
    wanted, had = first.settings(), best.settings()
    lost = [
        f"{name.replace('_', '-')} {_said(had[name])} instead of {_said(wanted[name])}"
        for name in had
        if had[name] != wanted[name] and name != "runtime"
    ]
    return f"the first choice needs {readable(first.footprint.peak)}; " + ", ".join(lost)


def _said(value: str | int | bool) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
