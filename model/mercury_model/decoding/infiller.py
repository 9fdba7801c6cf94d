"""Filling a gap: a script of network calls with ever better drafts between them.

The context `[suffix] [prefix]` is causal and its keys and values are kept between requests. The
middle is written block after block: masks are denoised until the block is settled, then the block
is run once more causally to extend the keys and values (Arriola et al. 2025, arXiv:2503.09573).
Not asking for the next draft is cancelling; closing a script, or forgetting it, frees its context
for the next request. Knows no clock, no threads and no device.
"""

from collections.abc import Generator, Sequence

from mercury_model.decoding import unmasking
from mercury_model.decoding.call_generator import CallGenerator, run_alone
from mercury_model.decoding.lookup import CacheLM
from mercury_model.decoding.output import PartialOutput
from mercury_model.decoding.params import SamplingParams
from mercury_model.decoding.prefix_cache import PrefixCache
from mercury_model.decoding.prompt import FimPrompt, PromptTokenizer
from mercury_model.decoding.state import DecodingState, LookupContext
from mercury_model.runtime.limits import CHUNK_TOKENS
from mercury_model.runtime.protocol import ForwardCall, Runtime
from mercury_model.spec.card import CacheTrust, ModelCard


class Infiller:
    """Fills gaps with one model.

    `context_bytes` bounds the keys and values kept between requests.
    """

    def __init__(
        self,
        card: ModelCard,
        tokenizer: PromptTokenizer,
        runtime: Runtime,
        context_bytes: int = 128 << 20,
    ) -> None:
        self._format = card.infill
        self._trust = card.cache_trust
        self._tokenizer = tokenizer
        self._runtime = runtime
        self._contexts = PrefixCache(runtime, context_bytes)

    @property
    def kept_bytes(self) -> int:
        """Memory of the contexts that no script holds."""
        return self._contexts.nbytes

    def prefill(self, gap: FimPrompt) -> Generator[int, None, None]:
        """Make the context of `gap` ready; yields how many tokens are still to do.

        One chunk a `next`; stopping early loses nothing.
        """
        return run_alone(self._prefill(gap), self._runtime)

    def drafts(
        self, gap: FimPrompt, sampling: SamplingParams
    ) -> Generator[PartialOutput, None, None]:
        """`script` for `gap`, alone: at most one call a `next`."""
        return run_alone(self.script(gap, self.context_ids(gap), sampling), self._runtime)

    def script(
        self, gap: FimPrompt, ids: Sequence[int], sampling: SamplingParams
    ) -> CallGenerator[PartialOutput]:
        """Ever longer drafts for `gap`, of which the last is finished.

        `ids` are its `context_ids`. There is at most one call before each draft.

        Drafts have no text while the context is completed. Raises ValueError for a tradeoff
        outside [0, 1] and for a mode that the weights cannot do.
        """
        if sampling.mode != "diffusion" and not self._format.shift:
            raise ValueError(f"these weights have no autoregressive head for mode {sampling.mode}")
        policy = sampling.policy or unmasking.dial(sampling.quality_speed_tradeoff)
        with self._contexts.acquire(ids) as context:
            unread = context.last_chunk(ids) if sampling.mode == "verified" else ()
            prefill = 0
            reading = context.fill(ids[: len(ids) - len(unread)])
            step = next(reading, None)
            while isinstance(step, ForwardCall):
                prefill += 1
                if reading.send((yield step)) or unread:
                    yield PartialOutput((), (), (), "", False, None, 0, prefill)
                step = next(reading, None)
            nearby = self._nearby(gap, self._trust if sampling.repeats else None)
            run = DecodingState(
                context, sampling, self._format, self._tokenizer.decode, prefill, nearby
            )
            if sampling.mode == "diffusion":
                yield from _diffuse(run, policy)
            elif sampling.mode == "verified":
                yield from _verify(run, unread, self._tokenizer.encode(gap.prediction))
            else:
                yield from _decode(run)

    def _nearby(self, gap: FimPrompt, trust: CacheTrust | None) -> LookupContext:
        texts = (*gap.elsewhere, gap.suffix, gap.prefix)
        return LookupContext(CacheLM(texts, self._tokenizer.encode), trust, gap.prefix)

    def context_ids(self, gap: FimPrompt) -> list[int]:
        """What the model sees of a gap."""
        return list(self._tokenizer.fim_context(gap.prefix, gap.suffix, gap.others).ids)

    def most_tokens(self, ids: Sequence[int], sampling: SamplingParams) -> int:
        """How many tokens the context of a script holds at most, those at work included."""
        middle = min(sampling.max_tokens, self._format.middle_tokens)
        return len(ids) + middle + min(self._format.block_length, CHUNK_TOKENS)

    def bound(self, context_bytes: int, wanted: Sequence[int] = ()) -> None:
        """Keep no more between requests from now on; what helps with `wanted` goes last."""
        self._contexts.bound(context_bytes, wanted)

    def _prefill(self, gap: FimPrompt) -> CallGenerator[int]:
        ids = self.context_ids(gap)
        with self._contexts.acquire(ids) as context:
            yield from context.fill(ids)


def _diffuse(run: DecodingState, policy: unmasking.Policy) -> CallGenerator[PartialOutput]:
    """Settle block after block by denoising; then each extends the context causally."""
    start = run.open_block()
    while (yield from run.goes_on()):
        block = run.middle.ids(start)
        if any(run.middle.open(start)):
            run.commit(policy, (yield ForwardCall("denoise", run.kv, block)), start)
        else:
            yield from run.extend(block)
            start = run.open_block()


def _decode(run: DecodingState) -> CallGenerator[PartialOutput]:
    """One token after the other from the causal predictions."""
    run.add_next()
    while (yield from run.goes_on()):
        yield from run.extend(run.middle.ids(len(run.middle) - 1))
        run.add_next()


def _verify(
    run: DecodingState, unread: Sequence[int], predicted: Sequence[int]
) -> CallGenerator[PartialOutput]:
    """Each call checks the guesses made after the one before, and drafts behind them.

    The tokens of a block see no masks, so what they predict is the autoregressive head's; the
    masks behind them are the next guesses (as in TiDAR, arXiv:2511.08923), unless the text itself
    offers better ones. The first call reads the end of the context, too.
    """
    run.expect(unread, predicted)
    while run.reads or (yield from run.goes_on()):
        start = run.add_masks()
        run.accept((yield run.check(start)), start)
