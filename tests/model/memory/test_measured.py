"""What the planner predicts, against what a process of its own grows by. Linux counts it for us.

All within TOLERANCE. Where torch runs, the allocator gives back at once what is freed, so that the
peak is what is in use and not what malloc hoards. Whole processes of the default runtime, and the
first load, are measured with the allocator as it is.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

import pytest

from mercury_model.load import network_shape
from mercury_model.memory import inference, training
from mercury_model.memory.footprint import MB
from mercury_model.memory.inference import CPU, InferenceLoad
from mercury_model.memory.shape import NetworkShape
from mercury_model.memory.training import TrainingLoad
from mercury_model.training.adaptation import AdapterConfig

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")

TOLERANCE = 0.10
PRECISIONS = {"bf16": CPU[1], "fp32": CPU[2]}
DTYPES = {"bf16": "bfloat16", "fp32": "float32"}
THRIFTY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
    "MALLOC_TOP_PAD_": "0",
    "OMP_NUM_THREADS": "1",
}
SLOW = pytest.mark.slow


def alone(*command: str, allocator: Mapping[str, str] = MappingProxyType({})) -> str:
    """What Python prints when it runs `command`."""
    done = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, **allocator, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def check(predicted: int, measured: int) -> None:
    error = predicted / measured - 1
    said = f"{predicted / MB:.1f} MB predicted, {measured / MB:.1f} measured: {error:+.1%}"
    sys.stdout.write(said + "\n")
    assert abs(error) <= TOLERANCE, said


def probe(kind: str, shape: NetworkShape, precision: str, **case: object) -> int:
    case |= {"kind": kind, "config": asdict(shape.config), "dtype": DTYPES[precision]}
    file = str(Path(__file__).with_name("memory_probe.py"))
    return int(alone(file, json.dumps(case), allocator=THRIFTY))


@pytest.mark.parametrize(
    ("name", "precision", "batch", "tokens", "block"),
    [
        ("tiny", "fp32", 1, 1024, 32),
        pytest.param("tiny", "bf16", 8, 1024, 32, marks=SLOW),
        pytest.param("tiny", "bf16", 1, 1024, 32, marks=SLOW),
        pytest.param("tiny", "fp32", 8, 128, 32, marks=SLOW),
        pytest.param("tiny", "fp32", 8, 1024, 8, marks=SLOW),
        pytest.param("mini", "fp32", 1, 370, 7, marks=SLOW),
        pytest.param("mini", "bf16", 1, 370, 7, marks=SLOW),
        pytest.param("mini", "fp32", 4, 1024, 32, marks=SLOW),
        pytest.param("mini", "bf16", 4, 1024, 32, marks=SLOW),
    ],
)
def test_filling_gaps_takes_what_is_predicted(
    name: str, precision: str, batch: int, tokens: int, block: int
) -> None:
    shape, load = network_shape(name), InferenceLoad(batch, tokens, block)
    measured = probe(
        "infer",
        shape,
        precision,
        batch=batch,
        tokens=tokens,
        block=block,
        rank=shape.gated_rank,
    )
    check(inference.footprint(shape, PRECISIONS[precision], load).growth, measured)


@pytest.mark.parametrize(
    ("name", "precision", "batch", "tokens", "recompute"),
    [
        ("tiny", "fp32", 1, 512, False),
        pytest.param("tiny", "fp32", 2, 1024, True, marks=SLOW),
        pytest.param("tiny", "fp32", 4, 1024, False, marks=SLOW),
        pytest.param("tiny", "bf16", 1, 1024, False, marks=SLOW),
        pytest.param("mini", "bf16", 1, 512, False, marks=SLOW),
        pytest.param("mini", "bf16", 3, 512, True, marks=SLOW),
        pytest.param("mini", "fp32", 1, 512, False, marks=SLOW),
    ],
)
def test_a_training_step_takes_what_is_predicted(
    name: str, precision: str, batch: int, tokens: int, recompute: bool
) -> None:
    shape = network_shape(name)
    plan = AdapterConfig(first_layer=8 if name == "mini" else 0, recompute=recompute)
    measured = probe(
        "train",
        shape,
        precision,
        batch=batch,
        tokens=tokens,
        first_layer=plan.first_layer,
        recompute=recompute,
    )
    work = TrainingLoad(batch, tokens, plan)
    check(training.footprint(shape, PRECISIONS[precision], work).growth, measured)


SERVED = """
import sys
from pathlib import Path
from mercury_model.load import load
def memory(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))
import mercury_model.runtime.onnx.ort
before = memory("VmHWM")
loaded = load(sys.argv[1], cache_dir=Path(sys.argv[2]), threads=1)
first = memory("VmHWM") - before
runtime, kv = loaded.runtime, loaded.runtime.new_kv_cache()
if len(sys.argv) > 3:
    tokens, block = int(sys.argv[3]), int(sys.argv[4])
    for start in range(0, tokens - block, 64):
        runtime.extend(kv, [7] * min(64, tokens - block - start))
    for _ in range(2):
        runtime.denoise(kv, [loaded.card.infill.mask_id] * block)
    print(memory("VmHWM"))
else:
    print(first)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "tokens", "block"), [("tiny", 448, 8), ("mini", 370, 7)])
def test_the_whole_process_of_the_default_runtime_takes_what_is_predicted(
    name: str, tokens: int, block: int, cache_dir: Path
) -> None:
    alone("-c", SERVED, name, str(cache_dir))  # so that its graph is there
    measured = int(alone("-c", SERVED, name, str(cache_dir), str(tokens), str(block)))
    check(
        inference.footprint(network_shape(name), CPU[0], InferenceLoad(1, tokens, block)).peak,
        measured,
    )


@pytest.mark.slow
def test_the_first_load_of_mini_takes_what_is_predicted(mini_base: Path, tmp_path: Path) -> None:
    (tmp_path / mini_base.name).symlink_to(mini_base)
    measured = int(alone("-c", SERVED, "mini", str(tmp_path)))
    check(inference.first_load_bytes(network_shape("mini"), CPU[0]), measured)
