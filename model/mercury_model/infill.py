"""Filling a gap: a script of network calls with ever better drafts between them.

The context `[suffix] [prefix]` is causal and its keys and values are kept between requests. The
middle is written block after block: masks are denoised until the block is settled, then the block
is run once more causally to extend the keys and values (Arriola et al. 2025, arXiv:2503.09573).
Not asking for the next draft is cancelling; closing a script, or forgetting it, frees its context
for the next request. Knows no clock, no threads and no device.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from mercury_model import unmask
from mercury_model.cache_lm import CacheLM
from mercury_model.config import CacheTrust, ModelCard
from mercury_model.contexts import Contexts
from mercury_model.middle import Draft
from mercury_model.run import Nearby, Run
from mercury_model.runtime import CHUNK_TOKENS, Call, Runtime
from mercury_model.sampling import Mode, Sampling
from mercury_model.script import Script, answered

__all__ = ["Draft", "Gap", "Infiller", "Mode", "Sampling", "Tokens"]


class Tokens(Protocol):
    """What this module needs of a tokenizer."""

    def context_ids(
        self, prefix: str, suffix: str, others: Sequence[tuple[str, str]] = ()
    ) -> list[int]:
        """The ids of the context of a gap, within the limits of its format."""

    def encode(self, text: str) -> list[int]:
        """The ids of `text`."""

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`, less an incomplete character at its end."""


@dataclass(frozen=True, slots=True)
class Gap:
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
        self._trust = card.cache_trust
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
        return answered(self.script(gap, self.context_ids(gap), sampling), self._runtime)

    def script(self, gap: Gap, ids: Sequence[int], sampling: Sampling) -> Script[Draft]:
        """Ever longer drafts for `gap`, of which the last is finished.

        `ids` are its `context_ids`. There is at most one call before each draft.

        Drafts have no text while the context is completed. Raises ValueError for a tradeoff
        outside [0, 1] and for a mode that the weights cannot do.
        """
        if sampling.mode != "diffusion" and not self._format.shift:
            raise ValueError(f"these weights have no autoregressive head for mode {sampling.mode}")
        policy = sampling.policy or unmask.dial(sampling.quality_speed_tradeoff)
        with self._contexts.lend(ids) as context:
            unread = context.last_chunk(ids) if sampling.mode == "verified" else ()
            prefill = 0
            reading = context.fill(ids[: len(ids) - len(unread)])
            step = next(reading, None)
            while isinstance(step, Call):
                prefill += 1
                if reading.send((yield step)) or unread:
                    yield Draft((), (), (), "", False, None, 0, prefill)
                step = next(reading, None)
            nearby = self._nearby(gap, self._trust if sampling.repeats else None)
            run = Run(context, sampling, self._format, self._tokenizer.decode, prefill, nearby)
            if sampling.mode == "diffusion":
                yield from _diffuse(run, policy)
            elif sampling.mode == "verified":
                yield from _verify(run, unread, self._tokenizer.encode(gap.prediction))
            else:
                yield from _decode(run)

    def _nearby(self, gap: Gap, trust: CacheTrust | None) -> Nearby:
        texts = (*gap.elsewhere, gap.suffix, gap.prefix)
        return Nearby(CacheLM(texts, self._tokenizer.encode), trust, gap.prefix)

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


def _diffuse(run: Run, policy: unmask.Policy) -> Script[Draft]:
    """Settle block after block by denoising; then each extends the context causally."""
    start = run.open_block()
    while (yield from run.goes_on()):
        block = run.middle.ids(start)
        if any(run.middle.open(start)):
            run.commit(policy, (yield Call("denoise", run.kv, block)), start)
        else:
            yield from run.extend(block)
            start = run.open_block()


def _decode(run: Run) -> Script[Draft]:
    """One token after the other from the causal predictions."""
    run.add_next()
    while (yield from run.goes_on()):
        yield from run.extend(run.middle.ids(len(run.middle) - 1))
        run.add_next()


def _verify(run: Run, unread: Sequence[int], predicted: Sequence[int]) -> Script[Draft]:
    """Each call checks the guesses made after the one before, and drafts behind them.

    The tokens of a block see no masks, so what they predict is the autoregressive head's; the
    masks behind them are the next guesses (as in TiDAR, arXiv:2511.08923), unless the text itself
    offers better ones. The first call reads the end of the context, too.
    """
    run.expect(unread, predicted)
    while run.reads or (yield from run.goes_on()):
        start = run.add_masks()
        run.accept((yield run.check(start)), start)
