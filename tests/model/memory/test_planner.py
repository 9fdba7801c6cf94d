"""The planner: it fits, more memory is never worse, and counts agree with the code they are of."""

from collections.abc import Collection
from dataclasses import replace

import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mercury_kernels import paged
from mercury_kernels.architecture import ARCHITECTURES
from mercury_model.errors import InsufficientMemory, RuntimeUnavailable, WeightsUnsupported
from mercury_model.load import network_shape
from mercury_model.memory import (
    PRESETS,
    Configuration,
    MemoryEfficientDiffusion,
    MemoryPlan,
    NetworkShape,
)
from mercury_model.memory import inference as counts
from mercury_model.memory.available import free_memory
from mercury_model.memory.footprint import GB, MB, readable
from mercury_model.memory.inference import CPU, Device, InferenceLoad, on_cuda, weight_bytes
from mercury_model.network.adapters import LowRankAdapters
from mercury_model.network.denoiser import Denoiser
from mercury_model.runtime.cuda.dtypes import KERNEL_DTYPES, KernelDtypes
from mercury_model.runtime.torch import TorchRuntime
from mercury_model.spec.model_config import ModelConfig
from mercury_model.training.adaptation import Adaptation
from mercury_model.training.adaptation import AdapterConfig as Settings
from mercury_model.training.base import frozen

BF16, FP32 = CPU[1:]
CUDA = tuple(map(on_cuda, KERNEL_DTYPES))
MINI, TINY = network_shape("mini"), network_shape("tiny")
SHAPES = st.sampled_from([MINI, TINY, *PRESETS.values()])
SIZES = st.integers(1, 40)
TOKENS = st.integers(1, 5000)
FREE = st.integers(0, 400 * GB)
DEVICES = st.sampled_from(["cpu", "cuda"])


def plan(
    shape: NetworkShape, free: int, batch: int, tokens: int, device: Device = "cpu"
) -> MemoryPlan | None:
    """None where nothing fits."""
    try:
        planner = MemoryEfficientDiffusion(shape, free, device)
        return planner.optimize_memory_usage(batch, tokens)
    except InsufficientMemory:
        return None


def rank(made: MemoryPlan | None) -> int:
    """How far from the first choice; nothing at all is the worst."""
    return 10_000 if made is None else made.considered.index(made.best)


@given(SHAPES, FREE, SIZES, TOKENS, DEVICES)
def test_a_plan_never_takes_more_than_there_is(
    shape: NetworkShape, free: int, batch: int, tokens: int, device: Device
) -> None:
    made = plan(shape, free, batch, tokens, device)
    if made is not None:
        assert made.best.footprint.peak <= free
        assert made.best.batch <= batch


@given(SHAPES, FREE, st.integers(0, 50 * GB), SIZES, TOKENS, DEVICES)
def test_more_memory_is_never_worse(
    shape: NetworkShape, free: int, more: int, batch: int, tokens: int, device: Device
) -> None:
    little = plan(shape, free, batch, tokens, device)
    assert rank(plan(shape, free + more, batch, tokens, device)) <= rank(little)


@given(SHAPES, SIZES, SIZES, TOKENS, TOKENS, st.sampled_from([*CPU, *CUDA]))
def test_more_sequences_and_more_tokens_take_more(
    shape: NetworkShape,
    batch: int,
    others: int,
    tokens: int,
    longer: int,
    precision: counts.Precision,
) -> None:
    small = InferenceLoad(min(batch, others), min(tokens, longer), min(shape.block, tokens, longer))
    large = InferenceLoad(max(batch, others), max(tokens, longer), small.block)
    one, other = (counts.footprint(shape, precision, load) for load in (small, large))
    assert one.peak <= other.peak
    assert all(one.parts[name] <= other.parts[name] for name in one.parts)


@given(st.sampled_from([MINI, TINY]), SIZES, TOKENS, SIZES, TOKENS)
def test_training_takes_more_for_more_rows_and_less_with_checkpointing(
    shape: NetworkShape, batch: int, tokens: int, more_batch: int, more_tokens: int
) -> None:
    def all_of(batch: int, tokens: int) -> tuple[Configuration, ...]:
        planner = MemoryEfficientDiffusion(shape, 1000 * GB)
        return planner.optimize_training_memory(batch, tokens).considered

    small, large = all_of(batch, tokens), all_of(batch + more_batch, tokens + more_tokens)
    assert small[0].footprint.peak < large[0].footprint.peak
    for saved, recomputed in zip(small[::2], small[1::2], strict=True):
        assert (saved.recompute, recomputed.recompute) == (False, True)
        assert recomputed.footprint.parts["activations"] <= saved.footprint.parts["activations"]


