"""What is written into a gap, draft by draft, however it is decoded."""

from dataclasses import replace
from itertools import islice, pairwise

import pytest
from decoding_fakes import (
    GAP,
    LONG,
    MARKS,
    MODES,
    UNSHIFTED,
    calls,
    drafts,
    infiller,
    samplings,
    scripts,
)
from fakes import FORMAT, LetterTokenizer, Script, ScriptedRuntime, babble, spell
from hypothesis import given
from hypothesis import strategies as st

from mercury_model.decoding.params import Mode, SamplingParams
from mercury_model.decoding.unmasking import Remask, Threshold, TopK
from mercury_model.spec.fim_format import FimFormat


@pytest.mark.parametrize("mode", MODES)
def test_a_gap_is_filled_up_to_the_end_mark(mode: Mode) -> None:
    runtime = ScriptedRuntime(spell("a(b, c).d = e\nf"))
    *_, last = infiller(runtime).drafts(GAP, SamplingParams(mode=mode))
    assert (last.text, last.finished, last.reason) == ("a(b, c).d = e\nf", True, "end")
    assert LetterTokenizer().decode(last.ids) == last.text
    assert all(last.committed)


@pytest.mark.parametrize("mode", MODES)
def test_an_end_mark_at_once_is_an_empty_text_without_a_further_step(mode: Mode) -> None:
    runtime = ScriptedRuntime(spell(""))
    *_, last = infiller(runtime).drafts(GAP, SamplingParams(mode=mode))
    assert (last.text, last.reason, len(runtime.calls)) == ("", "end", 1)


@pytest.mark.parametrize("mode", MODES)
def test_a_text_ends_before_the_first_stop_string(mode: Mode) -> None:
    runtime = ScriptedRuntime(spell("ab\n\ncd. e"))
    *_, last = infiller(runtime).drafts(GAP, SamplingParams(stop=("d.", "\n\n"), mode=mode))
    assert (last.text, last.reason) == ("ab", "stop")
    assert LetterTokenizer().decode(last.ids) == "ab"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("count", [0, 1, 5, 6, 7, 13])
def test_a_text_has_at_most_the_tokens_asked_for(mode: Mode, count: int) -> None:
    runtime = ScriptedRuntime(spell("abcdefgh" * 4))
    *_, last = infiller(runtime).drafts(GAP, SamplingParams(max_tokens=count, mode=mode))
    assert (last.text, last.reason) == (("abcdefgh" * 4)[:count], "length")


@pytest.mark.parametrize("mode", MODES)
def test_a_text_is_no_longer_than_the_weights_were_trained_for(mode: Mode) -> None:
    runtime = ScriptedRuntime(spell("a" * 50, end=False))
    *_, last = infiller(runtime).drafts(GAP, SamplingParams(max_tokens=1_000, mode=mode))
    assert (last.text, last.reason) == ("a" * FORMAT.middle_tokens, "length")


@given(scripts, samplings)
def test_a_draft_takes_nothing_back(script: Script, sampling: SamplingParams) -> None:
    seen = drafts(script, sampling)
    for before, after in pairwise(seen):
        assert after.text.startswith(before.text)
        for position in range(min(len(before.ids), len(after.ids))):
            if before.committed[position]:
                assert after.committed[position]
                assert after.ids[position] == before.ids[position]
                assert after.confidences[position] == before.confidences[position]
    assert [draft.finished for draft in seen] == [False] * (len(seen) - 1) + [True]


@given(scripts, samplings)
def test_a_draft_shows_committed_tokens_and_masks_for_the_rest(
    script: Script, sampling: SamplingParams
) -> None:
    for draft in drafts(script, sampling):
        assert len(draft.ids) == len(draft.committed) == len(draft.confidences)
        shown = {
            token for token, committed in zip(draft.ids, draft.committed, strict=True) if committed
        }
        assert not shown & MARKS
        if sampling.mode == "diffusion":
            masked = [token == FORMAT.mask_id for token in draft.ids]
            assert masked == [not committed for committed in draft.committed]
        assert not any(stop in draft.text for stop in sampling.stop)


