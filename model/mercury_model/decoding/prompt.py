"""The prompt of one infill: the text around the gap, and a prediction of its middle."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mercury_model.spec.fim_format import FimContext


class PromptTokenizer(Protocol):
    """The tokenizer that decoding needs."""

    @property
    def token_bytes(self) -> Sequence[bytes]:
        """The bytes of each id, b"" for ids that stand for no text."""

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
