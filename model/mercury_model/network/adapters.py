"""Low-rank additions to the matrices of a network (Hu et al. 2021, arXiv:2106.09685).

Plain adapters act at every row. Gated adapters act at masks alone and leave the autoregressive path
untouched (Samragh et al. 2025, arXiv:2507.11851).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mercury_model.network.operations import low_rank_linears
from mercury_model.spec.model_config import ModelConfig

GROUPS = ("qkv", "o", "gu", "d")
"""The parts of a layer that read the same rows. Trained adapters of a group share `a`."""


class Adapters(Protocol):
    """What is added to the matrices of a layer in one forward pass."""

    def project(
        self, layer: int, group: str, x: Tensor, parts: Sequence[nn.Linear]
    ) -> list[Tensor]:
        """x [B, T, in] through each of `parts`, the matrices of `group`: [B, T, out] each."""


class NoAdapters:
    """The network as it is."""

    def project(
        self, layer: int, group: str, x: Tensor, parts: Sequence[nn.Linear]
    ) -> list[Tensor]:
        """See `Adapters`."""
        return [F.linear(x, part.weight, part.bias) for part in parts]


class LowRank(nn.Module):
    """Two halves of an addition `x aᵀ bᵀ`: a [rank, in], b [out, rank]."""

    def __init__(self, a: Tensor, b: Tensor) -> None:
        super().__init__()
        self.a = a if isinstance(a, nn.Parameter) else nn.Parameter(a)
        self.b = nn.Parameter(b)


class _Pairs(nn.Module):
    """The additions of one layer, each under the name of its matrix."""


class LowRankAdapters(nn.Module):
    """Additions to every matrix of the layers from `first` on, named `layers.1.q.a` and so on."""

    def __init__(self, config: ModelConfig, first: int = 0) -> None:
        super().__init__()
        self.config = config
        self.first = first
        self.layers = nn.ModuleList(_Pairs() for _ in range(config.num_layers))

    @classmethod
    def zeros(cls, config: ModelConfig, rank: int) -> "LowRankAdapters":
        """A pair of zeros for each matrix, to be loaded over."""
        made = cls(config)
        for layer in made.layers:
            for part, (rows, columns) in config.projections.items():
                layer.add_module(part, LowRank(torch.zeros(rank, columns), torch.zeros(rows, rank)))
        return made

    @classmethod
    def random(
        cls, config: ModelConfig, rank: int, first: int, draw: torch.Generator, device: torch.device
    ) -> "LowRankAdapters":
        """Adapters to train in fp32: each group shares a random `a`, and every `b` is zero."""
        made = cls(config, first)
        for layer in list(made.layers)[first:]:
            for group in GROUPS:
                width = config.projections[group[0]][1]
                a = torch.randn(rank, width, generator=draw) / width**0.5
                shared = nn.Parameter(a.to(device))
                for part in group:
                    b = torch.zeros(config.projections[part][0], rank, device=device)
                    layer.add_module(part, LowRank(shared, b))
        return made

    def pair(self, layer: int, part: str) -> LowRank | None:
        """The addition to one matrix, or None where there is none."""
        pair = getattr(self.layers[layer], part, None)
        return pair if isinstance(pair, LowRank) else None

    def at(self, layer: int, group: str) -> tuple[Tensor, list[Tensor]] | None:
        """The shared `a` and each `b` of a group, or None where there is none."""
        pairs = [self.pair(layer, part) for part in group]
        found = [pair for pair in pairs if pair is not None]
        return (found[0].a, [pair.b for pair in found]) if found else None


@dataclass(frozen=True, slots=True)
class GatedAdapters:
    """Adapters at the rows where `gate` [B, T, 1] is 1; it is 0 elsewhere."""

    low_rank: LowRankAdapters
    gate: Tensor

    def project(
        self, layer: int, group: str, x: Tensor, parts: Sequence[nn.Linear]
    ) -> list[Tensor]:
        """See `Adapters`."""
        return [self._one(layer, name, x, part) for name, part in zip(group, parts, strict=True)]

    def _one(self, layer: int, name: str, x: Tensor, part: nn.Linear) -> Tensor:
        y, pair = F.linear(x, part.weight, part.bias), self.low_rank.pair(layer, name)
        if pair is None:
            return y
        return y + self.gate * F.linear(F.linear(x, pair.a), pair.b)


@dataclass(frozen=True, slots=True)
class TrainedAdapters:
    """Adapters in training, at every row of a stream.

    Those in `trained` have gradients. Those in `fixed` are added as they are.
    """

    trained: LowRankAdapters
    fixed: LowRankAdapters | None = None

    def project(
        self, layer: int, group: str, x: Tensor, parts: Sequence[nn.Linear]
    ) -> list[Tensor]:
        """See `Adapters`."""
        found = self._halves(layer, group)
        if found is None:
            return NoAdapters().project(layer, group, x, parts)
        weights, biases = [part.weight for part in parts], [part.bias for part in parts]
        return list(low_rank_linears(x, weights, biases, *found))

    def _halves(self, layer: int, group: str) -> tuple[Tensor, list[Tensor]] | None:
        """Both additions as one of the summed rank."""
        trained = self.trained.at(layer, group)
        fixed = None if self.fixed is None else self.fixed.at(layer, group)
        if trained is None or fixed is None:
            return trained
        a = torch.cat([fixed[0].detach(), trained[0]])
        bs = zip(fixed[1], trained[1], strict=True)
        return a, [torch.cat([one.detach(), other], 1) for one, other in bs]


def named(adapters: LowRankAdapters, kind: str) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters as checkpoints name them; `kind` is "mask_" for gated adapters, "" for plain ones.

    A parameter that several matrices share is named after the first of them.
    """
    for name, parameter in adapters.named_parameters():
        start, _, half = name.rpartition(".")
        yield f"{start}.{kind}{half}", parameter


def load_gated(config: ModelConfig, tensors: Mapping[str, Tensor]) -> LowRankAdapters | None:
    """The gated adapters of a checkpoint by name; None if `tensors` is empty. Copies nothing.

    Raises RuntimeError when names or shapes do not fit `config`.
    """
    if not tensors:
        return None
    rank = len(tensors["layers.0.q.mask_a"])
    with torch.device("meta"):
        adapters = LowRankAdapters.zeros(config, rank)
    state = {name.replace(".mask_", "."): values for name, values in tensors.items()}
    adapters.load_state_dict(state, strict=True, assign=True)
    return adapters
