import json
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from scripts import script

from mercury_kernels.agreement import difference
from mercury_kernels.architecture import Architecture
from mercury_kernels.case import Source
from mercury_kernels.catalogue import OPERATIONS, Operation
from mercury_kernels.dispatch import reference_operations
from mercury_kernels.measure import BASELINES, Budget, Timing, measure
from mercury_kernels.passes import ModelRunner
from mercury_kernels.replay import Eager
from mercury_kernels.workload import Workload, shipped
from mercury_lsp.bench import cuda_runtime

KERNELS = pathlib.Path(__file__).parents[2] / "kernels"
bench = script("kernels/tools/bench.py")
readme = script("kernels/tools/readme.py")
BY_NAME = {operation.name: operation for operation in OPERATIONS}


class Counting:
    """Runs each call once and says that it took as many milliseconds as were timed before."""

    def __init__(self) -> None:
        self.timed = 0

    def seconds(self, call: Callable[[], object]) -> list[float]:
        call()
        self.timed += 1
        return [self.timed / 1e3]


class Wrong(Operation):
    """An operation whose kernel forgets to double."""

    def kernel(self) -> Callable[..., Any]:
        right = self.reference()
        return lambda **given: right(**given) * 1.5


class Ticking:
    """A clock that goes a second further at each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def small(operation: Operation) -> tuple[Operation, Any, Source]:
    return operation, operation.tests[1], Source()


def test_a_kernel_that_is_wrong_gets_no_time() -> None:
    timer = Counting()
    work = iter([small(Wrong("swiglu", "swiglu"))])
    (result,) = measure(work, timer, Budget.of(10, lambda: 0.0))
    assert result.wrong is not None
    assert result.kernel is None
    assert timer.timed == 0


def test_a_kernel_that_agrees_is_timed_beside_what_pytorch_offers(interpreter: None) -> None:
    timer = Counting()
    work = iter([small(BY_NAME["swiglu"]), small(BY_NAME["commit"])])
    first, second = measure(work, timer, Budget.of(10, lambda: 0.0), lambda call: call)
    assert first.wrong is None
    assert first.kernel == Timing(0.001, 0.001, 1)
    assert {name: t.median for name, t in first.others.items()} == {
        "eager": 0.002,
        "compiled": 0.003,
    }
    assert first.bytes > 0
    assert second.others == {}


def test_measuring_stops_when_the_budget_is_nearly_spent() -> None:
    def endless() -> Iterator[tuple[Operation, Any, Source]]:
        while True:
            yield small(Wrong("swiglu", "swiglu"))

    results = list(measure(endless(), Counting(), Budget.of(20, Ticking())))
    assert 10 <= len(results) < 20


def test_a_timing_is_the_median_and_the_95th_percentile() -> None:
    assert Timing.of([5.0, *[1.0] * 9, *[2.0] * 10]) == Timing(2.0, 5.0, 20)
    with pytest.raises(ValueError, match="no runs"):
        Timing.of([])


@pytest.mark.parametrize("name", ["linear", "swiglu", "add_rmsnorm", "attend"])
def test_what_a_kernel_is_timed_against_does_the_same_work(name: str) -> None:
    operation = BY_NAME[name]
    case = operation.tests[1]
    call = BASELINES[name](case.inputs(Source()))
    wanted = operation.result(operation.reference()(**case.inputs(Source())))
    got: Any = call()
    if name == "attend":
        got = got.transpose(1, 2)
    assert difference(got, wanted) < 1e-5


def test_the_head_is_timed_against_the_same_predictions() -> None:
    operation = BY_NAME["predict"]
    case = operation.tests[1]
    got: Any = BASELINES["predict"](case.inputs(Source()))()
    top, lse, entropy = got
    wanted = operation.reference()(**case.inputs(Source()))
    assert torch.equal(top[1].int(), wanted.ids)
    assert difference(lse, wanted.lse) < 1e-5
    assert difference(entropy, wanted.entropy) < 1e-5


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_every_operation_ships_cases_each_once(operation: Operation) -> None:
    found = list(shipped(operation, "meta"))
    assert found
    assert len(set(found)) == len(found)
    assert {source.weights for _, source in found} >= {torch.bfloat16}


def test_the_readme_is_what_the_results_and_limits_make_it() -> None:
    assert readme.README.read_text() == readme.text(), "run python kernels/tools/readme.py"


def test_what_a_gpu_says_is_shown_with_the_share_it_reached_of_the_chip() -> None:
    timing = {"median": 1e-3, "p95": 2e-3}
    step = {"model": "m", "types": "bf16", "batch": 1, "block": 32, "bytes": 10**9, "flops": 10**11}
    case = {"operation": "linear", "case": "c", "types": "bf16", "wrong": None, "kernel": timing}
    case |= {"bytes": 2 * 10**9, "flops": 10**11, "others": {"eager": timing}}
    said = readme.measured(
        {
            "chip": {"name": "A chip"},
            "date": "d",
            "commit": "c",
            "torch": "t",
            "triton": "t",
            "rates": {"copy_bytes_per_second": 4e12, "bf16_flops_per_second": 5e14},
            "odd_shapes": {"checked": 3, "wrong": []},
            "steps": [step | {"graph_of_1": timing}],
            "served": {"wrong": [], "rows": []},
            "operations": [case, case | {"wrong": "off", "kernel": None, "others": {}}],
        }
    )
    assert "| m | bf16 | 1 × 32 | 1,000 (2,000) | 25% | 20% |" in said
    assert "| linear | c | bf16 | 1,000.0 (2,000.0) | 50% | 20% | 1,000.0 (2,000.0) |" in said
    assert "| linear | c | bf16 | off | - | - | - | - | - |" in said


@pytest.mark.parametrize("chip", [bench.H100, bench.H200], ids=["h100-sxm", "h200"])
def test_the_committed_model_is_what_the_roofline_says_now(
    chip: Any, request: pytest.FixtureRequest
) -> None:
    path = KERNELS / "results" / f"modelled-{request.node.callspec.id}.json"
    now = json.loads(json.dumps(bench.modelled(chip)))
    assert json.loads(path.read_text())["steps"] == now, "run python kernels/tools/bench.py"


def test_the_runtime_is_asked_whether_it_is_right_and_how_fast_it_is() -> None:
    """On a CPU over the reference, a small shape: what a GPU is asked runs."""
    do = reference_operations()
    off = cuda_runtime.differences(do, Eager, "cpu")
    small = Architecture("small", 2, 32, 4, 2, 16, 48, 950, gated_rank=3, gated_layers=1)
    work = Workload(small, 2, block=8, context=70)
    network = cuda_runtime.random_network(small, torch.float32, 8192, "cpu")
    engine = ModelRunner(network, do, Eager)
    found = cuda_runtime.through_the_runtime(work, engine, time.perf_counter, runs=2)
    assert len(off) == 6
    assert max(off.values()) < 1e-4
    assert found["measured_tokens_per_second"] > 0
    assert found["tokens_per_second"][8] > found["tokens_per_second"][1]