@given(st.integers(0, 3 * GB), st.integers(0, GB), st.integers(1, 8), TOKENS)
def test_training_plans_fit_too_and_more_memory_is_never_worse(
    free: int, more: int, batch: int, tokens: int
) -> None:
    def made(free: int) -> MemoryPlan | None:
        try:
            planner = MemoryEfficientDiffusion(MINI, free)
            return planner.optimize_training_memory(batch, tokens)
        except InsufficientMemory:
            return None

    little, much = made(free), made(free + more)
    assert little is None or little.best.footprint.peak <= free
    assert rank(much) <= rank(little)


def test_a_plan_gives_up_block_then_precision_then_batch() -> None:
    shape = PRESETS["qwen2.5-7b"]
    whole = plan(shape, 400 * GB, 64, 4096, "cuda")
    assert whole is not None
    given_up = []
    free = whole.best.footprint.peak
    while (made := plan(shape, free, 64, 4096, "cuda")) is not None:
        best = made.best
        given_up.append((-best.batch, best.precision.matrix, best.precision.kv, -best.block))
        free = best.footprint.peak - 1
    expected = {(-(2**i), w, k) for i in range(7) for w, k in ((2, 2), (2, 1), (1, 2), (1, 1))}
    assert {entry[:3] for entry in given_up} <= expected
    orders = [(batch, -matrix, -kv_bytes, block) for batch, matrix, kv_bytes, block in given_up]
    assert orders == sorted(orders)
    assert given_up[0][:3] == (-64, 2, 2)
    assert given_up[-1][:3] == (-1, 1, 1)


def test_fp8_weights_replace_int8_where_the_gpu_multiplies_in_fp8() -> None:
    def quantized(
        model: str, batch: int, dtypes: Collection[KernelDtypes] = KERNEL_DTYPES
    ) -> set[str]:
        planner = MemoryEfficientDiffusion(network_shape(model), 400 * GB, "cuda", dtypes)
        considered = planner.optimize_memory_usage(batch, 2048).considered
        return {one.precision.name for one in considered if one.batch == batch} - {"bf16"}

    assert quantized("qwen2.5-7b", 8) == {"fp8"}
    assert quantized("qwen2.5-7b", 7) == {"int8"}
    assert quantized("qwen2.5-0.5b", 8) == {"int8"}
    assert quantized("qwen2.5-7b", 8, [KernelDtypes("bf16"), KernelDtypes("int8")]) == {"int8"}


def test_a_plan_says_what_it_gave_up() -> None:
    made = MemoryEfficientDiffusion(MINI, 700 * MB).optimize_memory_usage(16, 1024)
    assert made.best.batch == 8
    assert "batch 8 instead of 16" in made.why
    made = MemoryEfficientDiffusion(MINI, 800 * MB).optimize_training_memory(3, 370)
    assert made.best.recompute
    assert MemoryEfficientDiffusion(MINI, 9 * GB).optimize_memory_usage(1, 370).why == (
        "the first choice fits"
    )


def test_when_nothing_fits_the_error_knows_how_many_tokens_would() -> None:
    planner = MemoryEfficientDiffusion(MINI, 300 * MB)
    with pytest.raises(InsufficientMemory, match="300 MB are free") as short:
        planner.optimize_memory_usage(1, 9999)
    tokens = int(short.value.remedy.split("--tokens ")[1].rstrip("."))
    planner.optimize_memory_usage(1, tokens)
    with pytest.raises(InsufficientMemory):
        planner.optimize_memory_usage(1, tokens + 1)
    with pytest.raises(InsufficientMemory, match="smaller model"):
        MemoryEfficientDiffusion(MINI, 100 * MB).optimize_memory_usage(1, 370)


