from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lsprotocol.types import Position

from mercury_lsp.lsp.text import Text

ENCODINGS = st.sampled_from(["utf-8", "utf-16", "utf-32"])
TEXTS = st.text(alphabet="ab\r\n é\U0001f600\x0c\u2028\u0301\ud83d\ude00\U0010ffff", max_size=14)


@given(TEXTS, TEXTS, st.data(), ENCODINGS)
def test_an_edit_gives_the_same_lines_as_reading_the_whole_text_again(
    source: str, new: str, data: st.DataObject, encoding: str
) -> None:
    cuts = st.integers(0, len(source))
    start, end = sorted((data.draw(cuts), data.draw(cuts)))
    edited = Text(source, encoding).splice(start, end, new)
    anew = Text(source[:start] + new + source[end:], encoding)
    assert edited.source == anew.source
    assert np.array_equal(edited.starts, anew.starts)


@given(TEXTS, ENCODINGS)
def test_positions_round_trip_in_every_encoding(source: str, encoding: str) -> None:
    text = Text(source, encoding)
    for offset in range(len(source) + 1):
        if source[offset - 1 : offset + 1] == "\r\n" and offset:
            continue  # between the halves of a line break there is no position
        there = text.position(offset)
        line_end = int(text.starts[there.line]) + len(text.line(there.line))
        assert text.offset(there) == min(offset, line_end)


@given(TEXTS, ENCODINGS)
def test_positions_grow_with_their_offsets(source: str, encoding: str) -> None:
    text = Text(source, encoding)
    places = [text.position(offset) for offset in range(len(source) + 1)]
    assert all(a < b for a, b in pairwise((p.line, p.character) for p in places))


@pytest.mark.parametrize(
    ("line", "character", "offset"),
    [(0, 99, 2), (1, 0, 3), (7, 0, 5), (1, 99, 5), (0, 0, 0)],
)
def test_a_position_outside_counts_as_the_end_of_its_line_or_of_the_document(
    line: int, character: int, offset: int
) -> None:
    assert Text("ab\ncd").offset(Position(line, character)) == offset


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_column_inside_a_character_counts_as_its_beginning(encoding: str) -> None:
    assert Text("a\U0001f600b", encoding).offset(Position(0, 2)) == 1


def test_only_what_lsp_calls_a_line_break_ends_a_line() -> None:
    text = Text("a\x0cb\u2028c\x85d\re\r\nf")
    assert [text.line(number) for number in range(len(text.starts))] == [
        "a\x0cb\u2028c\x85d",
        "e",
        "f",
    ]
