"""The context of a request, for any document and any cursor."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mercury_lsp.core.context import (
    SYNTAX_AFTER_CHARS,
    SYNTAX_BEFORE_CHARS,
    Limits,
    extract,
    worth_asking,
)
from mercury_lsp.core.types import Context, Document, GapKind, Request, Selected, Trigger

LIMITS = Limits(1_000, 400)
LANGUAGES = ("python", "javascript", "shellscript", "plaintext")


def request(marked: str, language: str = "python", **more: object) -> Request:
    """A request at the ‸ of a document."""
    before, after = marked.split("‸")
    document = Document("file:///project/a.py", language, before + after)
    return Request(document, len(before), **more)  # type: ignore[arg-type]


def context(marked: str, language: str = "python") -> Context:
    return extract(request(marked, language), LIMITS)


@pytest.mark.parametrize(
    ("marked", "gap", "language"),
    [
        ("x = ‸\n", GapKind.REST_OF_LINE, "python"),
        ("x = ‸ + y\n", GapKind.REST_OF_LINE, "python"),
        ("", GapKind.WHOLE_LINE, "python"),
        ("x = 1\n‸\ny = 2\n", GapKind.WHOLE_LINE, "python"),
        ("def f():\n    x = 1\n    ‸\n", GapKind.WHOLE_LINE, "python"),
        ("def f():\n    ‸\n", GapKind.BLOCK, "python"),
        ("def f():‸\n", GapKind.BLOCK, "python"),
        ("def f():\n‸\n\ndef g(): ...\n", GapKind.BLOCK, "python"),
        ("def f():\n    '''Say.'''\n    ‸\n", GapKind.BLOCK, "python"),
        ("def f():\n    # say\n    ‸\n", GapKind.BLOCK, "python"),
        ("def f():  # say\n    ‸\n", GapKind.BLOCK, "python"),
        ("def f():\n    ‸\n    return 1\n", GapKind.WHOLE_LINE, "python"),
        ("def f():\n    '''Say.'''\n\n‸\n", GapKind.WHOLE_LINE, "python"),
        ("x = {'a': ‸\n", GapKind.REST_OF_LINE, "python"),
        ("x = {'a':\n  ‸\n", GapKind.WHOLE_LINE, "python"),
        ("print(‸)\n", GapKind.ARGUMENTS, "python"),
        ("print(\n    ‸\n)\n", GapKind.ARGUMENTS, "python"),
        ("print(a, ‸\n", GapKind.ARGUMENTS, "python"),
        ("x = (‸\n", GapKind.REST_OF_LINE, "python"),
        ("x[‸]\n", GapKind.REST_OF_LINE, "python"),
        ("f(x)[0](‸)\n", GapKind.ARGUMENTS, "python"),
        ("x = '‸'\n", GapKind.STRING, "python"),
        ('x = f"a {‸}"\n', GapKind.STRING, "python"),
        ('"""\nWhat ‸\n"""\n', GapKind.STRING, "python"),
        ("x = 'it\\'s ‸\n", GapKind.STRING, "python"),
        ("x = 'a'‸\n", GapKind.REST_OF_LINE, "python"),
        ("# say ‸\nx = 1\n", GapKind.COMMENT, "python"),
        ("x = 1  # ‸\n", GapKind.COMMENT, "python"),
        ("# say\n‸x = 1\n", GapKind.REST_OF_LINE, "python"),
        ("// ‸\n", GapKind.COMMENT, "javascript"),
        ("/* a\n ‸ */\n", GapKind.COMMENT, "javascript"),
        ("const s = `a ‸`\n", GapKind.STRING, "javascript"),
        ("const r = /['\"]/; f(‸)\n", GapKind.ARGUMENTS, "javascript"),
        ("if (‸) {}\n", GapKind.REST_OF_LINE, "javascript"),
        ("if(‸) {}\n", GapKind.REST_OF_LINE, "javascript"),
        ("function f() {\n  ‸\n}\n", GapKind.BLOCK, "javascript"),
        ("fn f<'a>(x: &'a str) {\n    ‸\n}\n", GapKind.BLOCK, "rust"),
        ("vec!(‸)\n", GapKind.ARGUMENTS, "rust"),
        ("if true; then\n  ‸\nfi\n", GapKind.BLOCK, "shellscript"),
        ("echo $# ‸\n", GapKind.REST_OF_LINE, "shellscript"),
        ("echo '# ‸\n", GapKind.STRING, "shellscript"),
        ("cat <<EOF\ndon't\nEOF\n‸\n", GapKind.WHOLE_LINE, "shellscript"),
        ("don't ‸\n", GapKind.REST_OF_LINE, "plaintext"),
    ],
)
def test_the_kind_of_gap_is_known_in_incomplete_code(
    marked: str, gap: GapKind, language: str
) -> None:
    assert context(marked or "‸", language).gap is gap


@pytest.mark.parametrize(
    ("text", "indent"),
    [
        ("", "    "),
        ("if x:\n    y\n", "    "),
        ("if x:\n  y\n  if z:\n    w\n", "  "),
        ("if x:\n\ty\n", "\t"),
        ("a = [\n        1,\n        2,\n]\nif x:\n  y\n", "  "),
    ],
)
def test_the_indentation_is_inferred_from_the_lines_around(text: str, indent: str) -> None:
    assert context(text + "‸").indent == indent


def test_go_is_indented_with_tabs_by_default() -> None:
    assert context("‸", "go").indent == "\t"


@given(st.text(max_size=200), st.integers(-5, 205), st.sampled_from(LANGUAGES))
def test_prefix_and_suffix_are_the_document_split_at_the_cursor(
    text: str, offset: int, language: str
) -> None:
    seen = extract(Request(Document("file:///a", language, text), offset), LIMITS)
    at = min(max(offset, 0), len(text))
    if text[max(0, at - 1) : at + 1] == "\r\n":
        at -= 1
    unix = (text[:at].replace("\r\n", "\n"), text[at:].replace("\r\n", "\n"))
    assert (seen.prefix, seen.suffix) == (unix[0].removesuffix("\r"), unix[1].removesuffix("\r"))


@given(st.lists(st.sampled_from(["a", "\n", "    b\n", "\n\n", "é😀"])).map("".join), st.data())
def test_what_the_model_sees_is_bounded_and_of_the_document(text: str, data: st.DataObject) -> None:
    text *= data.draw(st.integers(1, 40))
    offset = data.draw(st.integers(0, len(text)))
    limits = Limits(data.draw(st.integers(1, 80)), data.draw(st.integers(1, 80)))
    seen = extract(Request(Document("file:///a", "python", text), offset), limits)
    assert len(seen.prefix) <= limits.prefix_chars
    assert len(seen.suffix) <= limits.suffix_chars
    assert text[:offset].endswith(seen.prefix)
    assert text[offset:].startswith(seen.suffix)


def test_typing_moves_the_start_of_the_prefix_rarely() -> None:
    text = "".join(f"def f{n}(x):\n    return x + {n}\n\n\n" for n in range(200))
    starts = []
    for offset in range(3_000, 4_000):
        seen = extract(Request(Document("file:///a", "python", text[:offset]), offset), LIMITS)
        starts.append(offset - len(seen.prefix))
    assert starts == sorted(starts)
    assert len(set(starts)) <= 1_000 // (LIMITS.prefix_chars // 4) + 1


def test_typing_does_not_move_the_end_of_the_suffix() -> None:
    after = "".join(f"\ndef f{n}(x):\n    return x + {n}\n" for n in range(200))
    suffixes = {
        extract(Request(Document("file:///a", "python", typed + after), len(typed)), LIMITS).suffix
        for typed in ("", "x", "x = ", "x = f(y)")
    }
    assert len(suffixes) == 1


def test_windows_begin_and_end_with_whole_statements() -> None:
    text = "".join(f"def f{n}(x):\n    return x + {n}\n\n\n" for n in range(200))
    seen = extract(Request(Document("file:///a", "python", text), 4_000), LIMITS)
    assert seen.prefix.startswith("def ")
    assert seen.suffix.endswith("\n")


def test_a_window_inside_a_class_has_the_headers_that_enclose_it() -> None:
    method = "    def f(self):\n        return [1, 2, 3]\n\n"
    text = "class Long:\n" + method * 400 + "    def g(self):\n        "
    seen = extract(Request(Document("file:///a", "python", text), len(text)), LIMITS)
    assert seen.before.startswith("class Long:\n    def f(self):\n")
    assert len(seen.before) <= SYNTAX_BEFORE_CHARS + 100
    braces = "class Long {\n" + "  f() {\n    return [1]\n  }\n" * 800 + "}\n"
    seen = extract(Request(Document("file:///a", "javascript", braces), 10_017), LIMITS)
    assert seen.before.startswith("class Long {\n  f() {\n")
    assert seen.after.endswith("  }\n}\n")
    assert len(seen.after) <= SYNTAX_AFTER_CHARS + 100


def test_a_window_does_not_begin_inside_of_a_long_docstring() -> None:
    prose = '    """\n' + "    It's (a) [story.\n" * 400 + '    """\n'
    text = f"def f():\n{prose}    x = 1\n\n\ndef g(y):\n    return "
    assert context(text + "‸").gap is GapKind.REST_OF_LINE


@pytest.mark.parametrize("language", ["python", "javascript", "plaintext"])
@pytest.mark.parametrize(
    "text",
    [
        "x = 1\n" * 1_700_000,
        "x" * 1_000_000,
        "(" * 1_000_000,
        "{" * 1_000_000,
        "a{" * 500_000,
        " " * 1_000_000,
        "\n" * 1_000_000,
        '"' * 1_000_000,
        "\r\n" * 500_000,
        "\0\x01\ufffd\ud800" * 250_000,
        "😀e\u0301" * 300_000,
    ],
    ids=lambda text: f"{text[:4]!r} x {len(text)}",
)
def test_huge_and_odd_documents_cost_no_more_than_their_windows(text: str, language: str) -> None:
    document = Document("file:///a", language, text)
    began = time.process_time()
    for offset in (0, len(text) // 2, len(text)):
        seen = extract(Request(document, offset), LIMITS)
        assert len(seen.prefix) <= LIMITS.prefix_chars
        assert len(seen.before) <= 2 * SYNTAX_BEFORE_CHARS
    assert time.process_time() - began < 5  # a watchdog: a scan of the whole would take longer


def test_a_cursor_inside_a_line_ending_is_moved_before_it() -> None:
    seen = extract(Request(Document("file:///a", "python", "x = 1\r\ny"), 6), LIMITS)
    assert (seen.prefix, seen.suffix, seen.newline) == ("x = 1", "\ny", "\r\n")


def test_lone_windows_endings_do_not_make_a_windows_file() -> None:
    assert context("a\nb\nc\r\n‸").newline == "\n"


def test_the_prefix_ends_with_the_selected_entry() -> None:
    chosen = Selected(4, 6, "names")
    seen = extract(request("x = na‸\n", selected=chosen), LIMITS)
    assert (seen.prefix, seen.pending, seen.suffix) == ("x = names", "mes", "\n")
    assert seen.before.endswith("x = names")


@pytest.mark.parametrize(
    "chosen",
    [Selected(4, 6, "unrelated"), Selected(4, 7, "names"), Selected(5, 5, "x"), Selected(9, 9, "")],
)
def test_a_menu_entry_that_replaces_text_prevents_completion(
    chosen: Selected,
) -> None:
    asked = request("x = na‸)\n", selected=chosen)
    assert not worth_asking(asked, extract(asked, LIMITS))


@pytest.mark.parametrize(
    ("marked", "trigger", "expected"),
    [
        ("x = ‸\n", Trigger.AUTOMATIC, True),
        ("x = f‸)\n", Trigger.AUTOMATIC, True),
        ("x = f‸oo\n", Trigger.AUTOMATIC, False),
        ("x = f‸_oo\n", Trigger.AUTOMATIC, False),
        ("x = f‸é\n", Trigger.AUTOMATIC, False),
        ("x = f‸oo\n", Trigger.INVOKED, True),
        ("x = 'e‸\u0301'\n", Trigger.INVOKED, False),
        ("x = '\U0001f468‸\u200d\U0001f469'\n", Trigger.INVOKED, False),
        ("\0\0‸\0", Trigger.INVOKED, False),
    ],
)
def test_the_model_is_not_called_where_no_completion_can_be_useful(
    marked: str, trigger: Trigger, expected: bool
) -> None:
    asked = request(marked, trigger=trigger)
    assert worth_asking(asked, extract(asked, LIMITS)) is expected
