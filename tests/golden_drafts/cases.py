"""Which gaps are filled, and how: plain data that is the same on every machine.

Cuts come from the frozen sources of `mercury_lsp.bench`. Nothing here knows the model.
"""

from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import Any

from mercury_lsp.bench import gaps
from mercury_lsp.bench.sources import Source, sources

MODES = ("verified", "autoregressive", "diffusion")
MOST_TOKENS = 24
NEIGHBOUR_CHARACTERS = 4_000
LITTLE_MEMORY, MUCH_MEMORY = 2 << 20, 32 << 20
"""Of keys and values between requests, in bytes: for about one context of tiny, or for all."""

SAMPLINGS: tuple[dict[str, Any], ...] = (
    {},
    {"temperature": 0.8, "seed": 7},
    {"policy": ("EntropyBound", 0.6)},
    {"stop": ("\n",)},
    {"quality_speed_tradeoff": 0.9},
    {"rank": 1},
    {"max_tokens": 64},
    {"policy": ("Klass", 0.3, 0.05)},
    {"remask": 0.4, "policy": ("TopK", 3)},
    {},
    {"stop": ("\n\n", "):", "self")},
    {"policy": ("Scheduled", 4, "cosine")},
    {"temperature": 1.3, "seed": 11, "rank": 2},
    {"quality_speed_tradeoff": 0.0},
    {"max_tokens": 1},
    {"policy": ("Threshold", 0.2)},
    {"repeats": False},
    {"remask": 0.3, "policy": ("Threshold", 0.1)},
    {"policy": ("Scheduled", 3, "log-linear")},
    {"max_tokens": 0},
    {"quality_speed_tradeoff": 1.0, "max_tokens": 40},
)
"""Settings named as in `SamplingParams`; a policy is a class name in `unmasking`, and values."""


@dataclass(frozen=True)
class Case:
    """`text[start:end]` of a source is to be written again.

    `elsewhere` and `others` are names of sources, `prediction` what the gap is thought to hold.
    `ahead`: the context is read before the drafts are asked for. Only `drawn` drafts are drawn.
    """

    file: str
    start: int
    end: int
    sampling: dict[str, Any]
    elsewhere: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    prediction: str = ""
    ahead: bool = False
    drawn: int | None = None

    @property
    def prefix(self) -> str:
        return text(self.file)[: self.start]

    @property
    def suffix(self) -> str:
        return text(self.file)[self.end :]


@dataclass(frozen=True)
class Session:
    """Cases that are filled one after the other, with what is kept from those before.

    `card` is "plain", "trusting" (a cache language model counts) or "files" (other files are read).
    """

    name: str
    cases: tuple[Case, ...]
    card: str = "plain"
    context_bytes: int = MUCH_MEMORY


def text(file: str) -> str:
    """A source, whole."""
    return _sources()[file].text


def neighbour(file: str) -> str:
    """What other gaps see of a source."""
    return text(file)[:NEIGHBOUR_CHARACTERS]


@cache
def tiny() -> tuple[Session, ...]:
    """200 gaps in 80 sessions: keys typed one after the other, jumps, and gaps on their own."""
    chance = Random("golden drafts")
    typed = [_typing(chance, index) for index in range(20)]
    jumps = [_jumping(chance, index) for index in range(20)]
    alone = [_alone(chance, index) for index in range(40)]
    found = [
        session
        for group in zip(typed, jumps, alone[::2], alone[1::2], strict=True)
        for session in group
    ]
    assert sum(len(session.cases) for session in found) == 200
    return tuple(found)


@cache
def mini() -> tuple[Session, ...]:
    """The sixty gaps of the benchmark, each in the three modes one after the other."""
    samplings: tuple[dict[str, Any], ...] = (
        *({}, {"temperature": 0.7, "seed": 5}, {}),
        *({"rank": 1}, {}, {"quality_speed_tradeoff": 0.8}),
    )
    found = []
    for index, gap in enumerate(gaps.cases()):
        case = Case(
            file=gap.file,
            start=gap.start,
            end=gap.end,
            sampling={"max_tokens": 16} | samplings[index % len(samplings)],
            elsewhere=_near(gap.file)[: index % 3],
        )
        cases = (replace(case, sampling=case.sampling | {"mode": mode}) for mode in MODES)
        found.append(Session(f"gap-{index:02}", tuple(cases)))
    return tuple(found)


@cache
def keystrokes() -> tuple[Session, ...]:
    """40 cursors for the whole product: ten gaps of the benchmark, three keys typed in each."""
    found = []
    for index, gap in enumerate(gaps.cases()[::6]):
        first = Case(gap.file, gap.start, gap.end, {}, _near(gap.file)[:2])
        last = max(0, gap.end - gap.start - 1)
        cases = (replace(first, start=gap.start + min(n, last)) for n in (0, 1, 2, 4))
        found.append(Session(f"gap-{index:02}", tuple(cases)))
    return tuple(found)


