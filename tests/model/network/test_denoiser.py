"""The denoiser against the transformers library, on small random checkpoints of each family."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from mercury_kernels.dispatch import reference_operations
from mercury_kernels.passes import ModelRunner
from mercury_kernels.replay import Eager
from mercury_model.network.denoiser import load_denoiser
from mercury_model.runtime.cuda.runtime import CudaRuntime
from mercury_model.runtime.cuda.weights import load_weights
from mercury_model.runtime.torch import TorchRuntime
from mercury_model.weights import checkpoint
from mercury_model.weights.families import read_config
from mercury_model.weights.gguf import GgufTensors, open_gguf

SMALL = {
    "vocab_size": 83,
    "hidden_size": 48,
    "intermediate_size": 100,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}


def peers() -> list[PreTrainedModel]:
    torch.manual_seed(0)
    return [
        LlamaForCausalLM(LlamaConfig(**SMALL, tie_word_embeddings=True)),
        LlamaForCausalLM(LlamaConfig(**SMALL, tie_word_embeddings=False)),
        Qwen2ForCausalLM(Qwen2Config(**SMALL)),
        Qwen3ForCausalLM(Qwen3Config(**SMALL, head_dim=16)),
    ]


def from_hub_folder(folder: Path) -> TorchRuntime:
    family, config = read_config(json.loads((folder / "config.json").read_text()))
    return TorchRuntime(
        load_denoiser(config, checkpoint.read_hub(folder, family.rename)), dtype=torch.float32
    )


@pytest.mark.parametrize("peer", peers(), ids=["llama-tied", "llama", "qwen2", "qwen3"])
def test_logits_agree_with_transformers(peer: PreTrainedModel, tmp_path: Path) -> None:
    with torch.no_grad():
        for parameter in peer.parameters():  # biases and norms are constant when new
            parameter.add_(0.05 * torch.randn_like(parameter))
    peer.save_pretrained(tmp_path)
    runtime = from_hub_folder(tmp_path)
    ids = list(np.random.default_rng(1).integers(0, 83, 63))
    with torch.no_grad():
        expected = peer(torch.tensor([ids])).logits[0]
    torch.testing.assert_close(
        runtime.logits(runtime.new_kv_cache(), ids), expected, rtol=0, atol=1e-4
    )


@pytest.mark.parametrize("peer", peers(), ids=["llama-tied", "llama", "qwen2", "qwen3"])
def test_the_kernels_run_what_transformers_saves_after_a_context_and_over_a_canvas(
    peer: PreTrainedModel, tmp_path: Path
) -> None:
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    peer.save_pretrained(tmp_path)
    family, config = read_config(json.loads((tmp_path / "config.json").read_text()))
    tensors = checkpoint.read_hub(tmp_path, family.rename)
    network = load_weights(config, tensors, torch.device("cpu"), 82, 256, torch.float32)
    runtime = CudaRuntime(ModelRunner(network, reference_operations(), Eager), config, 82)
    ids = [int(each) for each in np.random.default_rng(1).integers(0, 82, 90)]
    kv = runtime.new_kv_cache()
    runtime.extend(kv, ids[:64])
    expected = _probabilities(peer, ids)[64:]
    after = runtime.verify(kv, ids[64:])
    np.testing.assert_allclose(after.probs, expected.topk(16).values.numpy(), atol=1e-4)
    # A canvas sees all of itself: it is a block after no context.
    canvas = [*ids[:30], *[82] * 20, *ids[30:43]]
    everything = torch.zeros(1, 1, len(canvas), len(canvas))
    expected = _probabilities(peer, canvas, everything)
    found = runtime.denoise(runtime.new_kv_cache(), canvas)
    np.testing.assert_allclose(found.probs, expected.topk(16).values.numpy(), atol=1e-4)


def _probabilities(
    peer: PreTrainedModel, ids: list[int], mask: torch.Tensor | None = None
) -> torch.Tensor:
    with torch.no_grad():
        return peer(torch.tensor([ids]), attention_mask=mask).logits[0].softmax(-1)


@pytest.mark.mini
def test_the_base_of_mini_agrees_with_transformers_to_a_ten_thousandth(mini_base: Path) -> None:
    # In double precision: in single, processors differ by more than that in how they sum.
    file = open_gguf(mini_base)
    config = file.config()
    tensors = GgufTensors(file, config)
    peer = LlamaForCausalLM.from_pretrained(
        mini_base.parent, gguf_file=mini_base.name, dtype=torch.float32
    ).double()
    runtime = TorchRuntime(load_denoiser(config, tensors), dtype=torch.float64)
    ids = list(np.random.default_rng(2).integers(17, config.vocab_size, 60))
    with torch.no_grad():
        expected = peer(torch.tensor([ids])).logits[0].float()
    torch.testing.assert_close(
        runtime.logits(runtime.new_kv_cache(), ids), expected, rtol=0, atol=1e-4
    )
