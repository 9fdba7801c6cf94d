"""Gaps in held-out code that no training saw. A seed makes the draw reproducible."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os.path import commonprefix

from mercury_model.training.data import Source
from mercury_model.training.gaps import SpanKind, draw_span

SINGLE_LINE = frozenset({SpanKind.REST_OF_LINE, SpanKind.WHOLE_LINE})
"""Kinds that end with the line, where the server cuts them."""

MAX_TRUTH_CHARS = 160
"""Longer middles are skipped, because ghost text is never that long."""


@dataclass(frozen=True, slots=True)
class Case:
    """A gap, its true text, and the code around it. `after` begins where the suffix begins.

    `others` are the texts of other files that count as open, nearest last.
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
    """Draw up to `counts[language]` cases per language, from different files if there are enough.

    Each case gets up to `others` files of its package and language, nearest by path. Packages take
    turns, so that a large one does not outweigh the others. Comments and gaps in prose are as rare
    as in training.
    """
    cases = []
    for language, count in counts.items():
        rng = random.Random(f"{seed}/{language}")
        pools: dict[str, list[Source]] = {}
        for source in sources.get(language, ()):
            pools.setdefault(source.package, []).append(source)
        names = sorted(pools)
        for name in names:
            rng.shuffle(pools[name])
        drawn, tries = 0, 0
        while names and drawn < count and tries < 4 * count:
            pool = pools[names[tries % len(names)]]
            source = pool[tries // len(names) % len(pool)]
            case = _case(source, rng)
            tries += 1
            if case:
                cases.append(replace(case, others=_nearest_files(source, pool, others)))
                drawn += 1
    return cases


def _nearest_files(source: Source, pool: Sequence[Source], count: int) -> tuple[str, ...]:
    def path_similarity(other: Source) -> tuple[int, str]:
        shared = commonprefix([source.path, other.path])  # noqa: RUF071  a shared part of a file name counts too
        return len(shared), other.path

    others = sorted((other for other in pool if other.path != source.path), key=path_similarity)
    return tuple(other.text for other in others[max(0, len(others) - count) :])


def _case(source: Source, rng: random.Random) -> Case | None:
    span = draw_span(source.text, 1, rng)
    if span is None:
        return None
    cut = span.cuts[0]
    truth = source.text[cut.start : cut.end]
    if len(truth) > MAX_TRUTH_CHARS:
        return None
    return Case(
        language=source.language,
        package=source.package,
        path=source.path,
        kind=cut.kind,
        before=source.text[: cut.start],
        truth=truth,
        after=source.text[span.end :],
    )
