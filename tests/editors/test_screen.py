"""What is read off a grid."""

from editors.screen import GHOST, Cell, Frame, Look


def frame(cursor: tuple[int, int], *rows: tuple[str, int]) -> Frame:
    """Rows of text, each in one look: 1 is a ghost's."""
    cells = tuple(tuple(Cell(character, look) for character in text) for text, look in rows)
    return Frame(cells, {1: Look({}, frozenset({GHOST}))}, cursor)


def test_a_ghost_that_begins_with_a_line_break_does_so() -> None:
    shown = frame((1, 5), ("import x", 0), ("y = [", 0), ("    1,", 1), ("]", 1), ("z", 0))
    assert shown.ghost == "\n    1,\n]"


def test_a_ghost_that_stands_elsewhere_is_seen() -> None:
    assert frame((1, 5), ("import x", 1), ("y = [", 0)).ghost == "import x"


def test_without_a_ghost_there_is_none() -> None:
    assert frame((0, 5), ("y = [", 0), ("]", 0)).ghost == ""
