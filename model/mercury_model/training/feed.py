"""An endless, repeatable feed of examples: which file, which span, which window.

Every example is a pure function of the seed and its number, so a run that was killed goes on as
if it had not been.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mercury_model.spec.fim_format import FimFormat
from mercury_model.training.collate import Blocks, Encode, Example, Packed, Window, pack, tokens
from mercury_model.training.data import Source
from mercury_model.training.gaps import draw_span

LANGUAGE_SHARES = {
    "python": 0.6,
    "javascript": 0.09,
    "typescript": 0.07,
    "cpp": 0.06,
    "php": 0.05,
    "rust": 0.05,
    "go": 0.05,
    "java": 0.02,
    "shellscript": 0.01,
}
WINDOWS = (
    (0.35, Window(prefix=96, suffix=40, middle=60)),
    (0.40, Window(prefix=192, suffix=64, middle=60)),
    (0.18, Window(prefix=384, suffix=96, middle=60)),
    (0.07, Window(prefix=768, suffix=128, middle=60)),
)
NO_SUFFIX = 0.1
MAX_CUTS = 6


@dataclass(frozen=True, slots=True)
class ExampleFeed:
    """Sources by language, and all that turns them into rows."""

    sources: Mapping[str, Sequence[Source]]
    encode: Encode
    format: FimFormat
    blocks: Blocks
    seed: str

    def __post_init__(self) -> None:
        if not any(self.sources.get(language) for language in LANGUAGE_SHARES):
            raise ValueError("no sources in any language that is trained on")

    def packed(self, number: int) -> Packed:
        """The rows of example `number`."""
        draw = random.Random(f"{self.seed}/{number}")
        return pack(self._example(draw), self.blocks, self.format, draw)

    def batch(self, step: int, examples: int) -> list[Packed]:
        """The examples of a step that takes so many."""
        return [self.packed(step * examples + i) for i in range(examples)]

    def _example(self, draw: random.Random) -> Example:
        languages = [name for name in LANGUAGE_SHARES if self.sources.get(name)]
        shares = [LANGUAGE_SHARES[name] for name in languages]
        while True:
            source = draw.choice(self.sources[draw.choices(languages, shares)[0]])
            window = draw.choices([w for _, w in WINDOWS], [share for share, _ in WINDOWS])[0]
            if draw.random() < NO_SUFFIX:
                window = Window(window.prefix, 0, window.middle)
            span = draw_span(source.text, MAX_CUTS, draw)
            found = span and tokens(source.text, span, window, self.encode, self.format)
            if found:
                return found


def by_language(sources: Sequence[Source]) -> dict[str, list[Source]]:
    """Sources grouped; React's dialects count as their languages."""
    grouped: dict[str, list[Source]] = {}
    for source in sources:
        grouped.setdefault(source.language.removesuffix("react"), []).append(source)
    return grouped
