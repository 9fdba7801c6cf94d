from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from training_fakes import CONFIG, FORMAT, feed, random_tensors

from mercury_model.network.adapters import LowRankAdapters, named
from mercury_model.network.attention import MaskedAttention
from mercury_model.network.denoiser import load_denoiser
from mercury_model.runtime.torch import TorchRuntime
from mercury_model.spec.model_config import ModelConfig
from mercury_model.training.adaptation import Adaptation
from mercury_model.training.base import delta, frozen
from mercury_model.training.collate import Packed
from mercury_model.weights.checkpoint import merge


class Made:
    """A network with random adapters, and its two streams."""

    def __init__(self, noise: float = 0.0, first: int = 1, config: ModelConfig = CONFIG) -> None:
        draw = torch.Generator().manual_seed(3)
        self.network = frozen(config, random_tensors(config), torch.device("cpu"), torch.float32)
        plain, gated = (
            LowRankAdapters.random(CONFIG, rank, first, draw, torch.device("cpu"))
            for rank in (3, 5)
        )
        self.objective = Adaptation(plain, gated, 0.5)
        with torch.no_grad():
            for parameter in (*plain.parameters(), *gated.parameters()):
                parameter += noise * torch.randn(parameter.shape, generator=draw)

    def clean(self, packed: Packed) -> Tensor:
        return self.objective.clean(self.network, packed.clean)[0]

    def masks(self, packed: Packed) -> Tensor:
        _, before = self.objective.clean(self.network, packed.clean)
        return self.objective.masks(self.network, packed.masks, before)


def gradients(adapters: LowRankAdapters) -> float:
    return sum(float(p.grad.abs().sum()) for p in adapters.parameters() if p.grad is not None)


def test_the_masks_loss_reaches_the_gated_adapters_alone() -> None:
    made = Made(0.1)
    made.masks(feed().packed(0)).square().sum().backward()
    assert gradients(made.objective.gated) > 0
    assert gradients(made.objective.plain) == 0


def test_the_clean_loss_reaches_the_plain_adapters_alone() -> None:
    made = Made(0.1)
    made.clean(feed().packed(0)).square().sum().backward()
    assert gradients(made.objective.plain) > 0
    assert gradients(made.objective.gated) == 0


def test_gated_adapters_leave_the_clean_rows_as_they_are() -> None:
    packed, made = feed().packed(0), Made(0.1)
    before = made.clean(packed)
    with torch.no_grad():
        for parameter in made.objective.gated.parameters():
            parameter += 1
    assert torch.equal(made.clean(packed), before)


def test_new_adapters_change_nothing() -> None:
    packed = feed().packed(1)
    one, other = Made(first=0), Made(first=3)
    assert torch.allclose(one.clean(packed), other.clean(packed), atol=1e-5)
    assert torch.allclose(one.masks(packed), other.masks(packed), atol=1e-5)


class Everywhere:
    """Adapters at every row, in plain operations that torch differentiates itself."""

    def __init__(self, low_rank: LowRankAdapters) -> None:
        self._low_rank = low_rank

    def project(
        self, layer: int, group: str, x: Tensor, parts: Sequence[torch.nn.Linear]
    ) -> list[Tensor]:
        pairs = [self._low_rank.pair(layer, part) for part in group]
        return [
            part(x) + x @ pair.a.t() @ pair.b.t() for part, pair in zip(parts, pairs, strict=True)
        ]


@pytest.mark.parametrize("qkv_bias", [False, True])
def test_training_has_the_gradients_of_what_inference_computes(qkv_bias: bool) -> None:
    made, packed = Made(0.1, 0, replace(CONFIG, qkv_bias=qkv_bias)), feed().packed(0)
    stream, plain = packed.clean, made.objective.plain
    rows = len(stream.ids)
    seen = torch.zeros(rows, rows, dtype=torch.bool)
    for part in stream.ranges:
        seen[part.start : part.stop, : part.keys] = part.bias == 0
    expected = made.network(
        stream.ids[None],
        stream.positions[None],
        MaskedAttention(seen[None, None]),
        Everywhere(plain),
    )[0]
    found = made.clean(packed)
    assert torch.allclose(found, expected, atol=1e-4)
    weights = list(plain.parameters())
    ours, theirs = (
        torch.autograd.grad(hidden.square().sum() + hidden.sum(), weights)
        for hidden in (found, expected)
    )
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-4 * float(other.abs().max()))


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_branch_reads_as_if_its_cursor_were_the_only_one(number: int) -> None:
    """The chain shared by all cuts must not change what any of them sees."""
    made, packed = Made(0.1), feed().packed(number)
    hidden = made.clean(packed)
    last = len(packed.clean.ids) - 1
    sight = packed.clean.ranges[-1].bias[-1] == 0
    alone = packed.clean.ids[: len(sight)][sight].tolist()
    runtime = runtime_of(made)
    kv = runtime.new_kv_cache()
    logits = torch.cat([runtime.logits(kv, alone[i : i + 64]) for i in range(0, len(alone), 64)])
    expected = made.network.logits(hidden[last])
    assert torch.allclose(logits[-1], expected, atol=0.15)
    assert int(packed.clean.positions[last]) == len(alone) - 1


def runtime_of(made: Made) -> TorchRuntime:
    return TorchRuntime(load_denoiser(CONFIG, merged(made), FORMAT.mask_id), dtype=torch.float32)


@pytest.mark.parametrize("number", [0, 3])
def test_masks_are_trained_as_the_runtime_runs_them(number: int) -> None:
    made, packed = Made(0.1), feed().packed(number)
    clean = len(packed.clean.ids)
    seen = packed.masks.ranges[0].bias[0] == 0
    block = int(seen[clean:].sum())
    context = packed.clean.ids[seen[:clean]].tolist()
    runtime = runtime_of(made)
    kv = runtime.new_kv_cache()
    for i in range(0, len(context) - 1, 64):
        runtime.extend(kv, context[: len(context) - 1][i : i + 64])
    got = runtime.verify(kv, [context[-1], *[FORMAT.mask_id] * block])
    expected = made.network.logits(made.masks(packed)[:block]).softmax(-1)
    for row in range(block):
        likely = torch.from_numpy(got.ids[1 + row])
        assert torch.allclose(
            expected[row, likely], torch.from_numpy(got.probs[1 + row]), rtol=0.3, atol=0.01
        )
    assert kv.length == len(context)


def test_a_token_in_front_of_masks_is_predicted_as_without_them() -> None:
    runtime = runtime_of(Made(0.1))
    ids = [7, 8, 9, 10]
    alone, together = runtime.new_kv_cache(), runtime.new_kv_cache()
    expected = runtime.verify(alone, ids)
    got = runtime.verify(together, [*ids, *[FORMAT.mask_id] * 3])
    assert np.array_equal(expected.ids, got.ids[: len(ids)])
    assert np.allclose(expected.probs, got.probs[: len(ids)], atol=1e-6)
    assert together.length == len(ids)
    again = runtime.denoise(runtime.new_kv_cache(), [*ids, FORMAT.mask_id])
    assert np.allclose(expected.probs, again.probs[: len(ids)], atol=1e-6)


def merged(made: Made) -> dict[str, np.ndarray]:
    """What a user's machine makes of the delta: int8, so close and not equal."""
    plain, gated = made.objective.plain, made.objective.gated
    small, wide = delta({**dict(named(plain, "")), **dict(named(gated, "mask_"))}), {}
    for name, values in small.items():
        if not name.endswith(".scale"):
            wide[name] = values.astype("float32") * small[f"{name}.scale"][:, None]
    return merge(random_tensors(), [wide])
