import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_fakes import code

from mercury_model.training.gaps import SpanKind, block, draw_span, line_end

SOURCE = code(5)


@given(st.integers(0, 10_000))
def test_gaps_lie_inside_their_span_in_order_and_hold_something(seed: int) -> None:
    span = draw_span(SOURCE, 6, random.Random(seed))
    assert span is not None
    assert list(span.cuts) == sorted(span.cuts, key=lambda c: (c.start, c.end))
    for cursor in span.cuts:
        assert 0 <= cursor.start < cursor.end <= span.end <= len(SOURCE)
        assert len(SOURCE[cursor.start : cursor.end].strip()) >= 2


@given(st.integers(0, 10_000))
def test_the_rest_of_a_line_ends_with_the_line(seed: int) -> None:
    span = draw_span(SOURCE, 6, random.Random(seed))
    assert span is not None
    for cursor in span.cuts:
        if cursor.kind in (SpanKind.REST_OF_LINE, SpanKind.WHOLE_LINE):
            assert cursor.end == line_end(SOURCE, cursor.start)


def test_the_same_seed_draws_the_same_span() -> None:
    assert draw_span(SOURCE, 6, random.Random(4)) == draw_span(SOURCE, 6, random.Random(4))


@given(st.text(max_size=80), st.integers(0, 1000))
def test_any_text_is_taken(text: str, seed: int) -> None:
    draw_span(text + "x", 6, random.Random(seed))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("if a:\n    b()\n    c()\nd()\n", "\n    b()\n    c()"),
        ("if (a) {\n  b();\n\n  c();\n}\n", "\n  b();\n\n  c();"),
        ("a()\nb()\n", ""),
        ("if a:\n" + "    b()\n" * 10 + "c()\n", ""),
        ("if a:\n    b()", "\n    b()"),
    ],
)
def test_a_block_is_what_is_deeper_than_its_header(text: str, expected: str) -> None:
    start, end = block(text, 0)
    assert text[start:end] == expected


def test_arguments_end_before_their_bracket() -> None:
    text = "result = call(first, second[0], third)\nother()\n" * 3
    ends = set()
    for seed in range(300):
        span = draw_span(text, 1, random.Random(seed))
        assert span is not None
        for cursor in span.cuts:
            if cursor.kind is SpanKind.ARGUMENTS and text[cursor.start - 1] == "(":
                ends.add(text[cursor.start : cursor.end])
    assert ends == {"first, second[0], third"}