def test_what_cannot_be_planned_is_refused() -> None:
    with pytest.raises(WeightsUnsupported, match=r"qwen2\.5-7b"):
        network_shape("maxi")
    with pytest.raises(WeightsUnsupported, match="cannot be adapted"):
        MemoryEfficientDiffusion(PRESETS["llama-8b"], GB).optimize_training_memory(1, 100)
    with pytest.raises(ValueError, match="at least 1"):
        MemoryEfficientDiffusion(TINY, GB).optimize_memory_usage(0, 100)


def test_free_memory_is_what_the_system_says() -> None:
    assert 0 < free_memory("cpu") <= psutil.virtual_memory().total
    assert MemoryEfficientDiffusion(TINY).free_bytes <= psutil.virtual_memory().total
    if not torch.cuda.is_available():
        with pytest.raises(RuntimeUnavailable, match="CUDA"):
            free_memory("cuda")


PLAIN = ModelConfig(61, 32, 2, 4, 2, 8, 48, 10_000.0)


@pytest.mark.parametrize("precision", [BF16, FP32], ids=lambda p: p.name)
@pytest.mark.parametrize(
    ("config", "gated_rank"),
    [
        (PLAIN, 0),
        (PLAIN, 3),
        (replace(PLAIN, tie_word_embeddings=False), 0),
        (replace(PLAIN, qkv_bias=True), 0),
        (replace(PLAIN, qk_norm=True), 5),
    ],
)
def test_weights_are_counted_as_the_network_has_them(
    config: ModelConfig, gated_rank: int, precision: counts.Precision
) -> None:
    with torch.device("meta"):
        gated = LowRankAdapters.zeros(config, gated_rank) if gated_rank else None
        network = Denoiser(config, gated, 0)
    held = sum(p.numel() for p in network.parameters()) * precision.matrix
    assert weight_bytes(NetworkShape("", config, gated_rank), precision) == held


@pytest.mark.parametrize("known", ARCHITECTURES[1:], ids=lambda known: known.name)
def test_matrices_are_those_that_the_roofline_counts(known: object) -> None:
    architecture = next(a for a in ARCHITECTURES if a == known)
    c = PRESETS[architecture.name].config
    each = sum(rows * columns for rows, columns in c.projections.values())
    assert c.num_layers * each + c.vocab_size * c.hidden_size == architecture.matrix_parameters


@pytest.mark.parametrize("tokens", [1, 128, 129, 300, 1024])
def test_room_for_keys_and_values_is_what_a_context_has(tokens: int) -> None:
    runtime = TorchRuntime(Denoiser(PLAIN), dtype=torch.float32)
    held = runtime.new_kv_cache()
    for start in range(0, tokens, 64):
        runtime.extend(held, [7] * min(64, tokens - start))
    assert (
        counts.kv_bytes(NetworkShape("", PLAIN), FP32, InferenceLoad(1, tokens, 1)) == held.nbytes
    )


def test_adapters_are_counted_as_training_has_them() -> None:
    from mercury_model.memory.training import TrainingLoad, footprint

    shape, plan = TINY, Settings(first_layer=1)
    c = shape.config
    zeros = {
        "embedding": torch.zeros(c.vocab_size, c.hidden_size),
        "norm": torch.zeros(c.hidden_size),
    }
    for i in range(c.num_layers):
        sizes = c.projections
        zeros |= {f"layers.{i}.{part}": torch.zeros(size) for part, size in sizes.items()}
        zeros |= {
            f"layers.{i}.{norm}_norm": torch.zeros(c.hidden_size) for norm in ("attention", "mlp")
        }
    tensors = {name: values.numpy() for name, values in zeros.items()}
    network = frozen(c, tensors, torch.device("cpu"), torch.float32)
    adapters = Adaptation.of(network, plan)
    held = sum(p.nbytes for each in (adapters.plain, adapters.gated) for p in each.parameters())
    parts = footprint(shape, FP32, TrainingLoad(1, 100, plan)).parts
    assert parts["adapters"] == parts["gradients"] == held
    assert parts["optimiser"] == 2 * held


def test_a_page_has_the_size_that_is_counted() -> None:
    assert paged.PAGE == counts.PAGE


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 MB"), (999 * MB, "999 MB"), (GB, "1.00 GB"), (12 * GB, "12.0 GB")]
)
def test_sizes_are_readable(count: int, text: str) -> None:
    assert readable(count) == text
