from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_fakes import CONFIG, feed, trainer

from mercury_model.network.adapters import named
from mercury_model.training.adaptation import AdapterConfig, saved_config
from mercury_model.training.base import delta, frozen, inherit
from mercury_model.training.trainer import Trainer

PLAN = AdapterConfig(steps=8, examples=2, warmup=2, plain_rank=2, gated_rank=3, first_layer=1)


def learnt(run: Trainer) -> dict[str, torch.Tensor]:
    plain, gated = run.objective.plain, run.objective.gated
    found = {**dict(named(plain, "")), **dict(named(gated, "mask_"))}
    return {name: values.detach().clone() for name, values in found.items()}


def advanced(run: Trainer, steps: int) -> Trainer:
    for _ in zip(range(steps), run.steps(), strict=False):
        pass
    return run


def assert_equal(one: Trainer, other: Trainer) -> None:
    wanted = learnt(other)
    for name, values in learnt(one).items():
        assert torch.equal(values, wanted[name])


def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = advanced(trainer(PLAN), 5)
    first = advanced(trainer(PLAN), 3)
    first.save(tmp_path / "checkpoint.safetensors")
    second = trainer(PLAN)
    second.restore(tmp_path / "checkpoint.safetensors")
    assert second.step == 3
    advanced(second, 2)
    assert_equal(whole, second)


def test_recomputing_changes_no_gradient() -> None:
    plain, again = trainer(PLAN), trainer(replace(PLAN, recompute=True))
    assert_equal(advanced(plain, 3), advanced(again, 3))


def test_a_resumed_run_may_have_another_horizon(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    advanced(trainer(PLAN), 1).save(path)
    assert saved_config(path) == PLAN
    longer = trainer(replace(PLAN, steps=80))
    longer.restore(path)
    logged = next(longer.steps())
    assert logged["step"] == 2
    assert logged["rate"] == round(1 - 1 / 80, 4)


def test_the_rate_rises_then_falls_to_nothing() -> None:
    rates = [AdapterConfig(steps=100, warmup=10).rate(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates == sorted(rates[:10]) + sorted(rates[10:], reverse=True)
    assert rates[-1] == 0


def test_training_lowers_both_losses() -> None:
    run = trainer(AdapterConfig(steps=60, examples=2, warmup=2, first_layer=0, plain_rate=1e-2))
    before = run.evaluate(feed("held").batch(0, 6))
    after = advanced(run, 20).evaluate(feed("held").batch(0, 6))
    assert after["loss"] < before["loss"]
    assert after["mask_loss"][0] < before["mask_loss"][0]
    assert after["drafted"] > before["drafted"]


def test_a_probe_leaves_the_run_as_it_was() -> None:
    run = trainer(PLAN)
    before = learnt(run)
    batch = feed().batch(0, 2)
    assert run.evaluate(batch) == run.evaluate(batch)
    assert all(torch.equal(values, before[name]) for name, values in learnt(run).items())


def test_a_delta_keeps_each_weight_to_half_a_step_of_its_row() -> None:
    exact = learnt(advanced(trainer(PLAN), 2))
    stored = delta(exact)
    assert "layers.0.q.a" not in stored
    for name, original in (
        ("layers.1.k.mask_a", "layers.1.q.mask_a"),
        ("layers.1.k.mask_b", "layers.1.k.mask_b"),
        ("layers.1.u.a", "layers.1.g.a"),
    ):
        scale = torch.from_numpy(stored[f"{name}.scale"])[:, None]
        error = torch.from_numpy(stored[name]).float() * scale - exact[original]
        assert (error.abs() <= 0.5001 * scale).all()


@pytest.mark.parametrize(("which", "kind"), [("plain", ""), ("gated", "mask_")])
def test_adapters_continue_from_a_delta(which: str, kind: str) -> None:
    run = advanced(trainer(PLAN), 2)
    small = delta(learnt(run))
    wide = {
        name: values.astype("float32") * small[f"{name}.scale"][:, None]
        for name, values in small.items()
        if not name.endswith(".scale")
    }
    fresh = getattr(trainer(PLAN).objective, which)
    inherit(fresh, wide, kind)
    for one, other in zip(
        fresh.parameters(), getattr(run.objective, which).parameters(), strict=True
    ):
        assert torch.allclose(one, other, atol=0.02)
    other_rank = getattr(trainer(replace(PLAN, plain_rank=4, gated_rank=5)).objective, which)
    before = [values.detach().clone() for values in other_rank.parameters()]
    inherit(other_rank, wide, kind)
    assert all(map(torch.equal, before, other_rank.parameters()))


def test_networks_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="normed heads"):
        frozen(replace(CONFIG, qk_norm=True), {}, torch.device("cpu"), torch.float32)
