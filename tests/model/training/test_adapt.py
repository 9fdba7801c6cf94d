from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_fakes import CONFIG, feed, tiny

from mercury_model.training.adapt import AdapterConfig, AdapterTrainer, saved_config
from mercury_model.training.base import delta, frozen, inherit

PLAN = AdapterConfig(steps=8, examples=2, warmup=2, plain_rank=2, gated_rank=3, first_layer=1)


def state(run: AdapterTrainer) -> list[torch.Tensor]:
    return [p.detach().clone() for p in run.network.parameters()]


def advanced(run: AdapterTrainer, steps: int) -> AdapterTrainer:
    for _ in range(steps):
        run.advance(feed())
    return run


def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = advanced(AdapterTrainer(tiny(), PLAN), 5)
    first = advanced(AdapterTrainer(tiny(), PLAN), 3)
    first.save(tmp_path / "checkpoint.safetensors")
    second = AdapterTrainer(tiny(), PLAN)
    second.restore(tmp_path / "checkpoint.safetensors")
    assert second.step == 3
    advanced(second, 2)
    for one, other in zip(state(whole), state(second), strict=True):
        assert torch.equal(one, other)


def test_recomputing_changes_no_gradient() -> None:
    kept, again = (
        AdapterTrainer(tiny(), PLAN),
        AdapterTrainer(tiny(), replace(PLAN, recompute=True)),
    )
    for one, other in zip(state(advanced(kept, 3)), state(advanced(again, 3)), strict=True):
        assert torch.equal(one, other)


def test_a_resumed_run_may_have_another_horizon(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    advanced(AdapterTrainer(tiny(), PLAN), 1).save(path)
    assert saved_config(path) == PLAN
    longer = AdapterTrainer(tiny(), replace(PLAN, steps=80))
    longer.restore(path)
    logged = longer.advance(feed())
    assert logged["step"] == 2
    assert logged["pace"] == round(1 - 1 / 80, 4)


def test_the_rate_rises_then_falls_to_nothing() -> None:
    paces = [AdapterConfig(steps=100, warmup=10).pace(step) for step in range(101)]
    assert paces[0] == pytest.approx(0.1)
    assert paces == sorted(paces[:10]) + sorted(paces[10:], reverse=True)
    assert paces[-1] == 0


def test_training_lowers_both_losses() -> None:
    run = AdapterTrainer(
        tiny(), AdapterConfig(steps=60, examples=2, warmup=2, first_layer=0, plain_rate=1e-2)
    )
    before = run.probe(feed("held"), 6)
    after = advanced(run, 20).probe(feed("held"), 6)
    assert after["loss"] < before["loss"]
    assert after["mask_loss"][0] < before["mask_loss"][0]
    assert after["drafted"] > before["drafted"]


def test_a_probe_leaves_the_run_as_it_was() -> None:
    run = AdapterTrainer(tiny(), PLAN)
    before = state(run)
    assert run.probe(feed(), 2) == run.probe(feed(), 2)
    assert all(map(torch.equal, before, state(run)))


def test_a_delta_keeps_each_weight_to_half_a_step_of_its_row() -> None:
    run = advanced(AdapterTrainer(tiny(), PLAN), 2)
    stored = delta(CONFIG, dict(run.network.named_parameters()))
    assert "layers.0.q.a" not in stored
    a, b = run.network.gated.pair(1, "qkv")
    rows = CONFIG.num_heads * CONFIG.head_dim
    for name, exact in (("layers.1.k.mask_a", a), ("layers.1.q.mask_b", b[:rows])):
        scale = torch.from_numpy(stored[f"{name}.scale"])[:, None]
        error = torch.from_numpy(stored[name]).float() * scale - exact
        assert (error.abs() <= 0.5001 * scale).all()


@pytest.mark.parametrize(("adapters", "kind"), [("plain", ""), ("gated", "mask_")])
def test_adapters_go_on_from_a_delta(adapters: str, kind: str) -> None:
    run = advanced(AdapterTrainer(tiny(), PLAN), 2)
    small = delta(CONFIG, dict(run.network.named_parameters()))
    wide = {
        name: values.astype("float32") * small[f"{name}.scale"][:, None]
        for name, values in small.items()
        if not name.endswith(".scale")
    }
    fresh = AdapterTrainer(tiny(), PLAN)
    inherit(getattr(fresh.network, adapters), wide, kind)
    for one, other in zip(
        getattr(fresh.network, adapters).parameters(),
        getattr(run.network, adapters).parameters(),
        strict=True,
    ):
        assert torch.allclose(one, other, atol=0.02)
    other_rank = AdapterTrainer(tiny(), replace(PLAN, plain_rank=3, gated_rank=4))
    before = state(other_rank)
    inherit(getattr(other_rank.network, adapters), wide, kind)
    assert all(map(torch.equal, before, state(other_rank)))


def test_networks_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="Llama-shaped"):
        frozen(replace(CONFIG, qk_norm=True), {}, torch.device("cpu"), torch.float32)
