from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mercury_kernels.architecture import (
    ARCHITECTURES,
    LLAMA_8B,
    MINI,
    QWEN_7B,
    QWEN_HALF,
    Architecture,
)
from mercury_kernels.roofline import (
    CAUTIOUS,
    H100,
    H200,
    IDEAL,
    cost,
    launches,
    seconds,
    tokens_per_second,
    tokens_per_step_for,
)
from mercury_kernels.workload import FP8, FP8_WEIGHTS, Workload, parts


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: a.name)
def test_at_batch_one_a_step_moves_the_weights_and_little_else(architecture: Architecture) -> None:
    moved = cost(Workload(architecture, 1)).bytes
    weights = architecture.matrix_parameters * 2
    # Activations weigh the more, the smaller the model.
    assert weights < moved < weights * (1.1 if architecture.hidden_size > 1000 else 2)


def test_a_billion_parameters_are_about_what_the_models_are_called() -> None:
    sizes = {a.name: a.matrix_parameters / 1e9 for a in ARCHITECTURES}
    assert sizes[MINI.name] == pytest.approx(0.1345, abs=0.001)
    assert sizes[QWEN_HALF.name] == pytest.approx(0.494, abs=0.002)
    assert sizes[QWEN_7B.name] == pytest.approx(7.07, abs=0.02)
    assert sizes[LLAMA_8B.name] == pytest.approx(7.5, abs=0.02)


def test_the_model_launches_what_the_step_launches() -> None:
    layer = 9
    assert launches(Workload(QWEN_HALF, 1)) == 24 * layer + 1 + 2 + 1 + 1
    assert {part.operation for part in parts(Workload(MINI, 1))} == {
        *("norm", "linear", "rope", "attention", "swiglu", "head", "choose", "commit")
    }


def test_narrow_weights_nearly_halve_a_step_at_batch_one() -> None:
    plain = Workload(QWEN_7B, 1)
    assert cost(replace(plain, source=FP8_WEIGHTS)).bytes < 0.56 * cost(plain).bytes


def test_products_in_fp8_pay_for_large_networks_and_batches_alone() -> None:
    def faster(architecture: Architecture, batch: int) -> float:
        quantized = Workload(architecture, batch, source=FP8_WEIGHTS)
        return seconds(quantized, H100) / seconds(replace(quantized, source=FP8), H100)

    assert faster(QWEN_7B, 32) > 1.6
    assert faster(LLAMA_8B, 8) > 1.3
    assert faster(QWEN_7B, 1) < 1
    assert faster(QWEN_HALF, 1) < 1 < faster(QWEN_HALF, 8) < 1.1


def test_more_bandwidth_less_overhead_or_fewer_sequences_never_cost_time() -> None:
    work = Workload(QWEN_7B, 8)
    assert seconds(work, H200) < seconds(work, H100)
    assert seconds(work, H100, IDEAL) < seconds(work, H100) <= seconds(work, H100, CAUTIOUS)
    assert seconds(Workload(QWEN_7B, 1), H100) < seconds(work, H100)


@given(st.floats(1e-5, 1e-1), st.floats(10, 5000))
def test_the_tokens_a_step_that_are_needed_do_give_the_speed(step: float, speed: float) -> None:
    work = Workload(MINI, 1)
    needed = tokens_per_step_for(work, step, speed)
    if needed is None:
        assert tokens_per_second(work, step, work.block) < speed
    else:
        assert tokens_per_second(work, step, needed) == pytest.approx(speed)
