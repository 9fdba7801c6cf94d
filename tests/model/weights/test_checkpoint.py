import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import bfloat16, manual_seed, randn

from mercury_model.errors import WeightsCorrupted, WeightsMissing, WeightsUnsupported
from mercury_model.load import load
from mercury_model.spec.card import ModelCard
from mercury_model.weights import checkpoint, registry, tensor_file
from mercury_model.weights.families import read_config


def test_what_is_written_is_read_back_and_bf16_is_widened_exactly(tmp_path: Path) -> None:
    manual_seed(0)
    x = randn(5, 7)
    save_file({"x": x.to(bfloat16), "y": x}, tmp_path / "a.safetensors", {"k": "v"})
    found = tensor_file.read(tmp_path / "a.safetensors")
    assert found.metadata == {"k": "v"}
    np.testing.assert_array_equal(found.tensors["x"], x.to(bfloat16).float().numpy())
    tensor_file.write(tmp_path / "b.safetensors", found.tensors, {})
    np.testing.assert_array_equal(
        tensor_file.read(tmp_path / "b.safetensors").tensors["y"], x.numpy()
    )


@given(st.data())
def test_a_truncated_file_is_refused_wherever_it_was_cut(data: st.DataObject) -> None:
    whole = (registry.BUNDLED / "mini.json").read_bytes()
    header = json.dumps(
        {"x": {"dtype": "U8", "shape": [len(whole)], "data_offsets": [0, len(whole)]}}
    )
    stored = len(header).to_bytes(8, "little") + header.encode() + whole
    cut = data.draw(st.integers(1, len(stored) - 1))
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.safetensors"
        path.write_bytes(stored[:cut])
        with pytest.raises(WeightsCorrupted, match="whole"):
            tensor_file.read(path)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_half_done(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    tensor_file.write(path, {"x": np.zeros(3, np.float32)}, {})
    with pytest.raises(Exception, match=r"dtype|object|serialize|type"):
        tensor_file.write(path, {"x": np.array([object()])}, {})
    assert [p.name for p in tmp_path.iterdir()] == ["x.safetensors"]
    np.testing.assert_array_equal(tensor_file.read(path).tensors["x"], np.zeros(3))


def test_deltas_add_up_and_leave_the_base_alone() -> None:
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
        return rng.normal(size=shape).astype(np.float32)

    base = {"embedding": normal(9, 4), "layers.0.q": normal(4, 4)}
    before = {name: values.copy() for name, values in base.items()}
    first = {"layers.0.q.a": normal(2, 4), "layers.0.q.b": normal(4, 2), "special": normal(3, 4)}
    second = {"layers.0.q.a": normal(1, 4), "layers.0.q.b": normal(4, 1)}
    merged = checkpoint.merge(base, [first, second])
    expected = base["layers.0.q"] + sum(
        d["layers.0.q.b"] @ d["layers.0.q.a"] for d in (first, second)
    )
    np.testing.assert_allclose(merged["layers.0.q"], expected, rtol=1e-5)
    np.testing.assert_allclose(merged["embedding"][:3], base["embedding"][:3] + first["special"])
    np.testing.assert_array_equal(merged["embedding"][3:], base["embedding"][3:])
    for name, values in before.items():
        np.testing.assert_array_equal(base[name], values)


def test_an_int8_delta_is_scaled_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "delta.safetensors"
    whole = np.array([[1, -2], [4, 127]], np.int8)
    tensor_file.write(path, {"x.a": whole, "x.a.scale": np.array([0.5, 2.0], np.float32)}, {})
    np.testing.assert_array_equal(
        checkpoint.read_delta(path)["x.a"], np.array([[0.5, -1], [8, 254]], np.float32)
    )


def test_pickles_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"anything")
    with pytest.raises(WeightsUnsupported, match="safetensors"):
        checkpoint.read_hub(tmp_path, str)


def test_an_unknown_architecture_is_named_with_those_that_are_known() -> None:
    with pytest.raises(WeightsUnsupported, match=r"rwkv.*llama"):
        read_config({"model_type": "rwkv"})


def test_a_card_survives_its_json() -> None:
    card = registry.card("mini")
    assert ModelCard.from_json(json.loads(json.dumps(card.to_json()))) == card


@pytest.mark.parametrize("name", ["mini", "mercury-coder-mini"])
def test_a_model_has_a_name_and_an_alias(name: str) -> None:
    assert registry.find(name).name == "mini"


def test_an_unknown_model_is_named_with_those_that_are_known() -> None:
    with pytest.raises(WeightsUnsupported, match=r"giant.*mini"):
        registry.find("giant")


def test_without_weights_loading_says_how_to_get_them(tmp_path: Path) -> None:
    assert not registry.is_available("mini", tmp_path)
    with pytest.raises(WeightsMissing, match="mercury-lsp models pull mini"):
        load("mini", cache_dir=tmp_path)


def test_an_altered_base_is_refused_by_its_hash(tmp_path: Path) -> None:
    base = registry.find("mini").base
    assert base is not None
    (tmp_path / base.file).write_bytes(b"GGUF but not really")
    with pytest.raises(WeightsCorrupted, match="mercury-lsp models pull"):
        load("mini", cache_dir=tmp_path)


def test_removing_a_model_frees_what_it_took(tmp_path: Path) -> None:
    base = registry.find("mini").base
    assert base is not None
    (tmp_path / base.file).write_bytes(b"12345")
    (tmp_path / "mini-1.safetensors").write_bytes(b"123")
    (tmp_path / "other").write_bytes(b"1")
    interrupted = tmp_path / f"{base.file}.wheel"
    interrupted.mkdir()
    (interrupted / "half.whl").write_bytes(b"12")
    assert registry.remove("mini", cache_dir=tmp_path) == 10
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
