"""The one owner of a model. Permits and barriers order what happens; nothing here sleeps."""

import ast
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from fakes import FakeClock, LetterTokenizer, ScriptedRuntime, spell
from hypothesis import given
from hypothesis import strategies as st
from service_fakes import scripted, serving

from mercury_lsp.service import (
    ModelService,
    ModelServices,
    ModelSettings,
    RequestOptions,
    ServiceClosed,
    Superseded,
)
from mercury_lsp.service.turns import Turn, most_urgent
from mercury_model.decoding.infiller import Infiller
from mercury_model.decoding.output import PartialOutput
from mercury_model.decoding.params import SamplingParams
from mercury_model.decoding.prompt import FimPrompt
from mercury_model.errors import Overloaded, WeightsMissing
from mercury_model.load import LoadedModel
from mercury_model.runtime.protocol import KVCache, Predictions
from mercury_model.serving import EngineLimits, InfillRequest, Priority

PRODUCT = Path(__file__).parents[1] / "mercury_lsp"
SECONDS = 30.0
PROMPT = FimPrompt("a = ", "\n")
LONG = FimPrompt("a" * 150, "\n")
STEPWISE = SamplingParams(mode="autoregressive")
KEYSTROKE = RequestOptions(Priority.KEYSTROKE)


class Watched(ScriptedRuntime):
    """Fails when two calls overlap, or when they come from two threads."""

    def __init__(self, text: str = "abcd") -> None:
        super().__init__(spell(text))
        self.threads: set[int] = set()
        self._busy = threading.Lock()

    def extend(self, kv: KVCache, ids: Sequence[int]) -> Predictions:
        return self._alone(lambda: super(Watched, self).extend(kv, ids))

    def verify(self, kv: KVCache, ids: Sequence[int], first: int = 0) -> Predictions:
        return self._alone(lambda: super(Watched, self).verify(kv, ids, first))

    def _alone(self, call: Callable[[], Predictions]) -> Predictions:
        assert self._busy.acquire(blocking=False), "two calls at once"
        try:
            self.threads.add(threading.get_ident())
            return call()
        finally:
            self._busy.release()


class Gated(ScriptedRuntime):
    """Every call waits for a permit; `waiting` tells that one does."""

    def __init__(self, text: str = "abcdefgh") -> None:
        super().__init__(spell(text))
        self.permits = threading.Semaphore(0)
        self.waiting = threading.Semaphore(0)

    def extend(self, kv: KVCache, ids: Sequence[int]) -> Predictions:
        self.waiting.release()
        assert self.permits.acquire(timeout=SECONDS)
        return super().extend(kv, ids)

    def wait(self) -> None:
        assert self.waiting.acquire(timeout=SECONDS)


@pytest.fixture
def others() -> Iterator[ThreadPoolExecutor]:
    """Threads of clients."""
    with ThreadPoolExecutor(8) as pool:
        yield pool


def last(drafts: Iterator[PartialOutput]) -> str:
    *_, output = drafts
    return output.text


def idle(service: ModelService) -> None:
    """Waits until the service's thread has done all that it was asked before."""
    service.load(ModelSettings("scripted")).result(SECONDS)


def test_two_clients_on_two_threads_never_run_two_calls_at_once(
    others: ThreadPoolExecutor,
) -> None:
    runtime = Watched()
    start = threading.Barrier(4)
    with serving(scripted(runtime)) as service:

        def pull() -> list[str]:
            start.wait(SECONDS)
            return [last(service.drafts(PROMPT, STEPWISE)) for _ in range(10)]

        def submit() -> list[str]:
            start.wait(SECONDS)
            asked = [service.submit(InfillRequest(PROMPT, STEPWISE)) for _ in range(10)]
            return [future.result(SECONDS).text for future in asked]

        clients = [others.submit(job) for job in (pull, submit, pull, submit)]
        assert [client.result(SECONDS) for client in clients] == [["abcd"] * 10] * 4
    assert len(runtime.threads) == 1
    assert threading.get_ident() not in runtime.threads


