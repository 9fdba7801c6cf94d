"""Losses of the adaptation, as they were when inference and training had a network each.

The order of some sums differs since then, and differs between processors: the bounds allow for
that, and for nothing that a person would see in a loss curve.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from torch import Tensor
from training_fakes import feed, tiny

from mercury_model.network.denoiser import Denoiser
from mercury_model.training.adaptation import Adaptation, AdapterConfig, adaptation_trainer
from mercury_model.training.collate import Packed
from mercury_model.training.metrics import Tally
from mercury_model.training.trainer import Trainer

ADAPTER_CONFIG = AdapterConfig(
    steps=8, examples=2, warmup=2, plain_rank=2, gated_rank=3, first_layer=1
)
LOSSES = (
    (377.265625, 265.366821, 825.385864, 372.566803),
    (381.149353, 305.115448, 807.705261, 371.139465),
    (462.216187, 289.836090, 796.837769, 330.320648),
)
"""Of each step: of the clean rows and of the masks of its first example, then of its second."""
NORMS = ((0.749, 0.615), (0.878, 0.731), (0.673, 0.635))
"""Of each step: of the gradients of the plain and of the gated adapters."""


class Recorded(Adaptation):
    """Keeps every loss."""

    losses: list[float]

    def run(
        self,
        network: Denoiser,
        packed: Packed,
        truth_share: float,
        clean_loss: Callable[[Tensor], object],
        mask_loss: Callable[[Tensor], object],
    ) -> Tally:
        def recorded(consumer: Callable[[Tensor], object]) -> Callable[[Tensor], None]:
            def consume(loss: Tensor) -> None:
                self.losses.append(float(loss.detach()))
                consumer(loss)

            return consume

        return super().run(network, packed, truth_share, recorded(clean_loss), recorded(mask_loss))


def recorded_trainer(losses: list[float]) -> Trainer[list[Packed]]:
    network = tiny()
    objective = Recorded.of(network, ADAPTER_CONFIG)
    objective.losses = losses
    return adaptation_trainer(network, objective, ADAPTER_CONFIG, feed())


def test_an_adaptation_that_is_resumed_has_the_losses_of_one_that_was_not(tmp_path: Path) -> None:
    losses: list[float] = []
    first, second = recorded_trainer(losses), recorded_trainer(losses)
    steps = first.steps()
    norms = [next(steps)["norms"], next(steps)["norms"]]
    first.save(tmp_path / "checkpoint.safetensors")
    second.restore(tmp_path / "checkpoint.safetensors")
    norms.append(next(second.steps())["norms"])
    assert losses == pytest.approx([loss for step in LOSSES for loss in step], rel=1e-5)
    for found, expected in zip(norms, NORMS, strict=True):
        assert found == pytest.approx(list(expected), abs=2e-3)
