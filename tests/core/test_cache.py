"""Which completions are found while they are being typed."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mercury_lsp.core.cache import MAX_TYPED_CHARS, CompletionCache
from mercury_lsp.core.types import Completion, Context, GapKind, Snippet

WORDS = st.text("ab(\n ", max_size=20)
FEW = st.text("ab", max_size=3)  # so that contexts meet
CONTEXT = Context(
    language="python", prefix="x = ", suffix="\n", gap=GapKind.REST_OF_LINE, indent="    "
)


def filled(context: Context = CONTEXT, text: str = "foo(bar)", **more: object) -> CompletionCache:
    cache = CompletionCache(100)
    cache.put(context, Completion(text, **more))  # type: ignore[arg-type]
    return cache


def typed(text: str, context: Context = CONTEXT) -> Context:
    return replace(context, prefix=context.prefix + text)


def test_a_stored_completion_is_found() -> None:
    assert filled().find(CONTEXT) == Completion("foo(bar)")


def test_typing_the_completion_serves_the_rest_and_deleting_serves_it_back() -> None:
    cache = filled()
    for served in ("", "f", "fo", "foo", "foo(", "fo", "f", ""):
        found = cache.find(typed(served))
        assert found == Completion("foo(bar)".removeprefix(served)), served


def test_typing_something_else_or_all_of_it_serves_nothing() -> None:
    cache = filled()
    assert cache.find(typed("fx")) is None
    assert cache.find(typed("foo(bar)")) is None
    assert cache.find(typed("foo(bar) ")) is None


@given(WORDS, WORDS, WORDS.filter(bool), st.data())
def test_the_first_characters_typed_serve_the_rest(
    prefix: str, suffix: str, text: str, data: st.DataObject
) -> None:
    context = replace(CONTEXT, prefix=prefix, suffix=suffix)
    served = data.draw(st.integers(0, len(text) - 1))
    found = filled(context, text).find(typed(text[:served], context))
    assert found == Completion(text[served:])


@given(FEW, FEW, FEW, FEW, FEW.filter(bool))
def test_a_completion_is_served_only_where_it_continues_its_context(
    prefix: str, suffix: str, other_prefix: str, other_suffix: str, text: str
) -> None:
    made = replace(CONTEXT, prefix=prefix, suffix=suffix)
    asked = replace(CONTEXT, prefix=other_prefix, suffix=other_suffix)
    found = filled(made, text).find(asked)
    if found is not None:
        assert other_suffix == suffix
        assert other_prefix + found.text == prefix + text


def test_any_other_context_is_served_nothing() -> None:
    cache = filled()
    for other in (
        replace(CONTEXT, suffix=")\n"),
        replace(CONTEXT, language="go"),
        replace(CONTEXT, snippets=(Snippet("a.py", "x"),)),
        replace(CONTEXT, prefix="y = "),
        replace(CONTEXT, prefix="\nx = "),
    ):
        assert cache.find(other) is None


def test_a_change_far_from_the_cursor_is_another_context() -> None:
    lines = "".join(f"line {n}\n" for n in range(20))
    context = replace(CONTEXT, prefix="a = 1\n" + lines, suffix=lines + "b = 1\n")
    cache = filled(context)
    assert cache.find(context) is not None
    assert cache.find(replace(context, prefix="a = 2\n" + lines)) is None
    assert cache.find(replace(context, suffix=lines + "b = 2\n")) is None


def test_a_window_that_moved_on_is_the_same_context() -> None:
    text = "".join(f"line {n}\n" for n in range(200))
    cache = filled(replace(CONTEXT, prefix=text[-1_000:]))
    moved = replace(CONTEXT, prefix=text[-800:] + "foo")
    assert cache.find(moved) == Completion("(bar)")
    assert cache.find(replace(moved, prefix="X" + moved.prefix)) is None


def test_an_unfinished_completion_is_served_only_once_it_is_being_typed() -> None:
    cache = filled(finished=False)
    assert cache.find(CONTEXT) is None
    assert cache.find(typed("f")) == Completion("oo(bar)", finished=False)


def test_a_completion_that_replaces_is_served_only_where_it_was_made() -> None:
    cache = filled(replaces=1)
    assert cache.find(CONTEXT) == Completion("foo(bar)", 1)
    assert cache.find(typed("f")) is None


def test_windows_line_endings_are_typed_through() -> None:
    context = replace(CONTEXT, newline="\r\n")
    cache = filled(context, "a\r\n    b\r\n    c")
    assert cache.find(typed("a\n  ", context)) == Completion("  b\r\n    c")


def test_a_selected_entry_counts_as_typed_and_is_part_of_what_is_served() -> None:
    selected = replace(typed("foo"), pending="oo")
    assert filled().find(selected) == Completion("oo(bar)")
    assert filled(selected, "oo(bar)").find(typed("foo")) == Completion("(bar)")


def test_very_long_completions_are_served_up_to_a_bound() -> None:
    cache = filled(text="x" * 1_000)
    assert cache.find(typed("x" * MAX_TYPED_CHARS)) is not None
    assert cache.find(typed("x" * (MAX_TYPED_CHARS + 1))) is None


def test_the_oldest_entry_goes_first_and_no_entries_means_none() -> None:
    cache = CompletionCache(2)
    contexts = [replace(CONTEXT, prefix=f"{n} = ") for n in range(3)]
    for context in contexts:
        cache.put(context, Completion("x"))
    assert [cache.find(context) is not None for context in contexts] == [False, True, True]
    none = CompletionCache(0)
    none.put(CONTEXT, Completion("x"))
    assert none.find(CONTEXT) is None


@given(st.lists(st.tuples(FEW, FEW, FEW.filter(bool)), max_size=8), FEW, FEW)
def test_many_entries_never_serve_for_one_another(
    entries: list[tuple[str, str, str]], prefix: str, suffix: str
) -> None:
    cache = CompletionCache(100)
    for before, after, text in entries:
        cache.put(replace(CONTEXT, prefix=before, suffix=after), Completion(text))
    found = cache.find(replace(CONTEXT, prefix=prefix, suffix=suffix))
    served = None if found is None else prefix + found.text
    assert served in {None, *(before + text for before, after, text in entries if after == suffix)}
