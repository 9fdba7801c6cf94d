"""Loads a model: its card and tokenizer, its weights, and the runtime for this machine.

The only wiring of weights, planner and runtimes. The runtime is chosen once and named in the log.

A CUDA GPU with Triton runs the kernels. A CPU runs ONNX Runtime in int8; its graph is built from
the weights on the first load and stored. torch is for training, and is the reference.
"""

import logging
import os
import platform
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import psutil
from filelock import FileLock

from mercury_model import dependencies
from mercury_model.errors import RuntimeUnavailable, WeightsUnsupported
from mercury_model.memory.shape import PRESETS, NetworkShape, shape_of
from mercury_model.runtime.cuda import availability
from mercury_model.runtime.cuda.dtypes import KernelDtypes
from mercury_model.runtime.limits import MAX_POSITIONS
from mercury_model.runtime.onnx.files import graph_files
from mercury_model.runtime.protocol import Runtime
from mercury_model.spec.card import ModelCard
from mercury_model.spec.tokenizer import Tokenizer
from mercury_model.weights import registry
from mercury_model.weights.checkpoint import Tensors
from mercury_model.weights.registry import ModelReference

log = logging.getLogger(__name__)

RuntimeKind: TypeAlias = Literal["best", "kernels", "onnx", "torch"]
"""`best` is `kernels` where these run and agree with their reference, else `onnx`."""

GRAPH_VERSION = 6
"""Raised when the graph changes, so that graphs of earlier releases are not used."""

