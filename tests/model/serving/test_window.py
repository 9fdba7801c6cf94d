"""Which window a request reads, and in chunks of which size. Calls cost what the test says."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice

import pytest
from fakes import FORMAT, FakeClock, LetterTokenizer, ScriptedRuntime, babble, card

from mercury_model.decoding.infiller import Infiller
from mercury_model.decoding.params import SamplingParams
from mercury_model.decoding.prompt import FimPrompt
from mercury_model.runtime.limits import CHUNK_TOKENS
from mercury_model.runtime.protocol import ForwardCall, Predictions
from mercury_model.serving import Engine, EngineLimits
from mercury_model.serving.cost_model import CostModel
from mercury_model.serving.window import MAX_CHUNK_MS, MIN_CHUNK_TOKENS, chunk_tokens
from mercury_model.spec.fim_format import FimFormat

WHOLE = replace(FORMAT, order="spm")
QUICK = replace(WHOLE, quick_prefix_tokens=40, quick_suffix_tokens=12)
GAP = FimPrompt("abc(d)\n" * 40 + "abcde", "\nefgh" * 30)
TYPED = replace(GAP, prefix=GAP.prefix + "ab")
SHORT = SamplingParams(mode="autoregressive", max_tokens=2)
DEADLINE_MS = 150.0


class SlowRuntime(ScriptedRuntime):
    """A call takes 20 ms, and 2 ms for each row; `costs_ms` has what each took."""

    def __init__(self) -> None:
        super().__init__(babble())
        self.clock = FakeClock()
        self.costs_ms: list[float] = []

    def forward_batch(self, calls: Sequence[ForwardCall]) -> list[Predictions]:
        self.costs_ms.append(20 + 2 * sum(len(call.ids) for call in calls))
        self.clock.advance(self.costs_ms[-1])
        return super().forward_batch(calls)

    @property
    def rows(self) -> int:
        """How many tokens the calls had."""
        return sum(len(ids) for _, ids in self.calls)


def engine(runtime: SlowRuntime, infill: FimFormat = QUICK) -> Engine:
    limits = EngineLimits(context_bytes=1 << 20)
    return Engine(card(infill), LetterTokenizer(infill), runtime, limits, runtime.clock)


def complete(
    one: Engine, runtime: SlowRuntime, gap: FimPrompt, within_ms: float = DEADLINE_MS
) -> str:
    *_, last = one.drafts(gap, SHORT, runtime.clock() + round(within_ms * 1e6))
    return last.text


def alone(infill: FimFormat | None, gap: FimPrompt) -> str:
    """What a model with this format and nothing else writes."""
    assert infill is not None
    model = Infiller(card(infill), LetterTokenizer(infill), ScriptedRuntime(babble()))
    *_, last = model.drafts(gap, SHORT)
    return last.text


def context_length(infill: FimFormat | None, gap: FimPrompt) -> int:
    assert infill is not None
    return len(LetterTokenizer(infill).fim_context(gap.prefix, gap.suffix).ids)


def test_the_first_request_after_a_jump_reads_the_quick_window() -> None:
    runtime = SlowRuntime()
    written = complete(engine(runtime), runtime, GAP)
    assert written == alone(QUICK.quick, GAP) != alone(WHOLE, GAP)
    assert runtime.rows <= context_length(QUICK.quick, GAP) + SHORT.max_tokens


@pytest.mark.parametrize("deadline_ns", [None, 10**12])
def test_with_enough_time_the_full_window_is_read(deadline_ns: int | None) -> None:
    runtime = SlowRuntime()
    one = engine(runtime)
    list(one.prefill(FimPrompt("h", "")))  # from now on the engine knows what a call costs
    *_, last = one.drafts(GAP, SHORT, deadline_ns)
    assert last.text == alone(WHOLE, GAP)


def test_reading_ahead_starts_with_the_quick_window_and_ends_with_the_full_one() -> None:
    runtime = SlowRuntime()
    one = engine(runtime)
    left = list(one.prefill(GAP))
    assert left == sorted(left, reverse=True)
    assert left[-1] == 0
    assert left.count(0) == 1
    read = runtime.rows
    assert read <= context_length(QUICK.quick, GAP) + context_length(WHOLE, GAP)
    assert complete(one, runtime, GAP) == alone(WHOLE, GAP)
    assert runtime.rows - read <= 1 + SHORT.max_tokens
    assert list(one.prefill(GAP)) == []


def test_typing_extends_each_window_by_what_is_typed() -> None:
    runtime = SlowRuntime()
    one = engine(runtime)
    full = context_length(WHOLE, GAP)
    assert complete(one, runtime, GAP) == alone(QUICK.quick, GAP)
    reading = one.prefill(GAP)
    _, left = islice(reading, 2)
    assert 0 < left < full
    reading.close()
    runtime.calls.clear()
    assert complete(one, runtime, TYPED) == alone(QUICK.quick, TYPED)
    assert runtime.rows <= len("ab") + SHORT.max_tokens
    runtime.calls.clear()
    assert list(one.prefill(TYPED))[-1] == 0
    assert runtime.rows == left + len("ab")
    assert complete(one, runtime, TYPED) == alone(WHOLE, TYPED)


def test_a_model_without_a_quick_window_reads_the_full_one_whatever_the_deadline() -> None:
    runtime = SlowRuntime()
    assert complete(engine(runtime, WHOLE), runtime, GAP) == alone(WHOLE, GAP)


def test_chunks_shrink_until_a_call_takes_no_longer_than_it_may() -> None:
    runtime = SlowRuntime()
    list(engine(runtime, WHOLE).prefill(GAP))
    assert len(runtime.calls[0][1]) == CHUNK_TOKENS  # nothing was known of the machine
    assert max(runtime.costs_ms[1:]) <= MAX_CHUNK_MS
    assert max(len(ids) for _, ids in runtime.calls[3:]) == 16


def test_stopping_costs_at_most_the_chunk_that_is_being_read() -> None:
    runtime = SlowRuntime()
    one = engine(runtime)
    for steps in (1, 2, 3):
        before = len(runtime.calls)
        reading = one.prefill(GAP)
        list(islice(reading, steps))
        reading.close()
        assert len(runtime.calls) == before + steps


@pytest.mark.parametrize(
    ("call_ms", "row_ms", "rows"),
    [
        (1.0, 0.5, CHUNK_TOKENS),
        (20.0, 2.0, 16),
        (20.0, 1.0, 40),
        (90.0, 10.0, MIN_CHUNK_TOKENS),
        (90.0, 5.0, 16),
    ],
)
def test_a_chunk_is_the_largest_that_should_be_read_in_time(
    call_ms: float, row_ms: float, rows: int
) -> None:
    cost_model = CostModel()
    assert chunk_tokens(cost_model) == CHUNK_TOKENS
    for seen in (1, 4, 8, 1):
        cost_model.observe(seen, round((call_ms + row_ms * seen) * 1e6))
    assert chunk_tokens(cost_model) == rows
