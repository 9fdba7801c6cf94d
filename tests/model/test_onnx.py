"""The ONNX runtime against torch in fp32, and against itself."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mercury_model import models
from mercury_model.infill import Gap, Infiller, Sampling
from mercury_model.runtime import KV, Runtime, graph, select
from mercury_model.runtime.graph import Precision
from mercury_model.runtime.onnx import OnnxRuntime
from mercury_model.runtime.torch import TorchRuntime, denoiser

CARD = models.card("tiny")
MASK = CARD.infill.mask_id
WEIGHTS = models.merged(models.find("tiny"), Path("nowhere"))
IDS = st.lists(st.integers(5, 2047), min_size=1, max_size=30)

TOLERANCE = {Precision.FP32: 2e-4, Precision.INT8: 0.12, Precision.INT8_UNSIGNED: 0.12}
"""How far the probability of the likeliest token may be off."""


@pytest.fixture(scope="module")
def reference() -> Runtime:
    return TorchRuntime(denoiser(CARD.architecture, WEIGHTS, MASK), dtype=torch.float32)


@pytest.fixture(scope="module", params=list(Precision))
def precision(request: pytest.FixtureRequest) -> Precision:
    return Precision(request.param)


@pytest.fixture(scope="module")
def onnx(precision: Precision, tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    path = tmp_path_factory.mktemp("graph") / "tiny.onnx"
    graph.write(path, CARD.architecture, WEIGHTS, precision, MASK)
    return OnnxRuntime(path, CARD.architecture, MASK, precision.value, 1)


def context(runtime: Runtime, ids: list[int]) -> KV:
    kv = runtime.new_kv()
    for start in range(0, len(ids), 64):
        runtime.extend(kv, ids[start : start + 64])
    return kv


def real_ids(count: int) -> list[int]:
    """Ids of real code, since noise has no likeliest token to agree on."""
    tokenizer = models.Tokenizer(models.BUNDLED / "tiny-tokenizer.json", CARD.infill)
    return tokenizer.encode(Path(models.__file__).read_text("utf-8"))[:count]


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


@settings(max_examples=20)
@given(IDS, st.integers(1, 29))
def test_a_context_read_in_chunks_is_the_one_read_at_once(
    onnx: Runtime, ids: list[int], cut: int
) -> None:
    whole, pieces = onnx.new_kv(), onnx.new_kv()
    expected = onnx.extend(whole, ids)
    for part in (ids[:cut], ids[cut:]):
        if part:
            found = onnx.extend(pieces, part)
    np.testing.assert_allclose(found.probs[0, 0], expected.probs[0, 0], atol=1e-4)
    assert pieces.length == whole.length == len(ids)


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
    fresh = context(onnx, ids[:keep]) if keep else onnx.new_kv()
    expected = onnx.extend(fresh, ids[keep:])
    for again in (kv, copy):
        np.testing.assert_allclose(onnx.extend(again, ids[keep:]).probs, expected.probs, atol=1e-4)


def test_what_was_built_is_kept_and_built_again_when_it_was_altered(tmp_path: Path) -> None:
    built = []

    def weights() -> "dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]":
        built.append(1)
        return WEIGHTS

    path = tmp_path / "tiny"
    for _ in range(2):
        select.choose("onnx", CARD, weights, path, 1)
    assert len(built) == 1
    [large] = tmp_path.glob("*.weights")
    content = bytearray(large.read_bytes())
    content[-1] ^= 1
    large.write_bytes(content)
    select.choose("onnx", CARD, weights, path, 1)
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
    assert select.precision(frozenset(flags)) == expected


def test_the_same_gap_is_filled_alike_each_time(onnx: Runtime) -> None:
    tokenizer = models.Tokenizer(models.BUNDLED / "tiny-tokenizer.json", CARD.infill)
    gap = Gap("def mean(values):\n    return ", "\n")
    texts = set()
    for _ in range(2):
        *_, last = Infiller(CARD, tokenizer, onnx).drafts(gap, Sampling())
        texts.add(last.text)
    assert len(texts) == 1


def test_a_server_on_a_cpu_never_imports_torch(tmp_path: Path) -> None:
    script = f"""
import sys
from pathlib import Path
import mercury_lsp.cli, mercury_lsp.lsp
from mercury_model import models
from mercury_model.infill import Gap, Infiller, Sampling
model = models.load("tiny", cache_dir=Path({str(tmp_path)!r}))
*_, draft = Infiller(model.card, model.tokenizer, model.runtime).drafts(Gap("x = ", ""), Sampling())
assert draft.finished
heavy = {{"torch", "matplotlib", "transformers"}} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", script], check=True)
