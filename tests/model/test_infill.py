from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import islice, pairwise

import pytest
from fakes import FORMAT, LetterTokenizer, Script, ScriptedKV, ScriptedRuntime, babble, card, spell
from hypothesis import given, settings
from hypothesis import strategies as st

from mercury_model.config import CacheTrust, InfillFormat
from mercury_model.infill import Draft, Gap, Infiller, Mode, Sampling
from mercury_model.run import DRAFT_CHANCE
from mercury_model.runtime import KV, Predictions
from mercury_model.unmask import Remask, Threshold, TopK

GAP = Gap("a = (", ")\nb")
LONG = Gap("abc " * 60, "fg\n" * 30)
MODES: tuple[Mode, ...] = ("diffusion", "autoregressive", "verified")
MARKS = {FORMAT.suffix_id, FORMAT.prefix_id, FORMAT.middle_id, FORMAT.mask_id}
TRUST = CacheTrust(always=-2.0, length=1.0, agreed=2.0, sure=-1.0)
UNSHIFTED = replace(FORMAT, shift=False)

samplings = st.builds(
    Sampling,
    quality_speed_tradeoff=st.floats(0, 1),
    max_tokens=st.integers(0, 30),
    stop=st.lists(st.text("ab\n ", min_size=1, max_size=3), max_size=2).map(tuple),
    rank=st.integers(0, 3),
    temperature=st.sampled_from([0.0, 0.7, 2.0]),
    seed=st.integers(0, 1_000),
    mode=st.sampled_from(MODES),
)
scripts = st.integers(0, 10_000).map(lambda seed: babble(str(seed)))


def infiller(runtime: ScriptedRuntime, infill: InfillFormat = FORMAT) -> Infiller:
    return Infiller(card(infill), LetterTokenizer(), runtime)


def drafts(
    script: Script, sampling: Sampling, gap: Gap = GAP, infill: InfillFormat = FORMAT
) -> list[Draft]:
    return list(infiller(ScriptedRuntime(script, infill, slips=0.3), infill).drafts(gap, sampling))


def counted(draft: Draft) -> Draft:
    """A draft, however many calls it took."""
    return replace(draft, steps=0, prefill=0)


def calls(runtime: ScriptedRuntime, method: str) -> list[tuple[int, ...]]:
    return [ids for name, ids in runtime.calls if name == method]


@pytest.mark.parametrize("mode", MODES)
def test_a_gap_is_filled_up_to_the_end_mark(mode: Mode) -> None:
    runtime = ScriptedRuntime(spell("a(b, c).d = e\nf"))
    *_, last = infiller(runtime).drafts(GAP, Sampling(mode=mode))
    assert (last.text, last.finished, last.reason) == ("a(b, c).d = e\nf", True, "end")
    assert LetterTokenizer().decode(last.ids) == last.text
    assert all(last.settled)


@pytest.mark.parametrize("mode", MODES)
def test_an_end_mark_at_once_is_an_empty_text_without_a_further_step(mode: Mode) -> None:
    runtime = ScriptedRuntime(spell(""))
    *_, last = infiller(runtime).drafts(GAP, Sampling(mode=mode))
    assert (last.text, last.reason, len(runtime.calls)) == ("", "end", 1)


@pytest.mark.parametrize("mode", MODES)
def test_a_text_ends_before_the_first_stop_string(mode: Mode) -> None:
    runtime = ScriptedRuntime(spell("ab\n\ncd. e"))
    *_, last = infiller(runtime).drafts(GAP, Sampling(stop=("d.", "\n\n"), mode=mode))
    assert (last.text, last.reason) == ("ab", "stop")
    assert LetterTokenizer().decode(last.ids) == "ab"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("count", [0, 1, 5, 6, 7, 13])
def test_a_text_has_at_most_the_tokens_asked_for(mode: Mode, count: int) -> None:
    runtime = ScriptedRuntime(spell("abcdefgh" * 4))
    *_, last = infiller(runtime).drafts(GAP, Sampling(max_tokens=count, mode=mode))
    assert (last.text, last.reason) == (("abcdefgh" * 4)[:count], "length")


@pytest.mark.parametrize("mode", MODES)
def test_a_text_is_no_longer_than_the_weights_were_trained_for(mode: Mode) -> None:
    runtime = ScriptedRuntime(spell("a" * 50, end=False))
    *_, last = infiller(runtime).drafts(GAP, Sampling(max_tokens=1_000, mode=mode))
    assert (last.text, last.reason) == ("a" * FORMAT.middle_tokens, "length")


