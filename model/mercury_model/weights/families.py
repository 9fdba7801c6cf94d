"""Conventions of open-weight families, as data: the names of their tensors and config keys.

FAMILIES are those of hub folders, GGUF_FAMILIES those of GGUF files.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mercury_model.errors import WeightsUnsupported
from mercury_model.spec.model_config import ModelConfig


@dataclass(frozen=True, slots=True)
class Family:
    """How a family names things. `layer` has a group for the index and one for the part.

    `interleaved`: the rows of Q and K alternate between the halves of each head.
    """

    layer: re.Pattern[str]
    parts: Mapping[str, str]
    top: Mapping[str, str]
    qkv_bias: bool = False
    qk_norm: bool = False
    interleaved: bool = False

    def rename(self, name: str) -> str | None:
        """Our name of a tensor of theirs; None for one that is not used (rotary tables)."""
        if name in self.top:
            return self.top[name]
        found = self.layer.fullmatch(name)
        if found is None or found["part"] not in self.parts:
            return None
        return f"layers.{found['index']}.{self.parts[found['part']]}"


_LLAMA_PARTS = {
    **{f"self_attn.{x}_proj.weight": x for x in "qkvo"},
    "mlp.gate_proj.weight": "g",
    "mlp.up_proj.weight": "u",
    "mlp.down_proj.weight": "d",
    "input_layernorm.weight": "attention_norm",
    "post_attention_layernorm.weight": "mlp_norm",
    **{f"self_attn.{x}_proj.bias": f"{x}.bias" for x in "qkv"},
    **{f"self_attn.{x}_norm.weight": f"{x}_norm" for x in "qk"},
}
_LLAMA_TOP = {
    "model.embed_tokens.weight": "embedding",
    "model.norm.weight": "norm",
    "lm_head.weight": "head",
}
_LLAMA_LAYER = re.compile(r"model\.layers\.(?P<index>\d+)\.(?P<part>.+)")

_LLADA_PARTS = {
    **{f"{x}_proj.weight": x for x in "qkv"},
    "attn_out.weight": "o",
    "ff_proj.weight": "g",
    "up_proj.weight": "u",
    "ff_out.weight": "d",
    "attn_norm.weight": "attention_norm",
    "ff_norm.weight": "mlp_norm",
}
_LLADA_TOP = {
    "model.transformer.wte.weight": "embedding",
    "model.transformer.ln_f.weight": "norm",
    "model.transformer.ff_out.weight": "head",
}
_LLADA_LAYER = re.compile(r"model\.transformer\.blocks\.(?P<index>\d+)\.(?P<part>.+)")

FAMILIES: Mapping[str, Family] = {
    "llama": Family(_LLAMA_LAYER, _LLAMA_PARTS, _LLAMA_TOP),
    "qwen2": Family(_LLAMA_LAYER, _LLAMA_PARTS, _LLAMA_TOP, qkv_bias=True),
    "qwen3": Family(_LLAMA_LAYER, _LLAMA_PARTS, _LLAMA_TOP, qk_norm=True),
    "Dream": Family(_LLAMA_LAYER, _LLAMA_PARTS, _LLAMA_TOP, qkv_bias=True),
    "llada": Family(_LLADA_LAYER, _LLADA_PARTS, _LLADA_TOP),
}
"""By the `model_type` of a hub configuration."""

_GGUF_PARTS = {
    **{f"attn_{x}.weight": x for x in "qkv"},
    "attn_output.weight": "o",
    "ffn_gate.weight": "g",
    "ffn_up.weight": "u",
    "ffn_down.weight": "d",
    "attn_norm.weight": "attention_norm",
    "ffn_norm.weight": "mlp_norm",
    **{f"attn_{x}.bias": f"{x}.bias" for x in "qkv"},
}
_GGUF_TOP = {
    "token_embd.weight": "embedding",
    "output_norm.weight": "norm",
    "output.weight": "head",
}
_GGUF_LAYER = re.compile(r"blk\.(?P<index>\d+)\.(?P<part>.+)")

GGUF_FAMILIES: Mapping[str, Family] = {
    "llama": Family(_GGUF_LAYER, _GGUF_PARTS, _GGUF_TOP, interleaved=True),
    "qwen2": Family(_GGUF_LAYER, _GGUF_PARTS, _GGUF_TOP, qkv_bias=True),
}
"""By the `general.architecture` of a GGUF file."""

_LLADA_KEYS = {
    "hidden_size": "d_model",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "num_key_value_heads": "n_kv_heads",
    "intermediate_size": "mlp_hidden_size",
    "tie_word_embeddings": "weight_tying",
}


def read_config(raw: Mapping[str, Any]) -> tuple[Family, ModelConfig]:
    """The family and architecture of a hub `config.json`. Raises WeightsUnsupported."""
    kind = str(raw.get("model_type"))
    if kind not in FAMILIES:
        raise WeightsUnsupported(
            f"No family here describes networks of the type {kind}.",
            f"Known types: {', '.join(FAMILIES)}.",
        )
    family = FAMILIES[kind]

    def get(key: str, default: Any = None) -> Any:
        value = raw.get(_LLADA_KEYS.get(key, key) if kind == "llada" else key)
        return default if value is None else value

    heads = get("num_attention_heads")
    theta = get("rope_theta") or get("rope_parameters", {}).get("rope_theta", 10_000.0)
    return family, ModelConfig(
        vocab_size=raw.get("embedding_size") or get("vocab_size"),
        hidden_size=get("hidden_size"),
        num_layers=get("num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=get("num_key_value_heads", heads),
        head_dim=get("head_dim", get("hidden_size") // heads),
        intermediate_size=get("intermediate_size"),
        rope_theta=float(theta),
        rms_norm_eps=float(get("rms_norm_eps", 1e-5)),
        tie_word_embeddings=bool(get("tie_word_embeddings", False)),
        qkv_bias=family.qkv_bias,
        qk_norm=family.qk_norm,
    )
