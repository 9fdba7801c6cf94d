"""Work that needs the network, as a generator: it yields the calls it wants, and is sent answers.

So the same work runs alone, each of its calls answered at once, or beside other work, with which
its calls share a pass. Beside calls a script yields what it has to show. Knows no clock.
"""

from collections.abc import Generator
from contextlib import closing
from typing import TypeAlias, TypeVar

from mercury_model.runtime.protocol import ForwardCall, Predictions, Runtime

T = TypeVar("T")

CallGenerator: TypeAlias = Generator[ForwardCall | T, Predictions, None]
"""Is sent the predictions of each call it yields; for all else that it yields, nothing."""


def advance(
    script: CallGenerator[T], answer: Predictions | Exception | None = None
) -> ForwardCall | T | None:
    """What a script yields next, None at its end; a call that failed fails in the script."""
    try:
        if answer is None:
            return next(script)
        if isinstance(answer, Exception):
            return script.throw(answer)
        return script.send(answer)
    except StopIteration:
        return None


def run_alone(script: CallGenerator[T], runtime: Runtime) -> Generator[T, None, None]:
    """What a script has to show, each of its calls made at once and alone."""
    with closing(script):
        step = advance(script)
        while step is not None:
            if isinstance(step, ForwardCall):
                step = advance(script, _answer(step, runtime))
            else:
                yield step
                step = advance(script)


def _answer(call: ForwardCall, runtime: Runtime) -> Predictions | Exception:
    try:
        return call.on(runtime)
    except Exception as error:  # for the script, which raises it again when it has let go
        return error
