"""A tokenizer with a token for every byte and some longer ones, and models over its vocabulary."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from fakes import FORMAT, Script, ScriptedRuntime

from mercury_model.decoding.infiller import Infiller
from mercury_model.spec.card import CacheTrust, ModelCard
from mercury_model.spec.fim_format import FimContext, FimFormat, fim_context
from mercury_model.spec.model_config import ModelConfig

WORDS = (
    "    ",
    "  ",
    "\n    ",
    "\n\n",
    " re",
    " return",
    " retry",
    "return",
    "ret",
    "turn",
    "def",
    " count",
    " counter",
    "er",
    "12",
    "123",
    '"\\n',
    '\\n"',
    '"\\',
    "()",
    "):",
    "):\n",
    "😀",
    "é",
)
SPLIT = (*(word.encode() for word in WORDS), "😀".encode()[:3], "😀".encode()[1:])
"""Longer tokens, some of them ends or beginnings of a character."""

TOKEN_BYTES = (*[b""] * 5, *(bytes([byte]) for byte in range(256)), *SPLIT)
VOCAB_SIZE = len(TOKEN_BYTES) + 3
"""The network has more ids than the tokenizer."""

HEALED = replace(FORMAT, heal=True, order="spm", stop_ids=(FORMAT.suffix_id, FORMAT.middle_id))


class ByteTokenizer:
    """Encodes with the longest token that fits, from the left."""

    token_bytes = TOKEN_BYTES

    def __init__(self, infill: FimFormat = HEALED) -> None:
        self._format = infill
        longest = sorted(range(5, len(TOKEN_BYTES)), key=lambda i: -len(TOKEN_BYTES[i]))
        self._longest = [(i, TOKEN_BYTES[i]) for i in longest]

    def normalize(self, text: str) -> str:
        return text

    def encode(self, text: str) -> list[int]:
        data, ids, at = text.encode(), list[int](), 0
        while at < len(data):
            token, piece = next(pair for pair in self._longest if data.startswith(pair[1], at))
            ids.append(token)
            at += len(piece)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        data = b"".join(TOKEN_BYTES[i] for i in ids if i < len(TOKEN_BYTES))
        return data.decode("utf-8", "replace").rstrip("\ufffd")

    def fim_context(
        self, prefix: str, suffix: str, others: Sequence[tuple[str, str]] = ()
    ) -> FimContext:
        return fim_context(self._format, self, prefix, suffix, others)


class FarBack(ByteTokenizer):
    """Takes the last `count` tokens back, and not one alone."""

    def __init__(self, count: int, infill: FimFormat = HEALED) -> None:
        super().__init__(infill)
        self._count = count

    def fim_context(
        self, prefix: str, suffix: str, others: Sequence[tuple[str, str]] = ()
    ) -> FimContext:
        made = super().fim_context(prefix, suffix, others)
        more = min(self._count - 1, len(self.encode(prefix)) - 1)
        if more <= 0:
            return made
        back = b"".join(TOKEN_BYTES[i] for i in made.ids[-more:])
        return FimContext(made.ids[:-more], back + made.owed)


def card(infill: FimFormat = HEALED, trust: CacheTrust | None = None) -> ModelCard:
    architecture = ModelConfig(VOCAB_SIZE, 8, 1, 1, 1, 8, 8, 10_000.0)
    return ModelCard("scripted", architecture, infill, "none", "a script", trust)


def noise(seed: int) -> Script:
    """Arbitrary but fixed distributions over the whole vocabulary, marks included.

    Longer tokens and ends of the text are likelier than single bytes.
    """
    favour = np.ones(VOCAB_SIZE)
    favour[5 + 256 : len(TOKEN_BYTES)] = 20.0
    favour[[5 + ord(letter) for letter in "abcdefrtu \n():"]] = 20.0
    favour[0] = 30.0

    @lru_cache(maxsize=10_000)
    def script(ids: tuple[int, ...]) -> Mapping[int, float]:
        digest = hashlib.blake2b(repr((seed, ids)).encode(), digest_size=8).digest()
        drawn = np.random.default_rng(int.from_bytes(digest, "little"))
        weights = favour * drawn.gamma(0.1, size=VOCAB_SIZE) + 1e-6
        return dict(enumerate((weights / weights.sum()).tolist()))

    return script


def writes(text: str, wanted: str, confidence: float = 0.9) -> Script:
    """A model that knows the text before the cursor as `text`, and goes on with `wanted`.

    It predicts the longest token of both together from wherever the ids end.
    """
    tokenizer = ByteTokenizer()
    whole = (text + wanted).encode()

    def script(ids: tuple[int, ...]) -> Mapping[int, float]:
        if FORMAT.middle_id not in ids:
            return {FORMAT.eos_id: 1.0}
        middle = ids[len(ids) - ids[::-1].index(FORMAT.middle_id) :]
        done = b"".join(TOKEN_BYTES[i] for i in middle if i < len(TOKEN_BYTES))
        rest = whole[len(done) :] if whole.startswith(done) else b""
        token = tokenizer.encode(rest.decode("utf-8", "ignore"))[:1] or [FORMAT.eos_id]
        other = (1 - confidence) / (VOCAB_SIZE - 1)
        return {i: confidence if i == token[0] else other for i in range(VOCAB_SIZE)}

    return script


def infiller(
    script: Script,
    tokenizer: ByteTokenizer | None = None,
    infill: FimFormat = HEALED,
    trust: CacheTrust | None = None,
    slips: float = 0.3,
) -> Infiller:
    runtime = ScriptedRuntime(script, infill, slips, vocab_size=VOCAB_SIZE)
    return Infiller(card(infill, trust), tokenizer or ByteTokenizer(infill), runtime)