def test_no_module_of_the_product_but_the_service_can_run_a_model() -> None:
    running = {"decoding.infiller", "serving.engine", "serving.batcher", "decoding.call_generator"}
    for path in sorted(PRODUCT.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        imported = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        names = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module == "mercury_model.serving"
            for alias in node.names
        }
        if path.parent.name != "service":
            assert imported.isdisjoint({f"mercury_model.{name}" for name in running}), path
            assert "Engine" not in names, path


def test_what_a_client_learns_of_the_model_cannot_run_it() -> None:
    runtime = Watched()
    with serving(scripted(runtime)) as service:
        info = service.info
        assert info is not None
        held = [getattr(info, name) for name in info.__slots__]  # type: ignore[attr-defined]
        assert runtime not in held
        assert info.runtime == "scripted"


def test_pulled_drafts_are_the_infillers() -> None:
    model = scripted(ScriptedRuntime(spell("a b(c)"), slips=0.3))
    wanted = list(Infiller(model.card, model.tokenizer, model.runtime).drafts(PROMPT, STEPWISE))
    with serving(model) as service:
        assert list(service.drafts(PROMPT, STEPWISE)) == wanted


def test_no_step_is_taken_that_nobody_asked_for() -> None:
    runtime = ScriptedRuntime(spell("abcdefgh"))
    with serving(scripted(runtime)) as service:
        drafts = service.drafts(PROMPT, STEPWISE)
        next(drafts)
        calls = len(runtime.calls)
        idle(service)
        drafts.close()
        idle(service)
        assert len(runtime.calls) == calls


def test_a_stopped_request_takes_no_further_step() -> None:
    runtime = ScriptedRuntime(spell("abcdefgh"))
    stop = threading.Event()
    with serving(scripted(runtime)) as service:
        drafts = service.drafts(PROMPT, STEPWISE, RequestOptions(stopped=stop.is_set))
        next(drafts)
        calls = len(runtime.calls)
        stop.set()
        assert list(drafts) == []
        assert len(runtime.calls) == calls


def test_no_step_begins_after_the_deadline() -> None:
    clock = FakeClock()
    runtime = ScriptedRuntime(spell("abcdefgh"))
    with serving(scripted(runtime), clock=clock) as service:
        options = RequestOptions(deadline_ns=5_000_000)
        drafts = service.drafts(PROMPT, STEPWISE, options)
        next(drafts)
        calls = len(runtime.calls)
        clock.advance(5)
        assert list(drafts) == []
        assert len(runtime.calls) == calls
        late = service.submit(InfillRequest(PROMPT, STEPWISE, within_ms=0.0))
        assert late.result(SECONDS).text == ""


def test_prefill_reads_a_chunk_a_step_and_stopping_early_loses_nothing() -> None:
    runtime = ScriptedRuntime(spell("abc"))
    with serving(scripted(runtime)) as service:
        chunks = service.prefill(LONG)
        left = next(chunks)
        chunks.close()
        rest = list(service.prefill(LONG))
        assert left > rest[0] >= rest[-1] == 0
        assert sum(len(ids) for _, ids in runtime.calls) == left + len(runtime.calls[0][1])


def until_waiting(service: ModelService, count: int) -> None:
    """Yields to the other threads until so many requests wait."""
    watchdog = time.monotonic() + SECONDS
    while service.waiting != count:
        assert time.monotonic() < watchdog


def test_a_keystroke_goes_before_speculation_and_speculation_before_bulk(
    others: ThreadPoolExecutor,
) -> None:
    runtime = Gated()
    one_step = replace(STEPWISE, max_tokens=1)
    with serving(scripted(runtime)) as service:

        def ask(letter: str, priority: Priority) -> "Future[str]":
            drafts = service.drafts(FimPrompt(letter, ""), one_step, RequestOptions(priority))
            return others.submit(last, drafts)

        asked = [ask("h", Priority.BULK)]
        runtime.wait()
        for letter, priority in zip("abc", reversed(Priority), strict=True):
            asked.append(ask(letter, priority))
            until_waiting(service, len(asked))
        asked.append(service.submit(InfillRequest(FimPrompt("d", ""), one_step)))  # type: ignore[arg-type]
        runtime.permits.release(1_000)
        for future in asked:
            future.result(SECONDS)
    order = [letter for _, ids in runtime.calls for letter in LetterTokenizer().decode(ids)]
    assert order[:3] == ["h", "c", "b"]
    assert sorted(order[3:]) == ["a", "d"]


