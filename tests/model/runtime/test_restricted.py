"""Rows that may give some ids only: every runtime renormalises over these alone."""

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from random_weights import adapted
from runtime_pairs import pair

from mercury_model.runtime.limits import TOP_K
from mercury_model.runtime.onnx import graph
from mercury_model.runtime.onnx.arithmetic import Precision
from mercury_model.runtime.onnx.runtime import OnnxRuntime, session_options
from mercury_model.runtime.protocol import ForwardCall, Predictions, Runtime
from mercury_model.runtime.torch import TorchRuntime, load_denoiser
from mercury_model.spec.model_config import ModelConfig
from mercury_model.weights.checkpoint import Tensors

MASK = 5
CONFIG = ModelConfig(61, 32, 2, 2, 1, 16, 48, 10_000.0)
PRUNED = np.arange(1, 61, 2, dtype=np.int32)
CONTEXT = [7, 30, 12, 9]
BLOCK = [8, 21, MASK, MASK]


def on_torch(weights: Tensors, config: ModelConfig, _folder: Path) -> Runtime:
    return TorchRuntime(load_denoiser(config, weights, MASK), dtype=torch.float32)


def on_onnx(weights: Tensors, config: ModelConfig, folder: Path) -> Runtime:
    path = folder / "graph.onnx"
    graph.write_graph(path, config, weights, Precision.FP32, MASK)
    return OnnxRuntime(path, config, MASK, "fp32", session_options(1))


def on_kernels(weights: Tensors, config: ModelConfig, _folder: Path) -> Runtime:
    return pair(config, weights)[0]


Make = Callable[[Tensors, ModelConfig, Path], Runtime]
MAKERS = {"torch": on_torch, "onnx": on_onnx, "kernels": on_kernels}


def weights(vocabulary: NDArray[np.int32] | None) -> Tensors:
    made = adapted(CONFIG, "qkv")
    return made if vocabulary is None else {**made, "vocabulary": vocabulary}


@pytest.fixture(scope="module", params=[None, PRUNED], ids=["all-predicted", "some-predicted"])
def vocabulary(request: pytest.FixtureRequest) -> NDArray[np.int32] | None:
    found: NDArray[np.int32] | None = request.param
    return found


