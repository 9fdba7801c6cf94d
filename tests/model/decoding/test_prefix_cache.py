import pytest
from decoding_fakes import NOTHING_OWED
from fakes import ScriptedRuntime, babble
from hypothesis import given
from hypothesis import strategies as st

from mercury_model.decoding.call_generator import run_alone
from mercury_model.decoding.prefix_cache import MAX_REWIND_TOKENS, CachedPrefix, PrefixCache
from mercury_model.runtime.limits import CHUNK_TOKENS

IDS = list(range(5, 19)) * 10
sequences = st.lists(st.sampled_from([5, 6]), min_size=1, max_size=60)


def store(limit_bytes: int = 1 << 20) -> tuple[PrefixCache, ScriptedRuntime]:
    runtime = ScriptedRuntime(babble())
    return PrefixCache(runtime, limit_bytes), runtime


def complete(contexts: PrefixCache, runtime: ScriptedRuntime, ids: list[int]) -> int:
    """Make a context complete; how many tokens that took."""
    with contexts.acquire(ids) as context:
        before = context.kv.length
        list(run_alone(context.fill(ids, NOTHING_OWED), runtime.make))
        assert context.kv.ids == ids  # type: ignore[attr-defined]
        return len(ids) - before


def test_what_is_known_is_not_computed_again() -> None:
    contexts, runtime = store()
    assert complete(contexts, runtime, IDS) == len(IDS)
    assert complete(contexts, runtime, IDS) == 0
    assert complete(contexts, runtime, [*IDS, 5, 6]) == 2
    assert complete(contexts, runtime, [*IDS, 5, 7, 8]) == 2


def test_a_shorter_context_has_its_last_token_run_again_for_its_prediction() -> None:
    contexts, runtime = store()
    complete(contexts, runtime, IDS)
    with contexts.acquire(IDS[:-3]) as context:
        assert list(run_alone(context.fill(IDS[:-3], NOTHING_OWED), runtime.make)) == [0]
        assert context.next is not None


def test_two_documents_with_the_same_beginning_both_stay_known() -> None:
    contexts, runtime = store()
    one, other = IDS + [5] * 30, IDS + [6] * 30
    complete(contexts, runtime, one)
    assert complete(contexts, runtime, other) == 30
    assert complete(contexts, runtime, one) == 0
    assert complete(contexts, runtime, other) == 0


def test_a_context_on_loan_is_not_lent_again() -> None:
    contexts, runtime = store()
    complete(contexts, runtime, IDS)
    with contexts.acquire(IDS) as one, contexts.acquire(IDS) as other:
        assert one.kv.length == len(IDS)
        assert other.kv.length == 0


def test_what_a_borrower_appended_is_dropped_when_it_comes_back() -> None:
    contexts, runtime = store()
    with contexts.acquire(IDS) as context:
        list(run_alone(context.fill(IDS, NOTHING_OWED), runtime.make))
        expected = contexts.nbytes + context.kv.nbytes
        runtime.extend(context.kv, [5, 6, 7])
    assert contexts.nbytes == expected
    assert complete(contexts, runtime, IDS) == 0


def test_a_context_is_dropped_when_its_borrower_fails() -> None:
    contexts, runtime = store()

    def fail() -> None:
        with contexts.acquire(IDS) as context:
            list(run_alone(context.fill(IDS, NOTHING_OWED), runtime.make))
            raise MemoryError

    with pytest.raises(MemoryError):
        fail()
    assert contexts.nbytes == 0


def test_the_least_recently_used_context_goes_first() -> None:
    contexts, runtime = store(limit_bytes=3_000)
    first, second, third = ([start, *IDS[:-20]] for start in (5, 6, 7))
    for ids in (first, second, first, third):
        complete(contexts, runtime, ids)
    assert complete(contexts, runtime, first) == 0
    assert complete(contexts, runtime, second) > 0


def test_a_beginning_of_another_context_is_not_kept_twice() -> None:
    contexts, runtime = store()
    complete(contexts, runtime, IDS[: -MAX_REWIND_TOKENS - 1])
    with contexts.acquire(IDS[: -MAX_REWIND_TOKENS - 1]):
        complete(contexts, runtime, IDS)
    complete(contexts, runtime, IDS)
    assert contexts.nbytes == 10 * len(IDS)


def test_a_chunk_has_a_bounded_number_of_tokens() -> None:
    contexts, runtime = store()
    complete(contexts, runtime, IDS)
    assert max(len(ids) for _, ids in runtime.calls) == CHUNK_TOKENS


@given(st.lists(sequences, max_size=12), st.sampled_from([0, 300, 1_200, 1 << 20]))
def test_any_sequence_of_contexts_holds_what_was_asked_within_the_bound(
    asked: list[list[int]], limit_bytes: int
) -> None:
    contexts, runtime = store(limit_bytes)
    for ids in asked:
        with contexts.acquire(ids) as context:
            list(run_alone(context.fill(ids, NOTHING_OWED), runtime.make))
            assert context.kv.ids == ids  # type: ignore[attr-defined]
            fresh = CachedPrefix(runtime.new_kv_cache())
            list(run_alone(fresh.fill(ids, NOTHING_OWED), runtime.make))
            assert context.next is not None
            assert fresh.next is not None
            assert (context.next.ids == fresh.next.ids).all()
        assert contexts.nbytes <= limit_bytes