def test_a_long_pass_does_not_slip_between_two_steps_of_a_keystroke() -> None:
    runtime = ScriptedRuntime(spell("abcdefgh"))
    with serving(scripted(runtime)) as service:
        drafts = service.drafts(PROMPT, STEPWISE, KEYSTROKE)
        next(drafts)
        calls = len(runtime.calls)
        bulk = service.submit(InfillRequest(FimPrompt("h", ""), STEPWISE))
        next(drafts)
        assert len(runtime.calls) == calls + 1
        assert bulk.result(SECONDS).text == "abcdefgh"  # its consumer dawdles: bulk goes on
        assert last(drafts) == "abcdefgh"


turns = st.lists(
    st.builds(
        Turn,
        st.sampled_from(Priority),
        st.none() | st.integers(0, 50),
        st.integers(0, 50),
        st.integers(0, 9),
        st.just(lambda: None),
    ),
    min_size=1,
)


@given(turns, st.integers(50, 200))
def test_nothing_waits_longer_than_the_patience_behind_something_that_came_later(
    turns: list[Turn], now_ns: int
) -> None:
    chosen = most_urgent(turns, now_ns, patience_ns=60)
    assert chosen is not None
    longest = max(now_ns - turn.since_ns for turn in turns)
    if longest >= 60:
        assert now_ns - chosen.since_ns == longest
    else:
        assert chosen.priority == min(turn.priority for turn in turns)
        equals = [turn for turn in turns if turn.priority == chosen.priority]
        deadlines = [turn.deadline_ns for turn in equals if turn.deadline_ns is not None]
        assert chosen.deadline_ns == min(deadlines, default=None)


def test_a_newer_request_supersedes_an_older_one_with_its_key() -> None:
    runtime = Gated()
    with serving(scripted(runtime)) as service:
        older = service.drafts(PROMPT, STEPWISE, RequestOptions(key="a.py"))
        runtime.permits.release(1_000)
        next(older)
        newer = service.drafts(PROMPT, STEPWISE, RequestOptions(key="a.py"))
        assert last(newer) == "abcdefgh"
        with pytest.raises(Superseded):
            next(older)
        other = service.drafts(PROMPT, STEPWISE, RequestOptions(key="b.py"))
        next(other)
        assert service.submit(InfillRequest(PROMPT, STEPWISE), key="a.py").result(SECONDS).text
        assert last(other) == "abcdefgh"


def test_a_submitted_request_is_superseded_too() -> None:
    runtime = Gated()
    with serving(scripted(runtime)) as service:
        older = service.submit(InfillRequest(PROMPT, STEPWISE), key="a.py")
        runtime.wait()
        newer = service.submit(InfillRequest(PROMPT, STEPWISE), key="a.py")
        with pytest.raises(Superseded):
            older.result(SECONDS)
        runtime.permits.release(1_000)
        assert newer.result(SECONDS).text == "abcdefgh"


def test_cancelling_a_client_ends_its_requests_and_no_others() -> None:
    runtime = Gated()
    with serving(scripted(runtime)) as service:
        mine = service.submit(InfillRequest(PROMPT, STEPWISE, client="me"))
        runtime.wait()
        theirs = service.submit(InfillRequest(PROMPT, STEPWISE, client="them"))
        pulled = service.drafts(PROMPT, STEPWISE, RequestOptions(client="me"))
        runtime.permits.release(1)
        service.cancel("me")
        runtime.permits.release(1_000)
        assert theirs.result(SECONDS).text == "abcdefgh"
        assert mine.result(SECONDS).text in ("", "a")
        next(pulled)
        service.cancel("me")
        assert list(pulled) == []


