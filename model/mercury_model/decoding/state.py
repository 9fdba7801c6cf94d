"""One gap on its way: what is settled, what is guessed, what is predicted next. Makes no calls."""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np

from mercury_model.decoding import unmasking
from mercury_model.decoding.lookup import MAX_MATCH_BYTES, CacheLM, interpolate
from mercury_model.decoding.middle import Middle, StopCriteria
from mercury_model.decoding.output import PartialOutput
from mercury_model.decoding.params import SamplingParams
from mercury_model.decoding.prefix_cache import CachedPrefix
from mercury_model.decoding.sampler import Sampler, kl_divergence
from mercury_model.decoding.speculative import DraftTokens, remaining_prediction
from mercury_model.runtime.limits import CHUNK_TOKENS
from mercury_model.runtime.protocol import ForwardCall, Predictions
from mercury_model.spec.card import CacheTrust
from mercury_model.spec.fim_format import FimFormat

MIN_DRAFT_PROBABILITY = 0.2
"""Guesses are verified as far as they are all right with this chance: a row more costs between a
twentieth and a tenth of a call on a CPU. The text does not depend on it, nor on what follows."""

MASKS_PER_CALL = 2
"""How many masks stand behind the guesses of a call, to draft those of the next."""

MIN_MASK_PROBABILITY = 0.5
"""Masks are for nothing when a guess before them is wrong, and cost a quarter of a call on a CPU:
they stand there if the text so far and the guesses are all right with this chance."""

FIRST_TOKEN_PROBABILITY = 0.4
"""How often the first token is right, as long as it is not known."""

NO_PREDICTIONS = Predictions(
    np.empty((0, 1), np.int64), np.empty((0, 1), np.float32), np.empty(0, np.float32)
)
"""What was predicted for a block before its first step."""


@dataclass(frozen=True, slots=True)
class LookupContext:
    """What a cache language model has read, how far it is trusted, and what the gap follows."""

    cache: CacheLM
    trust: CacheTrust | None
    before: str


