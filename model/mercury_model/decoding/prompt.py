"""The prompt of one infill: the text around the gap, and a prediction of its middle."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mercury_model.spec.fim_format import FimContext, TextCodec


class PromptTokenizer(TextCodec, Protocol):
    """The tokenizer that decoding needs."""

    def fim_context(
        self, prefix: str, suffix: str, others: Sequence[tuple[str, str]] = ()
    ) -> FimContext:
        """The context of a gap, within the limits of its format."""


@dataclass(frozen=True, slots=True)
class FimPrompt:
    """The text before and after the gap; `others` are (path, text) of other files.

    The model sees as much of `prefix` and `suffix` as its format has room for. The lookup searches
    both and the texts `elsewhere` (nearest text last) for repeated code. `prediction` is a guess at
    the middle. Verified decoding drafts it; the text does not depend on it.
    """

    prefix: str
    suffix: str
    others: tuple[tuple[str, str], ...] = ()
    prediction: str = ""
    elsewhere: tuple[str, ...] = ()
