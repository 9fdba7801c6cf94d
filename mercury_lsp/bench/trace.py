"""A person typing, as data: made from a seed out of frozen files. Knows no server and no clock.

The person types at 5 to 12 keys a second, stops at the ends of words and lines, sometimes thinks,
now and then hits a neighbouring key and goes back to mend it. The editor indents new lines. What
the person accepts depends on what a server offers: that is decided when the trace is replayed.
"""

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate

from mercury_lsp.bench.sources import Source

SEED = 3
"""The seed of the trace that figures are reported for."""

SLOWEST_KEYS, FASTEST_KEYS = 5, 12
"""Keys a second, pauses left out."""

_TARGET_CHARACTERS = 220
_LINES_ABOVE = 6
_TYPO_CHANCE = 0.02
_THINKING_CHANCE = 0.06
_LONGEST_TYPO = 4
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_INDENT = "    "


@dataclass(frozen=True, slots=True)
class Key:
    """One key press: wait, erase to the left of the cursor, insert there.

    `right`: how much of the session's target stands before the cursor afterwards, in code points;
    -1 while something wrong stands there.
    """

    wait_ms: int
    erase: int
    text: str
    right: int


@dataclass(frozen=True, slots=True)
class Session:
    """A person opens `before + after` and writes `target` between the two."""

    source: str
    before: str
    after: str
    target: str
    keys: tuple[Key, ...]

    def cut(self, share: float) -> "Session":
        """The keys that are pressed in the first `share` of its time, and the first in any case."""
        waits = list(accumulate(key.wait_ms for key in self.keys))
        kept = sum(wait <= waits[-1] * share for wait in waits)
        return replace(self, keys=self.keys[: max(1, kept)])


@dataclass(frozen=True, slots=True)
class Trace:
    """Sessions, one after another."""

    seed: int
    sessions: tuple[Session, ...]

    @property
    def digest(self) -> str:
        """Names the trace: two reports can be compared when it is the same."""
        return hashlib.sha256(json.dumps(asdict(self)).encode()).hexdigest()[:16]

    @property
    def seconds(self) -> float:
        """How long the person takes who accepts nothing."""
        return sum(key.wait_ms for session in self.sessions for key in session.keys) / 1000

    def cut(self, seconds: float) -> "Trace":
        """The beginnings of all sessions that take at most so long together, a key at least."""
        share = seconds / self.seconds
        return self if share >= 1 else Trace(self.seed, tuple(s.cut(share) for s in self.sessions))


def type_out(files: Sequence[Source], seed: int = SEED) -> Trace:
    """One session for each file; in every third the file ends where the person types."""
    # random() alone gives the same numbers in every version of Python.
    chance = random.Random(seed)
    sessions = []
    for number, source in enumerate(files):
        start, end = _region(source.text, chance)
        before, target = source.text[:start], source.text[start:end]
        after = "" if number % 3 == 2 else source.text[end:]
        typist = _Typist(before, target, chance)
        typist.type_all()
        sessions.append(Session(source.name, before, after, target, tuple(typist.keys)))
    return Trace(seed, tuple(sessions))


def keystrokes(text: str) -> int:
    """How many keys `text` takes without a mistake; the editor indents."""
    first, *rest = text.split("\n")
    return len(first) + sum(1 + len(line.lstrip(" ")) for line in rest)


def _region(text: str, chance: random.Random) -> tuple[int, int]:
    """Whole lines of code, without docstrings; the first line's indentation is left out."""
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
    return regions[int(chance.random() * len(regions))]


class _Typist:
    """Types a target; what stands before the cursor is `before + written`."""

    def __init__(self, before: str, target: str, chance: random.Random) -> None:
        self.before = before
        self.target = target
        self.chance = chance
        self.written = ""
        self.keys: list[Key] = []
        self.rate = SLOWEST_KEYS + chance.random() * (FASTEST_KEYS - SLOWEST_KEYS)
        self.pause_ms = 800 + chance.random() * 1_700

    def type_all(self) -> None:
        position = 0
        while position < len(self.target):
            character = self.target[position]
            if character == "\n":
                position = self._enter(position)
                continue
            if character.isalpha() and self.chance.random() < _TYPO_CHANCE:
                self._mistype(position)
            self._press(text=character)
            position += 1
            self._pause_after(character)

    def _press(self, erase: int = 0, text: str = "") -> None:
        beat_ms = 1000 / self.rate * (0.75 + self.chance.random() / 2)
        wait_ms = min(max(beat_ms, 1000 / FASTEST_KEYS), 1000 / SLOWEST_KEYS) + self.pause_ms
        self.pause_ms = 0.0
        self.written = self.written[: len(self.written) - erase] + text
        right = len(self.written) if self.target.startswith(self.written) else -1
        self.keys.append(Key(round(wait_ms), erase, text, right))

    def _pause_after(self, character: str) -> None:
        if not character.isalnum():
            self.pause_ms += self.chance.random() * 150
            if self.chance.random() < _THINKING_CHANCE:
                self.pause_ms += 600 + self.chance.random() * 1_800

    def _enter(self, position: int) -> int:
        """The key at the end of a line, and what puts the editor's indentation right."""
        self.pause_ms += 150 + self.chance.random() * 600
        following = self.target[position + 1 :].split("\n", 1)[0]
        wanted = following[: len(following) - len(following.lstrip(" "))]
        guess = self._editor_indent() if following.strip() else ""
        self._press(text="\n" + guess)
        while len(guess) > len(wanted):
            erase = min(len(_INDENT), len(guess) - len(wanted))
            self._press(erase=erase)
            guess = guess[:-erase]
        if len(guess) < len(wanted):
            self._press(text=wanted[len(guess) :])
        self.pause_ms += self.chance.random() * 900
        return position + 1 + len(wanted)

    def _editor_indent(self) -> str:
        lines = (self.before + self.written).split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "")
        indent = last[: len(last) - len(last.lstrip(" "))]
        return indent + _INDENT if last.rstrip().endswith((":", "(", "[", "{")) else indent

    def _mistype(self, position: int) -> None:
        """A neighbouring key, up to three more before it is noticed, and as many back."""
        character = self.target[position]
        line = self.target[position:].split("\n", 1)[0]
        length = 1 + int(self.chance.random() * min(len(line), _LONGEST_TYPO))
        self._press(text=_neighbour(character))
        for further in line[1:length]:
            self._press(text=further)
        self.pause_ms += 150 + self.chance.random() * 250
        for _ in range(length):
            self._press(erase=1)


def _neighbour(character: str) -> str:
    for row in _ROWS:
        at = row.find(character.lower())
        if at >= 0:
            hit = row[at + 1] if at + 1 < len(row) else row[at - 1]
            return hit.upper() if character.isupper() else hit
    return "x"
