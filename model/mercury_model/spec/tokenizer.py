"""Text to ids and back, for one set of weights: byte-level BPE.

Marks are known by id. No text is ever encoded as a mark, and no mark is ever decoded to text. The
layout of a context is in `fim_format`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from tokenizers import Regex, decoders, normalizers, pre_tokenizers
from tokenizers import Tokenizer as BytePairs
from tokenizers.models import BPE

from mercury_model.errors import WeightsCorrupted, WeightsUnsupported
from mercury_model.spec import fim_format
from mercury_model.spec.fim_format import FimContext, FimFormat

_QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """How text is cut into words before byte pairs are merged.

    `pattern` splits it; "" is the pattern of GPT-2. `nfc`: the text is normalised first (Unicode
    annex 15). `digits`: each digit is a word.
    """

    pattern: str = ""
    nfc: bool = False
    digits: bool = False


PRE_TOKENIZERS: Mapping[str, PreTokenizer] = MappingProxyType(
    {
        "gpt-2": PreTokenizer(),
        "smollm": PreTokenizer(digits=True),
        "qwen2": PreTokenizer(_QWEN2_WORDS, nfc=True),
    }
)
"""By the name that GGUF has for them (`tokenizer.ggml.pre`)."""


@dataclass(frozen=True, slots=True)
class BytePairVocabulary:
    """The vocabulary and the merges of a byte-level BPE tokenizer.

    `tokens` by id, spelled in GPT-2's alphabet of bytes; None for marks and unused ids. `merges`
    are pairs "a b", best first. `pre_tokenizer` is a name of PRE_TOKENIZERS.
    """

    tokens: Sequence[str | None]
    merges: Sequence[str]
    pre_tokenizer: str


TokenizerSource: TypeAlias = Path | BytePairVocabulary
"""A file in the format of Hugging Face's tokenizers, or a vocabulary, which GGUF files hold."""


class Tokenizer:
    """The tokenizer of one set of weights.

    Raises WeightsCorrupted for a file that cannot be read, and WeightsUnsupported for an unknown
    pre-tokenizer.
    """

    def __init__(self, source: TokenizerSource, infill: FimFormat) -> None:
        if isinstance(source, Path):
            self._pairs, marks = _from_file(source)
        else:
            self._pairs, marks = _from_vocabulary(source), frozenset()
        self._format = infill
        self._marks = marks | infill.end_ids | {*infill.marks}

    def normalize(self, text: str) -> str:
        """`text` as it is encoded. A lone surrogate is no character: it becomes a question mark."""
        clean = text.encode("utf-8", "replace").decode("utf-8")
        rules = self._pairs.normalizer
        return clean if rules is None else str(rules.normalize_str(clean))

    def encode(self, text: str) -> list[int]:
        """The ids of `text`, see `normalize`."""
        clean = text.encode("utf-8", "replace").decode("utf-8")
        ids: list[int] = self._pairs.encode(clean, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, without marks and without an incomplete character at its end."""
        text: str = self._pairs.decode([token for token in ids if token not in self._marks])
        return text.rstrip("\ufffd")

    @cached_property
    def token_bytes(self) -> Sequence[bytes]:
        """The bytes that each id stands for; b"" for marks and unused ids."""
        vocabulary = self._pairs.get_vocab(with_added_tokens=False)
        spelled = [b""] * (1 + max(*vocabulary.values(), *self._marks))
        for token, index in vocabulary.items():
            if index not in self._marks:
                spelled[index] = bytes(map(_BYTES.__getitem__, token))
        return tuple(spelled)

    def fim_context(
        self, prefix: str, suffix: str, others: Sequence[tuple[str, str]] = ()
    ) -> FimContext:
        """The context of a gap, see `fim_format.fim_context`."""
        return fim_format.fim_context(self._format, self, prefix, suffix, others)


def _from_file(path: Path) -> tuple[BytePairs, frozenset[int]]:
    """A tokenizer without its special tokens, and the ids of these.

    In somebody's source, text that looks like a special token is text like any other. Files do not
    flag all of them as special, so none is left to be found in a text.
    """
    try:
        raw: dict[str, Any] = json.loads(path.read_text("utf-8"))
        marks = frozenset(int(token["id"]) for token in raw.get("added_tokens", ()))
        plain = {**raw, "added_tokens": [], "post_processor": None}
        return BytePairs.from_str(json.dumps(plain)), marks
    except Exception as error:  # the library raises nothing more precise
        raise WeightsCorrupted(
            f"{path} is not a tokenizer that can be read ({error}).",
            "Reinstall mercury-lsp, or fetch the folder of the model again.",
        ) from error


def _from_vocabulary(source: BytePairVocabulary) -> BytePairs:
    kind = PRE_TOKENIZERS.get(source.pre_tokenizer)
    if kind is None:
        raise WeightsUnsupported(
            f"There is no pre-tokenizer called {source.pre_tokenizer!r} here.",
            f"Known are {', '.join(PRE_TOKENIZERS)}; or put a tokenizer.json beside the weights.",
        )
    vocabulary = {token: i for i, token in enumerate(source.tokens) if token is not None}
    merges = [(left, right) for left, _, right in (pair.partition(" ") for pair in source.merges)]
    try:
        pairs = BytePairs(BPE(vocabulary, merges))
    except Exception as error:  # the library raises nothing more precise
        raise WeightsCorrupted(
            f"The vocabulary and its merges disagree ({error}).",
            "Fetch the weights again.",
        ) from error
    steps: list[Any] = [pre_tokenizers.Digits(individual_digits=True)] if kind.digits else []
    if kind.pattern:
        steps.append(pre_tokenizers.Split(Regex(kind.pattern), "isolated"))
    steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not kind.pattern))
    pairs.pre_tokenizer = pre_tokenizers.Sequence(steps)
    if kind.nfc:
        pairs.normalizer = normalizers.NFC()
    pairs.decoder = decoders.ByteLevel()
    return pairs


def _alphabet() -> dict[str, int]:
    """GPT-2's printable character for each byte, as a table from the character to the byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(256 + index): byte for index, byte in enumerate(others)}


_BYTES = _alphabet()
