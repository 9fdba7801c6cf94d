"""The adaptation trainer: both heads in one pass over each example, resumable at any step.

Knows nothing of where data and weights come from. A run's state is its checkpoint; everything else
is a function of the plan and the step.
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from mercury_model.training.collate import Packed
from mercury_model.training.feed import ExampleFeed
from mercury_model.training.metrics import Tally, tally
from mercury_model.training.network import AdaptedNetwork, Adapters, FrozenNetwork
from mercury_model.training.objective import cross_entropy, distillation_loss
from mercury_model.training.place import placed


@dataclass(frozen=True, slots=True)
class AdapterConfig:
    """A run's settings. `steps` is the horizon of the learning rate; a resumed run may change it.

    Rates are AdamW's; they rise over `warmup` steps and fall in a line to zero at `steps`.
    What masks learn is the truth for `truth_share`, and what the autoregressive head expects there
    for the rest. `recompute`: see `AdaptedNetwork`.
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

    def paced(self, share: float) -> "AdapterConfig":
        """The same with `share` times the rates: a run that goes on from a delta wants less."""
        return replace(self, plain_rate=share * self.plain_rate, gated_rate=share * self.gated_rate)

    def pace(self, step: int) -> float:
        """The share of the full rate at `step`, in [0, 1]."""
        return min((step + 1) / self.warmup, max(0.0, 1 - step / self.steps))


class AdapterTrainer:
    """A network in training: step it, probe it, save it, go on from a save."""

    def __init__(self, frozen: FrozenNetwork, plan: AdapterConfig) -> None:
        generator = torch.Generator().manual_seed(plan.seed)
        self.plan = plan
        self.step = 0
        self.network = AdaptedNetwork(
            frozen,
            Adapters(frozen, plan.plain_rank, plan.first_layer, generator),
            Adapters(frozen, plan.gated_rank, plan.first_layer, generator),
            recompute=plan.recompute,
        )
        self._optimizer = torch.optim.AdamW(
            [
                {"params": list(self.network.plain.parameters()), "full": plan.plain_rate},
                {"params": list(self.network.gated.parameters()), "full": plan.gated_rate},
            ],
            betas=(0.9, 0.98),
            weight_decay=0.0,
            fused=True,
        )

    def advance(self, feed: ExampleFeed) -> dict[str, object]:
        """One step of the optimiser; returns what to log of it."""
        device = self.network.frozen.embedding.device
        first = self.step * self.plan.examples
        batch = [
            placed(feed.packed(first + i), device, self.network.frozen.embedding.dtype)
            for i in range(self.plan.examples)
        ]
        clean_weight = float(sum(p.clean_weights.sum() for p in batch))
        mask_weight = float(sum(p.mask_weights.sum() for p in batch))
        total = Tally()
        for packed in batch:
            total += backward_pass(
                self.network,
                packed,
                self.plan.truth_share,
                lambda loss: torch.autograd.backward(loss / clean_weight),
                lambda loss: torch.autograd.backward(loss / mask_weight),
            )
        norms = [
            float(nn.utils.clip_grad_norm_(adapters.parameters(), self.plan.clip))
            for adapters in (self.network.plain, self.network.gated)
        ]
        pace = self.plan.pace(self.step)
        for group in self._optimizer.param_groups:
            group["lr"] = group["full"] * pace
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return {
            "step": self.step,
            "rows": total.rows,
            "pace": round(pace, 4),
            "norms": [round(n, 3) for n in norms],
            **total.report(),
        }

    @torch.no_grad()
    def probe(self, feed: ExampleFeed, examples: int) -> dict[str, object]:
        """The same measures on the first `examples` of a feed that is not trained on."""
        total = Tally()
        frozen = self.network.frozen
        for number in range(examples):
            packed = placed(feed.packed(number), frozen.embedding.device, frozen.embedding.dtype)
            total += backward_pass(self.network, packed, 1.0, lambda _: None, lambda _: None)
        return {"step": self.step, "probe": examples, **total.report()}

    def save(self, path: Path) -> None:
        """Write adapters and optimiser state whole or not at all; no pickles."""
        tensors = {}
        for name, parameter in self.network.named_parameters():
            tensors[name] = parameter.detach().cpu().contiguous()
            state = self._optimizer.state.get(parameter, {})
            for key in ("exp_avg", "exp_avg_sq", "step"):
                if key in state:
                    tensors[f"{name}/{key}"] = state[key].detach().cpu().contiguous()
        header = {"step": str(self.step), "plan": json.dumps(asdict(self.plan))}
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".partial")
        save_file(tensors, unfinished, header)
        os.replace(unfinished, path)

    def restore(self, path: Path) -> None:
        """Go on from a save; the plan stays the one this run was made with."""
        with safe_open(path, "pt") as handle, torch.no_grad():
            self.step = int(handle.metadata()["step"])
            names = set(handle.keys())
            for name, parameter in self.network.named_parameters():
                parameter.copy_(handle.get_tensor(name))
                if f"{name}/step" in names:
                    self._optimizer.state[parameter] = {
                        "step": handle.get_tensor(f"{name}/step").to(parameter.device),
                        "exp_avg": handle.get_tensor(f"{name}/exp_avg").to(parameter.device),
                        "exp_avg_sq": handle.get_tensor(f"{name}/exp_avg_sq").to(parameter.device),
                    }


def saved_config(path: Path) -> AdapterConfig:
    """The plan a checkpoint was made under."""
    with safe_open(path, "pt") as handle:
        return AdapterConfig(**json.loads(handle.metadata()["plan"]))


Backward = Callable[[Tensor], object]


def backward_pass(
    network: AdaptedNetwork,
    packed: Packed,
    truth_share: float,
    clean_loss: Backward,
    mask_loss: Backward,
) -> Tally:
    """Both streams of one example; each loss goes to its consumer as soon as it is known."""
    embedding = network.frozen.embedding
    hidden, memory = network.clean(packed.clean)
    loss, clean = cross_entropy(
        hidden[packed.clean_rows], embedding, packed.clean_targets, packed.clean_weights
    )
    clean_loss(loss)
    del hidden
    rows = network.masks(packed.masks, memory)
    loss, masks = distillation_loss(rows, embedding, packed, clean, truth_share)
    mask_loss(loss)
    return tally(packed, clean, masks)
