"""Types one session of a trace into an editor. A `KeyTiming` is the clock.

Like VS Code, the editor sends a request after every key and cancels the one before. The simulated
user accepts an offer that is entirely right, or as many of its first lines as are right. The saved
keys are therefore an upper bound.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mercury_lsp.bench.client import PendingRequest
from mercury_lsp.bench.editor import Editor, Ghost
from mercury_lsp.bench.trace import Key, Session, keystrokes


class KeyTiming(Protocol):
    """Decides when the next key is pressed."""

    def restart(self) -> None:
        """Start the clock of a session."""

    async def wait(self, due_ms: float, pending: PendingRequest) -> None:
        """Return `due_ms` after the session's start. `pending` is the last request."""


class HumanTiming:
    """Real time, `speed` times as fast as recorded. Late answers do not delay the keys."""

    def __init__(self, speed: float = 1.0) -> None:
        self._speed = speed
        self._started_ns = time.perf_counter_ns()

    def restart(self) -> None:
        """Start the clock of a session."""
        self._started_ns = time.perf_counter_ns()

    async def wait(self, due_ms: float, pending: PendingRequest) -> None:
        """Sleep until the key is due. Yields at least once, so that answers can be received."""
        due_ns = self._started_ns + round(due_ms * 1e6 / self._speed)
        await asyncio.sleep(max(0.0, (due_ns - time.perf_counter_ns()) / 1e9))


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """A request measured by the client. `first` marks the first one in its document."""

    id: int
    round_trip_ms: float
    first: bool


@dataclass(frozen=True, slots=True)
class SessionResult:
    """The counts of a session. `saved` counts the keys that accepting made unnecessary."""

    keys: int
    accepted: int
    saved: int
    typed: int
    asked: tuple[ClientRequest, ...]


async def play(session: Session, editor: Editor, uri: str, timing: KeyTiming) -> SessionResult:
    """Type one session to its end."""
    player = _Player(session, editor)
    editor.open(uri, session.before, session.after)
    timing.restart()
    player.ask()
    due_ms, position = 0.0, 0
    while position < len(session.keys):
        due_ms += session.keys[position].wait_ms
        await timing.wait(due_ms, player.pending)
        position = player.press(position)
        player.ask()
    await player.last_answer()
    editor.close()
    return player.result()


class _Player:
    def __init__(self, session: Session, editor: Editor) -> None:
        self.session = session
        self.editor = editor
        self.sent: list[PendingRequest] = []
        self.right = 0
        self.keys = self.accepted = self.saved = self.typed = 0

    @property
    def pending(self) -> PendingRequest:
        """The last request."""
        return self.sent[-1]

    def ask(self) -> None:
        """Cancel the last request and send a new one."""
        if self.sent:
            self.editor.client.cancel(self.pending)
        self.sent.append(self.editor.request())

    def press(self, position: int) -> int:
        """Press the key at `position` or accept the offer. Returns the position of the next key."""
        self.keys += 1
        accepted_length = self._acceptable_length()
        if accepted_length:
            text = self.session.target[self.right : self.right + accepted_length]
            self.editor.edit(0, text)
            self.accepted += 1
            self.saved += keystrokes(text) - 1
            self.right += accepted_length
            return _next_position(self.session.keys, position, self.right)
        key = self.session.keys[position]
        self.editor.edit(key.erase, key.text)
        self.typed += len(key.text)
        self.right = key.right
        return position + 1

    async def last_answer(self) -> None:
        """Wait for all outstanding answers. A server must answer every request."""
        await asyncio.gather(*(pending.answer for pending in self.sent))

    def result(self) -> SessionResult:
        asked = tuple(
            ClientRequest(
                pending.id,
                (pending.answer.result().received_ns - pending.sent_ns) / 1e6,
                number == 0,
            )
            for number, pending in enumerate(self.sent)
        )
        return SessionResult(
            keys=self.keys,
            accepted=self.accepted,
            saved=self.saved,
            typed=self.typed,
            asked=asked,
        )

    def _acceptable_length(self) -> int:
        """How many characters of the current offer to accept; 0 to press the key instead."""
        if self.right < 0 or not self.pending.answer.done():
            return 0
        ghosts = self.editor.ghosts(self.pending.answer.result())
        accepted_length = max((self._right_length(ghost) for ghost in ghosts), default=0)
        saves = keystrokes(self.session.target[self.right : self.right + accepted_length]) > 1
        return accepted_length if saves else 0

    def _right_length(self, ghost: Ghost) -> int:
        before, after = self.session.before, self.session.after
        document = ghost.accepted(self.editor.text)
        if not document.endswith(after):
            return 0
        offered = document[len(before) : len(document) - len(after)]
        return right_length(offered, self.session.target, self.right)


def right_length(offered: str, target: str, start: int) -> int:
    """How many characters of `target[start:]` can be accepted from `offered`.

    `offered` is the text up to the end of the offer and must begin with `target[:start]`. It counts
    whole if it is a prefix of `target`, and otherwise up to the last right line.
    """
    if not offered.startswith(target[:start]):
        return 0
    if target.startswith(offered):
        return len(offered) - start
    ends = [at for at, character in enumerate(target) if character == "\n"] + [len(target)]
    accepted_length = 0
    for end in ends:
        complete = end == len(offered) or offered[end : end + 1] == "\n"
        if end > start and complete and offered[start:end] == target[start:end]:
            accepted_length = end - start
    return accepted_length


def _next_position(keys: Sequence[Key], position: int, right: int) -> int:
    """The position of the key that continues after `right` characters of the target."""
    for number in range(position, len(keys)):
        if keys[number].right == right:
            return number + 1
    return len(keys)
