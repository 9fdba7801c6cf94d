"""Which runtime a machine gets, and what the log says of it."""

import logging
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mercury_kernels.dispatch import reference_operations
from mercury_kernels.passes import ModelRunner
from mercury_kernels.replay import Eager
from mercury_model.errors import RuntimeUnavailable
from mercury_model.load import load, network_shape, plan_dtypes
from mercury_model.runtime.cuda import availability
from mercury_model.runtime.cuda.dtypes import KERNEL_DTYPES, KernelDtypes
from mercury_model.runtime.cuda.runtime import CudaRuntime, require_agreement
from mercury_model.runtime.cuda.weights import load_weights, supported_dtypes
from mercury_model.weights import registry

CARD = registry.card("tiny")
MASK = CARD.infill.mask_id


@pytest.mark.parametrize(
    ("driver", "installed", "refused", "why"),
    [
        (False, {"torch", "triton"}, None, "no driver of an NVIDIA GPU"),
        (True, set(), None, r"torch is not installed; mercury-lsp\[cuda\] has it"),
        (True, {"torch"}, None, r"triton is not installed; mercury-lsp\[cuda\] has it"),
        (True, {"torch", "triton"}, "sm_75 has no bf16", "sm_75 has no bf16"),
        (True, {"torch", "triton"}, None, None),
    ],
)
def test_the_kernels_say_what_they_lack(
    driver: bool, installed: set[str], refused: str | None, why: str | None
) -> None:
    found = availability.unavailable_reason(lambda: driver, installed.__contains__, lambda: refused)
    assert (found is None) == (why is None)
    if why is not None and found is not None:
        import re

        assert re.search(why, found)


def test_a_machine_without_a_gpu_is_served_by_its_cpu_and_the_log_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if availability.unavailable_reason() is None:
        pytest.skip("here the kernels can serve")
    with caplog.at_level(logging.INFO, "mercury_model.load"):
        loaded = load("tiny", cache_dir=tmp_path, threads=1)
    assert loaded.runtime.name.startswith("onnx cpu")
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        f"no kernels: {availability.unavailable_reason()}",
        f"runtime: {loaded.runtime.name}",
    ]
    with pytest.raises(RuntimeUnavailable, match="kernels cannot be used"):
        load("tiny", cache_dir=tmp_path, runtime="kernels")


def test_without_a_driver_a_model_is_loaded_without_torch(tmp_path: Path) -> None:
    if availability.has_driver():
        pytest.skip("there is a driver")
    code = f"""
import sys
from pathlib import Path
from mercury_model.load import load
load("tiny", cache_dir=Path({str(tmp_path)!r}), threads=1)
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def tiny() -> CudaRuntime:
    weights = registry.merged(registry.find("tiny"), Path())
    network = load_weights(
        CARD.architecture, weights, torch.device("cpu"), MASK, 256, torch.float32
    )
    return CudaRuntime(ModelRunner(network, reference_operations(), Eager), CARD.architecture, MASK)


def test_a_runtime_that_does_something_else_than_its_reference_is_refused() -> None:
    right, do = tiny(), reference_operations()
    require_agreement(right, tiny())

    def unmixed(q: torch.Tensor, *_: object) -> torch.Tensor:
        return torch.zeros_like(q)

    broken = ModelRunner(right.engine.network, replace(do, attend=unmixed), Eager)
    with pytest.raises(RuntimeUnavailable, match="wrong on this device"):
        require_agreement(CudaRuntime(broken, CARD.architecture, MASK), right)


@pytest.mark.parametrize(
    ("dtypes", "megabytes", "chosen"),
    [
        (KERNEL_DTYPES, 4000, KernelDtypes("bf16", "bf16")),
        (KERNEL_DTYPES, 833, KernelDtypes("bf16", "fp8")),
        (KERNEL_DTYPES, 800, KernelDtypes("int8", "bf16")),
        (KERNEL_DTYPES, 712, KernelDtypes("int8", "fp8")),
        ([KernelDtypes("bf16"), KernelDtypes("int8")], 800, KernelDtypes("int8")),
    ],
)
def test_a_gpu_keeps_a_model_as_the_plan_for_its_memory_says(
    dtypes: Sequence[KernelDtypes], megabytes: int, chosen: KernelDtypes
) -> None:
    assert plan_dtypes(network_shape("mini"), dtypes, megabytes * 10**6) == chosen


def test_what_a_device_cannot_run_is_not_planned_for_it() -> None:
    do = reference_operations()
    assert supported_dtypes(do) == KERNEL_DTYPES
    without_fp8 = supported_dtypes(replace(do, quantized_dtypes=(torch.int8,)))
    assert without_fp8 == (KernelDtypes("bf16", "bf16"), KernelDtypes("int8", "bf16"))


def test_rounding_to_bf16_is_not_taken_for_a_fault() -> None:
    weights = registry.merged(registry.find("tiny"), Path())
    network = load_weights(CARD.architecture, weights, torch.device("cpu"), MASK, 256)
    rounded = CudaRuntime(
        ModelRunner(network, reference_operations(), Eager), CARD.architecture, MASK
    )
    require_agreement(rounded, tiny())
