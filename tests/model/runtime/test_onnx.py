"""The ONNX runtime against torch in fp32, and against itself."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fakes import ScriptedKV
from hypothesis import given, settings
from hypothesis import strategies as st

from mercury_model.decoding.infiller import Infiller
from mercury_model.decoding.params import SamplingParams
from mercury_model.decoding.prompt import FimPrompt
from mercury_model.load import cpu_flags, graph_precision, load, select_runtime
from mercury_model.network.denoiser import load_denoiser
from mercury_model.runtime.onnx import graph
from mercury_model.runtime.onnx.arithmetic import Precision
from mercury_model.runtime.onnx.files import MAX_BATCH_SIZE
from mercury_model.runtime.onnx.runtime import OnnxRuntime, session_options
from mercury_model.runtime.protocol import ForwardCall, KVCache, Predictions, Runtime
from mercury_model.runtime.torch import TorchRuntime
from mercury_model.spec.model_config import ModelConfig
from mercury_model.spec.tokenizer import Tokenizer
from mercury_model.weights import registry
from mercury_model.weights.checkpoint import Tensors, merge

CARD = registry.card("tiny")
MASK = CARD.infill.mask_id
WEIGHTS = registry.merged(registry.find("tiny"), Path("nowhere"))
IDS = st.lists(st.integers(5, 2047), min_size=1, max_size=30)

SOURCES = Path(__file__).parents[3] / "mercury_lsp" / "bench" / "data" / "sources"

TOLERANCE = {Precision.FP32: 2e-4, Precision.INT8: 0.12, Precision.INT8_UNSIGNED: 0.12}
"""How far the probability of the likeliest token may be off."""


@pytest.fixture(scope="module")
def reference() -> Runtime:
    return TorchRuntime(load_denoiser(CARD.architecture, WEIGHTS, MASK), dtype=torch.float32)


@pytest.fixture(scope="module", params=list(Precision))
def precision(request: pytest.FixtureRequest) -> Precision:
    return Precision(request.param)


@pytest.fixture(scope="module")
def onnx(precision: Precision, tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    path = tmp_path_factory.mktemp("graph") / "tiny.onnx"
    graph.write_graph(path, CARD.architecture, WEIGHTS, precision, MASK)
    return OnnxRuntime(path, CARD.architecture, MASK, precision.value, session_options(1))


def context(runtime: Runtime, ids: list[int]) -> KVCache:
    kv = runtime.new_kv_cache()
    for start in range(0, len(ids), 64):
        runtime.extend(kv, ids[start : start + 64])
    return kv


def real_ids(count: int) -> list[int]:
    """Ids of real code, since noise has no likeliest token to agree on."""
    tokenizer = Tokenizer(registry.BUNDLED / "tiny-tokenizer.json", CARD.infill)
    return tokenizer.encode(Path(registry.__file__).read_text("utf-8"))[:count]


def test_it_predicts_what_torch_predicts(
    reference: Runtime, onnx: Runtime, precision: Precision
) -> None:
    ids = real_ids(150)
    theirs, ours = context(reference, ids), context(onnx, ids)
    for call in ("denoise", "verify"):
        tokens = [MASK] * 8 if call == "denoise" else real_ids(160)[150:]
        expected = getattr(reference, call)(theirs, tokens)
        found = getattr(onnx, call)(ours, tokens)
        np.testing.assert_allclose(
            found.probs[:, 0], expected.probs[:, 0], atol=TOLERANCE[precision]
        )
        sure = expected.probs[:, 0] - expected.probs[:, 1] > 2 * TOLERANCE[precision]
        np.testing.assert_array_equal(found.ids[sure, 0], expected.ids[sure, 0])
    assert ours.length == theirs.length


def same(found: Predictions, expected: Predictions) -> None:
    """To the last bit."""
    np.testing.assert_array_equal(found.ids, expected.ids)
    np.testing.assert_array_equal(found.probs, expected.probs)
    np.testing.assert_array_equal(found.entropy, expected.entropy)


@settings(max_examples=20)
@given(IDS, st.integers(0, 30))
def test_a_context_read_in_chunks_is_exactly_the_one_read_at_once(
    onnx: Runtime, ids: list[int], cut: int
) -> None:
    whole, pieces = onnx.new_kv_cache(), onnx.new_kv_cache()
    expected = onnx.extend(whole, ids)
    parts = [part for part in (ids[:cut], ids[cut:]) if part]
    found = [onnx.extend(pieces, part) for part in parts]
    same(found[-1], expected)
    assert pieces.length == whole.length == len(ids)


@settings(max_examples=10)
@given(IDS)
def test_verifying_predicts_exactly_what_extending_one_by_one_does(
    onnx: Runtime, ids: list[int]
) -> None:
    found, kv = onnx.verify(onnx.new_kv_cache(), [*ids, MASK, MASK]), onnx.new_kv_cache()
    for row, token in enumerate(ids):
        expected = onnx.extend(kv, [token])
        np.testing.assert_array_equal(found.ids[row], expected.ids[0])
        np.testing.assert_array_equal(found.probs[row], expected.probs[0])


@settings(max_examples=20)
@given(IDS, st.integers(0, 29))
def test_denoising_truncating_and_forking_leave_a_context_exact(
    onnx: Runtime, ids: list[int], keep: int
) -> None:
    keep = min(keep, len(ids) - 1)
    kv = context(onnx, ids)
    onnx.denoise(kv, [MASK] * 8)
    copy = kv.fork(keep)
    kv.truncate(keep)
    fresh = context(onnx, ids[:keep])
    expected = onnx.extend(fresh, ids[keep:])
    for again in (kv, copy):
        same(onnx.extend(again, ids[keep:]), expected)


calls = st.lists(
    st.tuples(st.sampled_from(["extend", "verify", "denoise"]), IDS, IDS, st.integers(0, 3)),
    min_size=1,
    max_size=MAX_BATCH_SIZE,
)


@settings(max_examples=20)
@given(calls)
def test_what_shares_a_pass_is_not_seen(
    onnx: Runtime, calls: list[tuple[Any, list[int], list[int], int]]
) -> None:
    """Alone and together the same tokens and probabilities, to the last bit, and contexts."""
    shared, alone = (
        [
            ForwardCall(
                kind, context(onnx, before), [*ids, *[MASK] * (0 if kind == "extend" else masks)]
            )
            for kind, before, ids, masks in calls
        ]
        for _ in range(2)
    )
    for found, one, other in zip(onnx.forward_batch(shared), shared, alone, strict=True):
        expected = other.on(onnx)
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_array_equal(found.probs, expected.probs)
        np.testing.assert_allclose(found.entropy, expected.entropy, atol=1e-5)
        assert one.kv.length == other.kv.length
        same(onnx.extend(one.kv, [7, 8]), onnx.extend(other.kv, [7, 8]))


def test_a_pass_takes_max_batch_size_calls_each_of_another_context(
    onnx: Runtime,
) -> None:
    kv = onnx.new_kv_cache()
    for refused in ([], [ForwardCall("extend", kv, [5])] * 2):
        with pytest.raises(ValueError, match="each of another context"):
            onnx.forward_batch(refused)
    many = [ForwardCall("extend", onnx.new_kv_cache(), [5]) for _ in range(onnx.max_batch_size + 1)]
    with pytest.raises(ValueError, match=f"1 to {onnx.max_batch_size} calls"):
        onnx.forward_batch(many)


@pytest.mark.parametrize("tokens", [0, 1, 256, 257])
def test_what_a_context_takes_is_known_beforehand(onnx: Runtime, tokens: int) -> None:
    kv = onnx.new_kv_cache()
    kv.reserve(tokens)
    assert kv.nbytes == onnx.kv_bytes(tokens)


def test_a_context_grows_past_its_first_buffers(reference: Runtime, onnx: Runtime) -> None:
    ids = real_ids(400)
    ours, theirs = context(onnx, ids), context(reference, ids)
    assert ours.length == 400
    assert ours.nbytes >= 400 * CARD.architecture.kv_bytes_per_token
    found, expected = onnx.denoise(ours, [MASK]), reference.denoise(theirs, [MASK])
    np.testing.assert_allclose(found.probs[0, 0], expected.probs[0, 0], atol=0.12)


def test_chunks_and_contexts_that_are_too_long_are_refused(onnx: Runtime) -> None:
    for count in (0, 65):
        with pytest.raises(ValueError, match="1 to 64"):
            onnx.extend(onnx.new_kv_cache(), [5] * count)
    with pytest.raises(TypeError, match="another runtime"):
        onnx.extend(ScriptedKV(), [5])


INNER = {"k": "q", "v": "q", "u": "g"}
"""Which matrix of those that read the same rows comes first."""


def adapted(shared: Mapping[str, str]) -> Tensors:
    """The weights with gated adapters in all layers but the first; `shared` have another's a."""
    rng = np.random.default_rng(3)
    added: Tensors = {}
    for layer in range(1, CARD.architecture.num_layers):
        for part, (rows, columns) in CARD.architecture.projections.items():
            inner = rng.standard_normal((4, columns), np.float32) / columns**0.5
            first = added.get(f"layers.{layer}.{shared.get(part)}.mask_a", inner)
            added[f"layers.{layer}.{part}.mask_a"] = first
            added[f"layers.{layer}.{part}.mask_b"] = rng.standard_normal((rows, 4), np.float32)
    return merge(WEIGHTS, [added])


