"""The token before the cursor is generated again, and no character of the document with it."""

import numpy as np
import pytest
from decoding_fakes import MODES, TRUST
from fakes import FORMAT, FakeClock, Script, ScriptedRuntime
from healing_fakes import (
    HEALED,
    TOKEN_BYTES,
    VOCAB_SIZE,
    ByteTokenizer,
    FarBack,
    card,
    infiller,
    noise,
    writes,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from mercury_model.decoding.healing import TokenIndex
from mercury_model.decoding.infiller import Infiller
from mercury_model.decoding.output import PartialOutput
from mercury_model.decoding.params import Mode, SamplingParams
from mercury_model.decoding.prompt import FimPrompt
from mercury_model.errors import WeightsUnsupported
from mercury_model.serving.engine import Engine, EngineLimits
from mercury_model.serving.request import InfillRequest

DOCUMENT = 'def f(count):\n    return "\\n" + 12345\n\n😀é = counter()\n'
WRITTEN = [
    ("after a newline", "def f():\n", "    return 1"),
    ("after an indentation", "def f():\n    ", "return 1"),
    ("inside an identifier", "x = a coun", "ter()"),
    ("inside a number", "x = 12", "345"),
    ("inside an escape", 'x = "\\', 'n" + y'),
    ("before an emoji", "x = '", "😀'"),
    ("after an emoji", "x = '😀", "é'"),
    ("at the end of a word", "    return", "er()"),
    ("at the beginning", "", "def f"),
]

seeds = st.integers(0, 10_000)
cursors = st.integers(0, len(DOCUMENT))
modes = st.sampled_from(MODES)
backs = st.integers(1, 4)
samplings = st.builds(
    SamplingParams,
    quality_speed_tradeoff=st.floats(0, 1),
    max_tokens=st.integers(0, 20),
    stop=st.sampled_from([(), ("\n",), ("er", "(")]),
    rank=st.integers(0, 2),
    temperature=st.sampled_from([0.0, 1.0]),
    mode=modes,
)


def prompt(cursor: int, prediction: str = "") -> FimPrompt:
    return FimPrompt(DOCUMENT[:cursor], DOCUMENT[cursor:], prediction=prediction)


def require_document(draft: PartialOutput, gap: FimPrompt, tokenizer: ByteTokenizer) -> None:
    """Context and tokens spell the text before the cursor, then the text that is inserted."""
    context = tokenizer.fim_context(gap.prefix, gap.suffix).ids
    spelled = [*context[len(context) - context[::-1].index(FORMAT.middle_id) :]]
    committed = [*draft.committed, False].index(False)
    spelled += draft.ids[:committed]
    data, prefix = b"".join(TOKEN_BYTES[token] for token in spelled), gap.prefix.encode()
    if len(data) <= len(prefix):
        assert prefix.startswith(data)
        assert draft.text == ""
    else:
        assert data.startswith(prefix)
        assert data[len(prefix) :].decode("utf-8", "replace").startswith(draft.text)


@given(st.binary(min_size=1, max_size=6) | st.sampled_from([b" retu", b"\n    ", b"12", b"\xf0"]))
def test_the_index_has_the_tokens_that_agree_and_no_others(owed: bytes) -> None:
    found = TokenIndex(TOKEN_BYTES, VOCAB_SIZE).agreeing(owed)
    expected = [
        bool(piece) and (piece.startswith(owed) or owed.startswith(piece)) for piece in TOKEN_BYTES
    ]
    assert found.tolist() == expected + [False] * (VOCAB_SIZE - len(TOKEN_BYTES))


@settings(max_examples=300)
@given(cursors, seeds, samplings, backs)
def test_no_character_of_the_document_is_repeated_or_lost(
    cursor: int, seed: int, sampling: SamplingParams, back: int
) -> None:
    gap, tokenizer, text = prompt(cursor), FarBack(back), ""
    for draft in infiller(noise(seed), tokenizer).drafts(gap, sampling):
        require_document(draft, gap, tokenizer)
        assert draft.text.startswith(text)
        text = draft.text
    assert draft.finished


@settings(max_examples=150)
@given(cursors, seeds, backs, st.text("fer(\n 1", max_size=8), st.sampled_from([None, TRUST]))
def test_verified_decoding_gives_the_autoregressive_text(
    cursor: int, seed: int, back: int, prediction: str, trust: object
) -> None:
    found = []
    for mode in ("verified", "autoregressive"):
        model = infiller(noise(seed), FarBack(back), trust=trust)  # type: ignore[arg-type]
        sampling = SamplingParams(max_tokens=12, mode=mode)  # type: ignore[arg-type]
        *_, last = model.drafts(prompt(cursor, prediction), sampling)
        found.append(last)
    verified, plain = found
    assert (verified.ids, verified.text, verified.ends) == (plain.ids, plain.text, plain.ends)
    assert verified.confidences == pytest.approx(plain.confidences)


@settings(max_examples=40)
@given(st.lists(st.tuples(cursors, modes), min_size=2, max_size=4), seeds, backs)
def test_requests_that_share_passes_get_the_text_that_each_gets_alone(
    asked: list[tuple[int, Mode]], seed: int, back: int
) -> None:
    script, tokenizer = noise(seed), FarBack(back)
    runtime = ScriptedRuntime(script, HEALED, slips=0.3, vocab_size=VOCAB_SIZE)
    engine = Engine(card(), tokenizer, runtime, EngineLimits(), FakeClock())
    jobs = [
        engine.submit(InfillRequest(prompt(cursor), SamplingParams(max_tokens=10, mode=mode)))
        for cursor, mode in asked
    ]
    while engine.busy:
        engine.step()
    for job, (cursor, mode) in zip(jobs, asked, strict=True):
        alone = infiller(script, tokenizer).drafts(
            prompt(cursor), SamplingParams(max_tokens=10, mode=mode)
        )
        *_, last = alone
        assert job.error is None
        assert (job.draft.text, job.draft.ids) == (last.text, last.ids)


@pytest.mark.parametrize("back", [1, 3])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("prefix", "wanted"), [row[1:] for row in WRITTEN], ids=[row[0] for row in WRITTEN]
)
def test_the_text_goes_on_from_the_cursor(prefix: str, wanted: str, mode: Mode, back: int) -> None:
    model = infiller(writes(prefix, wanted), FarBack(back), slips=0)
    *_, last = model.drafts(FimPrompt(prefix, ""), SamplingParams(mode=mode))
    assert (last.text, last.reason) == (wanted, "end")


