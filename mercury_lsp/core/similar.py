"""Pieces of other open documents that resemble what is being written. Bounded work, no clock."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import PurePosixPath
from urllib.parse import unquote

from mercury_lsp.core.types import Document, Snippet

DOCUMENTS = 8
"""How many other documents are looked at: imported ones, then the most recently used."""
DOCUMENT_CHARS = 32_768
"""How much of each is looked at, from its start, in characters."""
WINDOW_LINES = 30
"""The height of a piece, in lines; pieces overlap by half."""
SNIPPETS = 3
"""How many pieces are chosen at most, each from another document."""
QUERY_CHARS = 2_048
"""How much text above the cursor says what is similar, in characters. It moves by half of this at
a time, so that the choice, which the model reads first, stays the same while a person types."""
HEAD_CHARS = 8_192
"""Where imports are looked for, in characters from the start of a document."""
IMPORTED = 0.1
"""How much more similar (0 to 1) an imported document counts."""
RESEMBLANCE = 0.05
"""What less similar pieces are not worth showing (0 to 1)."""

_WORD = re.compile(r"[^\W\d]\w{2,}")
_IMPORT = re.compile(
    r"^[ \t]*(?:(?:from|import|use|mod|require(?:_once)?|include(?:_once)?|source|\.)\b"
    r"|#[ \t]*include|export\b.*\bfrom\b|(?:const|let|var)\b.*\brequire\b|\")(.*)",
    re.MULTILINE,
)
_MODULE_FILES = ("__init__", "index", "mod", "lib")


@dataclass(frozen=True, slots=True)
class _Piece:
    text: str
    words: frozenset[str]


def similar(
    document: Document, offset: int, others: tuple[Document, ...], limit_chars: int
) -> tuple[Snippet, ...]:
    """The pieces of `others` most similar to what stands above the cursor, best first.

    At most `limit_chars` in all. Similarity is that of the sets of words (Jaccard).
    """
    if limit_chars <= 0 or not others:
        return ()
    imported = _imported(document.text[:HEAD_CHARS])
    aligned = offset - offset % (QUERY_CHARS // 2)
    query = frozenset(_WORD.findall(document.text, max(0, aligned - QUERY_CHARS), aligned))
    query |= imported
    ranked = sorted(others, key=lambda other: _stem(other.uri) not in imported)
    best = []
    for other in ranked[:DOCUMENTS]:
        if other.uri == document.uri:
            continue
        bonus = IMPORTED if _stem(other.uri) in imported else 0.0
        scored = [(_jaccard(query, piece.words), piece.text) for piece in _pieces(other.text)]
        score, text = max(scored, default=(0.0, ""))
        if score >= RESEMBLANCE:
            best.append((score + bonus, Snippet(_path(other.uri), text)))
    best.sort(key=lambda pair: -pair[0])
    return tuple(_within(limit_chars, [snippet for _, snippet in best[:SNIPPETS]]))


def _within(limit_chars: int, snippets: list[Snippet]) -> Iterator[Snippet]:
    for snippet in snippets:
        if len(snippet.text) > limit_chars:
            whole_lines = snippet.text[: limit_chars + 1].rpartition("\n")[0]
            snippet = replace(snippet, text=whole_lines)
        if snippet.text:
            yield snippet
        limit_chars -= len(snippet.text)


@lru_cache(maxsize=4 * DOCUMENTS)
def _pieces(text: str) -> tuple[_Piece, ...]:
    lines = text[:DOCUMENT_CHARS].split("\n")
    half = WINDOW_LINES // 2
    starts = range(0, max(1, len(lines) - half), half)
    pieces = ("\n".join(lines[start : start + WINDOW_LINES]).strip("\n") for start in starts)
    return tuple(_Piece(piece, frozenset(_WORD.findall(piece))) for piece in pieces)


def _jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    common = len(a & b)
    return common / (len(a) + len(b) - common) if common else 0.0


def _imported(head: str) -> frozenset[str]:
    """The words of the import lines: one of them is the stem of a file that is imported."""
    return frozenset(word for line in _IMPORT.findall(head) for word in re.findall(r"\w+", line))


def _stem(uri: str) -> str:
    path = PurePosixPath(unquote(uri))
    return path.parent.name if path.stem in _MODULE_FILES else path.stem


def _path(uri: str) -> str:
    """The last parts of a document's path: enough to tell, too little to give away."""
    return "/".join(PurePosixPath(unquote(uri)).parts[-3:])
