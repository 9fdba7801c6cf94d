"""Simulated typing as data, generated from a seed and frozen files. Knows no server and no clock.

The user types 5 to 12 keys per second, pauses at the ends of words and lines, sometimes thinks, and
now and then hits a neighbouring key and corrects it. The editor indents new lines. Acceptance
depends on what a server offers, so the replay decides it.
"""

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate

from mercury_lsp.bench.sources import Source

SEED = 3
"""The seed of the trace in published results."""

SLOWEST_KEYS, FASTEST_KEYS = 5, 12
"""Keys per second without pauses."""

_TARGET_CHARACTERS = 220
_LINES_ABOVE = 6
_TYPO_CHANCE = 0.02
_THINKING_CHANCE = 0.06
_LONGEST_TYPO = 4
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_INDENT = "    "


@dataclass(frozen=True, slots=True)
class Key:
    """One key press: wait, erase code points before the cursor, insert text.

    `right` is the number of code points of the session's target before the cursor afterwards, or -1
    while the typed text is wrong.
    """

    wait_ms: int
    erase: int
    text: str
    right: int


@dataclass(frozen=True, slots=True)
class Session:
    """The user opens `before + after` and types `target` between the two."""

    source: str
    before: str
    after: str
    target: str
    keys: tuple[Key, ...]

    def cut(self, share: float) -> "Session":
        """The session cut to the first `share` of its time, with at least one key."""
        waits = list(accumulate(key.wait_ms for key in self.keys))
        count = sum(wait <= waits[-1] * share for wait in waits)
        return replace(self, keys=self.keys[: max(1, count)])


@dataclass(frozen=True, slots=True)
class Trace:
    """Sessions that are typed one after another."""

    seed: int
    sessions: tuple[Session, ...]

    @property
    def digest(self) -> str:
        """A hash that identifies the trace. Reports are comparable only if it is equal."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:16]

    @property
    def seconds(self) -> float:
        """The total typing time if nothing is accepted."""
        return sum(key.wait_ms for session in self.sessions for key in session.keys) / 1000

    def cut(self, seconds: float) -> "Trace":
        """All sessions cut in proportion to `seconds` in total, with at least one key each."""
        share = seconds / self.seconds
        return self if share >= 1 else Trace(self.seed, tuple(s.cut(share) for s in self.sessions))


def type_out(files: Sequence[Source], seed: int = SEED) -> Trace:
    """Generate one session per file. In every third, the file ends at the cursor."""
    # Only random() is guaranteed to be stable across Python versions.
    rng = random.Random(seed)
    sessions = []
    for number, source in enumerate(files):
        start, end = _pick_region(source.text, rng)
        before, target = source.text[:start], source.text[start:end]
        after = "" if number % 3 == 2 else source.text[end:]
        typist = _Typist(before, target, rng)
        typist.type_all()
        sessions.append(
            Session(
                source=source.name,
                before=before,
                after=after,
                target=target,
                keys=tuple(typist.keys),
            )
        )
    return Trace(seed, tuple(sessions))


def keystrokes(text: str) -> int:
    """How many keys `text` takes without mistakes, with auto-indentation."""
    first, *rest = text.split("\n")
    return len(first) + sum(1 + len(line.lstrip(" ")) for line in rest)


def _pick_region(text: str, rng: random.Random) -> tuple[int, int]:
    """Pick a span of whole code lines without docstrings or the first line's indentation."""
    lines = text.split("\n")
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    regions = []
    for first in range(_LINES_ABOVE, len(lines)):
        last = first
        while last < len(lines) - 1 and starts[last + 1] - starts[first] < _TARGET_CHARACTERS:
            last += 1
        start = starts[first] + len(lines[first]) - len(lines[first].lstrip(" "))
        end = starts[last + 1] - 1
        whole = starts[last + 1] - starts[first] >= _TARGET_CHARACTERS
        if whole and lines[first].strip() and lines[last].strip() and '"""' not in text[start:end]:
            regions.append((start, end))
    return regions[int(rng.random() * len(regions))]


class _Typist:
    """Types a target. The text before the cursor is `before + written`."""

    def __init__(self, before: str, target: str, rng: random.Random) -> None:
        self.before = before
        self.target = target
        self.rng = rng
        self.written = ""
        self.keys: list[Key] = []
        self.rate = SLOWEST_KEYS + rng.random() * (FASTEST_KEYS - SLOWEST_KEYS)
        self.pause_ms = 800 + rng.random() * 1_700

    def type_all(self) -> None:
        position = 0
        while position < len(self.target):
            character = self.target[position]
            if character == "\n":
                position = self._enter(position)
                continue
            if character.isalpha() and self.rng.random() < _TYPO_CHANCE:
                self._mistype(position)
            self._press(text=character)
            position += 1
            self._pause_after(character)

    def _press(self, erase: int = 0, text: str = "") -> None:
        beat_ms = 1000 / self.rate * (0.75 + self.rng.random() / 2)
        wait_ms = min(max(beat_ms, 1000 / FASTEST_KEYS), 1000 / SLOWEST_KEYS) + self.pause_ms
        self.pause_ms = 0.0
        self.written = self.written[: len(self.written) - erase] + text
        right = len(self.written) if self.target.startswith(self.written) else -1
        self.keys.append(Key(wait_ms=round(wait_ms), erase=erase, text=text, right=right))

    def _pause_after(self, character: str) -> None:
        if not character.isalnum():
            self.pause_ms += self.rng.random() * 150
            if self.rng.random() < _THINKING_CHANCE:
                self.pause_ms += 600 + self.rng.random() * 1_800

    def _enter(self, position: int) -> int:
        """Press Enter, then correct the editor's automatic indentation."""
        self.pause_ms += 150 + self.rng.random() * 600
        following = self.target[position + 1 :].split("\n", 1)[0]
        wanted = following[: len(following) - len(following.lstrip(" "))]
        indent = self._editor_indent() if following.strip() else ""
        self._press(text="\n" + indent)
        while len(indent) > len(wanted):
            erase = min(len(_INDENT), len(indent) - len(wanted))
            self._press(erase=erase)
            indent = indent[:-erase]
        if len(indent) < len(wanted):
            self._press(text=wanted[len(indent) :])
        self.pause_ms += self.rng.random() * 900
        return position + 1 + len(wanted)

    def _editor_indent(self) -> str:
        lines = (self.before + self.written).split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "")
        indent = last[: len(last) - len(last.lstrip(" "))]
        return indent + _INDENT if last.rstrip().endswith((":", "(", "[", "{")) else indent

    def _mistype(self, position: int) -> None:
        """Hit a neighbouring key, type up to three more keys, then erase all of them."""
        character = self.target[position]
        line = self.target[position:].split("\n", 1)[0]
        length = 1 + int(self.rng.random() * min(len(line), _LONGEST_TYPO))
        self._press(text=_neighbour(character))
        for further in line[1:length]:
            self._press(text=further)
        self.pause_ms += 150 + self.rng.random() * 250
        for _ in range(length):
            self._press(erase=1)


def _neighbour(character: str) -> str:
    for row in _ROWS:
        at = row.find(character.lower())
        if at >= 0:
            hit = row[at + 1] if at + 1 < len(row) else row[at - 1]
            return hit.upper() if character.isupper() else hit
    return "x"
