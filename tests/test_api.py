"""The library: results, cancellation, and that the event loop stays free."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Sequence

import pytest
from fakes import LETTERS, LetterTokenizer, ScriptedRuntime, card, spell

import mercury_lsp
from mercury_lsp import CompletionCache, MercuryCodeCompletion, MercuryCoder, MercuryInferenceEngine
from mercury_lsp.config import Config
from mercury_lsp.service import ModelServices
from mercury_model.errors import Overloaded, WeightsMissing, WeightsUnsupported
from mercury_model.load import LoadedModel
from mercury_model.runtime.protocol import ForwardCall, KVCache, Predictions
from mercury_model.serving import EngineLimits


def model(text: str, end: bool = True) -> LoadedModel:
    return LoadedModel(card(), LetterTokenizer(), ScriptedRuntime(spell(text, end)))  # type: ignore[arg-type]


class GatedRuntime(ScriptedRuntime):
    """Every call waits for a permit; `waiting` tells that one does."""

    def __init__(self) -> None:
        super().__init__(spell(LETTERS[0], end=False))
        self.permits = threading.Semaphore(0)
        self.waiting = threading.Semaphore(0)

    def extend(self, kv: KVCache, ids: Sequence[int]) -> Predictions:
        self._wait()
        return super().extend(kv, ids)

    def verify(self, kv: KVCache, ids: Sequence[int], first: int = 0) -> Predictions:
        self._wait()
        return super().verify(kv, ids, first)

    def _wait(self) -> None:
        self.waiting.release()
        assert self.permits.acquire(timeout=30)


async def until_waiting(runtime: GatedRuntime) -> None:
    """Without blocking the loop that is tested."""
    assert await asyncio.to_thread(runtime.waiting.acquire, timeout=30)


def gated() -> tuple[MercuryCoder, GatedRuntime]:
    runtime = GatedRuntime()
    loaded = LoadedModel(card(), LetterTokenizer(), runtime)  # type: ignore[arg-type]
    return MercuryCoder(loaded), runtime


async def test_the_middle_is_what_the_model_writes() -> None:
    with MercuryCoder(model("a b b")) as coder:
        assert await coder.fill_in_middle(prefix="def f(a)", suffix="\n") == "a b b"


async def test_the_middle_ends_before_a_stop_string_and_after_max_tokens() -> None:
    with MercuryCoder(model("ab\ncd")) as coder:
        assert await coder.fill_in_middle(prefix="", stop=["\n"]) == "ab"
        assert await coder.fill_in_middle(prefix="", max_tokens=4) == "ab\nc"


@pytest.mark.parametrize("tradeoff", [0.0, 1.0])
async def test_any_tradeoff_in_range_is_taken(tradeoff: float) -> None:
    with MercuryCoder(model("abc")) as coder:
        assert await coder.fill_in_middle(prefix="", quality_speed_tradeoff=tradeoff) == "abc"


@pytest.mark.parametrize("tradeoff", [-0.1, 1.1])
async def test_a_tradeoff_out_of_range_is_refused(tradeoff: float) -> None:
    with MercuryCoder(model("abc")) as coder, pytest.raises(ValueError, match="between 0 and 1"):
        await coder.fill_in_middle(prefix="", quality_speed_tradeoff=tradeoff)


async def test_the_config_chooses_the_mode() -> None:
    loaded = model("abcd")
    with MercuryCoder(loaded, config=Config(mode="autoregressive")) as coder:
        assert await coder.fill_in_middle(prefix="") == "abcd"
    assert isinstance(loaded.runtime, ScriptedRuntime)
    assert {method for method, _ in loaded.runtime.calls} == {"extend"}


async def test_the_loop_runs_on_while_the_model_works() -> None:
    coder, runtime = gated()
    with coder:
        task = asyncio.create_task(coder.fill_in_middle(prefix="a", max_tokens=1))
        await until_waiting(runtime)
        assert not task.done()
        runtime.permits.release()
        assert await task == LETTERS[0]


async def test_a_cancelled_call_takes_no_further_step() -> None:
    coder, runtime = gated()
    with coder:
        task = asyncio.create_task(coder.fill_in_middle(prefix="a" * 150))
        await until_waiting(runtime)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        runtime.permits.release(1_000)
        assert await coder.fill_in_middle(prefix="b", max_tokens=1) == LETTERS[0]
        assert len(runtime.calls) == 1 + 1


async def test_a_call_that_waits_for_another_can_be_cancelled_too() -> None:
    coder, runtime = gated()
    with coder:
        first = asyncio.create_task(coder.fill_in_middle(prefix="a", max_tokens=1))
        await until_waiting(runtime)
        second = asyncio.create_task(coder.fill_in_middle(prefix="b", max_tokens=1))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        runtime.permits.release(1_000)
        assert await first == LETTERS[0]


async def test_closing_stops_what_runs() -> None:
    coder, runtime = gated()
    task = asyncio.create_task(coder.fill_in_middle(prefix="a" * 150))
    await until_waiting(runtime)
    coder.close()
    runtime.permits.release(1_000)
    await task
    assert len(runtime.calls) == 1


async def test_many_prompts_are_answered_in_their_order() -> None:
    loaded = model("a b")
    assert isinstance(loaded.runtime, ScriptedRuntime)
    with MercuryInferenceEngine(loaded) as engine:
        texts = await engine.generate(["c = ", ("d = ", "\n"), "e = "], max_tokens=2)
    assert texts == ["a "] * 3


@pytest.mark.parametrize("tradeoff", [0.0, 0.5, 1.0])
async def test_the_dial_of_a_generation_is_taken(tradeoff: float) -> None:
    config = Config(mode="diffusion")
    with MercuryInferenceEngine(model("abc"), config=config) as engine:
        assert await engine.generate(["c = "] * 40, tradeoff) == ["abc"] * 40


async def test_what_no_engine_can_generate_is_refused() -> None:
    with MercuryInferenceEngine(model("abc")) as engine:
        assert await engine.generate([]) == []
        with pytest.raises(ValueError, match="between 0 and 1"):
            await engine.generate(["a"], 1.5)
        with pytest.raises(TypeError, match=r"write \[prompt\]"):
            await engine.generate("a")
    with pytest.raises(RuntimeError, match="closed"):
        await engine.generate(["a"])


async def test_more_than_the_engine_holds_is_refused_with_a_remedy() -> None:
    with (
        MercuryInferenceEngine(model("abc"), limits=EngineLimits(requests=3)) as engine,
        pytest.raises(Overloaded, match="Ask again"),
    ):
        await engine.generate(["a"] * 4)


class GatedPasses(GatedRuntime):
    """Every pass waits for a permit, too."""

    def forward_batch(self, calls: Sequence[ForwardCall]) -> list[Predictions]:
        self.waiting.release()
        assert self.permits.acquire(timeout=30)
        return [ScriptedRuntime.extend(self, call.kv, call.ids) for call in calls]


async def test_a_cancelled_generation_takes_no_further_pass() -> None:
    runtime = GatedPasses()
    loaded = LoadedModel(card(), LetterTokenizer(), runtime)  # type: ignore[arg-type]
    with MercuryInferenceEngine(loaded, config=Config(mode="autoregressive")) as engine:
        task = asyncio.create_task(engine.generate(["a"] * 2))
        await until_waiting(runtime)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        runtime.permits.release(1_000)
        assert await engine.generate(["b"], max_tokens=1) == [LETTERS[0]]
        # Both prompts in a pass or one, by when they came; and the one after them.
        assert len(runtime.calls) <= 3


async def test_a_completion_doubles_no_bracket_that_stands_there_already() -> None:
    before, after = "c = f(", ")\n"
    with MercuryCodeCompletion(MercuryCoder(model("a, b)"))) as completion:
        offered = await completion.complete_code(before + after, len(before))
    assert offered is not None
    assert before + offered.text + after[offered.replaces :] == "c = f(a, b)\n"


async def test_who_types_what_was_suggested_is_served_without_the_model() -> None:
    loaded = model("a(b)")
    with MercuryCodeCompletion(MercuryCoder(loaded)) as completion:
        first = await completion.complete_code("c = ", 4)
        assert first is not None
        assert isinstance(loaded.runtime, ScriptedRuntime)
        calls = len(loaded.runtime.calls)
        second = await completion.complete_code("c = a", 5)
        assert second is not None
        assert "a" + second.text == first.text
        assert len(loaded.runtime.calls) == calls


async def test_a_cache_may_be_shared_and_a_coder_too() -> None:
    cache = CompletionCache(10)
    coder = MercuryCoder(model("a(b)"))
    one = MercuryCodeCompletion(coder, cache=cache)
    with MercuryCodeCompletion(coder, cache=cache) as other:
        assert await one.complete_code("c = ", 4) == await other.complete_code("c = ", 4)


async def test_however_many_share_a_model_it_is_loaded_once() -> None:
    loads: list[str] = []

    def load(name: str, threads: int) -> LoadedModel:
        loads.append(name)
        return model("abc")

    services = ModelServices(load)
    coder = MercuryCoder("tiny", services=services)
    engine = MercuryInferenceEngine("tiny", services=services)
    with coder, MercuryCoder("tiny", services=services) as other, engine:
        texts = await asyncio.gather(
            coder.fill_in_middle(prefix="c = "),
            other.fill_in_middle(prefix="d = "),
            engine.generate(["e = "]),
        )
        coder.close()
        assert texts == ["abc", "abc", ["abc"]]
        assert await other.fill_in_middle(prefix="f = ") == "abc"
    assert loads == ["tiny"]


@pytest.mark.parametrize("cursor", [-1, 5])
async def test_a_cursor_outside_the_document_is_refused(cursor: int) -> None:
    completion = MercuryCodeCompletion(MercuryCoder(model("a")))
    with completion, pytest.raises(ValueError, match="cursor_position"):
        await completion.complete_code("c = ", cursor)


async def test_missing_weights_and_unknown_names_come_with_their_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    monkeypatch.setenv("MERCURY_CACHE", str(tmp_path))
    with MercuryCoder("mini") as coder, pytest.raises(WeightsMissing, match="models pull mini"):
        await coder.load()
    with MercuryCoder("maxi") as coder, pytest.raises(WeightsUnsupported, match="mini"):
        await coder.load()


def test_what_is_public_is_there_and_nothing_else_is() -> None:
    promised = {"CompletionCache", "DynamicBatcher", "MercuryCodeCompletion", "MercuryCoder"}
    assert promised | {"MercuryInferenceEngine"} <= set(mercury_lsp.__all__)
    for name in mercury_lsp.__all__:
        assert getattr(mercury_lsp, name)
    with pytest.raises(AttributeError, match="nonsense"):
        mercury_lsp.nonsense  # noqa: B018


@pytest.mark.parametrize("module", ["mercury_lsp", "mercury_lsp.api", "mercury_lsp.cli.main"])
def test_importing_brings_nothing_heavy(module: str) -> None:
    heavy = [
        "torch",
        "numpy",
        "pygls",
        "matplotlib",
        "tree_sitter",
        "mercury_model.decoding.infiller",
    ]
    heavy = heavy if module != "mercury_lsp.api" else ["torch", "pygls", "matplotlib"]
    check = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
