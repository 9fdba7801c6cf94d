"""Which tokens a model needs to write code: all that the corpus has more than a few times.

A head with a row for each of these alone is smaller and faster. What is read may hold any token.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from mercury_model.training.data import Source

LEAST = 4
"""How often a token must be there."""

CUT_CHARACTERS = 300
"""Once in so many characters the rest of a line is counted by itself: a completion may begin in
the middle of a word, which makes other tokens of it."""


def written(
    sources: Iterable[Source], encode: Callable[[str], list[int]], always: Iterable[int], seed: int
) -> NDArray[np.int32]:
    """The ids to keep, ascending; those of `always` whether they are in `sources` or not."""
    draw = random.Random(seed)
    count: Counter[int] = Counter()
    for source in sources:
        text = source.text
        count.update(encode(text))
        for _ in range(0, len(text), CUT_CHARACTERS):
            count.update(encode(text[draw.randrange(len(text)) :].partition("\n")[0]))
    frequent = {token for token, times in count.items() if times >= LEAST}
    return np.array(sorted(frequent.union(always)), np.int32)
