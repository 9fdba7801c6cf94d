"""Blocks denoised on the device, with the reference operations, equal those of the host."""

import math
from collections.abc import Callable
from functools import partial
from itertools import zip_longest

import numpy as np
import pytest
from random_weights import tensors
from runtime_pairs import LLAMA, MASK, PAIRS, agree, canvas, context, pair, real_ids

from mercury_model.decoding.sampler import kl_divergence
from mercury_model.decoding.state import NO_PREDICTIONS
from mercury_model.decoding.unmasking import BlockView, Klass, Remask, Threshold
from mercury_model.runtime.cuda.bulk import BulkDenoiser, BulkParams
from mercury_model.runtime.cuda.runtime import FIRST_PAGES
from mercury_model.runtime.protocol import Predictions
from mercury_model.spec.fim_format import FimFormat


def committed_by_the_host(
    look: Callable[[list[int]], Predictions], block: list[int], params: BulkParams, shift: int
) -> list[list[int]]:
    """The blocks after each step, as `decoding.state` commits them."""
    block, steps, before = list(block), [], NO_PREDICTIONS
    committed = np.full(len(block), np.inf, np.float32)
    while MASK in block:
        found = look(block)
        rows = slice(0, len(block) - shift)
        allowed = ~np.isin(found.ids[rows], FORBIDDEN)
        best = allowed.argmax(-1)
        at = (np.arange(len(best)), best)
        opened = np.array([token == MASK for token in block[shift:]])
        chances = found.probs[rows][at]
        now = found.at(rows)
        change, before = kl_divergence(now, before), now
        view = BlockView(opened, chances, now.entropy, change, committed[shift:].copy())
        for row in np.flatnonzero(Remask(params.remask)(view)):
            block[row + shift] = MASK
        for row in np.flatnonzero(params.policy(view)):
            block[row + shift] = int(found.ids[rows][at][row])
            committed[row + shift] = chances[row]
        steps.append(list(block))
    return steps


FORBIDDEN = (MASK, 1, 2, 3, -1)


def infill_format(shift: bool) -> FimFormat:
    return FimFormat(1, 2, 3, 0, MASK, 8, 90, 90, 60, shift, ("python",))


PARAMS = {
    "threshold": BulkParams(Threshold(0.3)),
    "threshold, remasking": BulkParams(Threshold(0.15), remask=0.4),
    "klass": BulkParams(Klass(0.15, nats=0.1)),
    "klass, remasking": BulkParams(Klass(0.15, nats=0.1), remask=0.4),
}


