"""Stand-ins that tests share: deterministic, without weights, clocks or files."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from random import Random

import numpy as np

from mercury_lsp.core.types import Context, Draft
from mercury_model.runtime.limits import CHUNK_TOKENS
from mercury_model.runtime.protocol import ForwardCall, KVCache, Predictions
from mercury_model.spec.card import CacheTrust, ModelCard
from mercury_model.spec.fim_format import FimContext, FimFormat, fim_context
from mercury_model.spec.model_config import ModelConfig

Script = Callable[[tuple[int, ...]], Mapping[int, float]]
"""The token probabilities after a sequence of ids."""

LETTERS = "abcdefgh\n .,()="
FORMAT = FimFormat(
    suffix_id=1,
    prefix_id=2,
    middle_id=3,
    eos_id=0,
    mask_id=4,
    block_length=6,
    prefix_tokens=200,
    suffix_tokens=60,
    middle_tokens=40,
    shift=True,
    languages=("python",),
    file_tokens=0,
)
VOCABULARY = 5 + len(LETTERS)


def card(infill: FimFormat = FORMAT, trust: CacheTrust | None = None) -> ModelCard:
    """A model card around a format."""
    architecture = ModelConfig(VOCABULARY, 8, 1, 1, 1, 8, 8, 10_000.0)
    return ModelCard("scripted", architecture, infill, "none", "a script", trust)


class LetterTokenizer:
    """One token a letter; letters without one are skipped."""

    token_bytes = (*[b""] * 5, *(letter.encode() for letter in LETTERS))

    def __init__(self, infill: FimFormat = FORMAT) -> None:
        self._format = infill

    def normalize(self, text: str) -> str:
        return "".join(letter for letter in text if letter in LETTERS)

    def encode(self, text: str) -> list[int]:
        return [5 + LETTERS.index(letter) for letter in text if letter in LETTERS]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(LETTERS[token - 5] for token in ids if token >= 5)

    def fim_context(
        self, prefix: str, suffix: str, others: Sequence[tuple[str, str]] = ()
    ) -> FimContext:
        return fim_context(self._format, self, prefix, suffix, others)


@dataclass
class ScriptedKV:
    """Remembers its ids, which is all that a script needs of a context."""

    ids: list[int] = field(default_factory=list)

    @property
    def length(self) -> int:
        return len(self.ids)

    @property
    def nbytes(self) -> int:
        return 10 * len(self.ids)

    def reserve(self, rows: int) -> None:
        assert rows >= 0

    def truncate(self, length: int) -> None:
        assert length <= len(self.ids)
        del self.ids[length:]

    def fork(self, length: int) -> "ScriptedKV":
        assert length <= len(self.ids)
        return ScriptedKV(self.ids[:length])


class ScriptedRuntime:
    """A runtime whose predictions are a script over the ids that it sees; it logs its calls.

    Denoising fills the masks as the script would, left to right, but errs at a share `slips` of
    the rows, by a hash of the context and the block. `calls` holds (method, ids).
    """

    name = "scripted"

    def __init__(
        self,
        script: Script,
        infill: FimFormat = FORMAT,
        slips: float = 0.0,
        vocab_size: int = VOCABULARY,
    ) -> None:
        self._script = script
        self._format = infill
        self._slips = slips
        self.config = replace(card(infill).architecture, vocab_size=vocab_size)
        self.calls: list[tuple[str, tuple[int, ...]]] = []
        self._call: ForwardCall | None = None

    @property
    def vocabulary(self) -> None:
        return None

    @property
    def max_batch_size(self) -> int:
        return 3

    def new_kv_cache(self) -> ScriptedKV:
        return ScriptedKV()

    def kv_bytes(self, tokens: int) -> int:
        return 10 * tokens

    def forward_batch(self, calls: Sequence[ForwardCall]) -> list[Predictions]:
        assert 1 <= len(calls) <= self.max_batch_size
        assert len({id(call.kv) for call in calls}) == len(calls)
        return [self.make(call) for call in calls]

    def make(self, call: ForwardCall) -> Predictions:
        self._call = call
        try:
            match call.kind:
                case "extend":
                    return self.extend(call.kv, call.ids)
                case "verify":
                    return self.verify(call.kv, call.ids, call.first)
                case "denoise":
                    return self.denoise(call.kv, call.ids)
        finally:
            self._call = None

    def extend(self, kv: KVCache, ids: Sequence[int]) -> Predictions:
        assert isinstance(kv, ScriptedKV)
        assert 1 <= len(ids) <= CHUNK_TOKENS
        self.calls.append(("extend", tuple(ids)))
        kv.ids.extend(ids)
        return self._predictions([self._script(tuple(kv.ids))])

    def verify(self, kv: KVCache, ids: Sequence[int], first: int = 0) -> Predictions:
        assert isinstance(kv, ScriptedKV)
        assert 1 <= len(ids) <= CHUNK_TOKENS
        self.calls.append(("verify", tuple(ids)))
        tokens = [token for token in ids if token != self._format.mask_id]
        assert list(ids[: len(tokens)]) == tokens, "masks stand at the end"
        start = kv.length
        kv.ids.extend(tokens)
        ends = range(start + 1, kv.length + 1)
        checked = [self._script(tuple(kv.ids[:end])) for end in ends]
        rows = [*checked, *self._filled(kv.ids, ids[len(tokens) :])]
        return self._predictions(rows[first:])

    def denoise(self, kv: KVCache, ids: Sequence[int]) -> Predictions:
        assert isinstance(kv, ScriptedKV)
        assert 1 <= len(ids) <= CHUNK_TOKENS
        self.calls.append(("denoise", tuple(ids)))
        return self._predictions(self._filled(kv.ids, ids))

    def _predictions(self, rows: Sequence[Mapping[int, float]]) -> Predictions:
        table = np.zeros((len(rows), self.config.vocab_size), np.float32)
        for row, chances in enumerate(rows):
            table[row, list(chances)] = list(chances.values())
        allowed = self._call.allowed if self._call else None
        if allowed is not None:
            assert allowed.shape == table.shape
            # A slip knows few tokens, perhaps none of those that are allowed.
            table = np.where(allowed, table + np.float32(1e-9), 0)
            table /= table.sum(axis=1, keepdims=True)
        ids = np.argsort(-table, axis=-1, kind="stable")[:, :16]
        safe = np.where(table > 0, table, 1)
        return Predictions(
            ids.astype(np.int64),
            np.take_along_axis(table, ids, axis=-1),
            -(table * np.log(safe)).sum(axis=-1),
        )

    def _filled(self, before: list[int], ids: Sequence[int]) -> list[Mapping[int, float]]:
        """What is predicted at each of `ids`, masks taken for what they stand for."""
        rows: list[Mapping[int, float]] = []
        known = list(before)
        for position, token in enumerate([*ids, self._format.mask_id]):
            predicted = self._script(tuple(known))
            known.append(
                token
                if token != self._format.mask_id
                else max(predicted, key=predicted.__getitem__)
            )
            luck = Random(f"{before}{ids}{position}")
            if luck.random() < self._slips:
                predicted = babble(f"{luck.random()}")(())
            rows.append(predicted)
        return rows[1:] if self._format.shift else rows[:-1]


def spell(text: str, end: bool = True, confidence: float = 0.95) -> Script:
    """A script that writes `text` after the last middle mark, then ends the middle."""
    wanted = LetterTokenizer().encode(text) + [FORMAT.eos_id] * end

    def script(ids: tuple[int, ...]) -> Mapping[int, float]:
        written = ids[::-1].index(FORMAT.middle_id) if FORMAT.middle_id in ids else 0
        token = wanted[min(written, len(wanted) - 1)]
        rest = (1 - confidence) / (VOCABULARY - 1)
        return {other: confidence if other == token else rest for other in range(VOCABULARY)}

    return script


def babble(seed: str = "") -> Script:
    """A script of arbitrary but fixed distributions over the whole vocabulary, marks included."""

    @lru_cache(maxsize=10_000)
    def script(ids: tuple[int, ...]) -> Mapping[int, float]:
        digest = hashlib.blake2b(repr((seed, ids)).encode(), digest_size=8).digest()
        rng = np.random.default_rng(int.from_bytes(digest, "little"))
        weights = rng.gamma(0.08, size=VOCABULARY) + 1e-6
        return dict(enumerate((weights / weights.sum()).tolist()))

    return script


@dataclass
class FakeClock:
    """A clock that stands still unless told to go on; nanoseconds."""

    now_ns: int = 0

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, milliseconds: float) -> None:
        self.now_ns += round(milliseconds * 1e6)


@dataclass
class ScriptedInfill:
    """An `Infill` that drafts what it is told, `letters` a step, and logs what happens.

    `script` maps a context and a rank to the text; each step costs `step_ms` on `clock`. `log`
    holds "step" and "closed" in order; `started_ns` the time at which each step began.
    """

    script: Callable[[Context, int], str]
    clock: FakeClock = field(default_factory=FakeClock)
    step_ms: float = 10.0
    letters: int = 4
    confidence: float = 0.9
    log: list[str] = field(default_factory=list)
    started_ns: list[int] = field(default_factory=list)

    def __call__(self, context: Context, *, rank: int = 0) -> Iterator[Draft]:
        text = self.script(context, rank)
        try:
            for step, end in enumerate(range(0, len(text) + self.letters, self.letters)):
                self.log.append("step")
                self.started_ns.append(self.clock())
                self.clock.advance(self.step_ms)
                yield Draft(text[:end], self.confidence, end >= len(text), step)
        finally:
            self.log.append("closed")
