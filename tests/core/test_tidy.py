"""Drafts to completions. The rows are in tests/golden: ‸ is the cursor, … an unfinished draft."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mercury_lsp.core import syntax
from mercury_lsp.core.context import Limits, extract
from mercury_lsp.core.tidy import is_final, trim, useful_prefix
from mercury_lsp.core.types import Completion, Context, Document, Draft, Request, Selected

LIMITS = Limits(4_000, 2_000)
GOLDEN = Path(__file__).parent.parent / "golden"
CASE = re.compile(
    r"^=== (?P<title>[^\n]*) \[(?P<language>\w+)\]\n(?P<document>.*?)\n--- draft\n(?P<draft>.*?)\n"
    r"--- then\n(?P<then>.*?)\n*(?=\n===|\Z)",
    re.MULTILINE | re.DOTALL,
)
CASES = [
    pytest.param(case, id=f"{path.stem}: {case['title']}")
    for path in sorted(GOLDEN.glob("*.txt"))
    for case in CASE.finditer(path.read_text(encoding="utf-8"))
]


def context_of(document: str, language: str = "python", cursor: str = "‸") -> Context:
    """The context of a document in which `cursor` marks the cursor."""
    before, after = document.split(cursor)
    return extract(Request(Document("file:///a", language, before + after), len(before)), LIMITS)


def accepted(document: str, completion: Completion | None) -> str:
    """The document once the completion is accepted."""
    if completion is None:
        return "(nothing)"
    before, after = document.split("‸")
    return before + completion.text + after[completion.replaces :]


@pytest.mark.parametrize("case", CASES)
def test_golden(case: re.Match[str]) -> None:
    document, draft = case["document"], case["draft"]
    finished = not draft.endswith("…")
    completion = trim(
        Draft(draft.removesuffix("…"), 0.9, finished), context_of(document, case["language"])
    )
    assert accepted(document, completion) == case["then"]


def test_every_golden_case_is_read() -> None:
    headings = sum(path.read_text("utf-8").count("\n=== ") + 1 for path in GOLDEN.glob("*.txt"))
    assert len(CASES) == headings


def test_the_pending_text_of_a_selected_entry_is_inserted_too() -> None:
    document = Document("file:///a", "python", "print(na)\n")
    request = Request(document, 8, selected=Selected(6, 8, "names"))
    completion = trim(Draft("[0]", 0.9, finished=True), extract(request, LIMITS))
    assert completion == Completion("mes[0]", 0, 0.9)


def test_windows_line_endings_are_kept() -> None:
    context = context_of("if x:\r\n    ‸\r\n")
    completion = trim(Draft("a = 1\n    b = 2\ny = 3", 0.9, finished=True), context)
    assert completion is not None
    assert completion.text == "a = 1\r\n    b = 2"


@pytest.mark.parametrize(
    ("document", "draft", "expected"),
    [
        ("x = ‸", "1", False),
        ("x = ‸", "1\n", True),
        ("x = f(‸", "\n    a,\n", False),
        ("x = f(‸", "\n    a,\n)\n", True),
        ("def f():\n    ‸", "x = 1\n", False),
        ("def f():\n    ‸", "x = 1\n\n\nd", True),
        ("# ‸", "a\n", True),
        ("f(‸)", "a\n", True),
    ],
)
def test_a_draft_is_final_once_its_completion_has_ended(
    document: str, draft: str, expected: bool
) -> None:
    assert is_final(Draft(draft, 0.9, finished=False), context_of(document)) is expected


WORDS = """( ) [ ] { } ' " \"\"\" ` # // /* */ : ; , . = == + \\ -> => < > @ $ ${ r" é 😀 \u0301 \0
    if else def return class for in lambda while do done fi f x foo_1 12"""
BLANKS = (" ", " ", "    ", "\t", "\n", "\n", "\n    ", "\n\n", "\r\n", "\ud800")
CODE = st.lists(st.sampled_from((*re.split(r"[ \n]+", WORDS), *BLANKS)), max_size=30).map("".join)
LANGUAGES = st.sampled_from(["python", "javascript", "typescriptreact", "shellscript", "rust", "?"])


@st.composite
def contexts(draw: st.DrawFn) -> Context:
    before, after = draw(CODE), draw(CODE)
    document = Document("file:///a", draw(LANGUAGES), before + after)
    return extract(Request(document, len(before)), LIMITS)


DRAFTS = st.builds(Draft, CODE, st.just(0.5), st.booleans())


def begin(draft: Draft, context: Context) -> Completion | None:
    """The longest valid prefix."""
    return useful_prefix(draft, context, float)


WAYS = st.sampled_from([trim, begin])
Way = Callable[[Draft, Context], Completion | None]


@given(DRAFTS, contexts())
def test_trimming_twice_changes_nothing(draft: Draft, context: Context) -> None:
    once = trim(draft, context)
    if once is not None and once.finished:
        assert trim(Draft(once.text, once.confidence, finished=True), context) == once


@given(DRAFTS, contexts(), WAYS)
def test_text_that_already_follows_is_not_inserted(
    draft: Draft, context: Context, way: Way
) -> None:
    completion = way(draft, context)
    if completion is not None:
        assert completion.text.strip()
        text = completion.text.replace("\r\n", "\n")
        assert not context.after.startswith(text)


@given(DRAFTS, contexts(), WAYS)
def test_replaced_text_is_on_this_line_and_inserted_again(
    draft: Draft, context: Context, way: Way
) -> None:
    completion = way(draft, context)
    if completion is not None:
        replaced = context.after[: completion.replaces]
        assert "\n" not in replaced
        letters = iter(completion.text)
        assert all(letter in letters for letter in replaced)


@given(DRAFTS, contexts(), WAYS)
def test_line_endings_and_trailing_blanks_are_clean(
    draft: Draft, context: Context, way: Way
) -> None:
    completion = way(draft, context)
    if completion is not None:
        assert "\n" not in completion.text.replace(context.newline, "")
        lines = completion.text.split(context.newline)
        assert not any(line[-1:] in (" ", "\t") for line in lines[:-1])


@given(DRAFTS, contexts(), WAYS)
def test_valid_code_stays_valid(draft: Draft, context: Context, way: Way) -> None:
    assume(syntax.errors(context.language, context.before + context.after) == 0)
    completion = way(draft, context)
    if completion is not None and context.gap not in ("string", "comment"):
        text = completion.text.replace("\r\n", "\n")
        rest = context.after[completion.replaces :]
        assert not syntax.errors(context.language, context.before + text + rest)


@given(st.text(max_size=60), st.text(max_size=60), CODE)
def test_any_draft_is_accepted_as_input(before: str, after: str, draft: str) -> None:
    for language in ("python", "javascript", "text"):
        document = Document("file:///a", language, before + after)
        context = extract(Request(document, len(before)), LIMITS)
        for way in (trim, begin):
            way(Draft(draft, 0.5, finished=True), context)
            way(Draft(after, 0.5, finished=False), context)


@given(DRAFTS, contexts())
def test_a_useful_prefix_begins_the_draft_and_ends_with_a_word(
    draft: Draft, context: Context
) -> None:
    completion = begin(draft, context)
    if completion is not None:
        text = completion.text.replace("\r\n", "\n")
        assert draft.text.startswith(text)
        assert not completion.finished
        assert re.match(r"\w\b|[^\w\s]", draft.text[len(text) - 1 :])


@pytest.mark.parametrize(
    ("document", "draft", "begun"),
    [
        ("x = ‸", "load(path, mode)", "load"),
        ("x = load(‸)", "path, mode)", "path, mode"),
        ("x = load(‸)", "path, mode=1, e", "path, mode=1"),
        ("x = ‸ + b", "a + b", "a"),
        ("x = ‸)", "(a", "(nothing)"),
        ("x = 'a‸'", " word then mo", " word then"),
        ("‸\nx = 1", "return", "(nothing)"),
    ],
)
def test_a_useful_prefix_is_valid_on_its_own(document: str, draft: str, begun: str) -> None:
    found = begin(Draft(draft, 0.5, finished=False), context_of(document))
    assert (found.text if found else "(nothing)") == begun
