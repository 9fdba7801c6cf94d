"""Finds excerpts of other open documents that resemble the code at the cursor. Bounded work."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import PurePosixPath
from urllib.parse import unquote

from mercury_lsp.core.types import Document, Snippet

DOCUMENTS = 8
"""How many other documents are considered: imported ones, then the most recently used."""
DOCUMENT_CHARS = 32_768
"""How much of each document is considered, from its start."""
WINDOW_LINES = 30
"""The length of an excerpt; excerpts overlap by half."""
MAX_SNIPPETS = 3
"""How many excerpts are chosen at most, one per document."""
QUERY_CHARS = 2_048
"""How much text above the cursor is the query. The query moves in steps of half this size. So the
excerpts, which begin the model's context, stay the same while the user types."""
HEAD_CHARS = 8_192
"""How much of a document is searched for imports, from its start."""
IMPORT_BONUS = 0.1
"""The similarity (0 to 1) added for an imported document."""
MIN_SIMILARITY = 0.05
"""The least similarity (0 to 1) of a chosen excerpt."""

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
    """The excerpts of `others` most similar to the text above the cursor, best first.

    At most `limit_chars` characters in total. Similarity is the Jaccard index of the word sets.
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
        bonus = IMPORT_BONUS if _stem(other.uri) in imported else 0.0
        scored = [(_jaccard(query, piece.words), piece.text) for piece in _pieces(other.text)]
        score, text = max(scored, default=(0.0, ""))
        if score >= MIN_SIMILARITY:
            best.append((score + bonus, Snippet(_path(other.uri), text)))
    best.sort(key=lambda pair: -pair[0])
    return tuple(_within(limit_chars, [snippet for _, snippet in best[:MAX_SNIPPETS]]))


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
    """The words of the import lines, which include the stems of imported files."""
    return frozenset(word for line in _IMPORT.findall(head) for word in re.findall(r"\w+", line))


def _stem(uri: str) -> str:
    path = PurePosixPath(unquote(uri))
    return path.parent.name if path.stem in _MODULE_FILES else path.stem


def _path(uri: str) -> str:
    """The last three parts of a document's path, so that no home directory is exposed."""
    return "/".join(PurePosixPath(unquote(uri)).parts[-3:])
