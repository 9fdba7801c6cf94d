from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from train_fakes import code

from mercury_model import models
from mercury_model.checkpoint import merge, read_delta
from mercury_model.train import data
from mercury_model.train.adapt import Plan
from mercury_model.train.data import Source
from mercury_model.train.loop import CHECKPOINT, Pace, drive
from mercury_model.train.start import HELD_OUT, TRAIN, exported, foundation, start


def test_what_a_run_learnt_is_a_delta_on_the_model_it_started_from(tmp_path: Path) -> None:
    sources = [Source("python", "made-up", "MIT", f"{i}.py", code(i)) for i in range(4)]
    for file in (TRAIN, HELD_OUT):
        data.write(sources, tmp_path / file)
    plan = Plan(steps=2, examples=1, warmup=1, plain_rank=2, gated_rank=2, first_layer=1)
    ready = start("tiny", plan, tmp_path, tmp_path, torch.device("cpu"), torch.float32)
    pace = Pace(probe_steps=9, probe_examples=1)
    list(drive(ready.run, ready.feeds, tmp_path, pace, lambda: 0.0, lambda: False))

    tokens = exported("tiny", tmp_path / CHECKPOINT, tmp_path, tmp_path / "delta.safetensors")

    base = models.merged(models.find("tiny"), tmp_path)
    merged = merge(base, [read_delta(tmp_path / "delta.safetensors")])
    assert np.abs(merged["layers.1.q"] - base["layers.1.q"]).max() > 0
    np.testing.assert_array_equal(merged["layers.0.q"], base["layers.0.q"])
    assert merged["layers.1.d.mask_b"].any()
    card = models.card("tiny")
    assert tokens == len(merged["vocabulary"]) < card.architecture.vocab_size
    assert card.infill.end_id in merged["vocabulary"]


def test_a_run_takes_the_place_of_the_delta_of_the_run_before() -> None:
    mini = models.find("mini")
    ground, learnt = foundation(mini)
    assert ground.weights == mini.weights[:-1]
    assert any(name.endswith(".mask_a") for name in learnt)


def test_a_delta_that_no_run_made_stays() -> None:
    mini = models.find("mini")
    taught = replace(mini, weights=mini.weights[:-1])
    for entry in (replace(mini, weights=(*taught.weights, taught.weights[0])), models.find("tiny")):
        assert foundation(entry) == (entry, {})
