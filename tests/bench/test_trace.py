"""Typed traces: realistic typing, reproducible from a seed."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mercury_lsp.bench.sources import Package, Source, sources
from mercury_lsp.bench.trace import FASTEST_KEYS, SEED, SLOWEST_KEYS, Session, keystrokes, type_out

PACKAGE = Package("p", "1", "MIT", "someone", "licences/p.txt", "p.whl", "0" * 64)


def typed(session: Session) -> str:
    text = ""
    for key in session.keys:
        text = text[: len(text) - key.erase] + key.text
    return text


def test_the_committed_trace_has_not_changed() -> None:
    # A change of this number makes every figure reported so far incomparable.
    assert type_out(sources("trace")).digest == "17509378cea4dd07"


def test_the_same_seed_gives_the_same_trace_and_another_seed_another() -> None:
    files = sources("trace")
    assert type_out(files, 5) == type_out(files, 5)
    assert type_out(files, 5) != type_out(files, 6)


@settings(max_examples=15)
@given(st.integers(0, 2**32))
def test_typing_every_key_writes_the_target(seed: int) -> None:
    for session in type_out(sources("trace")[:3], seed).sessions:
        assert typed(session) == session.target


@settings(max_examples=15)
@given(st.integers(0, 2**32))
def test_a_key_knows_whether_the_text_before_the_cursor_is_right(seed: int) -> None:
    for session in type_out(sources("trace")[3:5], seed).sessions:
        text = ""
        for key in session.keys:
            text = text[: len(text) - key.erase] + key.text
            assert key.right == (len(text) if session.target.startswith(text) else -1)


def test_every_line_of_a_target_is_right_to_its_end_at_some_key() -> None:
    for session in type_out(sources("trace")).sessions:
        ends = {at for at, c in enumerate(session.target) if c == "\n"} | {len(session.target)}
        assert ends <= {key.right for key in session.keys}


def test_a_session_is_the_file_or_its_beginning() -> None:
    texts = {source.name: source.text for source in sources("trace")}
    ended = 0
    for session in type_out(sources("trace")).sessions:
        whole = session.before + session.target + session.after
        assert texts[session.source].startswith(whole)
        ended += not session.after
    assert 0 < ended < len(texts)


def test_keys_come_five_to_twelve_a_second_with_pauses_and_corrections() -> None:
    keys = [key for session in type_out(sources("trace")).sessions for key in session.keys]
    assert all(key.wait_ms >= 1000 // FASTEST_KEYS for key in keys)
    assert sum(key.wait_ms <= 1000 / SLOWEST_KEYS + 1 for key in keys) > len(keys) / 2
    assert any(key.wait_ms > 1_000 for key in keys)
    wrong = [key for key in keys if key.right < 0]
    assert wrong
    assert any(key.erase for key in wrong)


def test_the_editor_indents_after_a_colon_and_keeps_the_level_otherwise() -> None:
    text = "\n" * 6 + "def f(x):\n    if x:\n        return 1\n    return 2\n" + "y = 3\n" * 40
    session = next(
        session
        for seed in range(200)
        for session in type_out((Source("f", "trace", PACKAGE, "", text),), seed).sessions
        if session.target.startswith("def")
    )
    entered = [key.text for key in session.keys if key.text.startswith("\n")]
    assert entered[:4] == ["\n    ", "\n        ", "\n        ", "\n    "]


@pytest.mark.parametrize("seconds", [0.001, 1.0, 30.0, 1e6])
def test_a_cut_trace_takes_no_longer_than_asked_but_has_a_key_of_each_session(
    seconds: float,
) -> None:
    trace = type_out(sources("trace"))
    cut = trace.cut(seconds)
    firsts = sum(session.keys[0].wait_ms for session in trace.sessions) / 1000
    assert cut.seconds <= max(seconds, firsts)
    assert len(cut.sessions) == len(trace.sessions)
    for whole, part in zip(trace.sessions, cut.sessions, strict=True):
        assert part.keys
        assert part.keys == whole.keys[: len(part.keys)]


def test_a_cut_longer_than_the_trace_is_the_trace() -> None:
    trace = type_out(sources("trace"))
    assert trace.cut(trace.seconds + 1) == trace
    assert trace.cut(trace.seconds / 2).digest != trace.digest


@pytest.mark.parametrize(
    ("text", "keys"), [("", 0), ("abc", 3), ("a\n    b", 3), ("\n", 1), ("\n\n  x", 3)]
)
def test_automatic_indentation_counts_as_no_key(text: str, keys: int) -> None:
    assert keystrokes(text) == keys


def test_a_trace_depends_on_its_seed_only() -> None:
    random.seed(1)
    one = type_out(sources("trace"), SEED)
    random.seed(2)
    assert type_out(sources("trace"), SEED) == one