@pytest.mark.parametrize("params", PARAMS.values(), ids=[name.replace(" ", "-") for name in PARAMS])
@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("shift", [True, False], ids=["shifted", "in-place"])
@pytest.mark.parametrize("name", ["llama", "gated"])
def test_blocks_denoised_on_the_device_equal_those_of_the_host(
    name: str, shift: bool, steps: int, params: BulkParams
) -> None:
    ours, theirs = PAIRS[name]
    lengths = (5, 70, 130)
    mine, its = ([context(r, real_ids(n)) for n in lengths] for r in (ours, theirs))
    blocks = [[20 + n, *[MASK] * 6] for n in range(3)]
    expected = [
        committed_by_the_host(partial(theirs.denoise, kv), block, params, int(shift))
        for kv, block in zip(its, blocks, strict=True)
    ]
    found = list(BulkDenoiser(ours, infill_format(shift), steps).commit(mine, blocks, params))
    most = max(map(len, expected))
    assert len(found) == -(-most // steps)
    assert most > 1
    for step, now in enumerate(found, 1):
        assert now == [each[min(step * steps, len(each)) - 1] for each in expected]
    assert [kv.length for kv in mine] == list(lengths)


def test_klass_compares_a_block_with_its_own_last_step_after_other_blocks_have_run() -> None:
    """Blocks alternate in one pass, which is captured again when the pool reallocates."""
    ours, theirs = pair(LLAMA, tensors(LLAMA))
    params, lengths = PARAMS["klass"], (5, 70, 130)
    mine, its = ([context(r, real_ids(n)) for n in lengths] for r in (ours, theirs))
    block = [20, *[MASK] * 6]
    bulk = BulkDenoiser(ours, infill_format(shift=True), 1)
    found: list[list[list[int]]] = [[] for _ in lengths]
    under_way = [bulk.commit([kv], [block], params) for kv in mine]
    for steps in zip_longest(*under_way):
        for seen, now in zip(found, steps, strict=True):
            seen += now or []
        if ours.pool.reallocations == 0:
            others = [context(ours, [6]) for _ in range(FIRST_PAGES)]
    assert (ours.pool.reallocations, len(others)) == (1, FIRST_PAGES)
    looks = [partial(theirs.denoise, kv) for kv in its]
    assert found == [committed_by_the_host(look, block, params, 1) for look in looks]
    threshold = BulkParams(Threshold(params.policy.confidence))
    assert found != [committed_by_the_host(look, block, threshold, 1) for look in looks]
    for kv, seen in zip(mine, found, strict=True):
        next(bulk.commit([kv], [block], params))  # not gone on with
        assert list(bulk.commit([kv], [block], params)) == [[now] for now in seen]


def test_what_is_sampled_depends_on_the_seed_and_on_nothing_else() -> None:
    ours, _ = PAIRS["llama"]
    blocks = [[MASK] * 7, [MASK] * 7]

    def sampled(steps: int, seed: int, count: int = 2) -> list[list[int]]:
        kvs = [context(ours, real_ids(70)) for _ in range(count)]
        params = BulkParams(Threshold(math.inf), temperature=1.5, seed=seed)
        (*_, last) = BulkDenoiser(ours, infill_format(shift=False), steps).commit(
            kvs, blocks[:count], params
        )
        return last

    found = sampled(1, seed=4)
    assert found == sampled(3, seed=4)
    assert found[1:] == sampled(3, seed=5, count=1)
    assert found[0] != found[1]


@pytest.mark.parametrize("name", ["llama", "gated"])
def test_a_canvas_denoised_on_the_device_equals_that_of_the_host(name: str) -> None:
    ours, theirs = PAIRS[name]
    params = BulkParams(Threshold(0.3))
    look = partial(theirs.denoise, theirs.new_kv_cache())
    expected = committed_by_the_host(look, canvas(127), params, 0)
    (*_, found) = BulkDenoiser(ours, infill_format(shift=False), 4).commit(
        [ours.new_kv_cache()], [canvas(127)], params
    )
    assert len(expected) > 1
    assert found == [expected[-1]]


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("params", [PARAMS["threshold, remasking"], PARAMS["klass"]])
def test_blocks_in_canvases_denoised_on_the_device_equal_those_of_the_host(
    params: BulkParams, steps: int
) -> None:
    ours, theirs = PAIRS["llama"]
    whole, at = canvas(150), 55
    block = whole[at : at + 20]
    mine, its = [ours.new_kv_cache() for _ in range(2)], theirs.new_kv_cache()
    for runtime, kv in [(ours, mine[0]), (ours, mine[1]), (theirs, its)]:
        runtime.renew(kv, whole)
    expected = committed_by_the_host(partial(theirs.renew, its, at=at), block, params, 0)
    bulk = BulkDenoiser(ours, infill_format(shift=False), steps)
    found = list(bulk.commit(mine, [block, block], params, at))
    looks = -(-len(expected) // steps)
    assert looks > 1 or steps > 1
    for look, now in enumerate(found, 1):
        assert now == [expected[min(look * steps, len(expected)) - 1]] * 2
    assert len(found) == looks
    assert [kv.length for kv in mine] == [150, 150]
    for runtime, kv in [(ours, mine[1]), (theirs, its)]:
        runtime.renew(kv, expected[-1], at)
    agree(ours.renew(mine[1], whole[:30]), theirs.renew(its, whole[:30]))


def test_a_block_that_reaches_beyond_its_canvas_is_refused() -> None:
    ours, _ = PAIRS["llama"]
    kv = ours.new_kv_cache()
    ours.renew(kv, canvas(30))
    bulk = BulkDenoiser(ours, infill_format(shift=False), 1)
    with pytest.raises(ValueError, match="5 tokens from 26 on reach beyond the canvas"):
        next(bulk.commit([kv], [[MASK] * 5], PARAMS["threshold"], at=26))
