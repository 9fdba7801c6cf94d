from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import dequantize, quantize

from mercury_model.errors import WeightsCorrupted, WeightsUnsupported
from mercury_model.spec.model_config import ModelConfig
from mercury_model.weights.gguf import GgufTensors, open_gguf

WIDTH, HEADS, KV_HEADS, MLP, LAYERS, VOCABULARY = 64, 4, 2, 96, 2, 300
Q8 = GGMLQuantizationType.Q8_0


def shapes() -> dict[str, tuple[int, ...]]:
    head = WIDTH // HEADS
    found: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (VOCABULARY, WIDTH),
        "output.weight": (VOCABULARY, WIDTH),
        "output_norm.weight": (WIDTH,),
    }
    for i in range(LAYERS):
        for part, rows in (("q", HEADS * head), ("k", KV_HEADS * head), ("v", KV_HEADS * head)):
            found[f"blk.{i}.attn_{part}.weight"] = (rows, WIDTH)
            found[f"blk.{i}.attn_{part}.bias"] = (rows,)
        found[f"blk.{i}.attn_output.weight"] = (WIDTH, HEADS * head)
        found[f"blk.{i}.ffn_gate.weight"] = found[f"blk.{i}.ffn_up.weight"] = (MLP, WIDTH)
        found[f"blk.{i}.ffn_down.weight"] = (WIDTH, MLP)
        found[f"blk.{i}.attn_norm.weight"] = found[f"blk.{i}.ffn_norm.weight"] = (WIDTH,)
    return found


def write(path: Path, kind: str = "qwen2", without: str = "") -> dict[str, np.ndarray]:
    """A small file; returns what its tensors are when dequantised."""
    draw, tensors = np.random.default_rng(0), {}
    writer = GGUFWriter(path, kind)
    writer.add_block_count(LAYERS)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(MLP)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(1e6)
    for name, shape in shapes().items():
        values = draw.standard_normal(shape).astype(np.float32)
        if name == without:
            continue
        if len(shape) == 2:
            stored = quantize(values, Q8)
            writer.add_tensor(name, stored, raw_dtype=Q8)
            values = dequantize(stored, Q8)
        else:
            writer.add_tensor(name, values)
        tensors[name] = values
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def read(path: Path) -> dict[str, np.ndarray]:
    file = open_gguf(path)
    return dict(GgufTensors(file, file.config()))


def test_qwen2_is_read_as_it_is_with_its_biases(tmp_path: Path) -> None:
    expected = write(tmp_path / "x.gguf")
    file = open_gguf(tmp_path / "x.gguf")
    config = file.config(tied=True)
    assert config == ModelConfig(
        VOCABULARY, WIDTH, LAYERS, HEADS, KV_HEADS, 16, MLP, 1e6, 1e-6, True, True
    )
    tensors = GgufTensors(file, config)
    for part in "qkv":
        np.testing.assert_array_equal(
            tensors[f"layers.1.{part}"], expected[f"blk.1.attn_{part}.weight"]
        )
        np.testing.assert_array_equal(
            tensors[f"layers.1.{part}.bias"], expected[f"blk.1.attn_{part}.bias"]
        )


def test_both_ends_of_a_tied_network_are_its_output(tmp_path: Path) -> None:
    expected = write(tmp_path / "x.gguf")
    file = open_gguf(tmp_path / "x.gguf")
    tied = GgufTensors(file, file.config(tied=True))
    np.testing.assert_array_equal(tied["embedding"], expected["output.weight"])
    assert "head" not in tied
    untied = GgufTensors(file, file.config())
    np.testing.assert_array_equal(untied["embedding"], expected["token_embd.weight"])
    np.testing.assert_array_equal(untied["head"], expected["output.weight"])


def test_another_architecture_is_named_with_those_that_are_known(tmp_path: Path) -> None:
    write(tmp_path / "x.gguf", "mamba")
    with pytest.raises(WeightsUnsupported, match=r"mamba.*llama, qwen2"):
        open_gguf(tmp_path / "x.gguf").config()


def test_a_quantisation_that_cannot_be_read_is_named_with_others(tmp_path: Path) -> None:
    write(tmp_path / "x.gguf")
    file = open_gguf(tmp_path / "x.gguf")
    infos = {name: type(info)(info.shape, 31, info.start) for name, info in file.infos.items()}
    odd = type(file)(file.path, file.metadata, infos)
    with pytest.raises(WeightsUnsupported, match=r"output\.weight.*31.*Q8_0"):
        odd.dequantized("output.weight")


@pytest.mark.parametrize("name", ["blk.1.ffn_up.weight", "blk.0.attn_q.bias", "token_embd.weight"])
def test_a_missing_tensor_is_named(tmp_path: Path, name: str) -> None:
    write(tmp_path / "x.gguf", without=name)
    file = open_gguf(tmp_path / "x.gguf")
    with pytest.raises(WeightsCorrupted, match="missing"):
        GgufTensors(file, file.config(tied=False))


@pytest.mark.parametrize("share", [0.0001, 0.01, 0.1, 0.5, 0.95])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    write(tmp_path / "x.gguf")
    whole = (tmp_path / "x.gguf").read_bytes()
    (tmp_path / "x.gguf").write_bytes(whole[: int(len(whole) * share) + 1])
    with pytest.raises(WeightsCorrupted, match="whole"):
        read(tmp_path / "x.gguf")