@given(scripts, samplings)
def test_a_draft_takes_nothing_back(script: Script, sampling: Sampling) -> None:
    seen = drafts(script, sampling)
    for before, after in pairwise(seen):
        assert after.text.startswith(before.text)
        for position in range(min(len(before.ids), len(after.ids))):
            if before.settled[position]:
                assert after.settled[position]
                assert after.ids[position] == before.ids[position]
                assert after.confidences[position] == before.confidences[position]
    assert [draft.finished for draft in seen] == [False] * (len(seen) - 1) + [True]


@given(scripts, samplings)
def test_a_draft_shows_what_is_settled_and_masks_for_the_rest(
    script: Script, sampling: Sampling
) -> None:
    for draft in drafts(script, sampling):
        assert len(draft.ids) == len(draft.settled) == len(draft.confidences)
        shown = {token for token, settled in zip(draft.ids, draft.settled, strict=True) if settled}
        assert not shown & MARKS
        if sampling.mode == "diffusion":
            masked = [token == FORMAT.mask_id for token in draft.ids]
            assert masked == [not settled for settled in draft.settled]
        assert not any(stop in draft.text for stop in sampling.stop)


@given(scripts, samplings, st.integers(0, 30))
def test_stopping_after_n_steps_equals_the_first_n_drafts(
    script: Script, sampling: Sampling, count: int
) -> None:
    whole = drafts(script, sampling)
    stopped = infiller(ScriptedRuntime(script, slips=0.3))
    assert list(islice(stopped.drafts(GAP, sampling), count)) == whole[:count]
    again = [replace(draft, prefill=whole[-1].prefill) for draft in stopped.drafts(GAP, sampling)]
    if sampling.mode == "verified" and count:  # now that the context is known, fewer calls may do
        assert replace(again[-1], steps=0) == replace(whole[-1], steps=0)
    else:
        assert again == whole


@given(scripts, samplings)
def test_each_draft_costs_at_most_one_call(script: Script, sampling: Sampling) -> None:
    runtime = ScriptedRuntime(script, slips=0.3)
    before = 0
    for draft in infiller(runtime).drafts(LONG, sampling):
        assert len(runtime.calls) - before <= 1
        before = len(runtime.calls)
        assert before == draft.steps + draft.prefill
    assert len(runtime.calls) == before


@given(scripts, samplings)
def test_verified_text_is_the_autoregressive_text(script: Script, sampling: Sampling) -> None:
    *_, exact = drafts(script, replace(sampling, mode="autoregressive"))
    *_, verified = drafts(script, replace(sampling, mode="verified"))
    assert counted(verified) == counted(exact)


@given(scripts, samplings, st.text("ab(, .=\n", max_size=30))
def test_a_text_does_not_depend_on_what_is_predicted(
    script: Script, sampling: Sampling, prediction: str
) -> None:
    *_, expected = drafts(script, sampling)
    *_, last = drafts(script, sampling, replace(GAP, prediction=prediction))
    assert counted(last) == counted(expected)


def test_a_prediction_that_is_right_is_checked_while_the_context_is_read() -> None:
    text = "bcd."
    runtime = ScriptedRuntime(spell(text))
    gap = Gap("a = ", "\n", prediction=text)
    *_, last = infiller(runtime).drafts(gap, Sampling(mode="verified"))
    assert (last.text, last.finished) == (text, True)
    assert len(runtime.calls) == 1


def test_a_prediction_helps_up_to_where_it_is_wrong() -> None:
    runtimes = [ScriptedRuntime(spell("bcdefgh(b)")) for _ in range(2)]
    for runtime, prediction in zip(runtimes, ("", "bcdefgh[b"), strict=True):
        gap = Gap("a = ", "\n", prediction=prediction)
        *_, last = infiller(runtime).drafts(gap, Sampling(mode="verified"))
        assert last.text == "bcdefgh(b)"
    assert len(runtimes[1].calls) < len(runtimes[0].calls)


def test_drafted_guesses_make_verified_decoding_take_fewer_calls() -> None:
    text = "bcdefgh\n.,"  # nothing in it comes twice, so that nothing can be looked up
    by_mode = {mode: ScriptedRuntime(spell(text)) for mode in MODES}
    for mode, runtime in by_mode.items():
        *_, last = infiller(runtime).drafts(Gap("", ""), Sampling(mode=mode))
        assert last.text == text
    # One by one; or by turns one, and two guesses with one more.
    assert len(by_mode["autoregressive"].calls) == 11
    assert len(by_mode["verified"].calls) <= 6


texts = st.text("abc(, .=\n", max_size=60)


