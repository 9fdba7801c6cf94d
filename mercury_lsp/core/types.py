"""The values of one keystroke: `Request → Context → Draft → Completion`. Data only.

Every offset is a count of Unicode code points from the start of the document's text; LSP
positions stay in `mercury_lsp.lsp.convert`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Protocol


class Trigger(Enum):
    """What started the request: typing, or a key or command of the user."""

    AUTOMATIC = "automatic"
    INVOKED = "invoked"


class GapKind(StrEnum):
    """The kind of code expected at the cursor. It decides where a completion ends."""

    REST_OF_LINE = "rest of line"
    WHOLE_LINE = "whole line"
    BLOCK = "block"
    ARGUMENTS = "arguments"
    STRING = "string"
    COMMENT = "comment"


@dataclass(frozen=True, slots=True)
class Document:
    """One version of an open document. `language` is the LSP language id."""

    uri: str
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Selected:
    """The selected entry of the editor's completion menu. A completion must begin with its text.

    The entry replaces the text from offset `start` to `end`.
    """

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Request:
    """A completion request with a snapshot of the documents it depends on.

    `others` are the other open documents, most recently used first.
    """

    document: Document
    offset: int
    trigger: Trigger = Trigger.AUTOMATIC
    selected: Selected | None = None
    others: tuple[Document, ...] = ()


@dataclass(frozen=True, slots=True)
class Snippet:
    """An excerpt of another file that resembles the code at the cursor."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Context:
    """The input of the model, and what `tidy` needs to check its output.

    `prefix` ends at the cursor and `suffix` begins there; both are bounded. A completion is
    inserted between them. With a `Selected` entry, `prefix` already ends with the entry's text, and
    `pending` is the part of that text that the document does not contain yet.

    All newlines are "\\n"; `newline` is the document's own line ending. `indent` is one level of
    indentation. `before` and `after` are wider windows for syntax checks; if empty, `prefix` and
    `suffix` are used. `elsewhere` holds more text to look up repeated code in, nearest last: other
    documents first, then the rest of this one.
    """

    language: str
    prefix: str
    suffix: str
    gap: GapKind
    indent: str
    snippets: tuple[Snippet, ...] = ()
    newline: str = "\n"
    pending: str = ""
    before: str = ""
    after: str = ""
    elsewhere: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """The committed text of a completion, left to right.

    `confidence` is the probability in [0, 1] that all of `text` is right. `chances` has one
    (length, probability) pair per token: the probability that the first `length` characters are
    right. Until `finished`, `text` is a prefix of the final text. Once `finished`, `confidence`
    also covers that the text ends there.
    """

    text: str
    confidence: float
    finished: bool
    steps: int = 0
    chances: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """Text to insert at the cursor. It replaces the `replaces` code points after the cursor.

    The replaced text never extends past the end of the line. `confidence` is the probability in
    [0, 1] that the user would have written this text. `finished` is False if more time could have
    made the text longer.
    """

    text: str
    replaces: int = 0
    confidence: float = 1.0
    finished: bool = True


class Infill(Protocol):
    """The model as the core sees it: a generator of successively better drafts.

    Each `next` runs at most one denoising step or prefills one chunk of context. To cancel, stop
    iterating. `rank` selects an alternative: it begins with the rank-th likeliest first token.
    """

    def __call__(self, context: Context, *, rank: int = 0) -> Iterator[Draft]:
        """Yield drafts for `context`, each at least as long as the one before."""
