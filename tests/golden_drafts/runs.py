"""The records there are: what each runs, by the names under which it is kept."""

from collections.abc import Callable, Mapping
from typing import Any

from golden_drafts import cases, product

Runs = Mapping[str, Callable[[], Any]]
"""What to run, by name. `model` below loads the model once it is needed, or gives it again."""


def tiny(model: Callable[[], Any]) -> Runs:
    """200 gaps in each of the three modes."""
    return {
        f"{session.name}-{mode}": lambda session=session, mode=mode: product.fill(
            model(), session, mode
        )
        for session in cases.tiny()
        for mode in cases.MODES
    }


def mini(model: Callable[[], Any]) -> Runs:
    """The sixty gaps of the benchmark, in the three modes."""
    return {s.name: lambda s=s: product.fill(model(), s) for s in cases.mini()}


def whole(model: Callable[[], Any]) -> Runs:
    """40 cursors through the whole product, and twelve gaps at a time through the engine."""
    runs: dict[str, Callable[[], Any]] = {
        f"typing-{session.name}": lambda s=session, n=index: product.complete(model(), s, n)
        for index, session in enumerate(cases.keystrokes())
    }
    return runs | {"engine": lambda: product.serve(model(), cases.together())}
