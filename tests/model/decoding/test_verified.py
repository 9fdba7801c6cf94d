"""Guesses, and the causal passes that check them: the text is the autoregressive one."""

from dataclasses import replace

import pytest
from decoding_fakes import (
    GAP,
    MODES,
    TRUST,
    calls,
    counted,
    drafts,
    infiller,
    samplings,
    scripts,
)
from fakes import FORMAT, LetterTokenizer, Script, ScriptedRuntime, card, spell
from hypothesis import given
from hypothesis import strategies as st

from mercury_model.decoding.infiller import Infiller
from mercury_model.decoding.params import Mode, SamplingParams
from mercury_model.decoding.prompt import FimPrompt
from mercury_model.decoding.state import MIN_MASK_PROBABILITY
from mercury_model.spec.card import CacheTrust


@given(scripts, samplings)
def test_verified_text_is_the_autoregressive_text(script: Script, sampling: SamplingParams) -> None:
    *_, exact = drafts(script, replace(sampling, mode="autoregressive"))
    *_, verified = drafts(script, replace(sampling, mode="verified"))
    assert counted(verified) == counted(exact)


@given(scripts, samplings, st.text("ab(, .=\n", max_size=30))
def test_a_text_does_not_depend_on_what_is_predicted(
    script: Script, sampling: SamplingParams, prediction: str
) -> None:
    *_, expected = drafts(script, sampling)
    *_, last = drafts(script, sampling, replace(GAP, prediction=prediction))
    assert counted(last) == counted(expected)


def test_a_prediction_that_is_right_is_checked_while_the_context_is_read() -> None:
    text = "bcd."
    runtime = ScriptedRuntime(spell(text))
    gap = FimPrompt("a = ", "\n", prediction=text)
    *_, last = infiller(runtime).drafts(gap, SamplingParams(mode="verified"))
    assert (last.text, last.finished) == (text, True)
    assert len(runtime.calls) == 1


def test_a_prediction_helps_up_to_where_it_is_wrong() -> None:
    runtimes = [ScriptedRuntime(spell("bcdefgh(b)")) for _ in range(2)]
    for runtime, prediction in zip(runtimes, ("", "bcdefgh[b"), strict=True):
        gap = FimPrompt("a = ", "\n", prediction=prediction)
        *_, last = infiller(runtime).drafts(gap, SamplingParams(mode="verified"))
        assert last.text == "bcdefgh(b)"
    assert len(runtimes[1].calls) < len(runtimes[0].calls)


def test_drafted_guesses_make_verified_decoding_take_fewer_calls() -> None:
    text = "bcdefgh\n.,"  # nothing in it comes twice, so that nothing can be looked up
    by_mode = {mode: ScriptedRuntime(spell(text)) for mode in MODES}
    for mode, runtime in by_mode.items():
        *_, last = infiller(runtime).drafts(FimPrompt("", ""), SamplingParams(mode=mode))
        assert last.text == text
    # One by one; or by turns one, and two guesses with one more.
    assert len(by_mode["autoregressive"].calls) == 11
    assert len(by_mode["verified"].calls) <= 6


texts = st.text("abc(, .=\n", max_size=60)


@given(scripts, samplings, texts, texts)
def test_verified_text_is_the_autoregressive_text_with_repeats(
    script: Script, sampling: SamplingParams, prefix: str, elsewhere: str
) -> None:
    last = []
    for mode in ("autoregressive", "verified"):
        runtime = ScriptedRuntime(script, slips=0.3)
        trusting = Infiller(card(trust=TRUST), LetterTokenizer(), runtime)
        gap = FimPrompt(prefix, ")\nabc", elsewhere=(elsewhere,))
        last.append(list(trusting.drafts(gap, replace(sampling, mode=mode)))[-1])
    assert counted(last[0]) == counted(last[1])


@pytest.mark.parametrize("mode", ["autoregressive", "verified"])
def test_what_stands_elsewhere_outweighs_an_unsure_network(mode: Mode) -> None:
    def text(sampling: SamplingParams, trust: CacheTrust | None = TRUST) -> str:
        runtime = ScriptedRuntime(spell("bcd", confidence=0.5))
        gap = FimPrompt("a = (", ")", elsewhere=("a = (hg.", "b = (fff"))
        *_, last = Infiller(card(trust=trust), LetterTokenizer(), runtime).drafts(gap, sampling)
        return last.text

    assert text(SamplingParams(mode=mode)).startswith("hg.")
    assert text(SamplingParams(mode=mode, repeats=False)) == "bcd"
    assert text(SamplingParams(mode=mode), None) == "bcd"


def test_what_the_context_says_already_is_looked_up() -> None:
    text = "bcdefgh(d, e)"
    runtime = ScriptedRuntime(spell(text))
    *_, last = infiller(runtime).drafts(
        FimPrompt(f"a = {text}\nb = a", "\n"), SamplingParams(mode="verified")
    )
    assert last.text == text
    # What follows " a" is not what followed it before; "bcd" has a match that is.
    assert max(len(ids) for ids in calls(runtime, "verify")[1:]) == FORMAT.block_length
    assert last.steps <= 6


def test_unlikely_guesses_are_not_verified() -> None:
    runtime = ScriptedRuntime(spell("bcdefg", confidence=0.1))
    list(infiller(runtime).drafts(FimPrompt("", ""), SamplingParams(mode="verified")))
    _reading, *checking = calls(runtime, "verify")
    guesses = [[i for i in ids[1:] if i != FORMAT.mask_id] for ids in checking]
    assert {len(ids) for ids in guesses} == {0}


def test_no_masks_stand_behind_what_may_be_wrong() -> None:
    runtime = ScriptedRuntime(spell("bcdefgh\n.,", confidence=0.8))
    list(infiller(runtime).drafts(FimPrompt("", ""), SamplingParams(mode="verified")))
    reading, *checking = calls(runtime, "verify")
    assert FORMAT.mask_id not in reading  # of the first token nothing is known
    committed = 1
    for ids in checking:
        guesses = [token for token in ids[1:] if token != FORMAT.mask_id]
        likely = 0.8 ** (committed + len(guesses)) >= MIN_MASK_PROBABILITY
        assert likely == (FORMAT.mask_id in ids)
        committed += len(guesses) + 1
    assert committed > 10


def test_weights_that_have_not_learnt_masks_are_given_none() -> None:
    untrained = replace(FORMAT, masks_trained=False)
    runtime = ScriptedRuntime(spell("bcdefgh\n.,"))
    filling = Infiller(card(untrained), LetterTokenizer(), runtime)  # type: ignore[arg-type]
    *_, last = filling.drafts(GAP, SamplingParams(mode="verified"))
    assert last.text == "bcdefgh\n.,"
    assert not any(FORMAT.mask_id in ids for _, ids in runtime.calls)
