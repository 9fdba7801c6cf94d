"""Filling a gap: a script of network calls with ever better drafts between them.

The context `[suffix] [prefix]` is causal and its keys and values are kept between requests. The
middle is written block after block: masks are denoised until the block is settled, then the block
is run once more causally to extend the keys and values (Arriola et al. 2025, arXiv:2503.09573).
Not asking for the next draft is cancelling; closing a script, or forgetting it, frees its context
for the next request. Knows no clock, no threads and no device.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

from mercury_model import unmask
from mercury_model.choose import Choices, Chooser, moved
from mercury_model.config import InfillFormat, ModelCard
from mercury_model.contexts import Context, Contexts
from mercury_model.guesses import Guesses, looked_up
from mercury_model.middle import Draft, Middle, Rules
from mercury_model.runtime import CHUNK_TOKENS, Call, Predictions, Runtime
from mercury_model.script import Script, answered

__all__ = ["Draft", "Gap", "Infiller", "Mode", "Sampling", "Tokens"]

Mode = Literal["diffusion", "autoregressive", "verified"]

GUESS_CHANCE = 0.12
"""Guesses are verified as far as they are all right with this chance: a row more costs a twentieth
of a call on a CPU. The text does not depend on it, nor on what follows."""

DRAFTED = 2
"""How many masks stand behind the guesses of a call, to draft those of the next."""

DRAFT_CHANCE = 0.5
"""Masks are for nothing when a guess before them is wrong, and cost a quarter of a call on a CPU:
they stand there if the text so far and the guesses are all right with this chance."""

NOTHING = Predictions(
    np.empty((0, 1), np.int64), np.empty((0, 1), np.float32), np.empty(0, np.float32)
)
"""What was predicted for a block before its first step."""


class Tokens(Protocol):
    """What this module needs of a tokenizer."""

    def context_ids(
        self, prefix: str, suffix: str, others: Sequence[tuple[str, str]] = ()
    ) -> list[int]:
        """The ids of the context of a gap, within the limits of its format."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, less an incomplete character at its end."""