def together() -> tuple[Case, ...]:
    """Twelve gaps that are asked for at about the same time."""
    chance = Random("together")
    return tuple(
        _cut(chance, index, _file(chance, index), {"mode": MODES[index % 3]}) for index in range(12)
    )


def _typing(chance: Random, index: int) -> Session:
    """One gap, its first characters typed one by one, with one taken back; most are given up."""
    card = ("plain", "trusting", "plain", "files")[index % 4]
    file = _file(chance, index)
    first = _cut(chance, index, file, {}, shortest=8)
    cases = []
    for key, typed in enumerate((0, 1, 3, 2, 7)):
        sampling = {"max_tokens": MOST_TOKENS} | SAMPLINGS[(index + key) % len(SAMPLINGS)]
        cases.append(
            replace(
                first,
                start=first.start + typed,
                sampling=sampling,
                elsewhere=_near(file)[: index % 3],
                others=_near(file)[:1] if card == "files" else (),
                drawn=(None, 2, 4, None, None)[key],
                ahead=key == 3 and index % 2 == 0,
                prediction=text(file)[first.start + typed : first.end] if index % 5 == 1 else "",
            )
        )
    return Session(f"typing-{index:02}", tuple(cases), card)


def _jumping(chance: Random, index: int) -> Session:
    """Another file, then back to the first one, a little further up."""
    one, other = _file(chance, index), _file(chance, index + 7)
    first = _cut(chance, index, one, SAMPLINGS[index % len(SAMPLINGS)])
    second = _cut(chance, index + 3, other, SAMPLINGS[(index + 5) % len(SAMPLINGS)])
    third = replace(first, start=max(0, first.start - 3), sampling={"max_tokens": 12}, ahead=True)
    return Session(
        f"jumping-{index:02}",
        (first, replace(second, elsewhere=(one,)), third),
        ("plain", "trusting")[index // 2 % 2],
        (LITTLE_MEMORY, MUCH_MEMORY)[index % 2],
    )


def _alone(chance: Random, index: int) -> Session:
    file = _file(chance, index + 11)
    case = _cut(chance, index, file, SAMPLINGS[index * 2 % len(SAMPLINGS)])
    case = replace(case, elsewhere=_near(file)[: index % 4])
    card = "trusting" if index % 3 == 0 else "plain"
    return Session(f"alone-{index:02}", (case,), card)


def _cut(
    chance: Random, index: int, file: str, sampling: dict[str, Any], shortest: int = 0
) -> Case:
    """A gap somewhere in `file`: inside a name, at either end of a line, anywhere, at the edges."""
    whole = text(file)
    places = (_inside_name, _line_start, _anywhere, _indented_start, _inside_name, _line_end)
    start = places[index % len(places)](chance, whole)
    start = {18: 0, 27: len(whole) - shortest}.get(index, start)
    line_end = (whole + "\n").index("\n", start)
    end = (start, line_end, start + _draw(chance, 80))[index // 2 % 3]
    end = min(len(whole), max(end, start + shortest))
    return Case(file, start, end, {"max_tokens": MOST_TOKENS} | sampling)


def _anywhere(chance: Random, whole: str) -> int:
    return _draw(chance, len(whole) - 100)


def _inside_name(chance: Random, whole: str) -> int:
    at = _anywhere(chance, whole)
    return next(n for n in range(at, len(whole)) if whole[n - 1 : n + 1].isidentifier())


def _line_start(chance: Random, whole: str) -> int:
    return whole.rfind("\n", 0, _anywhere(chance, whole)) + 1


def _indented_start(chance: Random, whole: str) -> int:
    at = _line_start(chance, whole)
    return at + len(whole[at:]) - len(whole[at:].lstrip(" "))


def _line_end(chance: Random, whole: str) -> int:
    return (whole + "\n").index("\n", _anywhere(chance, whole))


def _draw(chance: Random, below: int) -> int:
    """`random` alone gives the same numbers in every version of Python."""
    return int(chance.random() * below)


def _file(chance: Random, index: int) -> str:
    names = tuple(_sources())
    return names[(index * 2 + _draw(chance, 2)) % len(names)]


def _near(file: str) -> tuple[str, ...]:
    """The next three sources, of which some are of the same package."""
    names = tuple(_sources())
    at = names.index(file)
    return tuple(names[(at + n) % len(names)] for n in (1, 2, 3))


@cache
def _sources() -> dict[str, Source]:
    return {source.name: source for source in (*sources("gaps"), *sources("trace"))}
