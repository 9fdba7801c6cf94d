"""What came of keys on a screen: how long ghost text took, and whether it flickered or was stale.

Pure: reads what was recorded of an editor, whichever it was. Times are milliseconds of one clock.
Whoever types stands at the end of a line, so that nothing is behind the ghost.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from mercury_lsp.bench.report import LatencySummary


@dataclass(frozen=True, slots=True)
class Shown:
    """A frame: `line` is the cursor's, ghost and all, with the ghost's further lines below it."""

    at: float
    line: str
    ghost: str

    @property
    def typed(self) -> str:
        """The line without its ghost."""
        return self.line.removesuffix(self.ghost)


@dataclass(frozen=True, slots=True)
class Offer:
    """A suggestion: what it would make of the cursor's line."""

    request: int
    asked: float
    line: str


@dataclass(frozen=True, slots=True)
class Recording:
    """An editor while somebody typed: when each key was pressed, and when there was a rest.

    `server` has the time of each request in the server.
    """

    editor: str
    keys: Sequence[float]
    rests: Sequence[float]
    frames: Sequence[Shown]
    offers: Sequence[Offer]
    server: Mapping[int, float]

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> Self:
        """The other way round of `asdict`, with the requests' numbers as words."""
        return cls(
            editor=raw["editor"],
            keys=raw["keys"],
            rests=raw["rests"],
            frames=[Shown(**frame) for frame in raw["frames"]],
            offers=[Offer(**offer) for offer in raw["offers"]],
            server={int(request): took for request, took in raw["server"].items()},
        )


@dataclass(frozen=True, slots=True)
class Figures:
    """`ghost` is from a key to the first frame with the ghost that it brought: `server` of that
    passed in the server, and `rest` everywhere else. `kept` is from a key that typed along a ghost
    to the frame with what is left of it."""

    editor: str
    keys: int
    frames: int
    flickers: int
    stale: int
    ghost: LatencySummary
    server: LatencySummary
    rest: LatencySummary
    kept: LatencySummary

    @classmethod
    def of(cls, recording: Recording) -> Self:
        """Judge a recording."""
        brought = list(_brought(recording))
        ghost = [total for total, _ in brought]
        server = [in_server for _, in_server in brought]
        return cls(
            editor=recording.editor,
            keys=len(recording.keys),
            frames=len(recording.frames),
            flickers=len(flickers(recording)),
            stale=len(stale(recording)),
            ghost=LatencySummary.of(ghost),
            server=LatencySummary.of(server),
            rest=LatencySummary.of(total - in_server for total, in_server in brought),
            kept=LatencySummary.of(_kept(recording)),
        )


def stale(recording: Recording) -> list[Shown]:
    """Frames with a ghost that no answer would have made of the line."""
    lines = {offer.line for offer in recording.offers}
    return [frame for frame in recording.frames if frame.ghost and frame.line not in lines]


def flickers(recording: Recording) -> list[Shown]:
    """Frames in which a ghost is gone that was there, and is there again after one key at most.

    A ghost may go when text is taken back.
    """
    frames, found = recording.frames, []
    for before, frame, after in zip(frames, frames[1:], frames[2:], strict=False):
        same = before.ghost and after.ghost and before.line == after.line
        gone = frame.line != before.line and len(before.typed) <= len(frame.typed)
        along = before.line.startswith(frame.typed)
        if same and gone and along and _keys_between(recording, before, after) <= 1:
            found.append(frame)
    return found


def _keys_between(recording: Recording, first: Shown, last: Shown) -> int:
    return bisect_left(recording.keys, last.at) - bisect_left(recording.keys, first.at)


def _spans(recording: Recording) -> Iterator[tuple[float, Shown | None, Sequence[Shown]]]:
    """Each key with the frame before it, and those up to the next key or the rest."""
    moments = [frame.at for frame in recording.frames]
    ends = sorted([*recording.keys, *recording.rests])
    for key in recording.keys:
        end = ends[bisect_right(ends, key)]
        first, last = bisect_left(moments, key), bisect_left(moments, end)
        before = recording.frames[first - 1] if first else None
        yield key, before, recording.frames[first:last]


def _brought(recording: Recording) -> Iterator[tuple[float, float]]:
    """How long each new ghost took from its key, and how much of that in the server."""
    for key, before, frames in _spans(recording):
        known = before.line if before and before.ghost else None
        for frame in frames:
            if not frame.ghost or frame.line == known:
                continue
            answer = next(
                (o for o in recording.offers if o.asked >= key and o.line == frame.line), None
            )
            if answer is not None and answer.asked <= frame.at:
                yield frame.at - key, recording.server[answer.request]
                break


def _kept(recording: Recording) -> Iterator[float]:
    for key, before, frames in _spans(recording):
        if before and before.ghost:
            for frame in frames:
                shorter = 0 < len(frame.ghost) < len(before.ghost)
                if shorter and frame.line == before.line:
                    yield frame.at - key
                    break
