"""Sixty gaps in frozen code: how they are drawn and how an answer is scored. Knows no server.

`draw` created `data/gaps.json` from a seed before anything was tuned. The benchmark reads the file.
"""

import ast
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache

from mercury_lsp.bench.sources import Source, data, sources

SEED = 20_261
KINDS = {
    "rest of line": 24,
    "whole line": 14,
    "arguments": 10,
    "block": 8,
    "string": 2,
    "comment": 2,
}
"""The number of gaps of each kind."""

_MIN_CHARS, _MAX_CHARS = 3, 120
"""Bounds of a gap within one line, in characters. A block may be three times as long."""


@dataclass(frozen=True, slots=True)
class Case:
    """A gap to fill: `text[start:end]` of the source file named `file`."""

    file: str
    kind: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class GapScore:
    """The score of an answer.

    `exact` means that the lines the gap spans are restored. `similarity` is 1 - (edit distance ÷
    length of the longer text), over as many lines of the answer as were taken out.
    """

    exact: bool
    similarity: float


def cases() -> tuple[Case, ...]:
    """The committed gaps."""
    raw = json.loads((data() / "gaps.json").read_text(encoding="utf-8"))
    return tuple(Case(**case) for case in raw["cases"])


@cache
def source_text(name: str) -> str:
    """The whole text of a source file."""
    return next(source.text for source in sources("gaps") if source.name == name)


def draw(files: Sequence[Source], seed: int = SEED) -> tuple[Case, ...]:
    """Draw the gaps of `KINDS`, spread evenly over the files, without overlaps."""
    rng = random.Random(seed)
    drawn: list[Case] = []
    pools = {kind: _pools(files, kind, rng) for kind in KINDS}
    used = dict.fromkeys((source.name for source in files), 0)
    for kind, wanted in sorted(KINDS.items(), key=lambda item: item[1]):
        for _ in range(wanted):
            free = {
                name: [case for case in pool if not any(_overlap(case, other) for other in drawn)]
                for name, pool in pools[kind].items()
            }
            name = min((name for name in free if free[name]), key=lambda name: used[name])
            drawn.append(free[name][0])
            used[name] += 1
    return tuple(sorted(drawn, key=lambda case: (case.file, case.start)))


def score(case: Case, text: str, filled: str) -> GapScore:
    """Compare the document with the gap filled in to the original document.

    Only the lines that the gap spans count. Additional lines and trailing blanks are ignored.
    """
    after = text[case.end :]
    lines = text[case.start : case.end].count("\n") + 1
    exact = _lines(filled[case.start :], lines) == _lines(text[case.start :], lines)
    intact = len(filled) >= case.start + len(after) and filled.endswith(after)
    expected = _lines(text[case.start : case.end], lines)
    got = _lines(filled[case.start : len(filled) - len(after) if intact else None], lines)
    longest = max(len(expected), len(got), 1)
    return GapScore(exact, 1.0 if exact else 1 - _distance(expected, got) / longest)


def to_json(drawn: Sequence[Case], seed: int) -> str:
    """The content of `data/gaps.json`."""
    return json.dumps({"seed": seed, "cases": [asdict(case) for case in drawn]}, indent=1) + "\n"


def _pools(files: Sequence[Source], kind: str, rng: random.Random) -> dict[str, list[Case]]:
    pools: dict[str, list[Case]] = {}
    for source in files:
        parsed = _ParsedFile(source.text)
        spans = sorted(set(_SPAN_FINDERS[kind](parsed, rng)))
        rng.shuffle(spans)
        max_chars = _MAX_CHARS * 3 if kind == "block" else _MAX_CHARS
        pools[source.name] = [
            Case(file=source.name, kind=kind, start=start, end=end)
            for start, end in spans
            if _MIN_CHARS <= end - start <= max_chars and source.text[start:end].strip()
        ]
    return pools


def _overlap(one: Case, other: Case) -> bool:
    return one.file == other.file and one.start < other.end and other.start < one.end


def _lines(text: str, count: int) -> str:
    return "\n".join(line.rstrip() for line in text.split("\n")[:count])


