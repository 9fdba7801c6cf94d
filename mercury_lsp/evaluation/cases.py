"""Gaps in code that training never saw: drawn from the held-out split, the same each time."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os.path import commonprefix

from mercury_model.training.data import Source
from mercury_model.training.gaps import SpanKind, draw_span

SINGLE_LINE = frozenset({SpanKind.REST_OF_LINE, SpanKind.WHOLE_LINE})
"""Kinds that end with their line, as the server cuts them."""

MAX_TOKENS_CHARS = 160
"""Longer middles are left out: they are beyond what is shown as ghost text."""


@dataclass(frozen=True, slots=True)
class Case:
    """A gap, its truth, and the code around it. `after` begins where the suffix begins.

    `others` are the texts of other files that are taken to be open, the nearest last.
    """

    language: str
    package: str
    path: str
    kind: SpanKind
    before: str
    truth: str
    after: str
    others: tuple[str, ...] = ()


def draw(
    sources: Mapping[str, Sequence[Source]], counts: Mapping[str, int], seed: int, others: int = 0
) -> list[Case]:
    """Up to `counts[language]` cases for each language, each from a file of its own where enough.

    With each come up to `others` files of its package in its language, the nearest by their paths.

    Packages take turns, so that a large one does not outweigh the others. Comments and gaps in
    prose are as rare as in training.
    """
    cases = []
    for language, count in counts.items():
        draw_from = random.Random(f"{seed}/{language}")
        pools: dict[str, list[Source]] = {}
        for source in sources.get(language, ()):
            pools.setdefault(source.package, []).append(source)
        names = sorted(pools)
        for name in names:
            draw_from.shuffle(pools[name])
        made, tries = 0, 0
        while names and made < count and tries < 4 * count:
            pool = pools[names[tries % len(names)]]
            source = pool[tries // len(names) % len(pool)]
            case = _case(source, draw_from)
            tries += 1
            if case:
                cases.append(replace(case, others=_near(source, pool, others)))
                made += 1
    return cases


def _near(source: Source, pool: Sequence[Source], count: int) -> tuple[str, ...]:
    def common(other: Source) -> tuple[int, str]:
        alike = commonprefix([source.path, other.path])  # noqa: RUF071  the same word counts, too
        return len(alike), other.path

    others = sorted((other for other in pool if other.path != source.path), key=common)
    return tuple(other.text for other in others[max(0, len(others) - count) :])


def _case(source: Source, draw_from: random.Random) -> Case | None:
    hole = draw_span(source.text, 1, draw_from)
    if hole is None:
        return None
    cursor = hole.cursors[0]
    truth = source.text[cursor.start : cursor.end]
    if len(truth) > MAX_TOKENS_CHARS:
        return None
    return Case(
        source.language,
        source.package,
        source.path,
        cursor.kind,
        source.text[: cursor.start],
        truth,
        source.text[hole.end :],
    )