@given(scripts, samplings, texts, texts)
def test_verified_text_is_the_autoregressive_text_with_repeats(
    script: Script, sampling: Sampling, prefix: str, elsewhere: str
) -> None:
    last = []
    for mode in ("autoregressive", "verified"):
        runtime = ScriptedRuntime(script, slips=0.3)
        trusting = Infiller(card(trust=TRUST), LetterTokenizer(), runtime)
        gap = Gap(prefix, ")\nabc", elsewhere=(elsewhere,))
        last.append(list(trusting.drafts(gap, replace(sampling, mode=mode)))[-1])
    assert counted(last[0]) == counted(last[1])


@pytest.mark.parametrize("mode", ["autoregressive", "verified"])
def test_what_stands_elsewhere_outweighs_an_unsure_network(mode: Mode) -> None:
    def text(sampling: Sampling, trust: CacheTrust | None = TRUST) -> str:
        runtime = ScriptedRuntime(spell("bcd", confidence=0.5))
        gap = Gap("a = (", ")", elsewhere=("a = (hg.", "b = (fff"))
        *_, last = Infiller(card(trust=trust), LetterTokenizer(), runtime).drafts(gap, sampling)
        return last.text

    assert text(Sampling(mode=mode)).startswith("hg.")
    assert text(Sampling(mode=mode, repeats=False)) == "bcd"
    assert text(Sampling(mode=mode), None) == "bcd"


def test_what_the_context_says_already_is_looked_up() -> None:
    text = "bcdefgh(d, e)"
    runtime = ScriptedRuntime(spell(text))
    *_, last = infiller(runtime).drafts(Gap(f"a = {text}\nb = a", "\n"), Sampling(mode="verified"))
    assert last.text == text
    # What follows " a" is not what followed it before; "bcd" has a match that is.
    assert max(len(ids) for ids in calls(runtime, "verify")[1:]) == FORMAT.block_length
    assert last.steps <= 6


def test_unlikely_guesses_are_not_verified() -> None:
    runtime = ScriptedRuntime(spell("bcdefg", confidence=0.1))
    list(infiller(runtime).drafts(Gap("", ""), Sampling(mode="verified")))
    _reading, *checking = calls(runtime, "verify")
    guesses = [[i for i in ids[1:] if i != FORMAT.mask_id] for ids in checking]
    assert {len(ids) for ids in guesses} == {0}


def test_no_masks_stand_behind_what_may_be_wrong() -> None:
    runtime = ScriptedRuntime(spell("bcdefgh\n.,", confidence=0.8))
    list(infiller(runtime).drafts(Gap("", ""), Sampling(mode="verified")))
    reading, *checking = calls(runtime, "verify")
    assert FORMAT.mask_id not in reading  # of the first token nothing is known
    settled = 1
    for ids in checking:
        guesses = [token for token in ids[1:] if token != FORMAT.mask_id]
        likely = 0.8 ** (settled + len(guesses)) >= DRAFT_CHANCE
        assert likely == (FORMAT.mask_id in ids)
        settled += len(guesses) + 1
    assert settled > 10


@given(scripts, st.integers(0, 30), st.integers(0, 9))
def test_the_same_seed_gives_the_same_drafts(script: Script, tokens: int, seed: int) -> None:
    sampling = Sampling(max_tokens=tokens, temperature=1.0, seed=seed)
    assert drafts(script, sampling) == drafts(script, sampling)


@pytest.mark.parametrize("mode", MODES)
def test_other_seeds_give_other_texts(mode: Mode) -> None:
    texts = {
        drafts(babble(), Sampling(temperature=3.0, seed=seed, mode=mode))[-1].text
        for seed in range(8)
    }
    assert len(texts) > 1


def uneven(ids: tuple[int, ...]) -> dict[int, float]:
    return {5: 0.4, 6: 0.3, FORMAT.mask_id: 0.1, 7: 0.1, 8: 0.06, FORMAT.end_id: 0.04}


@pytest.mark.parametrize("infill", [FORMAT, UNSHIFTED], ids=["shifted", "unshifted"])
def test_each_rank_begins_with_another_token_likeliest_first(infill: InfillFormat) -> None:
    runs = [drafts(uneven, Sampling(rank=rank), infill=infill) for rank in range(4)]
    firsts = [next(draft for draft in run if any(draft.settled)) for run in runs]
    assert len({draft.ids[0] for draft in firsts}) == 4
    chances = [draft.confidences[0] for draft in firsts]
    assert chances == sorted(chances, reverse=True)


