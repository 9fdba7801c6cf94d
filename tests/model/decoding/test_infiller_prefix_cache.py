"""What infilling keeps between requests, and what each of them costs."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import islice

import pytest
from decoding_fakes import (
    GAP,
    LONG,
    MODES,
    calls,
    counted,
    drafts,
    infiller,
)
from fakes import FORMAT, LetterTokenizer, ScriptedKV, ScriptedRuntime, babble, card, spell
from hypothesis import given, settings
from hypothesis import strategies as st

from mercury_model.decoding.infiller import Infiller
from mercury_model.decoding.output import PartialOutput
from mercury_model.decoding.params import Mode, SamplingParams
from mercury_model.decoding.prompt import FimPrompt
from mercury_model.runtime.protocol import KVCache, Predictions


def test_drafts_have_no_text_while_the_context_is_completed() -> None:
    runtime = ScriptedRuntime(spell("abc"))
    first = list(islice(infiller(runtime).drafts(LONG, SamplingParams()), 5))
    assert [draft.prefill for draft in first] == [1, 2, 3, 4, 5]
    assert [draft.text for draft in first] == ["", "", "", "", "a"]
    assert [len(ids) for ids in calls(runtime, "extend")] == [64, 64, 64, 64, 7]


def test_prefill_counts_down_and_leaves_nothing_to_do() -> None:
    runtime = ScriptedRuntime(spell("abc"))
    model = infiller(runtime)
    assert list(model.prefill(LONG)) == [199, 135, 71, 7, 0]
    assert list(model.prefill(LONG)) == []
    assert next(model.drafts(LONG, SamplingParams())).text == "a"
    assert len(runtime.calls) == 5


def test_an_abandoned_prefill_loses_nothing() -> None:
    runtime = ScriptedRuntime(spell("abc"))
    model = infiller(runtime)
    assert list(islice(model.prefill(LONG), 2)) == [199, 135]
    assert list(islice(model.prefill(LONG), 1)) == [71]
    seen = list(model.drafts(LONG, SamplingParams()))
    assert seen[-1].text == "abc"
    assert seen[-1].prefill == 2


def test_typing_on_costs_only_the_tokens_that_are_new() -> None:
    runtime = ScriptedRuntime(spell("abc"))
    model = infiller(runtime)
    list(model.drafts(FimPrompt("abcd" * 20, "fg"), SamplingParams()))
    runtime.calls.clear()
    list(model.drafts(FimPrompt("abcd" * 20 + "e", "fg"), SamplingParams()))
    encoded = (*LetterTokenizer().encode("e"), FORMAT.middle_id)
    assert calls(runtime, "extend")[0] == encoded


def test_what_a_checking_call_read_is_known_afterwards() -> None:
    runtime = ScriptedRuntime(spell("abc"))
    model = infiller(runtime)
    list(model.drafts(LONG, SamplingParams(mode="verified")))
    assert [len(ids) for ids in calls(runtime, "extend")] == [64] * 4
    assert list(model.prefill(LONG)) == []


def test_forgetting_a_generator_frees_its_context_for_others() -> None:
    runtime = ScriptedRuntime(spell("abc"))
    model = infiller(runtime)
    abandoned = model.drafts(LONG, SamplingParams())
    assert [next(abandoned).prefill for _ in range(5)] == [1, 2, 3, 4, 5]
    assert next(model.drafts(LONG, SamplingParams())).prefill == 1
    del abandoned
    assert next(model.drafts(LONG, SamplingParams())).prefill == 0


def test_an_alternative_costs_no_prefill() -> None:
    runtime = ScriptedRuntime(babble("9"))
    model = infiller(runtime)
    seen = [list(model.drafts(LONG, SamplingParams(rank=rank)))[-1] for rank in range(3)]
    assert [draft.prefill for draft in seen] == [5, 0, 0]


class FailingRuntime(ScriptedRuntime):
    """Fails once, at its third extension, and leaves nonsense behind."""

    def extend(self, kv: KVCache, ids: Sequence[int]) -> Predictions:
        assert isinstance(kv, ScriptedKV)
        if len(self.calls) == 2:
            self.calls.append(("fail", ()))
            kv.ids[10:20] = [5] * 10
            raise MemoryError
        return super().extend(kv, ids)


def test_a_context_is_not_used_again_after_an_error() -> None:
    model, sound = infiller(FailingRuntime(babble())), infiller(ScriptedRuntime(babble()))
    with pytest.raises(MemoryError):
        list(model.drafts(LONG, SamplingParams()))
    assert list(model.drafts(LONG, SamplingParams())) == list(sound.drafts(LONG, SamplingParams()))


GAPS = [
    GAP,
    FimPrompt("a = (b", ")\nb"),
    FimPrompt("a = (", ")\nc"),
    FimPrompt("a", ")\nb"),
    FimPrompt("abc " * 20, ")\nb"),
    FimPrompt("abc " * 20 + "d", ")\nb"),
]
requests = st.tuples(
    st.integers(0, len(GAPS) - 1), st.sampled_from(MODES), st.integers(0, 1), st.booleans()
)


@cache
def alone(seed: int, which: int, mode: Mode, rank: int) -> list[PartialOutput]:
    """What a request says when nobody else asks, once its context is complete.

    What is known of a context beforehand changes what verified decoding guesses, not what it ends
    with.
    """
    seen = drafts(babble(str(seed)), SamplingParams(mode=mode, rank=rank), GAPS[which])
    if mode == "verified":
        return [counted(seen[-1])]
    return [replace(draft, prefill=0) for draft in seen if draft.ids or draft.finished]


@settings(max_examples=100)
@given(
    st.lists(requests, min_size=1, max_size=4),
    st.lists(st.integers(0, 3), max_size=40),
    st.integers(0, 5),
    st.sampled_from([0, 900, 1 << 20]),
)
def test_requests_do_not_disturb_each_other_however_they_interleave(
    asked: list[tuple[int, Mode, int, bool]], turns: list[int], seed: int, context_bytes: int
) -> None:
    """Some contexts are complete beforehand; generators take turns; all are asked once more."""
    runtime = ScriptedRuntime(babble(str(seed)), slips=0.3)
    model = Infiller(card(), LetterTokenizer(), runtime, context_bytes)
    live = []
    for which, mode, rank, prefilled in asked:
        if prefilled:
            list(model.prefill(GAPS[which]))
        generator = model.drafts(GAPS[which], SamplingParams(mode=mode, rank=rank))
        live.append((generator, iter(alone(seed, which, mode, rank))))
    for turn in turns:
        generator, expected = live[turn % len(live)]
        for draft in islice(generator, 1):
            which, mode, rank, _ = asked[turn % len(live)]
            if mode == "verified":
                if draft.finished:
                    assert counted(draft) == next(expected)
            elif draft.ids or draft.finished:
                assert replace(draft, prefill=0) == next(expected)
    for which, mode, rank, _ in asked:
        *_, last = model.drafts(GAPS[which], SamplingParams(mode=mode, rank=rank))
        assert counted(last) == counted(alone(seed, which, mode, rank)[-1])
    for generator, _ in live:
        generator.close()
    assert model.cached_bytes <= context_bytes
