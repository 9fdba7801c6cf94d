"""Gaps, samplings and a model that writes what a test says, for the tests of infilling."""

from dataclasses import replace

from fakes import FORMAT, LetterTokenizer, Script, ScriptedRuntime, babble, card
from hypothesis import strategies as st

from mercury_model.decoding.healing import Healing
from mercury_model.decoding.infiller import Infiller
from mercury_model.decoding.output import PartialOutput
from mercury_model.decoding.params import Mode, SamplingParams
from mercury_model.decoding.prompt import FimPrompt
from mercury_model.spec.card import CacheTrust
from mercury_model.spec.fim_format import FimFormat

GAP = FimPrompt("a = (", ")\nb")
LONG = FimPrompt("abc " * 50, "fg\n" * 30)
MODES: tuple[Mode, ...] = ("diffusion", "autoregressive", "verified")
MARKS = {FORMAT.suffix_id, FORMAT.prefix_id, FORMAT.middle_id, FORMAT.mask_id}
NOTHING_OWED = Healing(b"", None, LetterTokenizer().decode)
TRUST = CacheTrust(always=-2.0, length=1.0, agreed=2.0, sure=-1.0)
UNSHIFTED = replace(FORMAT, shift=False)

samplings = st.builds(
    SamplingParams,
    quality_speed_tradeoff=st.floats(0, 1),
    max_tokens=st.integers(0, 30),
    stop=st.lists(st.text("ab\n ", min_size=1, max_size=3), max_size=2).map(tuple),
    rank=st.integers(0, 3),
    temperature=st.sampled_from([0.0, 0.7, 2.0]),
    seed=st.integers(0, 1_000),
    mode=st.sampled_from(MODES),
)
scripts = st.integers(0, 10_000).map(lambda seed: babble(str(seed)))


def infiller(runtime: ScriptedRuntime, infill: FimFormat = FORMAT) -> Infiller:
    return Infiller(card(infill), LetterTokenizer(), runtime)


def drafts(
    script: Script, sampling: SamplingParams, gap: FimPrompt = GAP, infill: FimFormat = FORMAT
) -> list[PartialOutput]:
    return list(infiller(ScriptedRuntime(script, infill, slips=0.3), infill).drafts(gap, sampling))


def counted(draft: PartialOutput) -> PartialOutput:
    """A draft, however many calls it took."""
    return replace(draft, steps=0, prefill=0)


def calls(runtime: ScriptedRuntime, method: str) -> list[tuple[int, ...]]:
    return [ids for name, ids in runtime.calls if name == method]
