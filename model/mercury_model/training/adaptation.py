"""The adaptation: adapters for the autoregressive and the diffusion head, learnt in one pass.

The clean stream is the autoregressive network: base and plain adapters. The mask stream adds gated
adapters on mask rows, holds the plain ones fixed, and reads the keys and values of the clean
stream. So the loss of the masks reaches the gated adapters alone (Samragh et al. 2025,
arXiv:2507.11851).
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import torch
from safetensors import safe_open
from torch import Tensor

from mercury_model.network.adapters import LowRankAdapters, TrainedAdapters, named
from mercury_model.network.attention import StreamAttention
from mercury_model.network.denoiser import Denoiser
from mercury_model.training.collate import Packed, Stream
from mercury_model.training.feed import ExampleFeed
from mercury_model.training.metrics import Tally, tally
from mercury_model.training.objective import cross_entropy, distillation_loss
from mercury_model.training.optimizer import Optimizer
from mercury_model.training.place import on_device
from mercury_model.training.trainer import Report, Trainer


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """The settings of a training. `steps` is the horizon of the learning rate; a resumed training
    may change it.

    Rates are AdamW's; they rise over `warmup` steps and fall in a line to zero at `steps`.
    Masks learn the truth with weight `truth_share`, and what the autoregressive head expects with
    the rest. `recompute`: see `Denoiser.recomputed`.
    """

    steps: int = 800
    examples: int = 3
    warmup: int = 15
    plain_rank: int = 16
    gated_rank: int = 32
    first_layer: int = 8
    plain_rate: float = 6e-4
    gated_rate: float = 1.5e-3
    truth_share: float = 0.5
    clip: float = 1.0
    seed: int = 1
    recompute: bool = False

    def scaled(self, share: float) -> "AdapterConfig":
        """The same with `share` times the rates; training that goes on from a delta needs less."""
        return replace(self, plain_rate=share * self.plain_rate, gated_rate=share * self.gated_rate)

    def rate(self, step: int) -> float:
        """The share of the full rates at `step`, in [0, 1]."""
        return min((step + 1) / self.warmup, max(0.0, 1 - step / self.steps))


class Adaptation:
    """The objective. A batch is a sequence of examples, run one after the other.

    `plain` acts on all rows, `gated` on masks.
    """

    def __init__(self, plain: LowRankAdapters, gated: LowRankAdapters, truth_share: float) -> None:
        self.plain = plain
        self.gated = gated
        self._truth_share = truth_share

    @classmethod
    def of(cls, network: Denoiser, config: AdapterConfig) -> Self:
        """New adapters for `network`, which change nothing yet."""
        draw = torch.Generator().manual_seed(config.seed)
        plain, gated = (
            LowRankAdapters.random(
                network.config, rank, config.first_layer, draw, network.head_weight.device
            )
            for rank in (config.plain_rank, config.gated_rank)
        )
        return cls(plain, gated, config.truth_share)

    def backward(self, network: Denoiser, batch: Sequence[Packed]) -> Report:
        """Both losses are means over the batch, weighted as the examples say."""
        clean_weight = float(sum(packed.clean_weights.sum() for packed in batch))
        mask_weight = float(sum(packed.mask_weights.sum() for packed in batch))
        total = Tally()
        for packed in batch:
            total += self.run(
                network,
                packed,
                self._truth_share,
                lambda loss: torch.autograd.backward(loss / clean_weight),
                lambda loss: torch.autograd.backward(loss / mask_weight),
            )
        return {"rows": total.rows, **total.report()}

    def evaluate(self, network: Denoiser, batch: Sequence[Packed]) -> Report:
        """See `Tally.report`."""
        total = Tally()
        for packed in batch:
            total += self.run(network, packed, 1.0, lambda _: None, lambda _: None)
        return total.report()

    def clean(self, network: Denoiser, stream: Stream) -> tuple[Tensor, StreamAttention]:
        """Hidden rows [N, D] with the graph of the plain adapters, and what masks may attend to."""
        attention = StreamAttention(stream.ranges)
        adapters = TrainedAdapters(self.plain)
        return network(stream.ids[None], stream.positions[None], attention, adapters)[0], attention

    def masks(self, network: Denoiser, stream: Stream, before: StreamAttention) -> Tensor:
        """Hidden rows [N, D] of masks, with the graph of the gated adapters alone."""
        adapters = TrainedAdapters(self.gated, fixed=self.plain)
        attention = StreamAttention(stream.ranges, before)
        hidden: Tensor = network(stream.ids[None], stream.positions[None], attention, adapters)[0]
        return hidden

    def run(
        self,
        network: Denoiser,
        packed: Packed,
        truth_share: float,
        clean_loss: Callable[[Tensor], object],
        mask_loss: Callable[[Tensor], object],
    ) -> Tally:
        """Both streams of one example; each loss goes to its consumer as soon as it is known."""
        head = network.head_weight
        packed = on_device(packed, head.device, head.dtype)
        hidden, attention = self.clean(network, packed.clean)
        loss, clean = cross_entropy(
            hidden[packed.clean_rows], head, packed.clean_targets, packed.clean_weights
        )
        clean_loss(loss)
        del hidden
        rows = self.masks(network, packed.masks, attention)
        loss, masks = distillation_loss(rows, head, packed, clean, truth_share)
        mask_loss(loss)
        return tally(packed, clean, masks)


def adaptation_trainer(
    network: Denoiser, objective: Adaptation, config: AdapterConfig, feed: ExampleFeed
) -> Trainer[Sequence[Packed]]:
    """Trains the adapters of `objective` over a frozen network, on the examples of `feed`."""
    plain, gated = objective.plain, objective.gated
    if config.recompute:
        network.recomputed = range(config.first_layer, network.config.num_layers)
    optimizer = torch.optim.AdamW(
        [
            {"params": list(plain.parameters()), "lr": config.plain_rate},
            {"params": list(gated.parameters()), "lr": config.gated_rate},
        ],
        betas=(0.9, 0.98),
        weight_decay=0.0,
        fused=True,
    )
    return Trainer(
        network,
        objective,
        lambda step: feed.batch(step, config.examples),
        Optimizer(
            {**dict(named(plain, "")), **dict(named(gated, "mask_"))},
            [optimizer],
            [list(plain.parameters()), list(gated.parameters())],
            config.clip,
        ),
        config.rate,
        {"config": json.dumps(asdict(config))},
    )


def saved_config(path: Path) -> AdapterConfig:
    """The settings that a checkpoint was made under."""
    with safe_open(path, "pt") as handle:
        return AdapterConfig(**json.loads(handle.metadata()["config"]))
