"""What a Neovim shows: a grid of cells made from its `redraw` events, a frame at every flush.

Knows no process and no time. The events are those of `:help ui-linegrid` with `ext_hlstate`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

GHOST = "MercuryGhost"


class Cell(NamedTuple):
    """One place of the grid; the right half of a wide character has no text."""

    text: str
    look: int


@dataclass(frozen=True, slots=True)
class Look:
    """A highlight: its colours as Neovim sends them, and the groups that it is made of."""

    attributes: Mapping[str, Any]
    groups: frozenset[str]


@dataclass(frozen=True, slots=True)
class Frame:
    """What a person saw at one moment. `looks` 0 has the default colours."""

    cells: tuple[tuple[Cell, ...], ...]
    looks: Mapping[int, Look]
    cursor: tuple[int, int]

    @property
    def rows(self) -> list[str]:
        """The text of each row without what is blank behind it."""
        return ["".join(cell.text for cell in row).rstrip() for row in self.cells]

    @property
    def text(self) -> str:
        """All rows in one, so that a message is found that runs over the end of a row."""
        return "".join("".join(cell.text for cell in row) for row in self.cells)

    @property
    def ghost(self) -> str:
        """The text in the colour of ghosts, from the row of the cursor on, or from one above it."""
        rows = ["".join(cell.text for cell in row if self._is_ghost(cell)) for row in self.cells]
        drawn = [number for number, row in enumerate(rows) if row]
        return "\n".join(rows[min(drawn[0], self.cursor[0]) : drawn[-1] + 1]) if drawn else ""

    @property
    def line(self) -> str:
        """The row of the cursor, ghost text and all."""
        return self.rows[self.cursor[0]]

    def _is_ghost(self, cell: Cell) -> bool:
        look = self.looks.get(cell.look)
        return look is not None and GHOST in look.groups


class Screen:
    """The grid as it is between two flushes."""

    def __init__(self) -> None:
        self._cells: list[list[Cell]] = []
        self._looks: dict[int, Look] = {}
        self._cursor = (0, 0)
        self._on: dict[str, Callable[..., None]] = {
            "grid_resize": self._resize,
            "grid_clear": self._clear,
            "grid_line": self._write,
            "grid_scroll": self._scroll,
            "grid_cursor_goto": self._move,
            "hl_attr_define": self._define,
            "default_colors_set": self._colour,
        }

    def apply(self, event: str, batch: Sequence[Sequence[Any]]) -> None:
        """One entry of a `redraw` notification; events that change no cell are passed over."""
        if event in self._on:
            for arguments in batch:
                self._on[event](*arguments)

    def frame(self) -> Frame:
        """The grid as it is now."""
        return Frame(tuple(map(tuple, self._cells)), dict(self._looks), self._cursor)

    def _resize(self, _grid: int, width: int, height: int) -> None:
        self._cells = [[Cell(" ", 0)] * width for _ in range(height)]

    def _clear(self, _grid: int) -> None:
        self._cells = [[Cell(" ", 0)] * len(row) for row in self._cells]

    def _write(
        self, _grid: int, row: int, column: int, cells: Sequence[Sequence[Any]], *_: Any
    ) -> None:
        look = 0
        for text, *more in cells:
            look = more[0] if more else look
            times = more[1] if more[1:] else 1
            self._cells[row][column : column + times] = [Cell(text, look)] * times
            column += times

    def _scroll(
        self, _grid: int, top: int, bottom: int, left: int, right: int, rows: int, _columns: int
    ) -> None:
        before = [list(row) for row in self._cells]
        for row in range(top, bottom):
            if top <= row + rows < bottom:
                self._cells[row][left:right] = before[row + rows][left:right]

    def _move(self, _grid: int, row: int, column: int) -> None:
        self._cursor = (row, column)

    def _define(self, look: int, attributes: Mapping[str, Any], _terminal: Any, parts: Any) -> None:
        groups = frozenset(part["hi_name"] for part in parts if "hi_name" in part)
        self._looks[look] = Look(attributes, groups)

    def _colour(self, foreground: int, background: int, *_: Any) -> None:
        attributes = {"foreground": foreground, "background": background}
        self._looks[0] = Look(attributes, frozenset())