@given(scripts, samplings, st.integers(0, 30))
def test_stopping_after_n_steps_equals_the_first_n_drafts(
    script: Script, sampling: SamplingParams, count: int
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
def test_each_draft_costs_at_most_one_call(script: Script, sampling: SamplingParams) -> None:
    runtime = ScriptedRuntime(script, slips=0.3)
    before = 0
    for draft in infiller(runtime).drafts(LONG, sampling):
        assert len(runtime.calls) - before <= 1
        before = len(runtime.calls)
        assert before == draft.steps + draft.prefill
    assert len(runtime.calls) == before


@given(scripts, st.integers(0, 30), st.integers(0, 9))
def test_the_same_seed_gives_the_same_drafts(script: Script, tokens: int, seed: int) -> None:
    sampling = SamplingParams(max_tokens=tokens, temperature=1.0, seed=seed)
    assert drafts(script, sampling) == drafts(script, sampling)


@pytest.mark.parametrize("mode", MODES)
def test_other_seeds_give_other_texts(mode: Mode) -> None:
    texts = {
        drafts(babble(), SamplingParams(temperature=3.0, seed=seed, mode=mode))[-1].text
        for seed in range(8)
    }
    assert len(texts) > 1


def uneven(ids: tuple[int, ...]) -> dict[int, float]:
    return {5: 0.4, 6: 0.3, FORMAT.mask_id: 0.1, 7: 0.1, 8: 0.06, FORMAT.eos_id: 0.04}


@pytest.mark.parametrize("infill", [FORMAT, UNSHIFTED], ids=["shifted", "unshifted"])
def test_each_rank_begins_with_another_token_likeliest_first(infill: FimFormat) -> None:
    runs = [drafts(uneven, SamplingParams(rank=rank), infill=infill) for rank in range(4)]
    firsts = [next(draft for draft in run if any(draft.committed)) for run in runs]
    assert len({draft.ids[0] for draft in firsts}) == 4
    chances = [draft.confidences[0] for draft in firsts]
    assert chances == sorted(chances, reverse=True)


def test_the_dial_at_zero_commits_one_token_a_step() -> None:
    runtime = ScriptedRuntime(spell("abcdefgh", confidence=1.0))
    seen = list(infiller(runtime).drafts(GAP, SamplingParams(quality_speed_tradeoff=0)))
    committed = [sum(draft.committed) for draft in seen[:-1]]
    assert all(after - before == 1 for before, after in pairwise(committed))


def test_a_policy_says_what_a_step_commits_whatever_the_dial() -> None:
    seen = list(
        infiller(ScriptedRuntime(spell("abcdefgh"))).drafts(
            GAP, SamplingParams(0.0, policy=TopK(2))
        )
    )
    committed = [sum(draft.committed) for draft in seen]
    assert {after - before for before, after in pairwise(committed)} <= {0, 1, 2}
    assert 2 in [after - before for before, after in pairwise(committed)]


@given(scripts, st.floats(0, 1), st.floats(0, 1))
def test_only_tokens_that_no_text_has_shown_are_masked_again(
    script: Script, confidence: float, least: float
) -> None:
    policy = Threshold(confidence)
    seen = drafts(script, SamplingParams(policy=policy, remask=Remask(least)))
    for before, after in pairwise(seen):
        assert after.text.startswith(before.text)
        run = ([*before.committed, False]).index(False)
        assert after.ids[:run] == before.ids[:run]
    assert seen[-1].finished
    blocks = -(-FORMAT.middle_tokens // FORMAT.block_length)
    assert seen[-1].steps <= blocks * FORMAT.block_length


def test_weak_tokens_are_chosen_anew_when_more_is_known() -> None:
    def surer_to_the_right(ids: tuple[int, ...]) -> dict[int, float]:
        return {5: 0.5 + 0.01 * ids[::-1].index(FORMAT.middle_id)}

    def opened(sampling: SamplingParams) -> int:
        return sum(
            was and not stays
            for before, after in pairwise(drafts(surer_to_the_right, sampling))
            for was, stays in zip(before.committed, after.committed, strict=False)
        )

    assert opened(SamplingParams(policy=TopK(2))) == 0
    assert opened(SamplingParams(policy=TopK(2), remask=Remask(0.9))) > 0


def test_the_dial_at_one_commits_a_block_a_step() -> None:
    runtime = ScriptedRuntime(babble())
    list(infiller(runtime).drafts(GAP, SamplingParams(quality_speed_tradeoff=1, max_tokens=18)))
    kinds = [name for name, _ in runtime.calls]
    assert kinds[0] == "extend"
    assert all(one != other for one, other in pairwise(kinds))


def test_the_last_block_is_shortened_to_the_tokens_that_are_left() -> None:
    runtime = ScriptedRuntime(spell("abcdefgh" * 2))
    list(infiller(runtime).drafts(GAP, SamplingParams(max_tokens=9)))
    assert [len(ids) for ids in calls(runtime, "denoise")] == [6, 3]


def test_nothing_right_of_a_committed_end_is_computed() -> None:
    wanted = LetterTokenizer().encode("abc")

    def hesitant(ids: tuple[int, ...]) -> dict[int, float]:
        position = ids[::-1].index(FORMAT.middle_id)
        if position == 3:
            return {FORMAT.eos_id: 0.99}
        return {wanted[min(position, 2)]: 0.5}

    runtime = ScriptedRuntime(hesitant)
    *_, last = infiller(runtime).drafts(GAP, SamplingParams())
    assert (last.text, last.reason) == ("abc", "end")
    assert [len(ids) for ids in calls(runtime, "denoise")] == [6, 4]
    assert [name for name, _ in runtime.calls] == ["extend", "denoise", "denoise"]


def test_weights_without_shift_predict_each_position_at_its_own_row() -> None:
    runtime = ScriptedRuntime(spell("abcdefgh"), UNSHIFTED)
    *_, last = infiller(runtime, UNSHIFTED).drafts(GAP, SamplingParams())
    assert (last.text, last.reason) == ("abcdefgh", "end")


@pytest.mark.parametrize("mode", ["autoregressive", "verified"])
def test_weights_without_an_autoregressive_head_refuse_its_modes(mode: Mode) -> None:
    with pytest.raises(ValueError, match="autoregressive head"):
        drafts(spell("a"), SamplingParams(mode=mode), infill=UNSHIFTED)