class DecodingState:
    """One gap on its way: the middle, what is predicted next, and how many calls it took."""

    def __init__(
        self,
        context: CachedPrefix,
        sampling: SamplingParams,
        format: FimFormat,
        decode: Callable[[Sequence[int]], str],
        prefill: int,
        nearby: LookupContext,
    ) -> None:
        self.kv = context.kv
        self.sampling = sampling
        self._context = context
        self._next = context.next
        self._format = format
        self._decode = decode
        self._nearby = nearby
        self._prefill = prefill
        self._steps = 0
        self._guesses = 0
        self._chance = FIRST_TOKEN_PROBABILITY  # of all that is settled
        self._denoised = NO_PREDICTIONS
        self._drafting = True
        self._unread: Sequence[int] = ()
        self._predicted: Sequence[int] = ()
        self._block = min(format.block_length, CHUNK_TOKENS)
        limit = min(sampling.max_tokens, format.middle_tokens)
        self.middle = Middle(
            StopCriteria(format.eos_id, format.mask_id, limit, sampling.stop, decode)
        )
        self._chooser = Sampler(
            (format.mask_id, format.suffix_id, format.prefix_id, format.middle_id, format.file_id),
            format.eos_id,
            limit,
            sampling.rank,
            sampling.temperature,
            sampling.seed,
        )

    @property
    def reads(self) -> bool:
        """Whether the next call completes the context, before which nothing is known."""
        return bool(self._unread)

    def expect(self, unread: Sequence[int], predicted: Sequence[int]) -> None:
        """Guess for the first call, which has to read the last ids of the context if any are left.

        `predicted` is what the middle is thought to be, or how it is thought to begin.
        """
        self._unread, self._predicted = unread, predicted
        if not unread:
            self.add_next()
        self.guess(DraftTokens())

    def goes_on(self) -> Generator[PartialOutput, Predictions, bool]:
        """Show a snapshot; whether there is more to come."""
        draft = self.middle.draft(self._steps, self._prefill)
        yield draft
        return not draft.finished

    def open_block(self) -> int:
        """Open the positions of a block; where they start.

        With a shift the first is settled as the causal context predicts it.
        """
        start = len(self.middle)
        self._denoised = NO_PREDICTIONS
        first = self._choose_next(self._known_next()) if self._format.shift else None
        self.middle.add_masks(self._block)
        if first:
            self.middle.commit(start, *first)
        return start

    def add_next(self) -> None:
        """Add the token that the causal context predicts."""
        self._add(*self._choose_next(self._known_next()))

    def commit(self, policy: unmasking.Policy, predictions: Predictions, start: int) -> None:
        """Settle what `policy` chooses after a denoising step over the block at `start`."""
        self._steps += 1
        first = start + 1 if self._format.shift else start
        rows = predictions.at(slice(len(self.middle) - first))
        choices = self._chooser.choose(rows, first)
        view = unmasking.BlockView(
            np.array(self.middle.open(first), np.bool_),
            choices.confidence,
            choices.entropy,
            kl_divergence(rows, self._denoised),
            np.array(self.middle.confidences(first), np.float32),
        )
        self._denoised = rows
        if self.sampling.remask is not None:
            for row in np.flatnonzero(self.sampling.remask(view)):
                self.middle.reopen(first + int(row))
        for row in np.flatnonzero(policy(view)):
            self.middle.commit(
                first + int(row), int(choices.ids[row]), float(choices.confidence[row])
            )

    def add_masks(self) -> int:
        """Open positions behind the guesses, if it is worth it; where the last settled token is.

        That is -1 while there is none.
        """
        start = len(self.middle) - 1 - self._guesses
        if self._drafting:
            self.middle.add_masks(
                min(MASKS_PER_CALL, self._block - 1 - self._guesses, self._room())
            )
        return start

    def check(self, start: int) -> ForwardCall:
        """The call that reads what is unread of the context, then the middle from `start` on."""
        ids = [*self._unread, *self.middle.ids(max(start, 0))]
        return ForwardCall("verify", self.kv, ids, first=max(0, len(self._unread) - 1))

    def accept(self, predictions: Predictions, start: int) -> None:
        """Settle the guesses after `start` that are what the causal rows choose, and one more.

        If all are, the masks behind them become guesses, as far as they are likely to hold.
        """
        self._steps += 1
        if self._unread:
            self._context.read(self._unread, predictions.at(slice(1)))
            self._unread = ()
        guesses = self.middle.ids(start + 1)[: self._guesses]
        self.middle.cut(start + 1)
        self._guesses = 0
        for row in range(len(guesses) + 1):
            token, confidence = self._choose_next(predictions.at(slice(row, row + 1)))
            self._add(token, confidence)
            if [token] != guesses[row : row + 1]:
                break
        self.kv.truncate(self.kv.length - len(guesses) + row)
        drafted = DraftTokens()
        if row == len(guesses):
            behind = predictions.at(slice(row + 1, None))
            choices = self._chooser.choose(behind, len(self.middle))
            drafted = DraftTokens(choices.ids.tolist(), choices.confidence)
        self.guess(drafted)

    def guess(self, drafted: DraftTokens) -> None:
        """Guess on: what was drafted by denoising, predicted or looked up, whichever gets further.

        There is a guess in a call for every token but the first; for that, too, where the call
        completes the context.
        """
        most = max(0, min(self._block - 1, self.middle.remaining, self._room()))
        before = self._before()
        found = DraftTokens() if before is None else self._nearby.cache.guess(before, most)
        predicted = remaining_prediction(self._predicted, self.middle.ids(0), most)
        chosen = max(drafted, found, predicted, key=DraftTokens.expected)
        chosen = chosen.first(most).likely(MIN_DRAFT_PROBABILITY)
        for token, chance in zip(chosen.ids, chosen.chances, strict=True):
            self.middle.add_guess(token, float(chance))
        self._guesses = len(chosen.ids)
        self._drafting = self._chance * chosen.all_right() >= MIN_MASK_PROBABILITY

    def _room(self) -> int:
        """How many rows the next call may have beside those it must have."""
        rows = len(self._unread) or 1
        return CHUNK_TOKENS - rows - self._guesses

    def _known_next(self) -> Predictions:
        assert self._next is not None, "the context is complete"
        return self._next

    def _choose_next(self, predictions: Predictions) -> tuple[int, float]:
        """The token behind the middle, given what the network expects there, and its chance."""
        trust, before = self._nearby.trust, self._before()
        if trust and before is not None:
            votes = self._nearby.cache.votes(before)
            predictions = interpolate(predictions, votes, trust, self._format.eos_id)
        choices = self._chooser.choose(predictions, len(self.middle))
        return int(choices.ids[0]), float(choices.confidence[0])

    def _before(self) -> str | None:
        """The end of the text up to the end of the middle; None if that is within a character."""
        ids = self.middle.ids(0)
        text = self._decode(ids)
        if ids and text == self._decode(ids[:-1]):
            return None
        return self._nearby.before[-MAX_MATCH_BYTES:] + text

    def _add(self, token: int, confidence: float) -> None:
        self._chance = confidence * (self._chance if len(self.middle) else 1.0)
        self.middle.add(token, confidence)

    def extend(self, ids: Sequence[int]) -> Generator[ForwardCall, Predictions, None]:
        """Append settled ids to the causal context."""
        self._next = yield ForwardCall("extend", self.kv, ids)
        self._steps += 1