def test_a_cancelled_future_takes_no_further_call() -> None:
    runtime = Gated()
    with serving(scripted(runtime)) as service:
        one = service.submit(InfillRequest(PROMPT, STEPWISE))
        runtime.wait()
        assert one.cancel()
        runtime.permits.release(1_000)
        idle(service)
        assert len(runtime.calls) == 1


def test_more_than_the_engine_holds_is_refused_and_the_rest_goes_on() -> None:
    runtime = Gated()
    with serving(scripted(runtime), EngineLimits(requests=1)) as service:
        one = service.submit(InfillRequest(PROMPT, STEPWISE))
        runtime.wait()
        other = service.submit(InfillRequest(PROMPT, STEPWISE))
        runtime.permits.release(1_000)
        assert one.result(SECONDS).text == "abcdefgh"
        assert isinstance(other.exception(SECONDS), Overloaded)


@dataclass
class Loads:
    """Loads models that write their own names; each load waits for a permit."""

    permits: threading.Semaphore = field(default_factory=threading.Semaphore)
    names: list[str] = field(default_factory=list)
    begun: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def __call__(self, name: str, threads: int) -> LoadedModel:
        self.names.append(name)
        self.begun.release()
        assert self.permits.acquire(timeout=SECONDS)
        if name == "h":
            raise WeightsMissing("There is no h.", "Pull it.")
        return scripted(ScriptedRuntime(spell(name)))


def test_loading_what_is_loaded_loads_nothing() -> None:
    load = Loads()
    with ModelService(load) as service:
        first = service.load(ModelSettings("a")).result(SECONDS)
        wider = ModelSettings("a", limits=EngineLimits(requests=1_000))
        assert service.load(wider).result(SECONDS) is first
    assert load.names == ["a"]


def test_those_who_share_a_model_load_it_once_and_the_last_one_frees_it() -> None:
    load = Loads()
    services = ModelServices(load)
    one = services.acquire("a", 0, EngineLimits(requests=1))
    other = services.acquire("a", 0, EngineLimits(requests=2))
    assert one.service is other.service
    assert [future.result(SECONDS) for future in (one.load(), other.load())]
    assert load.names == ["a"]
    assert services.acquire("a", 1, EngineLimits()).service is not one.service
    one.close()
    one.close()
    assert last(other.service.drafts(PROMPT, STEPWISE)) == "a"
    other.close()
    assert other.service.join(SECONDS)


def test_a_model_that_is_loaded_already_is_shared_by_identity() -> None:
    services = ModelServices(Loads())
    model = scripted(ScriptedRuntime(spell("abc")))
    one = services.acquire(model, 0, EngineLimits())
    assert services.acquire(replace(model), 4, EngineLimits()).service is one.service
    assert services.acquire(scripted(model.runtime), 0, EngineLimits()).service is one.service  # type: ignore[arg-type]
    one.load().result(SECONDS)
    assert last(one.service.drafts(PROMPT, STEPWISE)) == "abc"


def test_requests_wait_while_a_model_is_replaced(others: ThreadPoolExecutor) -> None:
    load = Loads()
    with ModelService(load) as service:
        service.load(ModelSettings("a")).result(SECONDS)
        begun = service.drafts(PROMPT, STEPWISE)
        next(begun)
        load.begun.acquire()
        replacing = service.load(ModelSettings("b"))
        submitted = service.submit(InfillRequest(PROMPT, STEPWISE))
        pulled = others.submit(last, service.drafts(PROMPT, STEPWISE))
        assert last(begun) == "a"  # with the model it began with
        assert load.begun.acquire(timeout=SECONDS)
        until_waiting(service, 2)
        load.permits.release()
        assert replacing.result(SECONDS) is service.info
        assert submitted.result(SECONDS).text == "b"
        assert pulled.result(SECONDS) == "b"
    assert load.names == ["a", "b"]


