"""A session of a trace, typed into an editor. Knows no figures, and time only as a `Pace`.

As VS Code does, the editor asks after every key and cancels what it asked before. Whoever types
accepts every offer that is right to its end, or whose first line or first few lines are: what is
saved that way is an upper bound.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mercury_lsp.bench.client import Pending
from mercury_lsp.bench.editor import Editor, Ghost
from mercury_lsp.bench.trace import Key, Session, keystrokes


class Pace(Protocol):
    """When the next key is pressed."""

    def restart(self) -> None:
        """A session starts now."""

    async def wait(self, due_ms: float, pending: Pending) -> None:
        """Return when it is `due_ms` after the session's start; `pending` is the last request."""


class Typed:
    """A person's pace, `speed` times as fast, however late the answers are."""

    def __init__(self, speed: float = 1.0) -> None:
        self._speed = speed
        self._started_ns = time.perf_counter_ns()

    def restart(self) -> None:
        """A session starts now."""
        self._started_ns = time.perf_counter_ns()

    async def wait(self, due_ms: float, pending: Pending) -> None:
        """Sleep until then; at any speed long enough for answers that are there to be read."""
        due_ns = self._started_ns + round(due_ms * 1e6 / self._speed)
        await asyncio.sleep(max(0.0, (due_ns - time.perf_counter_ns()) / 1e9))


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as the client saw it. `first`: no other was made in this document before."""

    id: int
    round_trip_ms: float
    first: bool


@dataclass(frozen=True, slots=True)
class Played:
    """What came of a session; `saved` counts keys that did not have to be pressed."""

    keys: int
    accepted: int
    saved: int
    typed: int
    asked: tuple[Asked, ...]


async def play(session: Session, editor: Editor, uri: str, pace: Pace) -> Played:
    """Type one session to its end."""
    player = _Player(session, editor)
    editor.open(uri, session.before, session.after)
    pace.restart()
    player.ask()
    due_ms, position = 0.0, 0
    while position < len(session.keys):
        due_ms += session.keys[position].wait_ms
        await pace.wait(due_ms, player.pending)
        position = player.press(position)
        player.ask()
    await player.last_answer()
    editor.close()
    return player.played()


class _Player:
    def __init__(self, session: Session, editor: Editor) -> None:
        self.session = session
        self.editor = editor
        self.sent: list[Pending] = []
        self.right = 0
        self.keys = self.accepted = self.saved = self.typed = 0

    @property
    def pending(self) -> Pending:
        """The last request."""
        return self.sent[-1]

    def ask(self) -> None:
        """Ask anew, and give up what was asked before."""
        if self.sent:
            self.editor.client.cancel(self.pending)
        self.sent.append(self.editor.request())

    def press(self, position: int) -> int:
        """Press the key at `position`, or accept what is offered; the next key's position."""
        self.keys += 1
        taken = self._taken()
        if taken:
            text = self.session.target[self.right : self.right + taken]
            self.editor.edit(0, text)
            self.accepted += 1
            self.saved += keystrokes(text) - 1
            self.right += taken
            return _after(self.session.keys, position, self.right)
        key = self.session.keys[position]
        self.editor.edit(key.erase, key.text)
        self.typed += len(key.text)
        self.right = key.right
        return position + 1

    async def last_answer(self) -> None:
        """Wait for what is still on its way; a server that owes an answer is the server's fault."""
        await asyncio.gather(*(pending.answer for pending in self.sent))

    def played(self) -> Played:
        asked = tuple(
            Asked(
                pending.id,
                (pending.answer.result().received_ns - pending.sent_ns) / 1e6,
                number == 0,
            )
            for number, pending in enumerate(self.sent)
        )
        return Played(self.keys, self.accepted, self.saved, self.typed, asked)

    def _taken(self) -> int:
        """How many characters of the target the current offer is right about, to a line's end."""
        if self.right < 0 or not self.pending.answer.done():
            return 0
        ghosts = self.editor.ghosts(self.pending.answer.result())
        taken = max((self._right_part(ghost) for ghost in ghosts), default=0)
        saves = keystrokes(self.session.target[self.right : self.right + taken]) > 1
        return taken if saves else 0

    def _right_part(self, ghost: Ghost) -> int:
        before, after = self.session.before, self.session.after
        document = ghost.accepted(self.editor.text)
        if not document.endswith(after):
            return 0
        offered = document[len(before) : len(document) - len(after)]
        return right_part(offered, self.session.target, self.right)


def right_part(offered: str, target: str, start: int) -> int:
    """How much of `target[start:]` `offered` has right, to its own end or else in whole lines.

    It begins as `target`.
    """
    if not offered.startswith(target[:start]):
        return 0
    if target.startswith(offered):
        return len(offered) - start
    ends = [at for at, character in enumerate(target) if character == "\n"] + [len(target)]
    taken = 0
    for end in ends:
        complete = end == len(offered) or offered[end : end + 1] == "\n"
        if end > start and complete and offered[start:end] == target[start:end]:
            taken = end - start
    return taken


def _after(keys: Sequence[Key], position: int, right: int) -> int:
    """The first key that goes on from where `right` characters of the target stand."""
    for number in range(position, len(keys)):
        if keys[number].right == right:
            return number + 1
    return len(keys)
