"""The loop: batches in, a trained network out, within a budget of seconds on a given clock."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mercury_model.network.attention import MaskedAttention
from mercury_model.network.denoiser import Denoiser
from mercury_model.training.tiny.batch import Batch

TRUTH_SHARE = 0.5
"""Of the loss at a mask; the rest is agreement with what the clean stream predicts there."""

REPORT_STEPS = 50


@dataclass(frozen=True, slots=True)
class LearningRates:
    """Learning rates: of matrices (Muon), and of the embedding and the norms (AdamW)."""

    matrices: float = 0.02
    others: float = 0.004
    warm_up: float = 0.02
    """The share of the budget in which the rates come up; they go down in the last `cool_down`."""
    cool_down: float = 0.6


@dataclass(frozen=True, slots=True)
class FitProgress:
    """Means since the last report, in nats: of clean rows, and of masked ones."""

    step: int
    share: float
    clean: float
    noisy: float


def losses(network: Denoiser, batch: Batch) -> tuple[Tensor, Tensor]:
    """The autoregressive loss of the clean rows, and the denoising loss of the masked ones."""
    hidden = network(batch.ids, batch.positions, MaskedAttention(batch.attend))
    clean = (batch.weights > 0) & ~batch.noisy
    logits = network.logits(hidden[clean]).float()
    each = functional.cross_entropy(logits, batch.targets[clean], reduction="none")
    ahead = _mean(each, batch.weights[clean])
    noisy = (batch.weights > 0) & batch.noisy
    guesses = functional.log_softmax(network.logits(hidden[noisy]).float(), -1)
    truth = functional.nll_loss(guesses, batch.targets[noisy], reduction="none")
    # Where in `logits` the clean row stands that predicts the same token from the true ones.
    place = torch.full(clean.shape, -1)
    place[clean] = torch.arange(len(logits))
    teacher = place.gather(1, batch.teacher.clamp(min=0))
    teacher = torch.where(batch.teacher < 0, -1, teacher)[noisy]
    taught = teacher >= 0
    expected = logits.detach()[teacher[taught]].softmax(-1)
    mixed = truth.clone()
    mixed[taught] = TRUTH_SHARE * truth[taught] - (1 - TRUTH_SHARE) * (
        expected * guesses[taught]
    ).sum(-1)
    return ahead, _mean(mixed, batch.weights[noisy])


def fit(
    network: Denoiser,
    batches: Iterator[Batch],
    seconds: float,
    clock: Callable[[], float],
    rates: LearningRates,
) -> Iterator[FitProgress]:
    """Train `network` in place until `clock` has gone on by `seconds`; reports now and then."""
    matrices = [w for name, w in network.named_parameters() if w.ndim == 2 and "layers" in name]
    others = [w for name, w in network.named_parameters() if w.ndim == 1 or "layers" not in name]
    optimizers: list[tuple[torch.optim.Optimizer, float]] = [
        (torch.optim.Muon(matrices, weight_decay=0.01), rates.matrices),
        (torch.optim.AdamW(others, betas=(0.9, 0.95), weight_decay=0.0), rates.others),
    ]
    start, seen = clock(), []
    for step, batch in enumerate(batches, 1):
        share = (clock() - start) / seconds
        if share >= 1:
            return
        for optimizer, rate in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * _pace(share, rates)
        with torch.autocast("cpu", torch.bfloat16):
            clean, noisy = losses(network, batch)
        torch.autograd.backward(clean + noisy)
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for optimizer, _ in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        step += 1
        seen.append((clean.item(), noisy.item()))
        if step % 20 == 0:
            yield FitProgress(
                step, share, *(sum(part) / len(seen) for part in zip(*seen, strict=True))
            )
            seen.clear()


def _pace(share: float, rates: LearningRates) -> float:
    up = min(1.0, (share + 1e-3) / rates.warm_up)
    down = min(1.0, (1.0 - share) / rates.cool_down)
    return up * down


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