@pytest.mark.parametrize("shared", [{}, INNER], ids=["apart", "shared"])
def test_gated_adapters_act_at_masks_alone(
    shared: Mapping[str, str],
    reference: Runtime,
    onnx: Runtime,
    precision: Precision,
    tmp_path: Path,
) -> None:
    weights, ids = adapted(shared), real_ids(100)
    graph.write_graph(tmp_path / "adapted.onnx", CARD.architecture, weights, precision, MASK)
    ours = OnnxRuntime(tmp_path / "adapted.onnx", CARD.architecture, MASK, "", session_options(1))
    theirs = TorchRuntime(load_denoiser(CARD.architecture, weights, MASK), dtype=torch.float32)
    block = [*ids[90:], *[MASK] * 6]
    found, expected = (r.verify(context(r, ids[:90]), block) for r in (ours, theirs))
    np.testing.assert_allclose(found.probs[:, 0], expected.probs[:, 0], atol=TOLERANCE[precision])
    plain = onnx.verify(context(onnx, ids[:90]), block)
    np.testing.assert_array_equal(found.probs[:10], plain.probs[:10])
    acting = reference.verify(context(reference, ids[:90]), block).probs[10:] - expected.probs[10:]
    assert np.abs(acting).max() > 0.02
    # Committed tokens of a block see none of its masks.
    half = [*ids[90:93], MASK, ids[93], MASK, MASK, ids[94]]
    found, expected = (r.denoise(context(r, ids[:90]), half) for r in (ours, theirs))
    np.testing.assert_allclose(found.probs[:, 0], expected.probs[:, 0], atol=TOLERANCE[precision])
    # A mask may be the only row that is predicted.
    found, expected = (r.extend(context(r, ids[:90]), [*ids[90:], MASK]) for r in (ours, theirs))
    np.testing.assert_allclose(found.probs[:, 0], expected.probs[:, 0], atol=TOLERANCE[precision])