@pytest.fixture(scope="module", params=MAKERS)
def runtime(
    request: pytest.FixtureRequest,
    vocabulary: NDArray[np.int32] | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> Runtime:
    make: Make = MAKERS[request.param]
    return make(weights(vocabulary), CONFIG, tmp_path_factory.mktemp("graph"))


def restricted(rows: int, *ids: int) -> NDArray[np.bool_]:
    """[rows, V]: row 0 may give `ids` alone, the others everything."""
    allowed = np.ones((rows, CONFIG.vocab_size), np.bool_)
    allowed[0] = False
    allowed[0, list(ids)] = True
    return allowed


def distribution(
    runtime: Runtime, kind: str, rows: int, row: int, vocabulary: NDArray[np.int32] | None
) -> NDArray[np.float64]:
    """The probability [V] of every id at a row, asked for one id at a time against the first."""
    ids = np.arange(CONFIG.vocab_size) if vocabulary is None else vocabulary
    odds = np.zeros(CONFIG.vocab_size)
    odds[ids[0]] = 1.0
    for token in ids[1:].tolist():
        allowed = np.ones((rows, CONFIG.vocab_size), np.bool_)
        allowed[row] = False
        allowed[row, [ids[0], token]] = True
        found = ask(runtime, kind, allowed).at(slice(row, row + 1))
        chance = dict(zip(found.ids[0].tolist(), found.probs[0].tolist(), strict=True))
        odds[token] = chance[token] / chance[int(ids[0])]
    return odds / odds.sum()


def ask(runtime: Runtime, kind: str, allowed: NDArray[np.bool_] | None) -> Predictions:
    kv = runtime.new_kv_cache()
    runtime.extend(kv, CONTEXT)
    ids = BLOCK if kind != "extend" else BLOCK[:2]
    return ForwardCall(kind, kv, ids, allowed=allowed).on(runtime)  # type: ignore[arg-type]


@pytest.mark.parametrize(("kind", "rows"), [("extend", 1), ("verify", 4), ("denoise", 4)])
def test_a_restricted_row_is_the_softmax_over_its_ids(
    runtime: Runtime, kind: str, rows: int
) -> None:
    free, ids = ask(runtime, kind, None), [3, 11, 29, 45, 57]
    found = ask(runtime, kind, restricted(rows, *ids))
    assert set(found.ids[0][found.probs[0] > 0].tolist()) == set(ids)
    assert found.probs[0].sum() == pytest.approx(1, abs=1e-5)
    known = dict(zip(free.ids[0].tolist(), free.probs[0].tolist(), strict=True))
    both = [i for i in found.ids[0].tolist() if i in known and i in ids]
    mine = dict(zip(found.ids[0].tolist(), found.probs[0].tolist(), strict=True))
    for one, other in itertools.pairwise(both):
        assert mine[one] / mine[other] == pytest.approx(known[one] / known[other], rel=1e-3)
    p = found.probs[0][found.probs[0] > 0].astype(float)
    assert found.entropy[0] == pytest.approx(-(p * np.log(p)).sum(), abs=1e-4)
    np.testing.assert_array_equal(found.ids[1:], free.ids[1:])
    np.testing.assert_array_equal(found.probs[1:], free.probs[1:])


def test_ids_beyond_the_candidates_are_found(
    runtime: Runtime, vocabulary: NDArray[np.int32] | None
) -> None:
    chances = distribution(runtime, "extend", 1, 0, vocabulary)
    ids = np.arange(CONFIG.vocab_size) if vocabulary is None else vocabulary
    unlikely = sorted(ids.tolist(), key=chances.__getitem__)[:3]
    assert not np.isin(unlikely, ask(runtime, "extend", None).ids).any()
    found = ask(runtime, "extend", restricted(1, *unlikely))
    expected = chances[found.ids[0, :3]] / chances[unlikely].sum()
    np.testing.assert_allclose(found.probs[0, :3], expected, rtol=1e-3)


def test_only_the_call_that_asks_is_restricted_in_a_pass(runtime: Runtime) -> None:
    free, bound = (ask(runtime, "verify", allowed) for allowed in (None, restricted(4, 3, 57)))
    calls = []
    for allowed in (None, restricted(4, 3, 57), None):
        kv = runtime.new_kv_cache()
        runtime.extend(kv, CONTEXT)
        calls.append(ForwardCall("verify", kv, BLOCK, allowed=allowed))
    for found, alone in zip(runtime.forward_batch(calls), (free, bound, free), strict=True):
        np.testing.assert_array_equal(found.ids[:, 0], alone.ids[:, 0])
        np.testing.assert_allclose(found.probs, alone.probs, atol=1e-5)
        np.testing.assert_allclose(found.entropy, alone.entropy, atol=1e-4)


def test_a_runtime_says_which_ids_it_predicts(
    runtime: Runtime, vocabulary: NDArray[np.int32] | None
) -> None:
    if vocabulary is None:
        assert runtime.vocabulary is None
    else:
        np.testing.assert_array_equal(runtime.vocabulary, vocabulary)


@pytest.mark.parametrize(
    "allowed",
    [
        np.ones((3, CONFIG.vocab_size), np.bool_),
        np.ones((4, CONFIG.vocab_size - 1), np.bool_),
        np.ones((4, CONFIG.vocab_size), np.float32),
    ],
    ids=["rows", "ids", "type"],
)
def test_a_restriction_of_another_shape_is_refused(
    runtime: Runtime, allowed: NDArray[np.bool_]
) -> None:
    with pytest.raises(ValueError, match="`allowed` is"):
        ask(runtime, "verify", allowed)


def test_a_row_without_an_id_that_can_be_predicted_is_refused(
    runtime: Runtime, vocabulary: NDArray[np.int32] | None
) -> None:
    nothing = restricted(4, *([] if vocabulary is None else [2, 4]))
    with pytest.raises(ValueError, match="never predicted"):
        ask(runtime, "verify", nothing)


def test_a_free_row_has_as_many_candidates_as_ever(runtime: Runtime) -> None:
    assert ask(runtime, "verify", restricted(4, 3)).ids.shape == (4, TOP_K)
