"""What the core is told of the model's drafts."""

from dataclasses import replace

import pytest
from fakes import FORMAT, LetterTokenizer, ScriptedRuntime, card, spell
from healing_fakes import HEALED, VOCAB_SIZE, FarBack, writes
from service_fakes import scripted, serving

from mercury_lsp.backend.infill import Backend
from mercury_lsp.config import Config
from mercury_lsp.core.types import Context, Draft, GapKind
from mercury_model.decoding.params import Mode
from mercury_model.load import LoadedModel
from mercury_model.spec.card import Calibration

CONTEXT = Context("python", "a = (", ")\n", GapKind.REST_OF_LINE, "    ")

PLAIN = Calibration()


def drafts(
    text: str,
    mode: Mode = "verified",
    confidence: float = 0.5,
    calibration: Calibration = PLAIN,
) -> list[Draft]:
    runtime = ScriptedRuntime(spell(text, confidence=confidence))
    calibrated = replace(card(), calibration=calibration)
    model = LoadedModel(calibrated, LetterTokenizer(), runtime)  # type: ignore[arg-type]
    with serving(model) as service:
        return list(Backend(service, Config(mode=mode)).infill(CONTEXT))


@pytest.mark.parametrize("mode", ["verified", "autoregressive"])
def test_the_chance_of_a_text_is_the_product_of_its_tokens(mode: Mode) -> None:
    *_, last = drafts("bcd", mode)
    assert (last.text, last.finished) == ("bcd", True)
    assert last.chances[-1][1] == pytest.approx(0.5**3)


@pytest.mark.parametrize("mode", ["verified", "autoregressive"])
def test_a_text_is_right_only_if_it_also_ends_where_it_does(mode: Mode) -> None:
    *before, last = drafts("bcd", mode)
    assert last.confidence == pytest.approx(0.5**4)
    assert all(draft.confidence >= 0.5**3 for draft in before)


def test_chances_are_as_the_weights_calibration_has_them() -> None:
    calibration = Calibration(slope=0.9, bias=0.5)
    *_, plain = drafts("bcd")
    *_, mapped = drafts("bcd", calibration=calibration)
    assert mapped.confidence == pytest.approx(calibration(plain.confidence))
    assert mapped.chances == tuple((end, calibration(chance)) for end, chance in plain.chances)


def test_each_beginning_has_a_chance_of_its_own() -> None:
    *_, last = drafts("bc\nd\n")
    ends, chances = zip(*last.chances, strict=True)
    assert ends == (1, 2, 3, 4, 5)
    assert chances == pytest.approx([0.5**n for n in ends])


@pytest.mark.parametrize("mode", ["verified", "autoregressive", "diffusion"])
def test_a_chance_only_falls_as_the_text_grows(mode: Mode) -> None:
    chances = [draft.confidence for draft in drafts("bcd e\nfgh", mode, confidence=0.8)]
    assert chances == sorted(chances, reverse=True)


def test_what_was_drafted_before_a_key_is_checked_in_one_call_after_it() -> None:
    line = LetterTokenizer().encode("a = (bcd.e")

    def writing(ids: tuple[int, ...]) -> dict[int, float]:
        """The rest of the line, wherever the middle begins."""
        if FORMAT.middle_id not in ids:
            return {FORMAT.eos_id: 1.0}
        written = ids[ids.index(FORMAT.prefix_id) + 1 :]
        return {[*line, FORMAT.eos_id][min(len(written) - 1, len(line))]: 0.9}

    runtime = ScriptedRuntime(writing)
    with serving(scripted(runtime)) as service:
        backend = Backend(service, Config())
        *_, before = backend.infill(CONTEXT)
        runtime.calls.clear()
        *_, after = backend.infill(replace(CONTEXT, prefix="a = (b"))
    assert (before.text, after.text) == ("bcd.e", "cd.e")
    assert len(runtime.calls) == 1


def test_a_bracket_that_the_editor_closes_costs_no_new_context() -> None:
    runtime = ScriptedRuntime(spell("b)"))
    before = replace(CONTEXT, prefix="a = b", suffix="\n" + "ab\n" * 15)
    with serving(scripted(runtime)) as service:
        backend = Backend(service, Config())
        list(backend.prefill(before))
        runtime.calls.clear()
        *_, last = backend.infill(replace(before, prefix="a = b(", suffix=")" + before.suffix))
    assert last.text == "b)"
    (_, reading), *_ = runtime.calls
    assert len(reading) < 10


def test_tokens_that_spell_what_stands_before_the_cursor_have_no_chance_of_their_own() -> None:
    prefix, wanted = "x = 1", "0 + y"
    runtime = ScriptedRuntime(writes(prefix, wanted, 0.8), HEALED, vocab_size=VOCAB_SIZE)
    healed = replace(card(HEALED), architecture=runtime.config)
    model = LoadedModel(healed, FarBack(3), runtime)  # type: ignore[arg-type]
    context = Context("python", prefix, "", GapKind.REST_OF_LINE, "    ")
    *_, last = Backend(model, Config(mode="autoregressive")).infill(context)
    assert last.text == wanted
    assert [end for end, _ in last.chances] == [1, 2, 3, 4, 5]
    assert [chance for _, chance in last.chances] == sorted(
        (chance for _, chance in last.chances), reverse=True
    )