_EXACT = ("avx512_vnni", "avx_vnni", "asimddp")
"""Processor flags with which unsigned by signed 8-bit products do not saturate."""


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that is ready to run."""

    card: ModelCard
    tokenizer: Tokenizer
    runtime: Runtime


def load(
    model: ModelReference, *, cache_dir: Path, threads: int = 0, runtime: RuntimeKind = "best"
) -> LoadedModel:
    """Make a model ready to run; quick from the second time on.

    `model` is a name, an alias or a folder (see `registry`). `threads` 0 means one per physical
    core. Raises WeightsMissing, WeightsCorrupted, WeightsUnsupported, RuntimeUnavailable.
    """
    entry = registry.find(model)
    about = registry.card(entry)
    if entry.base is not None:
        registry.present(entry, cache_dir)
    return LoadedModel(
        about,
        registry.tokenizer(entry, cache_dir),
        select_runtime(
            runtime,
            about,
            lambda: registry.merged(entry, cache_dir),
            cache_dir / f"{entry.name}-{entry.key}",
            threads,
            network_shape(entry),
        ),
    )


def network_shape(model: ModelReference) -> NetworkShape:
    """The shape of a model, or of one of `memory.PRESETS` by its name.

    Raises WeightsUnsupported for an unknown name.
    """
    if isinstance(model, str) and model.lower() in PRESETS:
        return PRESETS[model.lower()]
    try:
        entry = registry.find(model)
    except WeightsUnsupported as error:
        shapes = f"Known shapes: {', '.join(PRESETS)}."
        raise WeightsUnsupported(error.what, f"{error.remedy} {shapes}") from None
    rank, vocabulary = registry.sizes(entry)
    return shape_of(registry.card(entry), rank, vocabulary, merged=entry.base is not None)


def select_runtime(
    kind: RuntimeKind,
    card: ModelCard,
    weights: Callable[[], Tensors],
    path: Path,
    threads: int,
    shape: NetworkShape | None = None,
) -> Runtime:
    """The runtime for a model. `weights` are asked for when there is something to build.

    What is built is stored at `path`, which has no ending. `threads` 0 means one per physical core.
    `shape` is what memory is planned for, by default what the card says. Raises RuntimeUnavailable
    when the packages of the runtime are not installed.
    """
    shape = shape or shape_of(card)
    threads = threads or cores()
    dependencies.keep_files("triton", path.parent)
    if kind == "best":
        runtime = _cuda_if_available(card, weights, shape) or _onnx(card, weights, path, threads)
    else:
        makers: Mapping[str, Callable[[], Runtime]] = {
            "kernels": lambda: _cuda(card, weights, shape),
            "torch": lambda: _torch(card, weights, threads),
            "onnx": lambda: _onnx(card, weights, path, threads),
        }
        try:
            runtime = makers[kind]()
        except ImportError as error:
            package = {"kernels": "mercury-lsp[cuda]", "torch": "mercury-lsp[torch]"}.get(
                kind, "mercury-lsp"
            )
            raise RuntimeUnavailable(
                f"The {kind} runtime cannot be used ({error}).", f"Run: pip install '{package}'."
            ) from error
    log.info("runtime: %s", runtime.name)
    return runtime


def cores() -> int:
    """How many physical cores this process may use. A second thread on a core slows both down."""
    physical = psutil.cpu_count(logical=False) or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    return min(physical, allowed)


def _cuda_if_available(
    card: ModelCard, weights: Callable[[], Tensors], shape: NetworkShape
) -> Runtime | None:
    """The kernels; without them, the log says why."""
    why = availability.unavailable_reason()
    if why is not None:
        log.info("no kernels: %s", why)
        return None
    try:
        return _cuda(card, weights, shape)
    except Exception as error:
        # Compilers, drivers and devices fail in ways of their own; the CPU serves whatever it was.
        log.warning("no kernels: %s: %s", type(error).__name__, error)
        return None


def _cuda(card: ModelCard, weights: Callable[[], Tensors], shape: NetworkShape) -> Runtime:
    why = availability.unavailable_reason()
    if why is not None:
        raise RuntimeUnavailable(
            f"The kernels cannot be used: {why}.", "Choose another runtime, or mend that."
        )
    import torch

    from mercury_kernels import dispatch, passes, replay
    from mercury_model.runtime.cuda.runtime import CudaRuntime, require_agreement
    from mercury_model.runtime.cuda.weights import DTYPES, load_weights, supported_dtypes

    taught, device = card.infill, torch.device("cuda")
    do = dispatch.select(device)
    kept = plan_dtypes(shape, supported_dtypes(do))
    network = load_weights(
        card.architecture, weights(), device, taught.mask_id, MAX_POSITIONS, DTYPES[kept.weights]
    )
    runtime, reference = (
        CudaRuntime(
            passes.ModelRunner(network, each, capture),
            card.architecture,
            taught.mask_id,
            DTYPES[kept.contexts],
        )
        for each, capture in (
            (do, replay.cuda_graphs()),
            (dispatch.reference_operations(), replay.Eager),
        )
    )
    require_agreement(runtime, reference)
    runtime.warm(taught.context_tokens, ("free", "restricted") if taught.heal else ("free",))
    return runtime


def plan_dtypes(
    shape: NetworkShape, kept: Collection[KernelDtypes], free_bytes: int | None = None
) -> KernelDtypes:
    """The types in which the GPU stores a network: the best of `kept` that fit beside one sequence.

    `free_bytes` is what is free now unless given. Raises InsufficientMemory when nothing fits.
    """
    from mercury_model.memory import MemoryEfficientDiffusion
    from mercury_model.memory.inference import on_cuda

    planner = MemoryEfficientDiffusion(shape, free_bytes, "cuda", kept)
    plan = planner.optimize_memory_usage(1, planner.shape.tokens)
    log.info("plan for the GPU: %s", plan.why)
    return next(each for each in kept if on_cuda(each) == plan.best.precision)


def _torch(card: ModelCard, weights: Callable[[], Tensors], threads: int) -> Runtime:
    from mercury_model.network.denoiser import load_denoiser
    from mercury_model.runtime.torch import TorchRuntime

    network = load_denoiser(card.architecture, weights(), card.infill.mask_id)
    return TorchRuntime(network, threads=threads)


def _onnx(card: ModelCard, weights: Callable[[], Tensors], path: Path, threads: int) -> Runtime:
    from mercury_model.runtime.onnx.runtime import OnnxRuntime, session_options

    about = graph_precision(cpu_flags())
    built = path.with_name(f"{path.name}-{about}-{GRAPH_VERSION}.onnx")
    _build(built, card, weights, about)
    mask_id = card.infill.mask_id
    return OnnxRuntime(built, card.architecture, mask_id, about, session_options(threads))


def graph_precision(flags: frozenset[str]) -> str:
    """How matrices are multiplied on a processor with these flags (see `arithmetic.Precision`).

    Without the flags of `_EXACT`, sums of unsigned by signed products saturate at 16 bits.
    """
    return "int8" if any(flag in flags for flag in _EXACT) else "int8-unsigned"


def _build(path: Path, card: ModelCard, weights: Callable[[], Tensors], about: str) -> None:
    """Write the graph unless it is there and unchanged since; the seal beside it tells."""
    seal = path.with_suffix(".seal")
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if seal.exists() and seal.read_text() == _state(path):
            return
        from mercury_model.runtime.onnx import graph
        from mercury_model.runtime.onnx.arithmetic import Precision

        graph.write_graph(path, card.architecture, weights(), Precision(about), card.infill.mask_id)
        seal.write_text(_state(path))


def _state(path: Path) -> str:
    """Changes whenever a file of the graph is written. Hashing them takes a tenth of a start."""

    def state(file: Path) -> str:
        found = file.stat()
        return f"{found.st_size}@{found.st_mtime_ns}"

    return " ".join(state(file) if file.exists() else "absent" for file in graph_files(path))


def cpu_flags() -> frozenset[str]:
    """The processor's flags as Linux names them; elsewhere, those that are known."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        # All of Apple's own processors have dot products; nothing is known of others.
        mac = platform.system() == "Darwin" and platform.machine() == "arm64"
        return frozenset({"asimddp"} if mac else ())
    named = [line for line in lines if line.startswith(("flags", "Features"))]
    return frozenset(named[0].partition(":")[2].split()) if named else frozenset()


__all__ = ["RuntimeKind", "cores", "cpu_flags", "graph_precision", "select_runtime"]
