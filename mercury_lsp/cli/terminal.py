"""Denoising shown in a terminal: masks turn into tokens in place.

Knows rich, and drafts as the model makes them. It draws, and never asks for a step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.live import Live
from rich.text import Text

from mercury_lsp.core.types import Completion
from mercury_model.decoding.output import PartialOutput

MASK = "░"
COMMITTED, DRAFT, OPEN, CODE, NUMBER = "bold bright_cyan", "cyan", "dim cyan", "", "dim"

FRAME_SECONDS = 0.07
"""The shortest time that a draft stays on the screen."""

_LINES_AROUND = 4


@dataclass(frozen=True, slots=True)
class Page:
    """A document and the gap in it: `start` and `end` are offsets of the text to replace."""

    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Tokens:
    """A tokenizer's `decode` and its mask id, to turn a draft into text."""

    decode: Callable[[Sequence[int]], str]
    mask_id: int


def paint(draft: PartialOutput, tokens: Tokens) -> Text:
    """The tokens of a draft: committed ones bright, draft tokens plain, masks dim."""
    kinds = [
        COMMITTED if committed else OPEN if token == tokens.mask_id else DRAFT
        for token, committed in zip(draft.ids, draft.committed, strict=True)
    ]
    painted = Text()
    for style, run in groupby(zip(draft.ids, kinds, strict=True), key=lambda pair: pair[1]):
        ids = [token for token, _ in run]
        painted.append(MASK * len(ids) if style == OPEN else tokens.decode(ids), style=style)
    return painted


def view(page: Page, ghost: Text, caption: str) -> Text:
    """A few numbered lines around the gap with the ghost text in it, and a caption."""
    first = page.text.count("\n", 0, page.start) + 1
    before = page.text[: page.start].split("\n")[-_LINES_AROUND - 1 :]
    after = page.text[page.end :].split("\n")[: _LINES_AROUND + 1]
    body = Text("\n".join(before), style=CODE)
    body.append_text(ghost)
    body.append("\n".join(after), style=CODE)
    number = first - len(before) + 1
    lines = body.split("\n", allow_blank=True)
    width = len(str(number + len(lines)))
    shown = Text(no_wrap=True, overflow="ellipsis")
    for offset, line in enumerate(lines):
        shown.append(f"{number + offset:>{width}} │ ", style=NUMBER)
        shown.append_text(line)
        shown.append("\n")
    shown.append(f"{'':>{width}} ╰ {caption}", style=NUMBER)
    return shown


def caption(draft: PartialOutput, milliseconds: float) -> str:
    """The progress of a draft."""
    if not draft.ids:
        return f"reading the context, chunk {draft.prefill}"
    committed = sum(draft.committed)
    done = f"{committed} tokens" if draft.finished else f"{committed} of {len(draft.ids)} tokens"
    return f"step {draft.steps}, {done}, {milliseconds:.0f} ms"


class Screen:
    """Shows every draft for a moment. `clock` counts only the time of the model."""

    def __init__(
        self,
        live: Live,
        page: Page,
        tokens: Tokens,
        now_ns: Callable[[], int],
        sleep: Callable[[float], None],
    ) -> None:
        self._live = live
        self._page = page
        self._tokens = tokens
        self._now_ns = now_ns
        self._sleep = sleep
        self._shown_ns = 0
        self._started_ns = now_ns()
        self._last = ""

    def clock(self) -> int:
        """Nanoseconds that the model has used so far."""
        return self._now_ns() - self._started_ns - self._shown_ns

    def draft(self, draft: PartialOutput) -> None:
        """Show a draft."""
        before_ns = self._now_ns()
        self._last = caption(draft, self.clock() / 1e6)
        self._live.update(view(self._page, paint(draft, self._tokens), self._last), refresh=True)
        self._sleep(FRAME_SECONDS)
        self._shown_ns += self._now_ns() - before_ns

    def done(self, completion: Completion | None) -> None:
        """Show what an editor would offer."""
        if completion is None:
            self._live.update(view(self._page, Text(), f"{self._last}; nothing good"), refresh=True)
            return
        page = Page(self._page.text, self._page.start, self._page.start + completion.replaces)
        sure = f"{self._last}; confidence {completion.confidence:.2f}"
        self._live.update(view(page, Text(completion.text, style=COMMITTED), sure), refresh=True)
