"""The state of one infill: its middle, its draft tokens and the prediction behind them.

Says which calls to make and takes their predictions. Makes no call itself.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from mercury_model.decoding import unmasking
from mercury_model.decoding.healing import Healing, owed_text
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
"""Draft tokens are verified while all of them are right with at least this probability: each costs
a twentieth to a tenth of a call on a CPU. The text depends neither on this nor on the next three.
"""

MASKS_PER_CALL = 2
"""The number of masks behind the draft tokens of a call. They draft the tokens of the next."""

MIN_MASK_PROBABILITY = 0.5
"""Masks cost a quarter of a call on a CPU, for nothing if a draft token before them is wrong. They
are added if the text so far and the draft tokens are all right with at least this probability."""

FIRST_TOKEN_PROBABILITY = 0.4
"""How often the first token is right, until it is known."""

NO_PREDICTIONS = Predictions(
    np.empty((0, 1), np.int64), np.empty((0, 1), np.float32), np.empty(0, np.float32)
)
"""The predictions for a block before its first step."""


@dataclass(frozen=True, slots=True)
class LookupContext:
    """A cache language model, how far it is trusted, and the text before the gap."""

    cache: CacheLM
    trust: CacheTrust | None
    before: str


class DecodingState:
    """The state of one infill; `healing` says what its first tokens must spell."""

    def __init__(
        self,
        context: CachedPrefix,
        sampling: SamplingParams,
        format: FimFormat,
        healing: Healing,
        prefill: int,
        nearby: LookupContext,
    ) -> None:
        self.kv = context.kv
        self.sampling = sampling
        self._context = context
        self._next = context.next
        self._format = format
        self._healing = healing
        self._nearby = nearby
        self._prefill = prefill
        self._steps = 0
        self._drafted = 0
        self._chance = FIRST_TOKEN_PROBABILITY  # of all committed tokens
        self._denoised = NO_PREDICTIONS
        self._drafting = format.masks_trained
        self._unread: Sequence[int] = ()
        self._predicted: Sequence[int] = ()
        self._block = min(format.block_length, CHUNK_TOKENS)
        limit = min(sampling.max_tokens, format.middle_tokens)
        self.middle = Middle(
            StopCriteria(format.end_ids, format.mask_id, limit, sampling.stop, healing.text)
        )
        self._chooser = Sampler(
            format.marks,
            format.eos_id,
            limit,
            sampling.rank,
            sampling.temperature,
            sampling.seed,
        )

    @property
    def reads(self) -> bool:
        """Whether the next call completes the context. Until then no token is known."""
        return bool(self._unread)

    def expect(self, unread: Sequence[int], predicted: Sequence[int]) -> None:
        """Draft for the first call, which reads `unread`, the last ids of the context, if any.

        `predicted` is a guess at the middle or at its beginning.
        """
        self._unread, self._predicted = unread, predicted
        if not unread:
            self.add_next()
        self._draft(DraftTokens())

    def goes_on(self) -> Generator[PartialOutput, Predictions, bool]:
        """Yield a snapshot; returns whether there is more to come."""
        draft = self.middle.draft(self._steps, self._prefill)
        yield draft
        return not draft.finished

    def open_block(self) -> int:
        """Open the positions of a block; returns where they start.

        With a shift the causal context predicts the first, which is committed at once.
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
        """Commit what `policy` chooses after a denoising step over the block at `start`.

        While something is owed, that is the leftmost open position alone: no other is known to
        stand behind the bytes owed.
        """
        self._steps += 1
        first = self._first_predicted(start)
        rows = predictions.at(slice(len(self.middle) - first))
        known = self._run()
        choices = self._chooser.choose(rows, first, self._healing.spelled_by(known))
        view = unmasking.BlockView(
            np.array(self.middle.open(first), np.bool_),
            choices.confidence,
            choices.entropy,
            kl_divergence(rows, self._denoised),
            np.array(self.middle.confidences(first), np.float32),
        )
        self._denoised = rows
        if self._healing.rest(known):
            chosen = [len(known) - first]
        else:
            self._remask(view, first)
            chosen = np.flatnonzero(policy(view)).tolist()
        for row in chosen:
            self.middle.commit(first + row, int(choices.ids[row]), float(choices.confidence[row]))

    def denoise(self, start: int) -> ForwardCall:
        """The call that denoises the block at `start`.

        While something is owed, the row of the leftmost open position is restricted.
        """
        block, known = self.middle.ids(start), self._run()
        rests = [b""] * len(block)
        rests[len(known) - self._first_predicted(start)] = self._healing.rest(known)
        return ForwardCall("denoise", self.kv, block, allowed=self._healing.rows(rests))

    def add_masks(self) -> int:
        """Add masks behind the draft tokens, if worth it; returns the last committed position.

        That is -1 while there is none. Masks cannot stand behind bytes that are still owed.
        """
        start = len(self.middle) - 1 - self._drafted
        if self._drafting and not self._rest():
            self.middle.add_masks(
                min(MASKS_PER_CALL, self._block - 1 - self._drafted, self._room())
            )
        return start

    def check(self, start: int) -> ForwardCall:
        """The call that reads the rest of the context, then the middle from `start` on.

        Row i stands behind the first i draft tokens, so it is restricted to what these leave owed.
        """
        middle = self.middle.ids(0)
        ids = [*self._unread, *middle[max(start, 0) :]]
        rests = [self._healing.rest(middle[:end]) for end in range(start + 1, len(middle) + 1)]
        return ForwardCall(
            "verify", self.kv, ids, max(0, len(self._unread) - 1), self._healing.rows(rests)
        )

    def accept(self, predictions: Predictions, start: int) -> None:
        """Commit the draft tokens after `start` that the causal rows choose, and one token more.

        If they choose all of them, the masks behind become draft tokens.
        """
        self._steps += 1
        if self._unread:
            self._context.read(self._unread, predictions.at(slice(1)), self._healing.owed)
            self._unread = ()
        drafts = self.middle.ids(start + 1)[: self._drafted]
        self.middle.cut(start + 1)
        self._drafted = 0
        for row in range(len(drafts) + 1):
            token, confidence = self._choose_next(predictions.at(slice(row, row + 1)))
            self._add(token, confidence)
            if [token] != drafts[row : row + 1]:
                break
        self.kv.truncate(self.kv.length - len(drafts) + row)
        drafted = DraftTokens()
        if row == len(drafts):
            behind = predictions.at(slice(row + 1, None))
            choices = self._chooser.choose(behind, len(self.middle), None)
            drafted = DraftTokens(choices.ids.tolist(), choices.confidence)
        self._draft(drafted)

    def _draft(self, denoised: DraftTokens) -> None:
        """Add the draft tokens that get furthest: denoised, predicted by the caller, or looked up.

        They are cut before the first token that disagrees with what is owed.
        """
        most = max(0, min(self._block - 1, self.middle.remaining, self._room()))
        middle, rest, before = self.middle.ids(0), self._rest(), self._before()
        found = DraftTokens() if before is None else self._nearby.cache.draft(*before, most)
        predicted = remaining_prediction(self._predicted, middle, most)
        sources = (
            draft.first(self._healing.agreeing_count(draft.ids, rest))
            for draft in (denoised, found, predicted)
        )
        chosen = max(sources, key=DraftTokens.expected)
        chosen = chosen.first(most).likely(MIN_DRAFT_PROBABILITY)
        for token, chance in zip(chosen.ids, chosen.chances, strict=True):
            self.middle.add_draft(token, float(chance))
        self._drafted = len(chosen.ids)
        worth_it = self._chance * chosen.all_right() >= MIN_MASK_PROBABILITY
        self._drafting = self._format.masks_trained and worth_it

    def _room(self) -> int:
        """The number of rows that the next call has left."""
        rows = len(self._unread) or 1
        return CHUNK_TOKENS - rows - self._drafted

    def _rest(self) -> bytes:
        """The bytes owed behind the middle, draft tokens included; it has no masks."""
        return self._healing.rest(self.middle.ids(0))

    def _run(self) -> list[int]:
        """The ids before the leftmost open position."""
        return self.middle.ids(0)[: [*self.middle.open(0), True].index(True)]

    def _first_predicted(self, start: int) -> int:
        """The position that row 0 of the block at `start` predicts."""
        return start + 1 if self._format.shift else start

    def _remask(self, view: unmasking.BlockView, first: int) -> None:
        if self.sampling.remask is not None:
            for row in np.flatnonzero(self.sampling.remask(view)):
                self.middle.reopen(first + int(row))

    def _known_next(self) -> Predictions:
        assert self._next is not None, "the context is complete"
        return self._next

    def _choose_next(self, predictions: Predictions) -> tuple[int, float]:
        """The token behind the middle and its probability, given the network's `predictions`."""
        trust, before = self._nearby.trust, self._before()
        if trust and before is not None:
            votes = self._nearby.cache.candidates(*before).among(
                self._healing.allowed(self._rest())
            )
            predictions = interpolate(predictions, votes, trust, self._format.end_ids)
        ranked = self._healing.spelled_by(self.middle.ids(0))
        choices = self._chooser.choose(predictions, len(self.middle), ranked)
        return int(choices.ids[0]), float(choices.confidence[0])

    def _before(self) -> tuple[str, str] | None:
        """The document's text up to the end of the middle, and which of its end is still owed.

        None if the middle ends within a character.
        """
        ids = self.middle.ids(0)
        owed = owed_text(self._healing.rest(ids))
        if owed is None or (not owed and self._healing.splits_a_character(ids)):
            return None
        return self._nearby.before[-MAX_MATCH_BYTES:] + self._healing.text(ids), owed

    def _add(self, token: int, confidence: float) -> None:
        self._chance = confidence * (self._chance if len(self.middle) else 1.0)
        self.middle.add(token, confidence)

    def extend(self, ids: Sequence[int]) -> Generator[ForwardCall, Predictions, None]:
        """Append the last committed ids of the middle to the causal context."""
        allowed = self._healing.rows([self._rest()])
        self._next = yield ForwardCall("extend", self.kv, ids, allowed=allowed)
        self._steps += 1
