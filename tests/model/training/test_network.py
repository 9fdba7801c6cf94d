import numpy as np
import pytest
import torch
from training_fakes import CONFIG, FORMAT, feed, random_tensors, tiny

from mercury_model.runtime.torch import TorchRuntime, load_denoiser
from mercury_model.training.base import delta
from mercury_model.training.network import AdaptedNetwork, Adapters
from mercury_model.weights.checkpoint import merge


def network(noise: float = 0.0, first: int = 1) -> AdaptedNetwork:
    draw = torch.Generator().manual_seed(3)
    frozen = tiny()
    made = AdaptedNetwork(
        frozen, Adapters(frozen, 3, first, draw), Adapters(frozen, 5, first, draw)
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += noise * torch.randn(parameter.shape, generator=draw)
    return made


def gradients(adapters: Adapters) -> float:
    return sum(float(p.grad.abs().sum()) for p in adapters.parameters() if p.grad is not None)


def test_the_masks_loss_reaches_the_gated_adapters_alone() -> None:
    made, packed = network(0.1), feed().packed(0)
    _, memory = made.clean(packed.clean)
    made.masks(packed.masks, memory).square().sum().backward()
    assert gradients(made.gated) > 0
    assert gradients(made.plain) == 0


def test_the_clean_loss_reaches_the_plain_adapters_alone() -> None:
    made, packed = network(0.1), feed().packed(0)
    made.clean(packed.clean)[0].square().sum().backward()
    assert gradients(made.plain) > 0
    assert gradients(made.gated) == 0


def test_gated_adapters_leave_the_clean_rows_as_they_are() -> None:
    packed = feed().packed(0)
    made = network(0.1)
    before, _ = made.clean(packed.clean)
    with torch.no_grad():
        for parameter in made.gated.parameters():
            parameter += 1
    assert torch.equal(made.clean(packed.clean)[0], before)


def test_new_adapters_change_nothing() -> None:
    packed = feed().packed(1)
    one, other = network(first=0), network(first=3)
    hidden, memory = one.clean(packed.clean)
    same, same_memory = other.clean(packed.clean)
    assert torch.allclose(hidden, same, atol=1e-5)
    assert torch.allclose(
        one.masks(packed.masks, memory), other.masks(packed.masks, same_memory), atol=1e-5
    )


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_branch_reads_as_if_its_cursor_were_the_only_one(number: int) -> None:
    """The chain shared by all cursors must not change what any of them sees."""
    made, packed = network(0.1), feed().packed(number)
    hidden, _ = made.clean(packed.clean)
    last = len(packed.clean.ids) - 1
    sight = packed.clean.spans[-1].hidden[-1] == 0
    alone = packed.clean.ids[: len(sight)][sight].tolist()
    runtime = runtime_of(made)
    kv = runtime.new_kv_cache()
    logits = torch.cat([runtime.logits(kv, alone[i : i + 64]) for i in range(0, len(alone), 64)])
    expected = hidden[last] @ made.frozen.embedding.t()
    assert torch.allclose(logits[-1], expected, atol=0.15)
    assert int(packed.clean.positions[last]) == len(alone) - 1


def runtime_of(made: AdaptedNetwork) -> TorchRuntime:
    return TorchRuntime(load_denoiser(CONFIG, merged(made), FORMAT.mask_id), dtype=torch.float32)


@pytest.mark.parametrize("number", [0, 3])
def test_masks_are_trained_as_the_runtime_runs_them(number: int) -> None:
    made, packed = network(0.1), feed().packed(number)
    clean = len(packed.clean.ids)
    seen = packed.masks.spans[0].hidden[0] == 0
    block = int(seen[clean:].sum())
    context = packed.clean.ids[seen[:clean]].tolist()
    runtime = runtime_of(made)
    kv = runtime.new_kv_cache()
    for i in range(0, len(context) - 1, 64):
        runtime.extend(kv, context[: len(context) - 1][i : i + 64])
    got = runtime.verify(kv, [context[-1], *[FORMAT.mask_id] * block])
    _, memory = made.clean(packed.clean)
    hidden = made.masks(packed.masks, memory)[:block]
    expected = (hidden @ made.frozen.embedding.t()).softmax(-1)
    for row in range(block):
        likely = torch.from_numpy(got.ids[1 + row])
        assert torch.allclose(
            expected[row, likely], torch.from_numpy(got.probs[1 + row]), rtol=0.3, atol=0.01
        )
    assert kv.length == len(context)


def test_a_token_in_front_of_masks_is_predicted_as_without_them() -> None:
    runtime = runtime_of(network(0.1))
    ids = [7, 8, 9, 10]
    alone, together = runtime.new_kv_cache(), runtime.new_kv_cache()
    expected = runtime.verify(alone, ids)
    got = runtime.verify(together, [*ids, *[FORMAT.mask_id] * 3])
    assert np.array_equal(expected.ids, got.ids[: len(ids)])
    assert np.allclose(expected.probs, got.probs[: len(ids)], atol=1e-6)
    assert together.length == len(ids)
    again = runtime.denoise(runtime.new_kv_cache(), [*ids, FORMAT.mask_id])
    assert np.allclose(expected.probs, again.probs[: len(ids)], atol=1e-6)


def merged(made: AdaptedNetwork) -> dict[str, np.ndarray]:
    """What a user's machine makes of the delta: int8, so close and not equal."""
    wide = {}
    for name, values in (small := delta(CONFIG, dict(made.named_parameters()))).items():
        if not name.endswith(".scale"):
            wide[name] = values.astype("float32") * small[f"{name}.scale"][:, None]
    return merge(random_tensors(), [wide])
