"""Fills a gap: a generator of network calls with ever longer partial outputs between them.

The context is causal, and its keys and values are kept between requests. The middle is written
block after block: masks are denoised until all are committed, then the block is run once more
causally to extend the keys and values (Arriola et al. 2025, arXiv:2503.09573). To cancel is not to
ask for the next output. Closing a generator, or dropping it, releases its context for the next
request. Knows no clock, no threads and no device.
"""

from collections.abc import Callable, Generator, Sequence
from functools import cached_property

from mercury_model.decoding import unmasking
from mercury_model.decoding.call_generator import CallGenerator, run_alone
from mercury_model.decoding.healing import Healing, TokenIndex, owed_text, require_every_byte
from mercury_model.decoding.lookup import CacheLM
from mercury_model.decoding.output import PartialOutput
from mercury_model.decoding.params import SamplingParams
from mercury_model.decoding.prefix_cache import PrefixCache
from mercury_model.decoding.prompt import FimPrompt, PromptTokenizer
from mercury_model.decoding.state import DecodingState, LookupContext
from mercury_model.runtime.limits import CHUNK_TOKENS
from mercury_model.runtime.protocol import ForwardCall, Predictions, Runtime
from mercury_model.spec.card import CacheTrust, ModelCard
from mercury_model.spec.fim_format import FimContext, fim_context