@dataclass(frozen=True, slots=True)
class Gap:
    """What stands before and after the gap; `others` are (path, text) of other files."""

    prefix: str
    suffix: str
    others: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to fill a gap.

    `quality_speed_tradeoff` in [0, 1] trades steps for quality in diffusion mode, as `unmask.dial`
    does; a `policy` says itself what each step commits, and `remask` what of it is masked again.
    The text ends before any of the `stop` strings, and after `max_tokens` or what the weights were
    trained for. `rank` begins with the rank-th likeliest token. `temperature` 0 takes the likeliest
    tokens; above, the same `seed` gives the same drafts.

    `mode`: "diffusion" settles a block of tokens over several steps; "autoregressive" one token a
    step, left to right; "verified" checks guesses, drafted by denoising or looked up in the
    context, each step those of the one before, and gives the autoregressive text.
    """

    quality_speed_tradeoff: float = 0.5
    max_tokens: int = 60
    stop: tuple[str, ...] = ()
    rank: int = 0
    temperature: float = 0.0
    seed: int = 0
    mode: Mode = "diffusion"
    policy: unmask.Policy | None = None
    remask: unmask.Remask | None = None


class Infiller:
    """Fills gaps with one model.

    `context_bytes` bounds the keys and values kept between requests.
    """

    def __init__(
        self,
        card: ModelCard,
        tokenizer: Tokens,
        runtime: Runtime,
        context_bytes: int = 128 << 20,
    ) -> None:
        self._format = card.infill
        self._tokenizer = tokenizer
        self._runtime = runtime
        self._contexts = Contexts(runtime, context_bytes)

    @property
    def kept_bytes(self) -> int:
        """Memory of the contexts that no script holds."""
        return self._contexts.nbytes

    def prefill(self, gap: Gap) -> Generator[int, None, None]:
        """Make the context of `gap` ready; yields how many tokens are still to do.

        One chunk a `next`; stopping early loses nothing.
        """
        return answered(self._prefill(gap), self._runtime)

    def drafts(self, gap: Gap, sampling: Sampling) -> Generator[Draft, None, None]:
        """`script` for `gap`, alone: at most one call a `next`."""
        return answered(self.script(self.context_ids(gap), sampling), self._runtime)

    def script(self, ids: Sequence[int], sampling: Sampling) -> Script[Draft]:
        """Ever longer drafts for the gap after `ids`, of which the last is finished.

        There is at most one call before each.

        Drafts have no text while the context is completed. Raises ValueError for a tradeoff
        outside [0, 1] and for a mode that the weights cannot do.
        """
        if sampling.mode != "diffusion" and not self._format.shift:
            raise ValueError(f"these weights have no autoregressive head for mode {sampling.mode}")
        policy = sampling.policy or unmask.dial(sampling.quality_speed_tradeoff)
        with self._contexts.lend(ids) as context:
            prefill = 0
            reading = context.fill(ids)
            step = next(reading, None)
            while isinstance(step, Call):
                prefill += 1
                if reading.send((yield step)):
                    yield Draft((), (), (), "", False, None, 0, prefill)
                step = next(reading, None)
            run = _Run(context, sampling, self._format, self._tokenizer.decode, prefill)
            if sampling.mode == "diffusion":
                yield from _diffuse(run, policy)
            elif sampling.mode == "verified":
                yield from _verify(run)
            else:
                yield from _decode(run)

    def context_ids(self, gap: Gap) -> list[int]:
        """What the model sees of a gap."""
        return self._tokenizer.context_ids(gap.prefix, gap.suffix, gap.others)

    def most_tokens(self, ids: Sequence[int], sampling: Sampling) -> int:
        """How many tokens the context of a script holds at most, those at work included."""
        middle = min(sampling.max_tokens, self._format.middle_tokens)
        return len(ids) + middle + min(self._format.block_length, CHUNK_TOKENS)

    def bound(self, context_bytes: int, wanted: Sequence[int] = ()) -> None:
        """Keep no more between requests from now on; what helps with `wanted` goes last."""
        self._contexts.bound(context_bytes, wanted)

    def _prefill(self, gap: Gap) -> Script[int]:
        ids = self.context_ids(gap)
        with self._contexts.lend(ids) as context:
            yield from context.fill(ids)


def _diffuse(run: "_Run", policy: unmask.Policy) -> Script[Draft]:
    """Settle block after block by denoising; then each extends the context causally."""
    start = run.open_block()
    while (yield from run.goes_on()):
        block = run.middle.ids(start)
        if any(run.middle.open(start)):
            run.commit(policy, (yield Call("denoise", run.kv, block)), start)
        else:
            yield from run.extend(block)
            start = run.open_block()


def _decode(run: "_Run") -> Script[Draft]:
    """One token after the other from the causal predictions."""
    run.add_next()
    while (yield from run.goes_on()):
        yield from run.extend(run.middle.ids(len(run.middle) - 1))
        run.add_next()


def _verify(run: "_Run") -> Script[Draft]:
    """Each call checks the guesses made after the one before, and drafts behind them.

    The tokens of a block see no masks, so what they predict is the autoregressive head's; the
    masks behind them are the next guesses (as in TiDAR, arXiv:2511.08923), unless the text itself
    offers better ones.
    """
    run.add_next()
    run.guess(Guesses())
    while (yield from run.goes_on()):
        start = run.add_masks()
        run.accept((yield Call("verify", run.kv, run.middle.ids(start))), start)


class _Run:
    """One gap on its way: the middle, what is predicted next, and how many calls it took."""

    def __init__(
        self,
        context: Context,
        sampling: Sampling,
        format: InfillFormat,
        decode: Callable[[Sequence[int]], str],
        prefill: int,
    ) -> None:
        assert context.next is not None, "the context is complete"
        self.kv = context.kv
        self.sampling = sampling
        self._next = context.next
        self._format = format
        self._prefill = prefill
        self._steps = 0
        self._guesses = 0
        self._chance = 1.0
        self._denoised = NOTHING
        self._drafting = True
        self._before = context.ids[:-1]  # the last id is the mark of the middle
        self._block = min(format.block_length, CHUNK_TOKENS)
        limit = min(sampling.max_tokens, format.middle_tokens)
        self.middle = Middle(Rules(format.end_id, format.mask_id, limit, sampling.stop, decode))
        self._chooser = Chooser(
            (format.mask_id, format.suffix_id, format.prefix_id, format.middle_id, format.file_id),
            format.end_id,
            limit,
            sampling.rank,
            sampling.temperature,
            sampling.seed,
        )

    def goes_on(self) -> Generator[Draft, Predictions, bool]:
        """Show a snapshot; whether there is more to come."""
        draft = self.middle.draft(self._steps, self._prefill)
        yield draft
        return not draft.finished

    def open_block(self) -> int:
        """Open the positions of a block; where they start.

        With a shift the first is settled as the causal context predicts it.
        """
        start = len(self.middle)
        self._denoised = NOTHING
        self.middle.add_masks(self._block)
        if self._format.shift:
            choices = self._chooser.choose(self._next, start)
            self.middle.settle(start, int(choices.ids[0]), float(choices.confidence[0]))
        return start

    def add_next(self) -> None:
        """Add the token that the causal context predicts."""
        self._add(self._chooser.choose(self._next, len(self.middle)), 0)

    def commit(self, policy: unmask.Policy, predictions: Predictions, start: int) -> None:
        """Settle what `policy` chooses after a denoising step over the block at `start`."""
        self._steps += 1
        first = start + 1 if self._format.shift else start
        rows = _rows(predictions, 0, len(self.middle) - first)
        choices = self._chooser.choose(rows, first)
        view = unmask.View(
            np.array(self.middle.open(first), np.bool_),
            choices.confidence,
            choices.entropy,
            moved(rows, self._denoised),
            np.array(self.middle.confidences(first), np.float32),
        )
        self._denoised = rows
        if self.sampling.remask is not None:
            for row in np.flatnonzero(self.sampling.remask(view)):
                self.middle.reopen(first + int(row))
        for row in np.flatnonzero(policy(view)):
            self.middle.settle(
                first + int(row), int(choices.ids[row]), float(choices.confidence[row])
            )

    def add_masks(self) -> int:
        """Open positions behind the guesses, if it is worth it; where the last settled token is."""
        start = len(self.middle) - 1 - self._guesses
        if self._drafting:
            self.middle.add_masks(min(DRAFTED, self._block - 1 - self._guesses))
        return start

    def accept(self, predictions: Predictions, start: int) -> None:
        """Settle the guesses after `start` that are what the causal rows choose, and one more.

        If all are, the masks behind them become guesses, as far as they are likely to hold.
        """
        self._steps += 1
        guesses = self.middle.ids(start + 1)[: self._guesses]
        choices = self._chooser.choose(predictions, start + 1)
        agreed = 0
        while agreed < len(guesses) and choices.ids[agreed] == guesses[agreed]:
            agreed += 1
        self.kv.truncate(self.kv.length - len(guesses) + agreed)
        self.middle.cut(start + 1)
        for row in range(agreed + 1):
            self._add(choices, row)
        drafted = Guesses()
        if agreed == len(guesses):
            behind = slice(agreed + 1, None)
            drafted = Guesses(choices.ids[behind].tolist(), choices.confidence[behind])
        self.guess(drafted)

    def guess(self, drafted: Guesses) -> None:
        """Guess on: what was drafted by denoising, or looked up, whichever gets further."""
        most = max(0, min(self._block - 1, self.middle.remaining))
        found = looked_up([*self._before, *self.middle.ids(0)], most)
        chosen = max(drafted, found, key=Guesses.expected)
        chosen = chosen.first(most).likely(GUESS_CHANCE)
        for token, chance in zip(chosen.ids, chosen.chances, strict=True):
            self.middle.add_guess(token, float(chance))
        self._guesses = len(chosen.ids)
        self._drafting = self._chance * chosen.all_right() >= DRAFT_CHANCE

    def _add(self, choices: Choices, row: int) -> None:
        confidence = float(choices.confidence[row])
        self.middle.add(int(choices.ids[row]), confidence)
        self._chance *= confidence

    def extend(self, ids: Sequence[int]) -> Generator[Call, Predictions, None]:
        """Append settled ids to the causal context."""
        self._next = yield Call("extend", self.kv, ids)
        self._steps += 1


def _rows(predictions: Predictions, start: int, stop: int) -> Predictions:
    return Predictions(
        predictions.ids[start:stop], predictions.probs[start:stop], predictions.entropy[start:stop]
    )