@pytest.mark.parametrize("mode", MODES)
def test_a_token_may_spell_what_is_owed_and_go_beyond_it(mode: Mode) -> None:
    prefix, wanted = "x = a coun", "ter()"
    model = infiller(writes(prefix, wanted), slips=0)
    *_, last = model.drafts(FimPrompt(prefix, ""), SamplingParams(mode=mode))
    assert TOKEN_BYTES[last.ids[0]] == b"n"  # the fake takes one byte back: no longer token fits
    far = infiller(writes(prefix, wanted), FarBack(5), slips=0)
    *_, last = far.drafts(FimPrompt(prefix, ""), SamplingParams(mode=mode))
    assert TOKEN_BYTES[last.ids[0]] == b" counter"
    assert last.text == wanted
    assert last.ends[0] == len("ter")


@pytest.mark.parametrize("mode", MODES)
def test_tokens_that_only_spell_the_document_end_before_the_text(mode: Mode) -> None:
    model = infiller(writes("x = 1", "0 + y"), FarBack(3), slips=0)
    *_, last = model.drafts(FimPrompt("x = 1", ""), SamplingParams(mode=mode))
    assert last.ends[:4] == (0, 0, 0, 1)
    assert last.ends[-1] == len(last.text)


def impatient(wanted: Script) -> Script:
    """Ends the text whenever it may."""

    def script(ids: tuple[int, ...]) -> dict[int, float]:
        chances = {token: chance / 10 for token, chance in wanted(ids).items()}
        return chances | {FORMAT.suffix_id: 0.9}

    return script