def test_a_consumer_that_never_goes_on_does_not_stop_a_reload() -> None:
    load = Loads(threading.Semaphore(2))
    with ModelService(load) as service:
        service.load(ModelSettings("abc")).result(SECONDS)
        forgotten = service.drafts(PROMPT, STEPWISE)
        next(forgotten)
        service.load(ModelSettings("b")).result(SECONDS)
        assert list(forgotten) == []


def test_requests_without_a_model_fail_with_the_reason() -> None:
    load = Loads(threading.Semaphore(3))
    with ModelService(load) as service:
        with pytest.raises(RuntimeError, match="no model"):
            next(service.drafts(PROMPT, STEPWISE))
        assert isinstance(service.load(ModelSettings("h")).exception(SECONDS), WeightsMissing)
        with pytest.raises(WeightsMissing):
            next(service.drafts(PROMPT, STEPWISE))
        with pytest.raises(WeightsMissing):
            service.submit(InfillRequest(PROMPT, STEPWISE)).result(SECONDS)
        service.load(ModelSettings("a")).result(SECONDS)
        assert last(service.drafts(PROMPT, STEPWISE)) == "a"
        assert service.unload().result(SECONDS) is service.info is None
        with pytest.raises(RuntimeError, match="no model"):
            next(service.drafts(PROMPT, STEPWISE))


def test_loading_tells_how_far_it_is_in_plain_values() -> None:
    told: list[tuple[str, int, int]] = []
    with ModelService(Loads()) as service:
        service.load(ModelSettings("a"), lambda *news: told.append(news)).result(SECONDS)
    assert told == [("loading", 0, 1), ("loading", 1, 1)]


def test_a_prompt_that_fails_ends_its_own_request_only() -> None:
    with serving(scripted(ScriptedRuntime(spell("abc")))) as service:
        bad = SamplingParams(quality_speed_tradeoff=7.0, mode="diffusion")
        with pytest.raises(ValueError, match="tradeoff"):
            next(service.drafts(PROMPT, bad))
        assert last(service.drafts(PROMPT, STEPWISE)) == "abc"


def test_an_engine_that_breaks_fails_its_requests_and_another_load_mends_it() -> None:
    class Broken(ScriptedRuntime):
        """Fails where the engine does not expect it: between two passes."""

        @property
        def max_batch_size(self) -> int:
            if self.calls:
                raise OSError("the device is gone")
            return 3

    models = [scripted(Broken(spell("abc"))), scripted(ScriptedRuntime(spell("abc")))]
    with ModelService(lambda name, threads: models.pop(0)) as service:
        service.load(ModelSettings("a")).result(SECONDS)
        assert isinstance(service.submit(InfillRequest(PROMPT)).exception(SECONDS), OSError)
        service.load(ModelSettings("a")).result(SECONDS)
        assert last(service.drafts(PROMPT, STEPWISE)) == "abc"


def test_closing_ends_everything_and_nothing_can_be_asked_afterwards(
    others: ThreadPoolExecutor,
) -> None:
    runtime = Gated()
    with serving(scripted(runtime)) as service:
        pulled = others.submit(list, service.drafts(PROMPT, STEPWISE))
        runtime.wait()
        submitted = service.submit(InfillRequest(PROMPT, STEPWISE))
        service.close()
        runtime.permits.release()
        assert len(pulled.result(SECONDS)) == 1  # the step that ran
        with pytest.raises(CancelledError):
            submitted.result(SECONDS)
    for ask in (
        lambda: next(service.drafts(PROMPT, STEPWISE)),
        lambda: service.submit(InfillRequest(PROMPT, STEPWISE)),
        lambda: service.load(ModelSettings("a")),
    ):
        with pytest.raises(ServiceClosed):
            ask()
    assert len(runtime.calls) == 1


def test_the_services_own_thread_cannot_wait_for_itself() -> None:
    with serving(scripted(ScriptedRuntime(spell("abc")))) as service:

        def pull(output: PartialOutput) -> None:
            next(service.drafts(PROMPT, STEPWISE))

        failed = service.submit(InfillRequest(PROMPT, STEPWISE), pull)
        with pytest.raises(RuntimeError, match="own thread"):
            failed.result(SECONDS)
