"""Call generators: code that yields the network calls it needs and is sent their predictions.

The same code runs alone, each call made at once, or in the engine, where calls of several
generators share a pass. A generator also yields its outputs. Knows no clock.
"""

from collections.abc import Callable, Generator
from contextlib import closing
from typing import TypeAlias, TypeVar

from mercury_model.runtime.protocol import ForwardCall, Predictions

T = TypeVar("T")

CallGenerator: TypeAlias = Generator[ForwardCall | T, Predictions, None]
"""It is sent the predictions of each call that it yields, and None for each output."""


def advance(
    generator: CallGenerator[T], answer: Predictions | Exception | None = None
) -> ForwardCall | T | None:
    """The next call or output of a generator, None at its end.

    `answer` are the predictions of its last call; an error of that call is raised in the generator.
    """
    try:
        if answer is None:
            return next(generator)
        if isinstance(answer, Exception):
            return generator.throw(answer)
        return generator.send(answer)
    except StopIteration:
        return None


def run_alone(
    generator: CallGenerator[T], make: Callable[[ForwardCall], Predictions]
) -> Generator[T, None, None]:
    """The outputs of a generator. `make` makes each of its calls, at once and alone."""
    with closing(generator):
        step = advance(generator)
        while step is not None:
            if isinstance(step, ForwardCall):
                step = advance(generator, _answer(step, make))
            else:
                yield step
                step = advance(generator)


def _answer(
    call: ForwardCall, make: Callable[[ForwardCall], Predictions]
) -> Predictions | Exception:
    try:
        return make(call)
    except Exception as error:  # the generator releases its context and raises it again
        return error
