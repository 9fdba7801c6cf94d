"""Strings, comments and brackets of incomplete code."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mercury_lsp.core.brackets import Scan, balance, close_blocks, scan_after, scan_prefix

CODE = st.text("()[]{}'\"`#/*\\\n ax=", max_size=60)
LANGUAGES = st.sampled_from(["python", "javascript", "shellscript", "rust", "php", "?"])


def stack(scan: Scan) -> str:
    return "".join(bracket.character for bracket in scan.stack)


@pytest.mark.parametrize(
    ("language", "text", "open_brackets", "in_quote"),
    [
        ("python", "f(a[1], {", "({", False),
        ("python", "f(')', \"(\", # (", "(", True),
        ("python", '"""(\n\'[', "", True),
        ("python", "'(\n[", "[", False),
        ("python", "'a\\'(", "", True),
        ("python", "r'\\' + (", "", True),
        ("python", "f(}", "(", False),
        ("javascript", "f({ a: (1 }", "(", False),
        ("javascript", "x = /[(]/.test(", "(", False),
        ("javascript", "a / b / (", "(", False),
        ("javascript", "`a ${b(", "", True),
        ("rust", "fn f<'a>(x: &'a str", "(", False),
        ("rust", "let c = '('; let s = r#\"(\"#; (", "(", False),
        ("cpp", "auto n = 1'000'000; f(", "(", False),
        ("cpp", "'(' \"(\" /* ( */ // (", "", True),
        ("go", "s := `(\n(", "", True),
        ("java", '"""\n(""" + (', "(", False),
        ("php", "#[A]\n# (\n$x = '(", "", True),
        ("shellscript", "echo ${#x} $# \\' {", "{", False),
        ("shellscript", "cat <<'E'\n(it's)\nE\n[", "[", False),
        ("lua", "f('it', \"(\"", "(", False),
    ],
)
def test_a_scan_knows_the_open_brackets_and_quotes(
    language: str, text: str, open_brackets: str, in_quote: bool
) -> None:
    scan = scan_prefix(language, text)
    assert stack(scan) == open_brackets
    assert (scan.quote >= 0) is in_quote


@given(st.sampled_from(["python", "java", "go", "?"]), CODE, CODE)
def test_scanning_in_two_parts_equals_scanning_at_once(language: str, a: str, b: str) -> None:
    # but for marks that the cut divides, and languages with strings only known when whole
    if a[-1:] in ("", " ", "\n", "x") and b[:1] in ("", " ", "\n", "x"):
        first, whole = scan_prefix(language, a + " "), scan_prefix(language, a + " " + b)
        rest = scan_after(first, b)
        assert stack(rest) == stack(whole)
        assert rest.quote == whole.quote


@given(LANGUAGES, CODE)
def test_line_ends_outside_strings_have_the_depth_of_their_brackets(
    language: str, text: str
) -> None:
    for offset, depth in scan_prefix(language, text).line_ends:
        assert text[offset] == "\n"
        assert depth == len(scan_prefix(language, text[:offset]).stack)


@given(LANGUAGES, CODE, CODE)
def test_inserting_nothing_is_acceptable(language: str, before: str, after: str) -> None:
    scan = scan_prefix(language, before)
    without = balance(scan, "", after)
    assert without.inserted == 0
    assert without.is_no_worse_than(without)


@pytest.mark.parametrize(
    ("before", "text", "after", "acceptable"),
    [
        ("f(", "a", ")", True),
        ("f(", "a)", ")", False),
        ("f(", "a)", "", True),
        ("f(", "(a", ")", False),
        ("f(", "a).g(b", ")", True),
        ("f(", "a]", ")", False),
        ("'", "a", "'", True),
        ("'", "a'", "'", False),
        ("'", "a' + 'b", "'", True),
        ("x = ", "'a", "\n", False),
        ("x = ", "'a", "'\n", True),
        ("x = ", '"""a', "\nb\n", False),
        ("# ", "it's (", "\n", True),
        ("Ok((", "))", ")\n}", False),
    ],
)
def test_an_insertion_must_leave_nothing_unmatched(
    before: str, text: str, after: str, acceptable: bool
) -> None:
    scan = scan_prefix("python", before)
    assert balance(scan, text, after).is_no_worse_than(balance(scan, "", after)) is acceptable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("if (a) {\n    b", "if (a) {\n    b\n  }"),
        ("if (a) {\n    while (b) {\n      c", "if (a) {\n    while (b) {\n      c\n    }\n  }"),
        ("if (a) {", ""),
        ("f(\n    a", ""),
        ("a", "a"),
    ],
)
def test_blocks_of_whole_lines_are_closed_where_they_were_opened(text: str, expected: str) -> None:
    assert close_blocks(scan_prefix("javascript", "function f() {\n  "), text) == expected
