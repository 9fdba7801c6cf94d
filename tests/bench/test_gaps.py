"""The frozen files, the gaps drawn from them, and the scoring of answers."""

import hashlib
import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mercury_lsp.bench import gaps
from mercury_lsp.bench.gaps import KINDS, Case, cases, draw, score, source_text
from mercury_lsp.bench.sources import data, sources
from mercury_model.training import manifest

TEXT = "def f(x):\n    return x + 1\n\ndef g():\n    pass\n"
REST = Case("f.py", "rest of line", TEXT.index("x + 1"), TEXT.index("\n\ndef"))
BLOCK = Case("f.py", "block", TEXT.index("return"), TEXT.index("\n\ndef g") + len("\n\ndef g():"))


def filled(case: Case, answer: str) -> str:
    return TEXT[: case.start] + answer + TEXT[case.end :]


def test_every_frozen_file_names_a_licence_whose_text_is_there() -> None:
    files = sources("trace") + sources("gaps")
    assert {source.package.licence for source in files} <= {
        "Apache-2.0",
        "BSD-3-Clause",
        "ISC",
        "MIT",
    }
    for source in files:
        assert (data() / source.package.licence_text).read_text(encoding="utf-8").strip()
        assert source.package.author
        assert source.package.version


def test_no_file_is_both_typed_and_filled_in() -> None:
    assert not {s.name for s in sources("trace")} & {s.name for s in sources("gaps")}


def test_no_measured_package_is_trained_on() -> None:
    trained = {package.name.lower().replace("_", "-") for package in manifest.load()}
    measured = {source.package.name for role in ("trace", "gaps") for source in sources(role)}
    assert trained
    assert not measured & trained


def test_the_data_stays_small_and_holds_nothing_unlisted() -> None:
    raw = json.loads((data() / "manifest.json").read_text(encoding="utf-8"))
    listed = {entry["file"].split("/")[1] for entry in raw["files"]}
    present = {item.name for item in (data() / "sources").iterdir()}
    assert present == listed
    assert sum(len(source.text) for role in ("trace", "gaps") for source in sources(role)) < 300_000


def test_there_are_sixty_gaps_of_every_kind_in_many_files() -> None:
    drawn = cases()
    assert len(drawn) == 60
    assert Counter(case.kind for case in drawn) == KINDS
    assert len({case.file for case in drawn}) == len(sources("gaps"))


def test_the_committed_gaps_are_what_the_seed_draws() -> None:
    assert cases() == draw(sources("gaps"), gaps.SEED)


def test_gaps_are_the_text_of_their_lines_and_never_empty() -> None:
    for case in cases():
        text = source_text(case.file)
        gap = text[case.start : case.end]
        assert gap.strip()
        if case.kind in ("rest of line", "whole line", "block", "comment"):
            assert text[case.end : case.end + 1] in ("\n", "")
        if case.kind in ("whole line", "block"):
            assert not text[text.rfind("\n", 0, case.start) + 1 : case.start].strip()
        if case.kind == "arguments":
            assert text[case.start - 1] + text[case.end] == "()"
        if case.kind != "block":
            assert "\n" not in gap


@pytest.mark.parametrize(
    ("case", "answer", "exact"),
    [
        (REST, "x + 1", True),
        (REST, "x + 1   ", True),
        (REST, "x + 1\n    more = 2", True),
        (REST, "x + 2", False),
        (REST, "", False),
        (BLOCK, "return x + 1\n\ndef g():", True),
        (BLOCK, "return x + 1\n\ndef h():", False),
        (BLOCK, "return x + 1", False),
    ],
)
def test_an_answer_is_exact_when_the_lines_of_the_gap_are(
    case: Case, answer: str, exact: bool
) -> None:
    assert score(case, TEXT, filled(case, answer)).exact is exact


def test_similarity_counts_the_edits_of_the_first_lines_only() -> None:
    assert score(REST, TEXT, filled(REST, "x + 2")).similarity == pytest.approx(0.8)
    assert score(REST, TEXT, filled(REST, "y - 2")).similarity == pytest.approx(0.4)
    assert score(REST, TEXT, filled(REST, "x + 1\n" + "junk" * 50)).similarity == 1
    assert score(REST, TEXT, filled(REST, "")).similarity == 0
    assert score(BLOCK, TEXT, filled(BLOCK, "")).similarity == 0


@given(st.text(max_size=12), st.text(max_size=12))
def test_edit_distance_is_a_distance(one: str, other: str) -> None:
    distance = gaps._distance(one, other)
    assert distance == gaps._distance(other, one)
    assert (distance == 0) == (one == other)
    assert abs(len(one) - len(other)) <= distance <= max(len(one), len(other))


def test_the_files_are_those_of_the_manifest() -> None:
    for role in ("trace", "gaps"):
        for source in sources(role):
            assert hashlib.sha256(source.text.encode()).hexdigest() == source.sha256
