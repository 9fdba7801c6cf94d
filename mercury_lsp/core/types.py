"""The nouns of one keystroke: `Request → Context → Draft → Completion`. Data only, no behaviour.

Every offset is a count of Unicode code points from the start of the document's text; LSP
positions stay in `mercury_lsp.lsp.convert`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Protocol


class Trigger(Enum):
    """Who asked: the editor while the user types, or the user by a key or command."""

    AUTOMATIC = "automatic"
    INVOKED = "invoked"


class GapKind(StrEnum):
    """What a person would write at the cursor; it decides where a completion ends."""

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
    """The entry selected in the editor's completion menu: a completion must begin with its text.

    `start` and `end` are offsets of the text that the entry would replace.
    """

    start: int
    end: int
    text: str


@dataclass(frozen=True, slots=True)
class Request:
    """A snapshot of what the editor asked.

    `others` are the other open documents, most recently used first.
    """

    document: Document
    offset: int
    trigger: Trigger = Trigger.AUTOMATIC
    selected: Selected | None = None
    others: tuple[Document, ...] = ()


@dataclass(frozen=True, slots=True)
class Snippet:
    """A similar piece of another file."""

    path: str
    text: str


@dataclass(frozen=True, slots=True)
class Context:
    """What the model sees, and what `tidy` needs to judge its answer.

    `prefix` ends and `suffix` begins at the cursor, both bounded. A completion is inserted between
    them; with `Selected`, `prefix` already ends with the selected text and `pending` is what of it
    the document does not hold yet.

    Newlines are "\\n" here; `newline` is the document's own. `indent` is one level of its
    indentation. `before` and `after` are the wider text around the cursor, for the syntax alone;
    empty, `prefix` and `suffix` are all there is. `elsewhere` is more text in which the same code
    may stand, the nearest last: of other documents, then of this one.
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
    """The text of the gap as far as it is settled, left to right.

    `confidence` is the chance that all of it is right, in [0, 1], and each (length, chance) of
    `chances` the same for its first `length` characters, token by token. `finished` means that the
    sampler has nothing to add, and `confidence` then, that the text is right and ends there; until
    then `text` is a prefix of what will come.
    """

    text: str
    confidence: float
    finished: bool
    steps: int = 0
    chances: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """Text to insert at the cursor, in place of the `replaces` code points that follow it.

    What is replaced never reaches past the end of the line. `confidence` is the chance, in [0, 1],
    that the text is what its writer would write. `finished`: more time would not have made it
    longer.
    """

    text: str
    replaces: int = 0
    confidence: float = 1.0
    finished: bool = True


class Infill(Protocol):
    """The model, as the core sees it: a generator of ever better drafts.

    Each `next` costs at most one step or one chunk of context; not asking again is cancelling.
    `rank` asks for the alternative that begins with the rank-th likeliest first token.
    """

    def __call__(self, context: Context, *, rank: int = 0) -> Iterator[Draft]:
        """Drafts for the gap in `context`, each at least as long as the one before."""