def _distance(one: str, other: str) -> int:
    """Levenshtein's edit distance."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]


class _ParsedFile:
    """A parsed file and its line offsets. Lines with non-ASCII text are skipped."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.lines = text.split("\n")
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line) + 1)
        self.tree = ast.parse(text)
        self.docstrings = set(_docstrings(self.tree))

    def offset(self, line: int, column: int) -> int:
        return self.starts[line - 1] + column

    def line_end(self, line: int) -> int:
        return self.starts[line - 1] + len(self.lines[line - 1].rstrip())

    def statements(self) -> Iterator[ast.stmt]:
        """Statements that fit on one line, without docstrings and imports."""
        for node in ast.walk(self.tree):
            if (
                isinstance(node, ast.stmt)
                and node.lineno == node.end_lineno
                and id(node) not in self.docstrings
                and not isinstance(node, ast.Import | ast.ImportFrom)
                and self.lines[node.lineno - 1].isascii()
            ):
                yield node


def _docstrings(tree: ast.Module) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            yield id(node)
            yield id(node.value)


def _rests_of_lines(parsed: _ParsedFile, rng: random.Random) -> Iterator[tuple[int, int]]:
    for node in parsed.statements():
        start, end = parsed.offset(node.lineno, node.col_offset), parsed.line_end(node.lineno)
        if end - start > _MIN_CHARS:
            yield start + 1 + int(rng.random() * (end - start - _MIN_CHARS)), end


def _whole_lines(parsed: _ParsedFile, rng: random.Random) -> Iterator[tuple[int, int]]:
    for node in parsed.statements():
        if node.col_offset:
            yield parsed.offset(node.lineno, node.col_offset), parsed.line_end(node.lineno)


def _arguments(parsed: _ParsedFile, rng: random.Random) -> Iterator[tuple[int, int]]:
    for node in ast.walk(parsed.tree):
        if not isinstance(node, ast.Call) or not (node.args or node.keywords):
            continue
        line, column = node.func.end_lineno, node.func.end_col_offset
        if line is None or column is None or node.end_col_offset is None:
            continue
        if line == node.end_lineno and parsed.lines[line - 1].isascii():
            start = parsed.offset(line, column)
            end = parsed.offset(line, node.end_col_offset)
            if parsed.text[start] == "(" and parsed.text[end - 1] == ")":
                yield start + 1, end - 1


def _blocks(parsed: _ParsedFile, rng: random.Random) -> Iterator[tuple[int, int]]:
    """Bodies of two to five lines, without the first line's indentation."""
    for node in ast.walk(parsed.tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list) or not body or isinstance(node, ast.Module | ast.ClassDef):
            continue
        first, last = body[0], body[-1].end_lineno
        if id(first) in parsed.docstrings or not 1 <= last - first.lineno <= 4:
            continue
        if all(line.isascii() for line in parsed.lines[first.lineno - 1 : last]):
            yield parsed.offset(first.lineno, first.col_offset), parsed.line_end(last)


def _strings(parsed: _ParsedFile, rng: random.Random) -> Iterator[tuple[int, int]]:
    """Spans from inside a string of several words to its closing quote."""
    for node in ast.walk(parsed.tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        if id(node) in parsed.docstrings or node.lineno != node.end_lineno:
            continue
        if node.end_col_offset is None or not parsed.lines[node.lineno - 1].isascii():
            continue
        start = parsed.offset(node.lineno, node.col_offset)
        end = parsed.offset(node.lineno, node.end_col_offset)
        if parsed.text[start] in "\"'" and end - start > 16 and " " in node.value:
            yield start + 4 + int(rng.random() * (end - start - 12)), end - 1


def _comments(parsed: _ParsedFile, rng: random.Random) -> Iterator[tuple[int, int]]:
    """The last words of a comment on a line of its own."""
    for number, line in enumerate(parsed.lines, 1):
        words = line.strip().split(" ")
        if line.lstrip().startswith("# ") and line.isascii() and len(words) > 4:
            count = 3 + int(rng.random() * (len(words) - 4))
            end = parsed.line_end(number)
            yield end - len(" ".join(words[count:])), end


_SPAN_FINDERS: dict[str, Callable[[_ParsedFile, random.Random], Iterator[tuple[int, int]]]] = {
    "rest of line": _rests_of_lines,
    "whole line": _whole_lines,
    "arguments": _arguments,
    "block": _blocks,
    "string": _strings,
    "comment": _comments,
}
