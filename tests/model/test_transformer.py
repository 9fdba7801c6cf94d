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

from mercury_model import checkpoint
from mercury_model.families import read_config
from mercury_model.runtime.torch import TorchRuntime, denoiser

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
        denoiser(config, checkpoint.read_hub(folder, family.rename)), dtype=torch.float32
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
    torch.testing.assert_close(runtime.logits(runtime.new_kv(), ids), expected, rtol=0, atol=1e-4)


@pytest.mark.mini
def test_the_base_of_mini_agrees_with_transformers_to_a_ten_thousandth(mini_base: Path) -> None:
    config, tensors = checkpoint.read_gguf(mini_base)
    peer = LlamaForCausalLM.from_pretrained(
        mini_base.parent, gguf_file=mini_base.name, dtype=torch.float32
    )
    runtime = TorchRuntime(denoiser(config, tensors), dtype=torch.float32)
    ids = list(np.random.default_rng(2).integers(17, config.vocab_size, 60))
    with torch.no_grad():
        expected = peer(torch.tensor([ids])).logits[0]
    torch.testing.assert_close(runtime.logits(runtime.new_kv(), ids), expected, rtol=0, atol=1e-4)