def test_tokens_outside_the_vocabulary_are_never_predicted(
    precision: Precision, tmp_path: Path
) -> None:
    vocabulary, ids = np.arange(1, 2048, 3, np.int32), real_ids(100)
    weights = {**WEIGHTS, "vocabulary": vocabulary}
    graph.write_graph(tmp_path / "some.onnx", CARD.architecture, weights, precision, MASK)
    ours = OnnxRuntime(tmp_path / "some.onnx", CARD.architecture, MASK, "", session_options(1))
    theirs = TorchRuntime(load_denoiser(CARD.architecture, weights, MASK), dtype=torch.float32)
    found, expected = (r.verify(context(r, ids[:90]), ids[90:]) for r in (ours, theirs))
    assert np.isin(found.ids, vocabulary).all()
    np.testing.assert_allclose(found.probs[:, 0], expected.probs[:, 0], atol=TOLERANCE[precision])
    sure = expected.probs[:, 0] > expected.probs[:, 1] + 2 * TOLERANCE[precision]
    assert sure.any()
    np.testing.assert_array_equal(found.ids[sure, 0], expected.ids[sure, 0])


def random_network(config: ModelConfig) -> Tensors:
    rng = np.random.default_rng(4)

    def some(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return rng.standard_normal(shape, np.float32)

    c = config
    tensors = {
        "embedding": some(c.vocab_size, c.hidden_size),
        "norm": 1 + 0.2 * some(c.hidden_size),
    }
    tensors["embedding"] *= 2 / c.hidden_size**0.5
    if not c.tie_word_embeddings:
        tensors["head"] = some(c.vocab_size, c.hidden_size) / c.hidden_size**0.5
    for layer in range(c.num_layers):
        for part, (rows, columns) in c.projections.items():
            tensors[f"layers.{layer}.{part}"] = some(rows, columns) / columns**0.5
        for norm in ("attention_norm", "mlp_norm"):
            tensors[f"layers.{layer}.{norm}"] = 1 + 0.2 * some(c.hidden_size)
        for part in "qkv" if c.qkv_bias else "":
            tensors[f"layers.{layer}.{part}.bias"] = 0.3 * some(c.projections[part][0])
    return tensors


@pytest.mark.parametrize(
    "config",
    [
        ModelConfig(83, 48, 3, 6, 2, 16, 100, 10_000.0, tie_word_embeddings=False),
        ModelConfig(83, 56, 2, 7, 7, 16, 144, 10_000.0, qkv_bias=True),
    ],
    ids=["untied", "biases"],
)
def test_networks_of_other_families_give_what_torch_gives(
    config: ModelConfig, precision: Precision, tmp_path: Path
) -> None:
    if precision == Precision.INT8 and graph_precision(cpu_flags()) != precision:
        pytest.skip("sums of mixed 8-bit products saturate on this processor: it gets another")
    weights, ids = random_network(config), list(np.random.default_rng(5).integers(1, 83, 63))
    graph.write_graph(tmp_path / "network.onnx", config, weights, precision, 0)
    ours = OnnxRuntime(tmp_path / "network.onnx", config, 0, "", session_options(1))
    theirs = TorchRuntime(load_denoiser(config, weights), dtype=torch.float32)
    found, expected = (r.denoise(context(r, ids), ids[:9]) for r in (ours, theirs))
    exact = precision == Precision.FP32
    assert np.abs(found.entropy - expected.entropy).mean() < (1e-3 if exact else 0.1)
    if exact:
        np.testing.assert_array_equal(found.ids[:, 0], expected.ids[:, 0])
        np.testing.assert_allclose(found.probs, expected.probs, atol=TOLERANCE[precision])


def test_what_was_built_is_kept_and_built_again_when_it_was_altered(tmp_path: Path) -> None:
    built = []

    def weights() -> "dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]":
        built.append(1)
        return WEIGHTS

    path = tmp_path / "tiny"
    for _ in range(2):
        select_runtime("onnx", CARD, weights, path, 1)
    assert len(built) == 1
    [large] = tmp_path.glob("*.weights")
    content = bytearray(large.read_bytes())
    content[-1] ^= 1
    large.write_bytes(content)
    select_runtime("onnx", CARD, weights, path, 1)
    assert len(built) == 2


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"avx2"}, "int8-unsigned"),
        ({"avx2", "avx_vnni"}, "int8"),
        ({"avx512f", "avx512_vnni"}, "int8"),
        ({"asimd", "asimddp"}, "int8"),
        (set(), "int8-unsigned"),
    ],
)
def test_processors_whose_products_would_saturate_get_unsigned_weights(
    flags: set[str], expected: str
) -> None:
    assert graph_precision(frozenset(flags)) == expected


