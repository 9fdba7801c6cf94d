"""What a gap is filled from: the text around it, and what is known about it beforehand."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mercury_model.spec.fim_format import FimContext


class PromptTokenizer(Protocol):
    """What this module needs of a tokenizer."""

    def fim_context(
        self, prefix: str, suffix: str, others: Sequence[tuple[str, str]] = ()
    ) -> FimContext:
        """The context of a gap, within the limits of its format."""

    def encode(self, text: str) -> list[int]:
        """The ids of `text`."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, less an incomplete character at its end."""


@dataclass(frozen=True, slots=True)
class FimPrompt:
    """What stands before and after the gap; `others` are (path, text) of other files.

    In prefix, suffix and the texts `elsewhere`, of which the last is nearest, is looked for what is
    repeated; the model itself sees of prefix and suffix what its format has room for.
    `prediction` is what the gap is thought to be filled with: a beginning of it that is right costs
    verified decoding hardly a call. The text does not depend on it.
    """

    prefix: str
    suffix: str
    others: tuple[tuple[str, str], ...] = ()
    prediction: str = ""
    elsewhere: tuple[str, ...] = ()
