"""The engine on its thread: futures, cancelling, closing."""

import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future

import pytest
from fakes import LetterTokenizer, ScriptedRuntime, card, spell

from mercury_model.decoding.output import PartialOutput
from mercury_model.decoding.params import SamplingParams
from mercury_model.decoding.prompt import FimPrompt
from mercury_model.errors import Overloaded
from mercury_model.load import LoadedModel
from mercury_model.runtime.protocol import ForwardCall, Predictions
from mercury_model.serving import DynamicBatcher, EngineLimits, InfillRequest

GAP = FimPrompt("a = ", "\n")
ORDER = InfillRequest(GAP, SamplingParams(mode="autoregressive"))


def model(runtime: ScriptedRuntime) -> LoadedModel:
    return LoadedModel(card(), LetterTokenizer(), runtime)  # type: ignore[arg-type]


class Gated(ScriptedRuntime):
    """Every pass waits for a permit; `waiting` tells that one does."""

    def __init__(self) -> None:
        super().__init__(spell("abcdefgh"))
        self.permits = threading.Semaphore(0)
        self.waiting = threading.Semaphore(0)
        self.passes = 0

    def forward_batch(self, calls: Sequence[ForwardCall]) -> list[Predictions]:
        self.waiting.release()
        assert self.permits.acquire(timeout=30)
        self.passes += 1
        return super().forward_batch(calls)


def wait(runtime: Gated) -> None:
    assert runtime.waiting.acquire(timeout=30)


def test_orders_of_many_threads_are_each_answered_once() -> None:
    answers: list[Future[PartialOutput]] = []
    with DynamicBatcher(model(ScriptedRuntime(spell("abc")))) as batcher:

        def ask() -> None:
            for _ in range(5):
                answers.append(batcher.submit(ORDER))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [future.result(30).text for future in answers] == ["abc"] * 20


def test_whoever_watches_sees_every_draft() -> None:
    seen: list[PartialOutput] = []
    with DynamicBatcher(model(ScriptedRuntime(spell("abc")))) as batcher:
        last = batcher.submit(ORDER, seen.append).result(30)
    assert [draft.text for draft in seen] == ["a", "ab", "abc", "abc"]
    assert seen[-1] == last


def test_a_cancelled_future_takes_no_further_pass() -> None:
    runtime = Gated()
    with DynamicBatcher(model(runtime)) as batcher:
        future = batcher.submit(ORDER)
        wait(runtime)
        assert future.cancel()
        runtime.permits.release()
        second = batcher.submit(
            InfillRequest(FimPrompt("b = ", "\n"), SamplingParams(max_tokens=1))
        )
        wait(runtime)
        runtime.permits.release(100)
        assert second.result(30).text == "a"
        assert runtime.passes == 2


def test_closing_cancels_what_is_not_done() -> None:
    runtime = Gated()
    batcher = DynamicBatcher(model(runtime))
    future = batcher.submit(ORDER)
    wait(runtime)
    closing = threading.Thread(target=batcher.close)
    closing.start()
    runtime.permits.release()
    closing.join(30)
    with pytest.raises(CancelledError):
        future.result(30)
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit(ORDER)


def test_what_is_too_much_is_refused_at_once() -> None:
    runtime = Gated()
    with DynamicBatcher(model(runtime), EngineLimits(requests=1)) as batcher:
        held = batcher.submit(ORDER)
        with pytest.raises(Overloaded):
            batcher.submit(ORDER)
        runtime.permits.release(100)
        assert held.result(30).text == "abcdefgh"
        assert batcher.submit(ORDER).result(30).text == "abcdefgh"


def test_an_error_reaches_whoever_asked() -> None:
    wrong = InfillRequest(GAP, SamplingParams(quality_speed_tradeoff=-1))
    with DynamicBatcher(model(ScriptedRuntime(spell("abc")))) as batcher:
        with pytest.raises(ValueError, match="quality_speed_tradeoff"):
            batcher.submit(wrong).result(30)
        assert batcher.submit(ORDER).result(30).text == "abc"


def test_an_error_of_whoever_watches_ends_only_the_request_that_is_watched() -> None:
    def watch(draft: PartialOutput) -> None:
        raise OSError(draft.text)

    with DynamicBatcher(model(ScriptedRuntime(spell("abc")))) as batcher:
        with pytest.raises(OSError, match="a"):
            batcher.submit(ORDER, watch).result(30)
        assert batcher.submit(ORDER).result(30).text == "abc"


def test_a_gap_that_is_no_text_ends_only_its_own_request() -> None:
    with DynamicBatcher(model(ScriptedRuntime(spell("abc")))) as batcher:
        with pytest.raises(TypeError):
            batcher.submit(InfillRequest(FimPrompt(None, ""))).result(30)  # type: ignore[arg-type]
        assert batcher.submit(ORDER).result(30).text == "abc"
