from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from training_fakes import code

from mercury_model.training import data
from mercury_model.training.adaptation import AdapterConfig
from mercury_model.training.collate import Packed
from mercury_model.training.data import Source
from mercury_model.training.loop import CHECKPOINT, LoopSchedule, train_loop
from mercury_model.training.start import HELD_OUT, TRAIN, export_delta, frozen_base, prepare
from mercury_model.weights import registry
from mercury_model.weights.checkpoint import merge, read_delta


def test_what_a_run_learnt_is_a_delta_on_the_model_it_started_from(tmp_path: Path) -> None:
    sources = [Source("python", "made-up", "MIT", f"{i}.py", code(i)) for i in range(4)]
    for file in (TRAIN, HELD_OUT):
        data.write(sources, tmp_path / file)
    plan = AdapterConfig(steps=2, examples=1, warmup=1, plain_rank=2, gated_rank=2, first_layer=1)
    ready = prepare("tiny", plan, tmp_path, tmp_path, torch.device("cpu"), torch.float32)
    schedule = LoopSchedule(probe_steps=9)

    def probe() -> list[Packed]:
        return ready.held_out.batch(0, 1)

    list(train_loop(ready.trainer, probe, tmp_path, schedule, lambda: 0.0, lambda: False))

    tokens = export_delta(
        "tiny", tmp_path / CHECKPOINT, tmp_path, tmp_path, tmp_path / "delta.safetensors"
    )

    base = registry.merged(registry.find("tiny"), tmp_path)
    merged = merge(base, [read_delta(tmp_path / "delta.safetensors")])
    assert np.abs(merged["layers.1.q"] - base["layers.1.q"]).max() > 0
    np.testing.assert_array_equal(merged["layers.0.q"], base["layers.0.q"])
    assert merged["layers.1.d.mask_b"].any()
    card = registry.card("tiny")
    assert tokens == len(merged["vocabulary"]) < card.architecture.vocab_size
    assert card.infill.eos_id in merged["vocabulary"]


def test_a_run_takes_the_place_of_the_delta_of_the_run_before() -> None:
    mini = registry.find("mini")
    ground, learnt = frozen_base(mini)
    assert ground.weights == mini.weights[:-1]
    assert any(name.endswith(".mask_a") for name in learnt)


def test_a_delta_that_no_run_made_stays() -> None:
    mini = registry.find("mini")
    taught = replace(mini, weights=mini.weights[:-1])
    for entry in (
        replace(mini, weights=(*taught.weights, taught.weights[0])),
        registry.find("tiny"),
    ):
        assert frozen_base(entry) == (entry, {})


def test_a_folder_and_a_base_without_deltas_are_trained_as_they_are(tiny_folder: Path) -> None:
    for entry in (registry.find(tiny_folder), registry.find("qwen-0.5b")):
        assert frozen_base(entry) == (entry, {})
