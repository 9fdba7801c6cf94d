from itertools import count

import pytest
from fakes import LetterTokenizer, ScriptedRuntime, card, spell
from service_fakes import serving

from mercury_lsp.evaluation import measure, report
from mercury_lsp.evaluation.cases import Case, draw
from mercury_model.decoding.params import Mode, SamplingParams
from mercury_model.load import LoadedModel
from mercury_model.training.data import Source
from mercury_model.training.gaps import SpanKind


def case(truth: str, kind: SpanKind = SpanKind.REST_OF_LINE) -> Case:
    return Case("python", "p", "p.py", kind, "a = (", truth, ")\n")


def model(text: str) -> LoadedModel:
    runtime = ScriptedRuntime(spell(text))
    return LoadedModel(card(), LetterTokenizer(), runtime)  # type: ignore[arg-type]


def filled(text: str, cases: list[Case], mode: Mode = "verified") -> list[measure.Outcome]:
    ticks, samplings = count(), {"": SamplingParams(mode=mode)}
    with serving(model(text)) as service:
        outcomes = measure.fill(service, cases, samplings, lambda: next(ticks))
        return [by_name[""] for by_name in outcomes]


@pytest.mark.parametrize("mode", ["verified", "autoregressive", "diffusion"])
def test_a_right_completion_is_exact_and_parses(mode: Mode) -> None:
    (outcome,) = filled("b, c", [case("b, c")], mode)
    assert (outcome.exact, outcome.similarity, outcome.length_error) == (True, 1.0, 0)
    assert outcome.parses
    assert outcome.ended
    assert 0 < outcome.confidence < 1
    assert outcome.tokens == 4


def test_a_single_line_is_cut_at_its_end_and_a_block_is_not() -> None:
    line, block = filled("b\nc", [case("b"), case("b\nc", SpanKind.BLOCK)])
    assert (line.text, line.ended, line.exact) == ("b", False, True)
    assert (block.text, block.ended, block.exact) == ("b\nc", True, True)


def test_a_file_that_does_not_parse_with_the_truth_is_not_scored() -> None:
    (outcome,) = filled(
        "b", [Case("python", "p", "p.py", SpanKind.REST_OF_LINE, "a = ((", "b", "\n")]
    )
    assert outcome.parses is None


def test_a_report_compares_each_setting_with_autoregressive_decoding() -> None:
    cases = [case("b, c"), case("d"), case("b, c", SpanKind.BLOCK)]
    runs = {
        "autoregressive": filled("b, c", cases, "autoregressive"),
        "verified": filled("b, c", cases),
        "0.5": filled("d", cases, "diffusion"),
    }
    settings = report.document(cases, runs)["settings"]
    assert settings["verified"]["exact_less_autoregressive"]["mean"] == 0
    assert settings["0.5"]["exact_less_autoregressive"]["mean"] == pytest.approx(-1 / 3, abs=1e-4)
    assert settings["autoregressive"]["single_line"]["count"] == 2
    assert settings["verified"]["speed_over_autoregressive"] == 1  # each took one tick
    assert settings["verified"]["tokens_per_step"] > settings["autoregressive"]["tokens_per_step"]
    assert set(settings["verified"]["by_kind"]) == {"rest of line", "block"}


def test_each_kind_of_gap_has_a_calibration_error() -> None:
    cases = [case("b, c"), case("d", SpanKind.BLOCK)]
    right, wrong = filled("b, c", cases)
    kinds = report.document(cases, {"": [right, wrong]})["settings"][""]["by_kind"]
    off = {kind: values["expected_calibration_error"] for kind, values in kinds.items()}
    assert off["rest of line"] == pytest.approx(1 - right.confidence, abs=1e-3)
    assert off["block"] == pytest.approx(wrong.confidence, abs=1e-3)


def test_a_report_has_what_an_editor_would_show() -> None:
    cases = [case("b, c"), case("d")]
    outcomes = filled("b, c", cases)
    rows = report.document(cases, {"": outcomes})["settings"][""]["all"]["offered"]
    shown_to_anyone = rows[0]
    assert shown_to_anyone["distraction"] == 0
    assert shown_to_anyone["shown"] == 1
    assert shown_to_anyone["right"]["mean"] == 0.5
    assert shown_to_anyone["saved"] == len("b, c") / 2 - 0.5
    assert rows[-1]["shown"] <= shown_to_anyone["shown"]


def test_the_same_case_is_filled_with_each_setting_before_the_next() -> None:
    ticks = count()
    samplings = {"a": SamplingParams(mode="autoregressive"), "b": SamplingParams(mode="verified")}
    loaded = model("b, c")
    with serving(loaded) as service:
        cases = [case("b"), case("c")]
        first = next(measure.fill(service, cases, samplings, lambda: next(ticks)))
    assert list(first) == ["a", "b"]
    assert first["a"].text == first["b"].text == "b, c"
    # The context is ready when the clock starts: what is timed is denoising alone.
    methods = [name for name, _ in loaded.runtime.calls]  # type: ignore[attr-defined]
    assert methods[0] == "extend"
    assert [outcome.seconds for outcome in first.values()] == [1, 1]


def sources(package: str, files: int) -> list[Source]:
    text = "\n".join(f"def f{i}(a):\n    return g(a, {i})\n" for i in range(20))
    return [Source("python", package, "MIT", f"{i}.py", text) for i in range(files)]


def test_a_case_comes_with_the_files_nearest_to_its_own() -> None:
    text = sources("p", 1)[0].text
    paths = ("far.py", "near/a.py", "near/b.py", "near/by/c.py")
    pool = [Source("python", "p", "MIT", path, f"# {path}\n{text}") for path in paths]
    for found in draw({"python": pool}, {"python": 12}, seed=1, others=2):
        assert len(found.others) == 2
        assert not any(found.path in other.partition("\n")[0] for other in found.others)
        if found.path != "far.py":
            assert all(other.startswith("# near/") for other in found.others)
    assert all(not found.others for found in draw({"python": pool}, {"python": 12}, seed=1))


def test_packages_take_turns_and_the_same_seed_draws_the_same_cases() -> None:
    pool = {"python": [*sources("large", 30), *sources("small", 2)]}
    cases = draw(pool, {"python": 20, "go": 5}, seed=1)
    assert cases == draw(pool, {"python": 20, "go": 5}, seed=1)
    assert len(cases) == 20
    assert 8 <= sum(c.package == "small" for c in cases) <= 12
    for found in cases:
        assert found.truth.strip()
