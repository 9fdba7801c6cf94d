"""Trains tiny from random weights: the objective, the optimisers and the budget."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mercury_model.network.attention import MaskedAttention
from mercury_model.network.denoiser import Denoiser
from mercury_model.training.optimizer import Optimizer
from mercury_model.training.tiny.batch import Batch
from mercury_model.training.trainer import Report, Trainer

TRUTH_SHARE = 0.5
"""The weight of the truth in the loss at a mask; the rest is agreement with the clean stream."""


@dataclass(frozen=True, slots=True)
class LearningRates:
    """Learning rates: of matrices (Muon), and of the embedding and the norms (AdamW).

    The rates rise in the first `warm_up` of the budget and fall in the last `cool_down`.
    """

    matrices: float = 0.02
    others: float = 0.004
    warm_up: float = 0.02
    cool_down: float = 0.6

    def share(self, spent: float) -> float:
        """The share of the full rates when `spent` of the budget is used up; 0 from 1 on."""
        rise = min(1.0, (spent + 1e-3) / self.warm_up)
        return rise * min(1.0, max(0.0, 1.0 - spent) / self.cool_down)


class FullTraining:
    """The objective: next tokens of clean rows, and masked tokens; every weight learns."""

    def backward(self, network: Denoiser, batch: Batch) -> Report:
        """Gradients of the sum of both losses, in bf16 where autocast allows it."""
        with torch.autocast("cpu", torch.bfloat16):
            clean, noisy = losses(network, batch)
        torch.autograd.backward(clean + noisy)
        return {"clean": clean.item(), "noisy": noisy.item()}

    def evaluate(self, network: Denoiser, batch: Batch) -> Report:
        """Both losses, in nats."""
        clean, noisy = losses(network, batch)
        return {"clean": clean.item(), "noisy": noisy.item()}


def losses(network: Denoiser, batch: Batch) -> tuple[Tensor, Tensor]:
    """The autoregressive loss of the clean rows, and the denoising loss of the masked ones."""
    hidden = network(batch.ids, batch.positions, MaskedAttention(batch.attend))
    clean = (batch.weights > 0) & ~batch.noisy
    logits = network.logits(hidden[clean]).float()
    each = functional.cross_entropy(logits, batch.targets[clean], reduction="none")
    ahead = _mean(each, batch.weights[clean])
    noisy = (batch.weights > 0) & batch.noisy
    log_probs = functional.log_softmax(network.logits(hidden[noisy]).float(), -1)
    truth = functional.nll_loss(log_probs, batch.targets[noisy], reduction="none")
    # Where in `logits` the clean row stands that predicts the same token from the true ones.
    place = torch.full(clean.shape, -1)
    place[clean] = torch.arange(len(logits))
    teacher = place.gather(1, batch.teacher.clamp(min=0))
    teacher = torch.where(batch.teacher < 0, -1, teacher)[noisy]
    taught = teacher >= 0
    expected = logits.detach()[teacher[taught]].softmax(-1)
    mixed = truth.clone()
    mixed[taught] = TRUTH_SHARE * truth[taught] - (1 - TRUTH_SHARE) * (
        expected * log_probs[taught]
    ).sum(-1)
    return ahead, _mean(mixed, batch.weights[noisy])


def full_trainer(
    network: Denoiser,
    batches: Callable[[int], Batch],
    seconds: float,
    clock: Callable[[], float],
    rates: LearningRates,
) -> Trainer[Batch]:
    """Trains every weight of `network` until `clock` has advanced by `seconds`."""
    named = dict(network.named_parameters())
    matrices = [w for name, w in named.items() if w.ndim == 2 and "layers" in name]
    others = [w for name, w in named.items() if w.ndim == 1 or "layers" not in name]
    optimizers = [
        torch.optim.Muon(matrices, lr=rates.matrices, weight_decay=0.01),
        torch.optim.AdamW(others, lr=rates.others, betas=(0.9, 0.95), weight_decay=0.0),
    ]
    start = clock()
    return Trainer(
        network,
        FullTraining(),
        batches,
        Optimizer(named, optimizers, [list(named.values())], 1.0),
        lambda _: rates.share((clock() - start) / seconds),
    )


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum().clamp(min=1e-6)


def init_weights(network: Denoiser, generator: torch.Generator) -> None:
    """Small random weights; what writes to the residual stream is smaller by the depth."""
    for name, weight in network.named_parameters():
        if weight.ndim == 2:
            deep = name.endswith(("o.weight", "d.weight"))
            scale = (2 * network.config.num_layers) ** -0.5 if deep else 1.0
            std = scale / math.sqrt(network.config.hidden_size)
            nn.init.normal_(weight, std=std, generator=generator)
