"""The step: what it computes, and what a capture as a CUDA graph relies on."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kernel_fakes import (
    BUCKET,
    MASK,
    RULES,
    denoiser,
    described,
    mapped,
    network,
    tensors,
)
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from mercury_kernels.adapter import Adapter
from mercury_kernels.architecture import ARCHITECTURES, FP8_ROWS, Architecture
from mercury_kernels.case import Case, Source
from mercury_kernels.catalogue import OPERATIONS, Operation
from mercury_kernels.dispatch import reference_operations, triton_operations
from mercury_kernels.kl_divergence.reference import NO_PREDICTION
from mercury_kernels.launch import Launch
from mercury_kernels.paged import PAGE
from mercury_kernels.rope.cases import rotation
from mercury_kernels.rope.reference import QkvEpilogue
from mercury_kernels.step import (
    SIZES,
    Adapters,
    Bucket,
    LayerWeights,
    Network,
    State,
    TokenConstraints,
    denoise,
    hidden_states,
    predict_rows,
    smallest_bucket,
)
from mercury_kernels.weights import Weight, quantized
from mercury_kernels.workload import (
    BF16,
    FP8,
    FP8_WEIGHTS,
    Workload,
    multiplies_in_fp8,
    parts,
    shipped,
)
from mercury_model.network.attention import MaskedAttention


def masked_state(net: Network, sequences: int = 2, contexts: torch.dtype = torch.float32) -> State:
    """Blocks of masks after nothing; rows past `sequences` stand for none."""
    state = State.empty(net, BUCKET, net.empty_pages(4, contexts))
    state.inputs.table.copy_(torch.tensor([[0, 1], [3, 2]], dtype=torch.int32))
    state.inputs.ids[:sequences] = MASK
    state.inputs.visible[:sequences] = BUCKET.block
    return state


def test_the_network_is_the_denoiser_causal_over_the_context_and_both_ways_in_the_block() -> None:
    model, do = denoiser(), reference_operations()
    net = network(model)
    state = masked_state(net)
    context = torch.randint(0, 90, (2, 6), generator=torch.Generator().manual_seed(1))
    state.inputs.ids.copy_(context)
    state.inputs.visible.copy_(torch.arange(1, 7).expand(2, 6))
    hidden_states(net, state, do)
    state.inputs.ids.fill_(MASK)
    state.inputs.start.fill_(6)
    state.inputs.visible.fill_(12)
    got = hidden_states(net, state, do).view(2, 6, -1)
    ids = torch.cat([context, torch.full((2, 6), MASK)], 1)
    sees = torch.ones(12, 12, dtype=torch.bool)
    sees[:6] = torch.arange(12) <= torch.arange(6)[:, None]
    attention = MaskedAttention(sees[None, None])
    want = model(ids, torch.arange(12).expand(2, 12), attention)[:, 6:]
    assert torch.allclose(got, want, atol=1e-4)


def klass_state(net: Network, sequences: int = 2) -> State:
    """A token and masks in each row, under KLASS."""
    state = masked_state(net, sequences).klass(RULES.top)
    state.inputs.ids[:sequences, 0] = torch.tensor([7, 30][:sequences])
    state.policy.bound.fill_(0.035)
    assert state.policy.max_kl is not None
    state.policy.max_kl.fill_(0.002)
    return state


@pytest.mark.parametrize(
    ("weights", "contexts"),
    [(torch.float32, torch.float32), (torch.int8, torch.float8_e4m3fn)],
    ids=["fp32", "quantized"],
)
def test_a_step_of_kernels_is_a_step_of_the_reference(
    interpreter: None, poisoned: None, weights: torch.dtype, contexts: torch.dtype
) -> None:
    net = network(denoiser(), weights)
    states = [masked_state(net, contexts=contexts) for _ in range(2)]
    for state, do in zip(states, (reference_operations(), triton_operations()), strict=True):
        state.policy.bound.fill_(0.05)
        denoise(net, state, RULES, do)
    reference, kernels = states
    assert torch.equal(kernels.inputs.ids, reference.inputs.ids)
    assert torch.equal(kernels.remaining, reference.remaining)
    assert 0 < int(kernels.remaining.sum()) < 12
    positions = torch.arange(BUCKET.block)
    for mine, its in zip(kernels.caches, reference.caches, strict=True):
        for ours, theirs in zip(
            mine.read(1, positions, torch.float32),
            its.read(1, positions, torch.float32),
            strict=True,
        ):
            assert torch.allclose(ours, theirs, atol=1e-5)


def test_a_step_of_fp8_products_is_one_of_the_reference_and_near_the_plain_one(
    interpreter: None,
) -> None:
    adapted = network(denoiser(), torch.float8_e4m3fn)
    layers = tuple(replace(layer, adapters=None) for layer in adapted.layers)
    plain = replace(adapted, layers=layers, mask_id=None)
    net = replace(plain, quantize_activations_from=12)
    runs = ((plain, reference_operations()), (net, reference_operations()))
    found = []
    for each, do in (*runs, (net, triton_operations())):
        state = masked_state(each)
        found.append(predict_rows(each, state, 4, do).logits)
    without, reference, kernels = found
    assert torch.allclose(kernels, reference, atol=2e-2)
    assert 1e-3 < (reference - without).abs().max() < 0.3
    fewer = replace(plain, quantize_activations_from=13)
    assert torch.equal(
        predict_rows(fewer, masked_state(fewer), 4, reference_operations()).logits, without
    )


@pytest.mark.parametrize("shift", [0, 1])
def test_klass_steps_of_the_kernels_equal_those_of_the_reference(
    interpreter: None, poisoned: None, shift: int
) -> None:
    net, rules = network(denoiser()), replace(RULES, shift=shift)
    states = [klass_state(net) for _ in range(2)]
    left = []
    for _ in range(3):
        for state, do in zip(states, (reference_operations(), triton_operations()), strict=True):
            denoise(net, state, rules, do)
        reference, kernels = states
        assert torch.equal(kernels.inputs.ids, reference.inputs.ids)
        assert torch.equal(kernels.remaining, reference.remaining)
        left.append(int(kernels.remaining.sum()))
    assert left[0] == 8, "at the first step no prediction is known to be stable"
    assert 0 < left[1] < 6


@pytest.mark.parametrize("sequences", [1, 2], ids=["where-none-was", "where-one-was"])
def test_a_block_that_joins_a_batch_is_denoised_as_alone(sequences: int) -> None:
    net, do = network(denoiser()), reference_operations()
    alone = klass_state(net)
    expected = [alone.inputs.ids.clone()]
    for _ in range(3):
        denoise(net, alone, RULES, do)
        expected.append(alone.inputs.ids.clone())
    state = klass_state(net, sequences)
    assert state.previous is not None
    for step in range(1, 4):
        if step == 2:
            state.inputs.ids[1] = expected[0][1]
            state.inputs.visible[1] = BUCKET.block
            state.previous.ids[1] = NO_PREDICTION
        denoise(net, state, RULES, do)
        assert torch.equal(state.inputs.ids[0], expected[step][0])
        if step >= 2:
            assert torch.equal(state.inputs.ids[1], expected[step - 1][1])
    assert [int((ids == MASK).sum()) for ids in expected] == [10, 8, 3, 0]


def test_steps_commit_every_block_within_its_length_and_leave_empty_rows_alone() -> None:
    net = network(denoiser())
    state = masked_state(net, sequences=1)
    state.policy.bound.fill_(torch.inf)
    for step in range(1, 7):
        denoise(net, state, RULES, reference_operations())
        assert state.remaining.tolist() == [6 - step, 0]
    assert MASK not in state.inputs.ids.tolist()[0]
    assert state.inputs.ids[1].tolist() == [0] * 6


@pytest.mark.parametrize("state_of", [masked_state, klass_state])
def test_buffers_stay_where_they_are_from_step_to_step(state_of: Callable[..., State]) -> None:
    net = network(denoiser())
    state = state_of(net)
    before = [tensor.data_ptr() for tensor in tensors((net, state))]
    for _ in range(3):
        denoise(net, state, RULES, reference_operations())
    assert [tensor.data_ptr() for tensor in tensors((net, state))] == before


def test_a_step_on_a_gpu_waits_for_nothing_and_always_launches_the_same(interpreter: None) -> None:
    """Fake CUDA tensors have no contents: any look at them, or shape made from them, would raise.

    The kernels are recorded rather than run, which fake tensors would not survive either.
    """
    real = network(denoiser(), torch.int8)
    rounds, asking = [], []
    with FakeTensorMode():

        def fake(tensor: torch.Tensor) -> torch.Tensor:
            kind = torch.bfloat16 if tensor.is_floating_point() else tensor.dtype
            fp32 = tensor.ndim == 1 or tensor.shape == real.rotation.cos.shape
            dtype = tensor.dtype if fp32 else kind
            return torch.empty(tensor.shape, dtype=dtype, device="cuda")

        net = mapped(real, fake)
        rules = mapped(RULES, fake)
        for _ in range(2):
            launches: list[Launch] = []
            state = State.empty(net, BUCKET, net.empty_pages(4, torch.bfloat16))
            denoise(net, state, rules, triton_operations(submit=launches.append))
            rounds.append([described(launch) for launch in launches])
            launches.clear()
            denoise(net, state.klass(4), rules, triton_operations(submit=launches.append))
            asking.append([described(launch) for launch in launches])
            for tensor in tensors([launch.arguments for launch in launches]):
                assert tensor.device.type == "cuda"
    assert rounds[0] == rounds[1]
    # Nine launches a layer, the split attention's second among them, then norm, head and choice:
    # adapters take none.
    assert len(rounds[0]) == 2 * 9 + 1 + 2 + 1 + 1
    # The KL divergence takes one.
    assert asking[0] == asking[1]
    assert [launch[0] for launch in asking[0]] == [
        *(launch[0] for launch in rounds[0][:-1]),
        *("kl_divergence_position", "commit_block"),
    ]


def test_fake_tensors_do_catch_a_step_that_looks_at_its_data(interpreter: None) -> None:
    real = network(denoiser())
    kernels = triton_operations(submit=lambda launch: None)

    def peeking(ids: torch.Tensor, *_: Any) -> None:
        ids.fill_(ids.max().item())

    with FakeTensorMode():

        def fake(tensor: torch.Tensor) -> torch.Tensor:
            return torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")

        net, rules = mapped(real, fake), mapped(RULES, fake)
        state = State.empty(net, BUCKET, net.empty_pages(4, torch.float32))
        with pytest.raises(DataDependentOutputException):
            denoise(net, state, rules, replace(kernels, commit=peeking))


def shape_of(a: Architecture, weights: torch.dtype) -> Network:
    """A network of this architecture, of tensors without contents."""

    def empty(*shape: int) -> torch.Tensor:
        return torch.empty(*shape, dtype=torch.bfloat16, device="meta")

    def weight(rows: int, columns: int) -> Weight:
        return quantized(empty(rows, columns), weights)

    layer = LayerWeights(
        attention_norm=empty(a.hidden_size),
        qkv=weight(a.qkv_width, a.hidden_size),
        epilogue=QkvEpilogue(bias=empty(a.qkv_width) if a.qkv_bias else None),
        output=weight(a.hidden_size, a.num_heads * a.head_dim),
        mlp_norm=empty(a.hidden_size),
        gate=weight(a.intermediate_size, a.hidden_size),
        up=weight(a.intermediate_size, a.hidden_size),
        down=weight(a.hidden_size, a.intermediate_size),
    )
    rank, mixed = a.gated_rank, a.num_heads * a.head_dim
    adapters = Adapters(
        qkv=Adapter(empty(rank, a.hidden_size), empty(a.qkv_width, rank)),
        output=Adapter(empty(rank, mixed), empty(a.hidden_size, rank)),
        gate_up=Adapter(empty(rank, a.hidden_size), empty(2 * a.intermediate_size, rank)),
        down=Adapter(empty(rank, a.intermediate_size), empty(a.hidden_size, rank)),
    )
    plain = a.num_layers - a.gated_layers
    return Network(
        embedding=empty(a.vocabulary, a.hidden_size),
        layers=(layer,) * plain + (replace(layer, adapters=adapters),) * a.gated_layers,
        norm=empty(a.hidden_size),
        head=weight(a.vocabulary, a.hidden_size),
        rotation=rotation(4096, a.head_dim, Source("meta")),
        num_heads=a.num_heads,
        num_kv_heads=a.num_kv_heads,
        head_dim=a.head_dim,
        eps=1e-6,
        mask_id=0 if rank else None,
    )


def specialised(launch: Launch) -> tuple[Any, ...]:
    """What decides which binary a launch runs, and on how many programs."""
    arguments = [
        (name, value.dtype if isinstance(value, torch.Tensor) else value)
        for name, value in launch.arguments.items()
        if name not in ("mask_id", "eos_id", "shift", "eps", "rows", "forbidden_count", "pages")
    ]
    return launch.name, launch.grid, tuple(arguments), launch.warps, launch.stages


def recorded(operation: Operation, case: Case, source: Source) -> list[Launch]:
    """What a case launches, in order."""
    launches: list[Launch] = []
    operation.kernel()(**case.inputs(source), submit=launches.append)
    return launches


SHIPPED = [
    pytest.param(architecture, source, *size, id=f"{architecture.name}-{name}-{size}")
    for architecture in ARCHITECTURES
    for name, source in {"bf16": BF16, "fp8": FP8_WEIGHTS, "fp8-rows": FP8}.items()
    for size in SIZES
    if source is not FP8 or multiplies_in_fp8(architecture, math.prod(size))
]


@pytest.mark.parametrize(("architecture", "source", "batch", "block"), SHIPPED)
def test_the_shipped_and_modelled_kernels_are_those_that_a_step_launches(
    interpreter: None, architecture: Architecture, source: Source, batch: int, block: int
) -> None:
    architecture = replace(
        architecture, num_layers=2, gated_layers=min(1, architecture.gated_layers)
    )
    work = Workload(architecture, batch, block, source=source)
    expected: Counter[Any] = Counter()
    for part in parts(work):
        operation = next(o for o in OPERATIONS if o.folder == part.operation)
        launches = recorded(operation, part.case, work.source)
        assert len(launches) == part.launches
        expected.update({specialised(launch): part.count for launch in launches})
    net = shape_of(architecture, work.source.weights)
    if source is FP8:
        net = replace(net, quantize_activations_from=FP8_ROWS)
    pages = -(-(work.context + block) // PAGE)
    held = net.empty_pages(batch * pages, torch.bfloat16)
    state = State.empty(net, Bucket(batch, block, pages), held)
    rules = TokenConstraints(0, 1, 0, torch.empty(3, dtype=torch.int32, device="meta"))
    launched: list[Launch] = []
    denoise(net, state, rules, triton_operations(submit=launched.append))
    assert Counter(map(specialised, launched)) == expected


@pytest.mark.parametrize(("batch", "block"), SIZES)
def test_the_shipped_klass_kernels_are_those_that_a_step_launches(
    interpreter: None, batch: int, block: int
) -> None:
    shipping = {
        specialised(launch)
        for operation in OPERATIONS
        if operation.folder in ("kl_divergence", "commit")
        for case, source in shipped(operation, "meta", [(batch, block)])
        for launch in recorded(operation, case, source)
    }
    net = shape_of(replace(ARCHITECTURES[0], num_layers=0, gated_layers=0), torch.bfloat16)
    pages = -(-block // PAGE)
    state = State.empty(
        net, Bucket(batch, block, pages), net.empty_pages(batch * pages, torch.bfloat16)
    )
    rules = TokenConstraints(0, 1, 0, torch.empty(3, dtype=torch.int32, device="meta"))
    launched: list[Launch] = []
    denoise(net, state.klass(rules.top), rules, triton_operations(submit=launched.append))
    assert [launch.name for launch in launched[-2:]] == ["kl_divergence_position", "commit_block"]
    assert set(map(specialised, launched[-2:])) <= shipping


BUCKETS = [Bucket(b, t, p) for b in (1, 4, 16) for t in (16, 32) for p in (4, 16, 64)]


@given(st.integers(1, 20), st.integers(1, 40), st.integers(0, 5000))
def test_the_smallest_bucket_that_fits_is_taken(batch: int, block: int, context: int) -> None:
    found = smallest_bucket(BUCKETS, batch, block, context)
    fits = [
        b
        for b in BUCKETS
        if b.batch >= batch and b.block >= block and b.pages * 64 >= context + b.block
    ]
    if not fits:
        assert found is None
        return
    assert found in fits
    assert all(
        (found.batch * found.block, found.pages) <= (b.batch * b.block, b.pages) for b in fits
    )