@pytest.mark.parametrize("mode", MODES)
def test_a_text_does_not_end_before_it_has_spelled_what_is_owed(mode: Mode) -> None:
    model = infiller(impatient(writes("x = coun", "t")), FarBack(3), slips=0)
    outputs = [*model.drafts(FimPrompt("x = coun", ""), SamplingParams(mode=mode))]
    last = outputs[-1]
    assert (last.text, last.reason) == ("", "end")
    assert last.ending == pytest.approx(0.9, abs=0.01)
    assert b"".join(TOKEN_BYTES[token] for token in last.ids) == b"oun"


def test_drafts_spell_what_is_owed_so_that_a_right_prediction_costs_one_call() -> None:
    prefix, wanted = "x = a coun", "ter()"
    for back in (1, 5):
        runtime = ScriptedRuntime(writes(prefix, wanted), HEALED, vocab_size=VOCAB_SIZE)
        model = Infiller(card(), FarBack(back), runtime)
        gap = FimPrompt(prefix, "", prediction=wanted)
        *_, last = model.drafts(gap, SamplingParams(mode="verified"))
        assert last.text == wanted
        most = 1 if back == 5 else 2
        assert last.steps <= most, back


def test_looked_up_text_begins_with_what_is_owed() -> None:
    prefix = "  result = a.count_of(b)\n  result = a.cou"
    runtime = ScriptedRuntime(writes(prefix, "nt_of(b)"), HEALED, vocab_size=VOCAB_SIZE)
    model = Infiller(card(), FarBack(2), runtime)
    *_, last = model.drafts(FimPrompt(prefix, ""), SamplingParams(mode="verified"))
    assert last.text == "nt_of(b)"
    drafted = [len(ids) for kind, ids in runtime.calls if kind == "verify"]
    assert max(drafted) > 4
    assert last.steps < len(last.ids) - 2


def test_the_same_ids_with_other_bytes_owed_are_predicted_anew() -> None:
    script = noise(3)
    model, gaps = infiller(script), [FimPrompt("f(count", ""), FimPrompt("f(coun ", "")]
    shared = [len({model.fim_context(gap).ids[:-1] for gap in gaps})]
    assert shared == [1]
    for mode in MODES:
        for before, after in (gaps, gaps[::-1]):
            sampling = SamplingParams(mode=mode, max_tokens=6)
            reused = infiller(script)
            list(reused.drafts(before, sampling))
            *_, found = reused.drafts(after, sampling)
            *_, fresh = infiller(script).drafts(after, sampling)
            assert (found.ids, found.text) == (fresh.ids, fresh.text)


@given(cursors, seeds, modes)
def test_a_context_read_ahead_gives_the_same_text(cursor: int, seed: int, mode: Mode) -> None:
    sampling, gap = SamplingParams(mode=mode, max_tokens=8), prompt(cursor)
    ahead = infiller(noise(seed))
    list(ahead.prefill(gap))
    *_, found = ahead.drafts(gap, sampling)
    *_, fresh = infiller(noise(seed)).drafts(gap, sampling)
    assert (found.ids, found.text) == (fresh.ids, fresh.text)


@pytest.mark.parametrize("mode", MODES)
def test_alternatives_differ_in_the_text_and_not_in_how_the_document_is_spelled(
    mode: Mode,
) -> None:
    texts, ids = [], []
    for rank in range(3):
        model = infiller(noise(8), FarBack(2))
        sampling = SamplingParams(mode=mode, rank=rank, max_tokens=8)
        *_, last = model.drafts(FimPrompt("f(coun", ")"), sampling)
        texts.append(last.text)
        ids.append([token for token, end in zip(last.ids, last.ends, strict=False) if not end])
    assert len(set(texts)) == 3
    assert ids[0] == ids[1] == ids[2]


def test_a_vocabulary_that_cannot_spell_every_text_is_refused_when_it_is_loaded() -> None:
    class Pruned(ScriptedRuntime):
        @property
        def vocabulary(self) -> np.ndarray:  # type: ignore[override, type-arg]
            return np.array([i for i in range(VOCAB_SIZE) if i != 5 + ord("q")])

    with pytest.raises(WeightsUnsupported, match="0x71"):
        Infiller(card(), ByteTokenizer(), Pruned(noise(0), HEALED, vocab_size=VOCAB_SIZE))
