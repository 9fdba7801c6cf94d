"""The trainer: takes steps, evaluates, saves and resumes. Knows no objective and no file of data.

The state of a training is its checkpoint: the step, the trained parameters and what the optimisers
keep of them. Everything else is a function of the settings and the step.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Generic, Protocol, TypeVar

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from mercury_model.network.denoiser import Denoiser
from mercury_model.training.optimizer import Optimizer

Batch = TypeVar("Batch")
BatchIn = TypeVar("BatchIn", contravariant=True)
Report = dict[str, object]
"""What to log: names and numbers, or lists of numbers."""


class Objective(Protocol[BatchIn]):
    """What is minimised."""

    def backward(self, network: Denoiser, batch: BatchIn) -> Report:
        """Add the gradients of the loss on `batch` to the trained parameters."""

    def evaluate(self, network: Denoiser, batch: BatchIn) -> Report:
        """The same measures, without gradients."""


class Trainer(Generic[Batch]):
    """A network in training.

    `batches` gives the batch of a step; where it is a function of the step alone, a training that
    was killed resumes as if it had not been. `schedule` gives the share of the full learning rates
    at a step; the training is over where it is 0. `notes` go into the header of a checkpoint.
    """

    def __init__(
        self,
        network: Denoiser,
        objective: Objective[Batch],
        batches: Callable[[int], Batch],
        optimizer: Optimizer,
        schedule: Callable[[int], float],
        notes: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.network = network
        self.objective = objective
        self.step = 0
        self._batches = batches
        self._optimizer = optimizer
        self._schedule = schedule
        self._notes = notes

    def steps(self) -> Iterator[Report]:
        """Train to the end of the schedule; yields what to log of each step."""
        while (rate := self._schedule(self.step)) > 0:
            report = self.objective.backward(self.network, self._batches(self.step))
            norms = self._optimizer.step(rate)
            self.step += 1
            yield {
                "step": self.step,
                "rate": round(rate, 4),
                "norms": [round(norm, 3) for norm in norms],
                **report,
            }

    def evaluate(self, batch: Batch) -> Report:
        """What the objective measures on a batch that is not trained on."""
        with torch.no_grad():
            return {
                "step": self.step,
                "probe": True,
                **self.objective.evaluate(self.network, batch),
            }

    def save(self, path: Path) -> None:
        """Write a checkpoint in safetensors, whole or not at all."""
        tensors: dict[str, Tensor] = {}
        for name, parameter in self._optimizer.parameters.items():
            tensors[name] = parameter.detach().cpu().contiguous()
            for key, values in self._optimizer.state(parameter).items():
                tensors[f"{name}/{key}"] = values.detach().cpu().contiguous()
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".partial")
        save_file(tensors, unfinished, {"step": str(self.step), **self._notes})
        os.replace(unfinished, path)

    def restore(self, path: Path) -> None:
        """Resume from a checkpoint; the settings stay those that this trainer was made with.

        Raises SafetensorError for a checkpoint of other parameters.
        """
        with safe_open(path, "pt") as handle, torch.no_grad():
            self.step = int(handle.metadata()["step"])
            names = set(handle.keys())
            for name, parameter in self._optimizer.parameters.items():
                parameter.copy_(handle.get_tensor(name))
                start = f"{name}/"
                state = {key.removeprefix(start) for key in names if key.startswith(start)}
                self._optimizer.state(parameter).update(
                    {key: handle.get_tensor(start + key).to(parameter.device) for key in state}
                )
