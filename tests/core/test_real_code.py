"""Runs on the project's own files: right drafts stay unchanged, and valid code stays valid.

Gaps are cut where they arise in life: rests of statements, whole statements, expressions in the
middle of a line, bodies of blocks. The draft is what was cut, alone or running on after that.
"""

import ast
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pytest

from mercury_lsp.core.context import Limits, extract
from mercury_lsp.core.tidy import trim
from mercury_lsp.core.types import Document, Draft, Request

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "mercury_lsp").rglob("*.py")) + sorted((ROOT / "model").rglob("*.py"))
GAPS = 240
LONGEST = 600
UNALTERED = 0.97
BLOCKS = (ast.FunctionDef, ast.If, ast.For, ast.With)
SIMPLE = (ast.Assign, ast.AnnAssign, ast.Return, ast.Raise, ast.Assert, ast.Import)


@dataclass(frozen=True)
class Cut:
    """A gap in a file: `text[start:end]`."""

    kind: str
    text: str
    start: int
    end: int

    @property
    def middle(self) -> str:
        return self.text[self.start : self.end]


def cuts(rng: random.Random) -> Iterator[Cut]:
    """An endless stream of gaps of random files and kinds."""
    while True:
        text = rng.choice(FILES).read_text("utf-8")
        kind = rng.choice(("rest", "statement", "expression", "block"))
        found = list(spans(ast.parse(text), kind))
        if not found or not text.isascii():
            continue
        first, last = rng.choice(found)
        starts = [0, *accumulate(len(line) + 1 for line in text.split("\n"))]
        start = starts[first.lineno - 1] + first.col_offset
        end = starts[(last.end_lineno or 1) - 1] + (last.end_col_offset or 0)
        if kind == "rest":
            start = rng.randrange(start, end)
        if text[start:end].strip() and end - start <= LONGEST:
            yield Cut(kind, text, start, end)


def spans(tree: ast.Module, kind: str) -> Iterator[tuple[ast.expr | ast.stmt, ast.expr | ast.stmt]]:
    """The first and the last node of a gap of this kind."""
    for node in ast.walk(tree):
        if kind == "block" and isinstance(node, BLOCKS) and node.body[0].lineno > node.lineno:
            yield node.body[0], node.body[-1]
        elif (
            (kind == "expression" and isinstance(node, ast.expr) and on_one_line(node))
            or (kind == "statement" and isinstance(node, SIMPLE))
            or (kind == "rest" and isinstance(node, SIMPLE) and on_one_line(node))
        ):
            yield node, node


def on_one_line(node: ast.expr | ast.stmt) -> bool:
    return node.lineno == node.end_lineno


def run_on(cut: Cut) -> str:
    """The draft of a model that does not know where to stop."""
    return "\n".join((cut.middle + cut.text[cut.end :]).split("\n")[: cut.middle.count("\n") + 3])


@pytest.mark.parametrize("draft_of", [lambda cut: cut.middle, run_on], ids=["exact", "running on"])
def test_right_drafts_survive_and_valid_code_stays_valid(draft_of: Callable[[Cut], str]) -> None:
    rng = random.Random(7)
    gaps, kept, altered = Counter[str](), Counter[str](), []
    for cut, _ in zip(cuts(rng), range(GAPS), strict=False):
        document = Document("file:///a.py", "python", cut.text[: cut.start] + cut.text[cut.end :])
        context = extract(Request(document, cut.start), Limits(1_000, 400))
        completion = trim(Draft(draft_of(cut), 0.9, finished=True), context)
        gaps[cut.kind] += 1
        inserted = None if completion is None else completion.text
        if inserted == cut.middle.rstrip() or inserted == cut.middle:
            kept[cut.kind] += 1
        else:
            altered.append((cut.kind, cut.text[cut.start - 60 : cut.start], cut.middle, inserted))
        if completion is not None and parses(document.text):
            after = document.text[cut.start + completion.replaces :]
            assert parses(document.text[: cut.start] + completion.text + after), cut
    shares = {kind: kept[kind] / gaps[kind] for kind in sorted(gaps)}
    assert sum(kept.values()) >= UNALTERED * GAPS, (shares, altered)


def parses(text: str) -> bool:
    try:
        ast.parse(text)
    except SyntaxError:
        return False
    return True
