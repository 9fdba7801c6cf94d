"""The engine against each request alone: whatever comes, goes and gives way around it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate
from pathlib import Path

import pytest
import torch
from fakes import FakeClock, LetterTokenizer, ScriptedRuntime, babble, card, spell
from hypothesis import given, settings
from hypothesis import strategies as st

from mercury_model.decoding.infiller import Infiller
from mercury_model.decoding.output import PartialOutput
from mercury_model.decoding.params import Mode, SamplingParams
from mercury_model.decoding.prompt import FimPrompt
from mercury_model.errors import InsufficientMemory, Overloaded
from mercury_model.network.denoiser import load_denoiser
from mercury_model.runtime.onnx import graph
from mercury_model.runtime.onnx.arithmetic import Precision
from mercury_model.runtime.onnx.runtime import OnnxRuntime, session_options
from mercury_model.runtime.protocol import ForwardCall, Predictions, Runtime
from mercury_model.runtime.torch import TorchRuntime
from mercury_model.serving import (
    Engine,
    EngineLimits,
    InfillRequest,
    InfillSequence,
    Outcome,
    Priority,
)
from mercury_model.spec.tokenizer import Tokenizer
from mercury_model.weights import registry

KEYSTROKE, SPECULATIVE, BULK = Priority
MODES: tuple[Mode, ...] = ("diffusion", "autoregressive", "verified")
GAPS = [
    FimPrompt("a = (", ")\nb"),
    FimPrompt("a = (b", ")\nb"),
    FimPrompt("abc " * 20, ")\nb"),
    FimPrompt("abc " * 20 + "d", ")\nb"),
    FimPrompt("abc " * 40, "fg\n" * 20),
]
ENOUGH = 1 << 20


class TimedRuntime(ScriptedRuntime):
    """A pass takes 10 ms, and 1 ms for each row; `passes` are the calls of each."""

    def __init__(self, text: str | None = None, clock: FakeClock | None = None) -> None:
        super().__init__(babble() if text is None else spell(text), slips=0.3)
        self.clock = clock or FakeClock()
        self.passes: list[list[ForwardCall]] = []

    def forward_batch(self, calls: Sequence[ForwardCall]) -> list[Predictions]:
        self.passes.append(list(calls))
        self.clock.advance(10 + sum(len(call.ids) for call in calls))
        return super().forward_batch(calls)


def engine(runtime: TimedRuntime, limits: EngineLimits | None = None) -> Engine:
    return Engine(card(), LetterTokenizer(), runtime, limits or EngineLimits(), runtime.clock)


def order(gap: FimPrompt = GAPS[0], priority: Priority = BULK, **settings: object) -> InfillRequest:
    return InfillRequest(gap, SamplingParams(mode="autoregressive"), priority, **settings)  # type: ignore[arg-type]


def run(one: Engine) -> None:
    while one.busy:
        one.step()


@cache
def alone(gap: FimPrompt, sampling: SamplingParams) -> PartialOutput:
    """What a request comes to when nobody else asks, whatever of its context was there."""
    model = Infiller(card(), LetterTokenizer(), ScriptedRuntime(babble(), slips=0.3))
    *_, last = model.drafts(gap, sampling)
    return counted(last)


def counted(draft: PartialOutput) -> PartialOutput:
    """A draft, however many calls it took."""
    return replace(draft, steps=0, prefill=0)


@dataclass(frozen=True)
class Arrival:
    """An order that comes after `wait` passes; it is cancelled `patience` passes later, if ever."""

    wait: int
    order: InfillRequest
    patience: int | None


samplings = st.builds(
    SamplingParams,
    quality_speed_tradeoff=st.sampled_from([0.0, 0.5, 1.0]),
    max_tokens=st.integers(0, 20),
    rank=st.integers(0, 2),
    temperature=st.sampled_from([0.0, 1.0]),
    mode=st.sampled_from(MODES),
)
orders = st.builds(
    InfillRequest,
    st.sampled_from(GAPS),
    samplings,
    st.sampled_from(Priority),
    st.sampled_from([None, None, 40.0, 400.0]),
    st.sampled_from("ab"),
)
arrivals = st.lists(
    st.builds(Arrival, st.integers(0, 4), orders, st.none() | st.integers(0, 6)), max_size=12
)


@settings(max_examples=60)
@given(arrivals, st.sampled_from([3_000, 9_000, ENOUGH]), st.sampled_from([30.0, 1_000.0]))
def test_nothing_is_lost_nothing_answered_twice_and_all_is_as_if_alone(
    coming: list[Arrival], context_bytes: int, pass_ms: float
) -> None:
    runtime = TimedRuntime()
    one = engine(
        runtime, EngineLimits(context_bytes=context_bytes, pass_ms=pass_ms, patience_ms=200)
    )
    came, ended = play(one, coming, context_bytes)
    assert sorted(job.number for job in ended) == [job.number for job in came]
    for job, arrival in zip(came, coming, strict=True):
        if job.outcome is Outcome.FINISHED:
            assert counted(job.draft) == alone(job.request.gap, job.request.sampling)
        elif job.outcome is Outcome.EXPIRED:
            assert alone(job.request.gap, job.request.sampling).text.startswith(job.draft.text)
            assert job.deadline_ns is not None
            assert job.deadline_ns <= runtime.clock()
        else:
            assert job.outcome is Outcome.CANCELLED, job.error
            assert arrival.patience is not None


def play(
    one: Engine, coming: Sequence[Arrival], context_bytes: int
) -> tuple[list[InfillSequence], list[InfillSequence]]:
    """The jobs as they came, and as they ended."""
    came: list[InfillSequence] = []
    ended: list[InfillSequence] = []
    due = accumulate(arrival.wait for arrival in coming)
    queue = list(zip(due, coming, strict=True))
    since: dict[InfillSequence, int] = {}
    for count in range(3_000):
        while queue and (queue[0][0] <= count or not one.busy):
            came.append(one.submit(queue.pop(0)[1].order))
            since[came[-1]] = count
        for job, arrival in zip(came, coming, strict=False):
            if arrival.patience is not None and count >= since[job] + arrival.patience:
                job.cancel()
        if not one.busy:
            break
        ended += [job for job in one.step() if job.outcome]
        assert one.context_bytes <= context_bytes
        for job in came:
            assert job.call is None or job.call.kv.nbytes <= job.reserved_bytes
    assert not one.busy
    return came, ended


def tiny(precision: str, folder: Path) -> Runtime:
    tiny_card = registry.card("tiny")
    weights = registry.merged(registry.find("tiny"), Path("nowhere"))
    mask = tiny_card.infill.mask_id
    if precision == "torch":
        network = load_denoiser(tiny_card.architecture, weights, mask)
        return TorchRuntime(network, dtype=torch.float32)
    path = folder / "tiny.onnx"
    graph.write_graph(path, tiny_card.architecture, weights, Precision(precision), mask)
    return OnnxRuntime(path, tiny_card.architecture, mask, precision, session_options(1))


@pytest.fixture(scope="module", params=["torch", *Precision])
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    return tiny(request.param, tmp_path_factory.mktemp("graph"))


REAL = [
    FimPrompt("def mean(values):\n    return ", "\n"),
    FimPrompt("import os\nimport ", "\n\n\ndef main():\n    pass\n"),
    FimPrompt("class A:\n    def __init__(self, name):\n        self.", "\n"),
    FimPrompt("for index in range(", "):\n    print(index)\n"),
]
real = st.tuples(
    st.integers(0, 3), st.sampled_from(REAL), st.sampled_from(MODES), st.none() | st.integers(0, 9)
)


@settings(max_examples=10)
@given(st.lists(real, min_size=2, max_size=7))
def test_a_network_fills_gaps_together_as_it_does_alone(
    network: Runtime, asked: list[tuple[int, FimPrompt, Mode, int | None]]
) -> None:
    """In fp32 and in int8: what a row gives does not depend on the rows beside it."""
    tiny_card = registry.card("tiny")
    tokenizer = Tokenizer(registry.BUNDLED / "tiny-tokenizer.json", tiny_card.infill)
    one = Engine(tiny_card, tokenizer, network, EngineLimits(), FakeClock())
    jobs: list[InfillSequence] = []
    for wait, gap, mode, patience in asked:
        for _ in range(wait):
            one.step()
        jobs.append(one.submit(InfillRequest(gap, SamplingParams(max_tokens=12, mode=mode))))
        if patience is not None and patience < len(jobs):
            jobs[patience].cancel()
    run(one)
    model = Infiller(tiny_card, tokenizer, network)
    for job in jobs:
        *_, last = model.drafts(job.request.gap, job.request.sampling)
        if job.outcome is not Outcome.CANCELLED:
            assert (job.draft.ids, job.draft.text) == (last.ids, last.text)
            assert job.draft.confidences == pytest.approx(last.confidences, abs=1e-5)


def test_calls_share_passes() -> None:
    runtime = TimedRuntime("abcdefgh")
    one = engine(runtime)
    jobs = [one.submit(order()) for _ in range(3)]
    run(one)
    assert {job.draft.text for job in jobs} == {"abcdefgh"}
    assert len(runtime.passes) == 9
    assert {len(calls) for calls in runtime.passes} == {3}


def test_a_pass_grows_only_as_far_as_it_is_expected_to_end_in_time() -> None:
    runtime = TimedRuntime("abcdefgh" * 4)
    one = engine(runtime, EngineLimits(pass_ms=40))
    jobs = [one.submit(order(GAPS[2])) for _ in range(3)]
    run(one)
    costs = [10 + sum(len(call.ids) for call in calls) for calls in runtime.passes]
    # Two passes teach what a row costs; from then on only a chunk of its own takes longer.
    late = [calls for cost, calls in zip(costs, runtime.passes, strict=True) if cost > 40]
    assert all(len(calls) == 1 for calls in late[2:])
    assert all(job.outcome is Outcome.FINISHED for job in jobs)


def test_who_would_miss_a_deadline_is_not_held_up() -> None:
    runtime = TimedRuntime("abcd")
    one = engine(runtime)
    for _ in range(2):
        one.submit(order(GAPS[2]))
        run(one)
    runtime.passes.clear()
    bulk = one.submit(order(GAPS[4]))
    key = one.submit(order(GAPS[0], KEYSTROKE, within_ms=60.0))
    run(one)
    assert len(runtime.passes[0]) == 1
    assert (key.outcome, bulk.outcome) == (Outcome.FINISHED, Outcome.FINISHED)


def test_a_cancelled_request_takes_no_further_call() -> None:
    runtime = TimedRuntime("abcdefgh")
    one = engine(runtime)
    job = one.submit(order())
    one.step()
    made = len(runtime.passes)
    job.cancel()
    assert one.step() == [job]
    assert (job.outcome, len(runtime.passes), one.busy) == (Outcome.CANCELLED, made, False)


def test_a_request_that_runs_out_of_time_ends_with_what_there_is() -> None:
    one = engine(TimedRuntime("abcdefgh"))
    job = one.submit(order(within_ms=60))
    run(one)
    assert job.outcome is Outcome.EXPIRED
    assert "abcdefgh".startswith(job.draft.text)
    assert 0 < len(job.draft.text) < 8


def test_too_many_requests_are_refused_with_a_remedy_and_each_priority_has_its_own_room() -> None:
    one = engine(TimedRuntime("abc"), EngineLimits(requests=2))
    for _ in range(2):
        one.submit(order())
    with pytest.raises(Overloaded, match=r"2 requests of priority bulk.*Ask again"):
        one.submit(order())
    one.submit(order(priority=KEYSTROKE))
    run(one)
    one.submit(order())


def test_a_context_that_never_fits_is_refused_with_a_remedy_and_holds_up_nobody() -> None:
    one = engine(TimedRuntime("abc"), EngineLimits(context_bytes=1_500))
    large, small = one.submit(order(GAPS[4])), one.submit(order(GAPS[0]))
    run(one)
    assert isinstance(large.error, InsufficientMemory)
    assert "context_bytes" in str(large.error)
    assert (large.outcome, small.outcome) == (Outcome.FAILED, Outcome.FINISHED)


def test_a_key_takes_the_memory_of_what_is_less_urgent_which_begins_again() -> None:
    one = engine(TimedRuntime("abcdefgh"), EngineLimits(context_bytes=1_000))
    bulk = one.submit(order())
    for _ in range(4):
        one.step()
    before = bulk.draft
    key = one.submit(order(priority=KEYSTROKE))
    news = []
    while not key.outcome:
        news += one.step()
        assert bulk.draft == before
    run(one)
    assert (key.draft.text, bulk.draft.text) == ("abcdefgh", "abcdefgh")


class Failing(TimedRuntime):
    """Fails in the pass of a number."""

    failing = 2

    def forward_batch(self, calls: Sequence[ForwardCall]) -> list[Predictions]:
        if len(self.passes) == self.failing:
            self.passes.append([])
            raise MemoryError("in the network")
        return super().forward_batch(calls)


def test_a_pass_that_fails_fails_for_its_own_calls_and_the_engine_goes_on() -> None:
    one = engine(Failing("abcdefgh"))
    first = [one.submit(order(GAPS[index])) for index in range(2)]
    for _ in range(3):
        one.step()
    later = one.submit(order(GAPS[0]))
    run(one)
    assert [job.outcome for job in first] == [Outcome.FAILED] * 2
    assert all(isinstance(job.error, MemoryError) for job in first)
    assert (later.outcome, later.draft.text) == (Outcome.FINISHED, "abcdefgh")


def test_a_request_that_cannot_be_filled_fails_alone() -> None:
    one = engine(TimedRuntime("abc"))
    wrong = one.submit(InfillRequest(GAPS[0], SamplingParams(quality_speed_tradeoff=2.0)))
    right = one.submit(order())
    run(one)
    assert isinstance(wrong.error, ValueError)
    assert right.draft.text == "abc"


def test_limits_that_let_nothing_through_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        engine(TimedRuntime(), EngineLimits(requests=0))
