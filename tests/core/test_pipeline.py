"""The completion pipeline, on a clock that only the model advances."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from fakes import FakeClock, ScriptedInfill
from hypothesis import given
from hypothesis import strategies as st

from mercury_lsp.core import pipeline
from mercury_lsp.core.budget import Budget
from mercury_lsp.core.cache import CompletionCache
from mercury_lsp.core.context import Limits
from mercury_lsp.core.types import Completion, Context, Document, Draft, Request, Selected, Trigger

RULES = pipeline.CompletionPolicy(Limits(1_000, 400))


def request(marked: str, trigger: Trigger = Trigger.AUTOMATIC) -> Request:
    before, after = marked.split("‸")
    return Request(Document("file:///a.py", "python", before + after), len(before), trigger)


def says(text: str, **more: object) -> ScriptedInfill:
    return ScriptedInfill(lambda _context, _rank: text, **more)  # type: ignore[arg-type]


def ask(
    marked: str,
    infill: ScriptedInfill,
    cache: CompletionCache | None = None,
    milliseconds: float = 10_000,
    policy: pipeline.CompletionPolicy = RULES,
) -> Completion | None:
    deadline = infill.clock() + round(milliseconds * 1e6)
    budget = Budget(deadline, infill.clock)
    return pipeline.complete(request(marked), infill, cache or CompletionCache(9), budget, policy)


def test_a_completion_is_drafted_trimmed_and_cached() -> None:
    infill, cache = says("f(y)\nprint(x)"), CompletionCache(9)
    assert ask("x = ‸\n", infill, cache) == Completion("f(y)", 0, 0.9)
    assert infill.log[-1] == "closed"
    steps = len(infill.log)
    assert ask("x = f‸\n", infill, cache) == Completion("(y)", 0, 0.9)
    assert len(infill.log) == steps


def test_drafting_stops_when_the_completion_has_ended() -> None:
    infill = says("f(y)\n" + "print(x)\n" * 50)
    ask("x = ‸\n", infill)
    assert infill.log.count("step") == 3


@given(
    st.text("ab() \n", min_size=1, max_size=60),
    st.integers(0, 300),
    st.floats(0.1, 100),
    st.integers(1, 9),
)
def test_no_step_begins_after_the_deadline(
    text: str, milliseconds: int, step_ms: float, letters: int
) -> None:
    infill = says(text, step_ms=step_ms, letters=letters)
    ask("x = ‸\n", infill, milliseconds=milliseconds)
    deadline = milliseconds * 1_000_000
    assert all(started < deadline for started in infill.started_ns)
    assert infill.clock() < deadline + round(step_ms * 1e6) or not infill.started_ns
    assert infill.log.count("closed") == bool(infill.started_ns)


@given(st.text("ab() \n", min_size=1, max_size=40), st.integers(0, 12))
def test_a_stopped_request_takes_no_further_step_and_gives_nothing(text: str, allowed: int) -> None:
    infill = says(text)
    budget = Budget(10**15, infill.clock, lambda: infill.log.count("step") >= allowed)
    found = pipeline.complete(request("x = ‸\n"), infill, CompletionCache(9), budget, RULES)
    assert infill.log.count("step") <= allowed
    if infill.log.count("step") == allowed:
        assert found is None


def test_at_the_deadline_the_whole_lines_of_a_draft_are_used() -> None:
    found = ask("total = ‸\n", says("price + quantity * 2", letters=1), milliseconds=110)
    assert found == Completion("price", 0, 0.9, finished=False)


def test_no_time_is_no_completion_and_no_step() -> None:
    infill = says("f(y)")
    assert ask("x = ‸\n", infill, milliseconds=0) is None
    assert infill.log == []


def test_an_unfinished_completion_is_typed_through_but_drafted_again_in_its_context() -> None:
    infill, cache = says("price + quantity * 2", letters=1), CompletionCache(9)
    ask("total = ‸\n", infill, cache, milliseconds=110)
    assert ask("total = p‸\n", infill, cache, milliseconds=0) == Completion(
        "rice", confidence=0.9, finished=False
    )
    assert ask("total = ‸\n", infill, cache) == Completion("price + quantity * 2", 0, 0.9)


def test_there_is_nothing_to_show_during_prefill() -> None:
    clock = FakeClock()

    def reading(context: Context, *, rank: int = 0) -> Iterator[Draft]:
        while True:
            clock.advance(20)
            yield Draft("", 0.0, finished=False)

    marks: list[str] = []
    budget = Budget(100_000_000, clock)
    cache = CompletionCache(9)
    found = pipeline.complete(request("x = ‸\n"), reading, cache, budget, RULES, marks.append)
    assert found is None
    assert marks == ["context", *["prefill"] * 5]


def test_stages_are_marked_as_they_end() -> None:
    marks: list[str] = []
    infill, cache = says("f(y)", letters=2), CompletionCache(9)
    for _ in range(2):
        budget = Budget(10**15, infill.clock)
        pipeline.complete(request("x = ‸\n"), infill, cache, budget, RULES, marks.append)
    assert marks == ["context", "prefill", "denoise", "denoise", "tidy", "context", "hit"]


def test_uncertain_completions_are_neither_shown_nor_cached() -> None:
    cache = CompletionCache(9)
    timid = pipeline.CompletionPolicy(Limits(1_000, 400), min_confidence=0.95)
    assert ask("x = ‸\n", says("f(y)"), cache, policy=timid) is None
    assert ask("x = ‸\n", says("g(y)", confidence=0.98), cache, policy=timid) is not None


def test_an_invoked_request_shows_uncertain_completions() -> None:
    timid = pipeline.CompletionPolicy(Limits(1_000, 400), min_confidence=0.95)
    asked = request("x = ‸\n", Trigger.INVOKED)
    infill, cache = says("f(y)"), CompletionCache(9)
    budget = Budget(10**15, infill.clock)
    assert pipeline.complete(asked, infill, cache, budget, timid) == Completion("f(y)", 0, 0.9)
    assert pipeline.alternatives(asked, infill, cache, budget, timid)


def test_drafting_stops_when_the_first_line_is_too_unlikely() -> None:
    timid = pipeline.CompletionPolicy(Limits(1_000, 400), min_confidence=0.95)
    infill = says("f(y, z, and, much, more)")
    assert ask("x = ‸\n", infill, policy=timid) is None
    assert infill.log == ["step", "closed"]


def test_a_completion_is_as_certain_as_the_lines_it_keeps() -> None:
    def infill(_context: Context, *, rank: int = 0) -> Iterator[Draft]:
        yield Draft("f(y)\nprint(x)", 0.1, finished=True, chances=((4, 0.8), (5, 0.7), (13, 0.1)))

    budget = Budget(10**15, lambda: 0)
    found = pipeline.complete(request("x = ‸\n"), infill, CompletionCache(9), budget, RULES)
    assert found == Completion("f(y)", 0, 0.7)


TIMID = replace(RULES, min_confidence=0.1, distraction=2.5)
LIKELY_AT_FIRST = Draft(
    "np.zeros(shape, 7)", 0.05, finished=True, chances=((2, 0.9), (8, 0.7), (9, 0.6), (18, 0.05))
)


def offered(
    draft: Draft, policy: pipeline.CompletionPolicy, trigger: Trigger = Trigger.AUTOMATIC
) -> str | None:
    def infill(_context: Context, *, rank: int = 0) -> Iterator[Draft]:
        yield draft

    asked = replace(request("x = ‸\n"), trigger=trigger)
    budget = Budget(10**15, lambda: 0)
    found = pipeline.complete(asked, infill, CompletionCache(9), budget, policy)
    return found.text if found else None


@pytest.mark.parametrize(
    ("distraction", "expected"), [(0, "np.zeros"), (10, "np.zeros"), (30, None)]
)
def test_the_first_words_of_an_unlikely_line_are_shown_if_they_save_keys(
    distraction: float, expected: str | None
) -> None:
    assert offered(LIKELY_AT_FIRST, replace(TIMID, distraction=distraction)) == expected


def test_a_likely_or_requested_line_is_shown_whole() -> None:
    likely = replace(LIKELY_AT_FIRST, confidence=0.4, chances=((8, 0.7), (18, 0.4)))
    assert offered(likely, TIMID) == "np.zeros(shape, 7)"
    assert offered(LIKELY_AT_FIRST, TIMID, Trigger.INVOKED) == "np.zeros(shape, 7)"


def test_a_prefix_does_not_end_with_an_incomplete_word() -> None:
    begun = Draft("np.zer", 0.09, finished=False, chances=((2, 0.9), (6, 0.9)))
    assert offered(begun, TIMID) == "np"
    assert offered(replace(begun, finished=True), TIMID) == "np.zer"


def test_a_prefix_that_is_typed_through_needs_no_model_call() -> None:
    asked = []

    def infill(_context: Context, *, rank: int = 0) -> Iterator[Draft]:
        asked.append(_context.prefix)
        yield LIKELY_AT_FIRST

    cache, budget = CompletionCache(9), Budget(10**15, lambda: 0)
    shown = [
        pipeline.complete(request(f"x = {typed}‸\n"), infill, cache, budget, TIMID)
        for typed in ("", "np", "np.ze")
    ]
    assert [found and found.text for found in shown] == ["np.zeros", ".zeros", "ros"]
    assert asked == ["x = "]


def test_the_model_is_not_called_in_the_middle_of_a_word() -> None:
    infill = says("oo")
    assert ask("x = f‸oo\n", infill) is None
    assert infill.log == []


def test_a_failing_generator_is_closed_and_its_error_raised() -> None:
    log = []

    def failing(context: Context, *, rank: int = 0) -> Iterator[Draft]:
        try:
            yield Draft("f", 0.9, finished=False, steps=1)
            raise RuntimeError("out of memory")
        finally:
            log.append("closed")

    budget = Budget(10**15, FakeClock())
    with pytest.raises(RuntimeError, match="out of memory"):
        pipeline.complete(request("x = ‸\n"), failing, CompletionCache(9), budget, RULES)
    assert log == ["closed"]


def test_typing_through_works_with_auto_closed_brackets() -> None:
    infill, cache = says("foo(bar[0])"), CompletionCache(9)
    ask("x = ‸\n", infill, cache)
    asked = infill.log.count("step")
    for marked, rest in (
        ("x = foo‸\n", "(bar[0])"),
        ("x = foo(‸)\n", "bar[0]"),
        ("x = foo(bar‸)\n", "[0]"),
        ("x = foo(bar[‸])\n", "0"),
        ("x = foo(bar[0‸])\n", None),
        ("x = foo(bar[0]‸)\n", None),
    ):
        infill.script = lambda _context, _rank: ""
        found = ask(marked, infill, cache)
        assert (found and found.text) == rest, marked
    assert infill.log.count("step") == asked + 2


def test_typing_through_works_with_an_auto_closed_quote() -> None:
    infill, cache = says('open("a.txt")'), CompletionCache(9)
    ask("f = ‸\n", infill, cache)
    found = ask('f = open("‸")\n', infill, cache, milliseconds=0)
    assert found is not None
    assert found.text == "a.txt"


def test_a_selected_entry_is_completed() -> None:
    infill = says("[0]")
    document = Document("file:///a.py", "python", "print(na)\n")
    asked = Request(document, 8, selected=Selected(6, 8, "names"))
    budget = Budget(10**15, infill.clock)
    found = pipeline.complete(asked, infill, CompletionCache(9), budget, RULES)
    assert found == Completion("mes[0]", 0, 0.9)


def test_alternatives_are_distinct_and_likeliest_first() -> None:
    texts = ["f(y)", "f(y)", "g(y)", "h(", "k(y)", "l(y)"]
    infill = ScriptedInfill(lambda _context, rank: texts[rank])
    budget, cache = Budget(10**15, infill.clock), CompletionCache(9)
    asked = request("x = ‸\n", Trigger.INVOKED)
    found = pipeline.alternatives(asked, infill, cache, budget, RULES)
    assert [completion.text for completion in found] == ["f(y)", "g(y)", "k(y)"]
    assert ask("x = f‸\n", infill, cache, milliseconds=0) == Completion("(y)", 0, 0.9)


def test_alternatives_stop_at_the_deadline() -> None:
    infill = ScriptedInfill(lambda _context, rank: f"f{rank}(y)", letters=6)
    budget = Budget(35_000_000, infill.clock)
    asked = request("x = ‸\n", Trigger.INVOKED)
    found = pipeline.alternatives(asked, infill, CompletionCache(9), budget, RULES)
    assert [completion.text for completion in found] == ["f0(y)", "f1(y)"]
    assert infill.log.count("closed") == 2


def test_the_cache_answers_if_there_is_no_time_for_alternatives() -> None:
    infill, cache = says("f(y)"), CompletionCache(9)
    ask("x = ‸\n", infill, cache)
    budget = Budget(0, infill.clock)
    asked = request("x = ‸\n", Trigger.INVOKED)
    found = pipeline.alternatives(asked, infill, cache, budget, RULES)
    assert found == [Completion("f(y)", 0, 0.9)]


@pytest.mark.parametrize(("chunks", "milliseconds", "done"), [(3, 100, True), (30, 100, False)])
def test_prefill_reads_one_chunk_at_a_time(chunks: int, milliseconds: int, done: bool) -> None:
    clock, log = FakeClock(), []

    def reading(_context: Context) -> Iterator[int]:
        try:
            for left in range(chunks - 1, -1, -1):
                clock.advance(20)
                log.append("chunk")
                yield left
        finally:
            log.append("closed")

    budget = Budget(milliseconds * 1_000_000, clock)
    assert pipeline.prefill(request("x = ‸\n"), reading, budget, RULES) is done
    assert log == ["chunk"] * min(chunks, 5) + ["closed"]


def test_the_completion_after_an_acceptance_can_be_made_in_advance() -> None:
    infill, cache = says(" + c"), CompletionCache(9)
    first = request("f(‸)\ng\n", Trigger.INVOKED)
    following = pipeline.ahead(first, Completion("a, b)", replaces=1))
    assert following == request("f(a, b)‸\ng\n")
    budget = Budget(1 << 60, infill.clock)
    made = pipeline.complete(following, infill, cache, budget, RULES)
    assert made is not None
    steps = len(infill.log)
    assert ask("f(a, b)‸\ng\n", infill, cache) == made
    assert len(infill.log) == steps