class Infiller:
    """Fills gaps with one model.

    `context_bytes` bounds the keys and values kept between requests. `chunk_tokens` says how many
    tokens of a context the next call may read, at most CHUNK_TOKENS. Raises WeightsUnsupported for
    a format that heals tokens with a vocabulary that cannot spell every text.
    """

    def __init__(
        self,
        card: ModelCard,
        tokenizer: PromptTokenizer,
        runtime: Runtime,
        context_bytes: int = 128 << 20,
        chunk_tokens: Callable[[], int] = lambda: CHUNK_TOKENS,
    ) -> None:
        self._format = card.infill
        self._trust = card.cache_trust
        self._tokenizer = tokenizer
        self._runtime = runtime
        self._chunk_tokens = chunk_tokens
        self._contexts = PrefixCache(runtime, context_bytes)
        if card.infill.heal:
            require_every_byte(tokenizer.token_bytes, runtime.vocabulary)

    @property
    def cached_bytes(self) -> int:
        """The memory of the contexts that no generator holds."""
        return self._contexts.nbytes

    def prefill(self, gap: FimPrompt) -> Generator[int, None, None]:
        """Read the context of `gap`, one chunk a step; yields the number of tokens still to read.

        Stopping early loses nothing.
        """
        return run_alone(self.read(self.fim_context(gap)), self._make)

    def drafts(
        self, gap: FimPrompt, sampling: SamplingParams
    ) -> Generator[PartialOutput, None, None]:
        """The outputs of `generate` for `gap`, its calls made alone: at most one a step."""
        return run_alone(self.generate(gap, self.fim_context(gap), sampling), self._make)

    def generate(
        self, gap: FimPrompt, wanted: FimContext, sampling: SamplingParams
    ) -> CallGenerator[PartialOutput]:
        """Ever longer outputs for `gap`, the last one finished.

        `wanted` is the window to read: the `fim_context` of the gap, or its `quick_context`.

        There is at most one call before each output. Outputs have no text while the context is
        read. Raises ValueError for a tradeoff outside [0, 1], and for a mode that the weights do
        not have.
        """
        if sampling.mode != "diffusion" and not self._format.shift:
            raise ValueError(f"these weights have no autoregressive head for mode {sampling.mode}")
        policy = sampling.policy or unmasking.dial(sampling.quality_speed_tradeoff)
        ids, healing = wanted.ids, self._healing(wanted.owed)
        with self._contexts.acquire(ids, wanted.owed) as context:
            verified = sampling.mode == "verified"
            unread = context.last_chunk(ids, self._chunk_tokens()) if verified else ()
            prefill = 0
            first = self._healing(b"") if unread else healing
            reading = context.fill(ids[: len(ids) - len(unread)], first, self._chunk_tokens)
            step = next(reading, None)
            while isinstance(step, ForwardCall):
                prefill += 1
                if reading.send((yield step)) or unread:
                    yield PartialOutput((), (), (), "", False, None, 0, prefill)
                step = next(reading, None)
            nearby = self._nearby(gap, self._trust if sampling.repeats else None)
            state = DecodingState(context, sampling, self._format, healing, prefill, nearby)
            if sampling.mode == "diffusion":
                yield from _diffuse(state, policy)
            elif sampling.mode == "verified":
                yield from _verify(state, unread, self._predicted(gap, wanted.owed))
            else:
                yield from _decode(state)

    def read(self, wanted: FimContext) -> CallGenerator[int]:
        """Read a context; yields the number of tokens still to read after each chunk."""
        with self._contexts.acquire(wanted.ids, wanted.owed) as context:
            healing = self._healing(wanted.owed)
            yield from context.fill(wanted.ids, healing, self._chunk_tokens)

    @cached_property
    def _index(self) -> TokenIndex:
        return TokenIndex(self._tokenizer.token_bytes, self._runtime.config.vocab_size)

    def _healing(self, owed: bytes) -> Healing:
        return Healing(owed, self._index if owed else None, self._tokenizer.decode)

    def _predicted(self, gap: FimPrompt, owed: bytes) -> list[int]:
        """The ids of the predicted middle, what is owed included; none if that is no text."""
        text = owed_text(owed)
        return [] if text is None else self._tokenizer.encode(text + gap.prediction)

    def _nearby(self, gap: FimPrompt, trust: CacheTrust | None) -> LookupContext:
        texts = (*gap.elsewhere, gap.suffix, gap.prefix)
        return LookupContext(CacheLM(texts, self._tokenizer.encode), trust, gap.prefix)

    def fim_context(self, gap: FimPrompt) -> FimContext:
        """The context that the model sees of a gap, and the bytes that its middle owes."""
        return self._tokenizer.fim_context(gap.prefix, gap.suffix, gap.others)

    def quick_context(self, gap: FimPrompt) -> FimContext | None:
        """The quick window of a gap; None for a format without one."""
        layout = self._format.quick
        if layout is None:
            return None
        return fim_context(layout, self._tokenizer, gap.prefix, gap.suffix)

    def unread(self, wanted: FimContext) -> int:
        """The number of tokens of a context that have not been read."""
        return self._contexts.unread(wanted.ids)

    def most_tokens(self, wanted: FimContext, sampling: SamplingParams) -> int:
        """The most tokens that a context holds while its gap is filled."""
        middle = min(sampling.max_tokens, self._format.middle_tokens)
        return len(wanted.ids) + middle + min(self._format.block_length, CHUNK_TOKENS)

    def set_capacity(self, context_bytes: int, wanted: FimContext | None = None) -> None:
        """Keep at most `context_bytes` between requests from now on.

        The context that helps with `wanted` is dropped last.
        """
        wanted = wanted or FimContext(())
        self._contexts.set_capacity(context_bytes, wanted.ids, wanted.owed)

    def _make(self, call: ForwardCall) -> Predictions:
        return call.on(self._runtime)


def _diffuse(state: DecodingState, policy: unmasking.Policy) -> CallGenerator[PartialOutput]:
    """Denoise block after block; each then extends the context causally."""
    start = state.open_block()
    while (yield from state.goes_on()):
        if any(state.middle.open(start)):
            state.commit(policy, (yield state.denoise(start)), start)
        else:
            yield from state.extend(state.middle.ids(start))
            start = state.open_block()


def _decode(state: DecodingState) -> CallGenerator[PartialOutput]:
    """Add one token after the other from the causal predictions."""
    state.add_next()
    while (yield from state.goes_on()):
        yield from state.extend(state.middle.ids(len(state.middle) - 1))
        state.add_next()


def _verify(
    state: DecodingState, unread: Sequence[int], predicted: Sequence[int]
) -> CallGenerator[PartialOutput]:
    """Each call verifies the draft tokens of the call before, and drafts new ones behind them.

    Tokens see no masks, so their predictions are those of the autoregressive head. The masks behind
    them draft the next tokens (as in TiDAR, arXiv:2511.08923), unless the lookup or the caller has
    better ones. The first call reads the end of the context, too.
    """
    state.expect(unread, predicted)
    while state.reads or (yield from state.goes_on()):
        start = state.add_masks()
        state.accept((yield state.check(start)), start)
