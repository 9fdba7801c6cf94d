"""Passes: what a capture holds, and that copies are its only ways to and from the host."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from kernel_fakes import BUCKET, MASK, RULES, denoiser, described, mapped, network
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from mercury_kernels.dispatch import reference_operations, triton_operations
from mercury_kernels.passes import CapturedPolicy, DenoisingPass, ModelRunner, PredictionPass
from mercury_kernels.replay import CudaGraph, Eager, wait


class Calls(TorchFunctionMode):
    """Remembers every call into torch, and which way copies between host and device go."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.to_host: list[bool] = []

    def __torch_function__(
        self, function: Any, types: Any, given: Any = (), named: Any = None
    ) -> Any:
        named = named or {}
        self.names.append(str(function))
        if function is torch.Tensor.copy_:
            target, source = given
            if target.device.type != source.device.type:
                self.to_host.append(target.device.type == "cpu")
                assert named == {"non_blocking": True}, "a copy that waits"
            # The method itself would look for a driver before it looks at its tensors.
            return torch.ops.aten.copy_.default(*given, **named)
        return function(*given, **named)


PASSES: dict[str, tuple[int, int | None, CapturedPolicy]] = {
    "expectation": (4, None, "threshold"),
    "one step": (3, 1, "threshold"),
    "four steps": (3, 4, "threshold"),
    "four steps, klass": (3, 4, "klass"),
}


@pytest.mark.parametrize(
    ("copies", "steps", "kind"), PASSES.values(), ids=[name.replace(" ", "-") for name in PASSES]
)
def test_a_pass_on_a_gpu_is_one_copy_in_the_same_launches_and_few_copies_out(
    interpreter: None, copies: int, steps: int | None, kind: CapturedPolicy
) -> None:
    """Under fake CUDA tensors, which raise where anything looks at what they hold."""
    real = network(denoiser())
    launches: list[Any] = []
    made: list[Eager] = []

    def keep(call: Callable[[], None]) -> Eager:
        made.append(Eager(call))
        return made[-1]

    with FakeTensorMode():

        def fake(tensor: torch.Tensor) -> torch.Tensor:
            return torch.empty(tensor.shape, dtype=tensor.dtype, device="cuda")

        net, rules = mapped(real, fake), mapped(RULES, fake)
        engine = ModelRunner(net, triton_operations(submit=launches.append), keep)
        pages = net.empty_pages(4, torch.float32)
        if steps is None:
            PredictionPass(engine, BUCKET, pages, RULES.top)
        else:
            DenoisingPass(engine, BUCKET, pages, rules, steps, kind)
        rounds = []
        for _ in range(2):
            launches.clear()
            with Calls() as calls:
                made[0].start()
            rounds.append((calls.names, [described(launch) for launch in launches]))
            assert calls.to_host == [False] + [True] * copies
    assert rounds[0] == rounds[1]
    once = 2 * 9 + 1 + 2
    committing = 3 if kind == "klass" else 2
    assert len(launches) == (once if steps is None else steps * (once + committing))


def lay(work: DenoisingPass) -> None:
    """Two blocks of masks that see themselves, each with pages of its own."""
    work.inputs.ids.fill_(MASK)
    work.inputs.visible.fill_(BUCKET.block)
    work.inputs.table.copy_(torch.tensor([[1, 2], [3, 4]]))


def run(work: DenoisingPass, times: int) -> tuple[list[list[int]], list[int]]:
    """The blocks after so many passes, and how many positions each still has open."""
    for _ in range(times):
        work.run()
        work.inputs.ids.copy_(work.ids)
    return work.ids.tolist(), work.remaining.tolist()


def test_several_steps_in_one_pass_are_as_many_passes_of_one() -> None:
    engine = ModelRunner(network(denoiser()), reference_operations(), Eager)
    found = []
    for steps in (1, 3):
        pages = engine.network.empty_pages(5, torch.float32)
        work = DenoisingPass(engine, BUCKET, pages, RULES, steps)
        work.policy.bound.fill_(torch.inf)
        lay(work)
        found.append(run(work, 3 // steps))
    assert found[0] == found[1]
    assert found[0][1] == [3, 3]


def test_klass_compares_with_the_step_before_within_a_pass_and_across_passes() -> None:
    engine = ModelRunner(network(denoiser()), reference_operations(), Eager)
    found = []
    for steps in (1, 2):
        pages = engine.network.empty_pages(5, torch.float32)
        work = DenoisingPass(engine, BUCKET, pages, RULES, steps, "klass")
        assert work.policy.max_kl is not None
        assert work.previous is not None
        work.policy.bound.fill_(0.035)
        work.policy.max_kl.fill_(0.002)
        for _ in range(2):
            work.previous.reset()
            lay(work)
            work.inputs.ids[:, 0] = torch.tensor([7, 30])
            found.append(run(work, 2 // steps))
    assert found == [found[0]] * 4
    assert found[0][1] == [3, 0]


def test_the_host_buffers_of_a_pass_stay_where_they_are() -> None:
    engine = ModelRunner(network(denoiser()), reference_operations(), Eager)
    work = PredictionPass(engine, BUCKET, engine.network.empty_pages(5, torch.float32), 4)
    buffers = [work.inputs.buffer, work.outputs.ids, work.outputs.logits, work.outputs.lse]
    before = [tensor.data_ptr() for tensor in buffers]
    for token in (7, 8):
        work.inputs.ids.fill_(token)
        work.run()
    assert [tensor.data_ptr() for tensor in buffers] == before
    assert work.inputs.ids.data_ptr() == before[0]


def test_finishing_asks_until_the_work_is_ready() -> None:
    class Slow(Eager):
        asked = 0

        def ready(self) -> bool:
            self.asked += 1
            return self.asked == 5

    slow = Slow(lambda: None)
    wait(slow)
    assert slow.asked == 5


@pytest.mark.gpu
def test_a_graph_does_what_it_captured_each_time_and_raises_its_flag() -> None:
    numbers = torch.zeros(3, device="cuda")
    host = torch.zeros(3).pin_memory()

    def call() -> None:
        numbers.add_(1)
        host.copy_(numbers, non_blocking=True)

    graph = CudaGraph(call)
    numbers.zero_()
    for count in (1, 2, 3):
        graph.start()
        wait(graph)
        assert host.tolist() == [count] * 3