def test_the_dial_at_zero_settles_one_token_a_step() -> None:
    runtime = ScriptedRuntime(spell("abcdefgh", confidence=1.0))
    seen = list(infiller(runtime).drafts(GAP, Sampling(quality_speed_tradeoff=0)))
    settled = [sum(draft.settled) for draft in seen[:-1]]
    assert all(after - before == 1 for before, after in pairwise(settled))


def test_a_policy_says_what_a_step_commits_whatever_the_dial() -> None:
    seen = list(
        infiller(ScriptedRuntime(spell("abcdefgh"))).drafts(GAP, Sampling(0.0, policy=TopK(2)))
    )
    settled = [sum(draft.settled) for draft in seen]
    assert {after - before for before, after in pairwise(settled)} <= {0, 1, 2}
    assert 2 in [after - before for before, after in pairwise(settled)]


@given(scripts, st.floats(0, 1), st.floats(0, 1))
def test_what_is_masked_again_was_no_text_yet(
    script: Script, confidence: float, least: float
) -> None:
    policy = Threshold(confidence)
    seen = drafts(script, Sampling(policy=policy, remask=Remask(least)))
    for before, after in pairwise(seen):
        assert after.text.startswith(before.text)
        run = ([*before.settled, False]).index(False)
        assert after.ids[:run] == before.ids[:run]
    assert seen[-1].finished
    blocks = -(-FORMAT.middle_tokens // FORMAT.block_length)
    assert seen[-1].steps <= blocks * FORMAT.block_length


def test_weak_tokens_are_chosen_anew_when_more_is_known() -> None:
    def surer_to_the_right(ids: tuple[int, ...]) -> dict[int, float]:
        return {5: 0.5 + 0.01 * ids[::-1].index(FORMAT.middle_id)}

    def opened(sampling: Sampling) -> int:
        return sum(
            was and not stays
            for before, after in pairwise(drafts(surer_to_the_right, sampling))
            for was, stays in zip(before.settled, after.settled, strict=False)
        )

    assert opened(Sampling(policy=TopK(2))) == 0
    assert opened(Sampling(policy=TopK(2), remask=Remask(0.9))) > 0


def test_the_dial_at_one_settles_a_block_a_step() -> None:
    runtime = ScriptedRuntime(babble())
    list(infiller(runtime).drafts(GAP, Sampling(quality_speed_tradeoff=1, max_tokens=18)))
    kinds = [name for name, _ in runtime.calls]
    assert kinds[0] == "extend"
    assert all(one != other for one, other in pairwise(kinds))


def test_the_last_block_is_shortened_to_the_tokens_that_are_left() -> None:
    runtime = ScriptedRuntime(spell("abcdefgh" * 2))
    list(infiller(runtime).drafts(GAP, Sampling(max_tokens=9)))
    assert [len(ids) for ids in calls(runtime, "denoise")] == [6, 3]


def test_nothing_right_of_a_settled_end_is_computed() -> None:
    wanted = LetterTokenizer().encode("abc")

    def hesitant(ids: tuple[int, ...]) -> dict[int, float]:
        position = ids[::-1].index(FORMAT.middle_id)
        if position == 3:
            return {FORMAT.end_id: 0.99}
        return {wanted[min(position, 2)]: 0.5}

    runtime = ScriptedRuntime(hesitant)
    *_, last = infiller(runtime).drafts(GAP, Sampling())
    assert (last.text, last.reason) == ("abc", "end")
    assert [len(ids) for ids in calls(runtime, "denoise")] == [6, 4]
    assert [name for name, _ in runtime.calls] == ["extend", "denoise", "denoise"]


def test_weights_without_shift_predict_each_position_at_its_own_row() -> None:
    runtime = ScriptedRuntime(spell("abcdefgh"), UNSHIFTED)
    *_, last = infiller(runtime, UNSHIFTED).drafts(GAP, Sampling())
    assert (last.text, last.reason) == ("abcdefgh", "end")


@pytest.mark.parametrize("mode", ["autoregressive", "verified"])
def test_weights_without_an_autoregressive_head_refuse_its_modes(mode: Mode) -> None:
    with pytest.raises(ValueError, match="autoregressive head"):
        drafts(spell("a"), Sampling(mode=mode), infill=UNSHIFTED)


def test_drafts_have_no_text_while_the_context_is_completed() -> None:
    runtime = ScriptedRuntime(spell("abc"))
    first = list(islice(infiller(runtime).drafts(LONG, Sampling()), 5))
    assert [draft.prefill for draft in first] == [1, 2, 3, 4, 5]
    assert [draft.text for draft in first] == ["", "", "", "", "a"]
    assert [len(ids) for ids in calls(runtime, "extend")] == [64, 64, 64, 64, 7]


def test_prefill_counts_down_and_leaves_nothing_to_do() -> None:
    runtime = ScriptedRuntime(spell("abc"))
    model = infiller(runtime)
    assert list(model.prefill(LONG)) == [199, 135, 71, 7, 0]
    assert list(model.prefill(LONG)) == []
    assert next(model.drafts(LONG, Sampling())).text == "a"
    assert len(runtime.calls) == 5


def test_an_abandoned_prefill_loses_nothing() -> None:
    runtime = ScriptedRuntime(spell("abc"))
    model = infiller(runtime)
    assert list(islice(model.prefill(LONG), 2)) == [199, 135]
    assert list(islice(model.prefill(LONG), 1)) == [71]
    seen = list(model.drafts(LONG, Sampling()))
    assert seen[-1].text == "abc"
    assert seen[-1].prefill == 2


def test_typing_on_costs_only_the_tokens_that_are_new() -> None:
    runtime = ScriptedRuntime(spell("abc"))
    model = infiller(runtime)
    list(model.drafts(Gap("abcd" * 20, "fg"), Sampling()))
    runtime.calls.clear()
    list(model.drafts(Gap("abcd" * 20 + "e", "fg"), Sampling()))
    encoded = (*LetterTokenizer().encode("e"), FORMAT.middle_id)
    assert calls(runtime, "extend")[0] == encoded


def test_what_a_checking_call_read_is_known_afterwards() -> None:
    runtime = ScriptedRuntime(spell("abc"))
    model = infiller(runtime)
    list(model.drafts(LONG, Sampling(mode="verified")))
    assert [len(ids) for ids in calls(runtime, "extend")] == [64] * 4
    assert list(model.prefill(LONG)) == []


def test_forgetting_a_generator_frees_its_context_for_others() -> None:
    runtime = ScriptedRuntime(spell("abc"))
    model = infiller(runtime)
    abandoned = model.drafts(LONG, Sampling())
    assert [next(abandoned).prefill for _ in range(5)] == [1, 2, 3, 4, 5]
    assert next(model.drafts(LONG, Sampling())).prefill == 1
    del abandoned
    assert next(model.drafts(LONG, Sampling())).prefill == 0


def test_an_alternative_costs_no_prefill() -> None:
    runtime = ScriptedRuntime(babble("9"))
    model = infiller(runtime)
    seen = [list(model.drafts(LONG, Sampling(rank=rank)))[-1] for rank in range(3)]
    assert [draft.prefill for draft in seen] == [5, 0, 0]


class FailingRuntime(ScriptedRuntime):
    """Fails once, at its third extension, and leaves nonsense behind."""

    def extend(self, kv: KV, ids: Sequence[int]) -> Predictions:
        assert isinstance(kv, ScriptedKV)
        if len(self.calls) == 2:
            self.calls.append(("fail", ()))
            kv.ids[10:20] = [5] * 10
            raise MemoryError
        return super().extend(kv, ids)


def test_a_context_is_not_used_again_after_an_error() -> None:
    model, sound = infiller(FailingRuntime(babble())), infiller(ScriptedRuntime(babble()))
    with pytest.raises(MemoryError):
        list(model.drafts(LONG, Sampling()))
    assert list(model.drafts(LONG, Sampling())) == list(sound.drafts(LONG, Sampling()))


GAPS = [
    GAP,
    Gap("a = (b", ")\nb"),
    Gap("a = (", ")\nc"),
    Gap("a", ")\nb"),
    Gap("abc " * 20, ")\nb"),
    Gap("abc " * 20 + "d", ")\nb"),
]
requests = st.tuples(
    st.integers(0, len(GAPS) - 1), st.sampled_from(MODES), st.integers(0, 1), st.booleans()
)


@cache
def alone(seed: int, which: int, mode: Mode, rank: int) -> list[Draft]:
    """What a request says when nobody else asks, once its context is complete.

    What is known of a context beforehand changes what verified decoding guesses, not what it ends
    with.
    """
    seen = drafts(babble(str(seed)), Sampling(mode=mode, rank=rank), GAPS[which])
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
        generator = model.drafts(GAPS[which], Sampling(mode=mode, rank=rank))
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
        *_, last = model.drafts(GAPS[which], Sampling(mode=mode, rank=rank))
        assert counted(last) == counted(alone(seed, which, mode, rank)[-1])
    for generator, _ in live:
        generator.close()
    assert model.kept_bytes <= context_bytes