def test_the_same_gap_is_filled_alike_each_time(onnx: Runtime) -> None:
    tokenizer = Tokenizer(registry.BUNDLED / "tiny-tokenizer.json", CARD.infill)
    gap = FimPrompt("def mean(values):\n    return ", "\n")
    texts = set()
    for _ in range(2):
        *_, last = Infiller(CARD, tokenizer, onnx).drafts(gap, SamplingParams())
        texts.add(last.text)
    assert len(texts) == 1


def test_a_server_on_a_cpu_never_imports_torch(tmp_path: Path) -> None:
    script = f"""
import sys
from pathlib import Path
import mercury_lsp.cli.main, mercury_lsp.lsp
from mercury_model.load import load
from mercury_model.decoding.infiller import Infiller
from mercury_model.decoding.params import SamplingParams
from mercury_model.decoding.prompt import FimPrompt
model = load("tiny", cache_dir=Path({str(tmp_path)!r}), runtime="onnx")
infiller = Infiller(model.card, model.tokenizer, model.runtime)
*_, draft = infiller.drafts(FimPrompt("x = ", ""), SamplingParams())
assert draft.finished
heavy = {{"torch", "matplotlib", "transformers"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.mini
def test_mini_in_int8_stays_close_to_torch_in_fp32(cache_dir: Path) -> None:
    """On code it was not trained on, at clean rows and at the masks behind them."""
    loaded = load("mini", cache_dir=cache_dir, threads=1, runtime="onnx")
    mask = loaded.card.infill.mask_id
    weights = registry.merged(registry.find("mini"), cache_dir)
    network = load_denoiser(loaded.card.architecture, weights, mask)
    reference = TorchRuntime(network, dtype=torch.float32)
    off, agree, sure = [], [], []
    for source in sorted(SOURCES.glob("*.py.txt"))[:4]:
        text = source.read_text("utf-8")
        middle = len(text) // 2
        ids = loaded.tokenizer.fim_context(text[:middle], text[middle + 40 :]).ids
        block = [*ids[-40:], *loaded.tokenizer.encode(text[middle : middle + 40]), *[mask] * 6]
        found, expected = (
            runtime.verify(context(runtime, ids[:-40]), block)
            for runtime in (loaded.runtime, reference)
        )
        off.extend(np.abs(found.probs[:, 0] - expected.probs[:, 0]))
        agree.extend(found.ids[:, 0] == expected.ids[:, 0])
        sure.extend(expected.probs[:, 0] > 0.5)
    assert np.mean(off) < 0.03
    assert np.mean(agree) > 0.9
    assert np.mean(np.array(agree)[sure]) > 0.98
