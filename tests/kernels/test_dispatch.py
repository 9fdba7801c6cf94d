import logging
import subprocess
import sys
from typing import Any

import pytest
import torch

from mercury_kernels.dispatch import decide, select

BOTH = {torch.float8_e4m3fn, torch.int8}


@pytest.mark.parametrize(
    ("device", "capability", "triton", "kernels", "dtypes", "why"),
    [
        ("cpu", (0, 0), True, False, BOTH, "not a GPU"),
        ("cuda", (9, 0), False, False, BOTH, r"mercury-lsp\[cuda\]"),
        ("cuda", (7, 5), True, False, BOTH, "sm_75 has no bf16"),
        ("cuda", (8, 0), True, True, {torch.int8}, "sm_80 has no fp8"),
        ("cuda", (8, 9), True, True, BOTH, "tuned for sm_90"),
        ("cuda", (9, 0), True, True, BOTH, "sm_90, tuned for it"),
    ],
)
def test_a_device_gets_what_it_can_run(
    device: str, capability: tuple[int, int], triton: bool, kernels: bool, dtypes: Any, why: str
) -> None:
    decision = decide(device, capability, triton)
    assert (decision.kernels, set(decision.quantized_dtypes)) == (kernels, dtypes)
    import re

    assert re.search(why, decision.why)


def test_a_cpu_is_served_by_the_reference_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "mercury_kernels.dispatch"):
        assert select(torch.device("cpu")).name == "reference"
    assert "operations on cpu: reference" in caplog.text


def test_everything_but_the_kernels_imports_without_triton() -> None:
    code = """
import sys
sys.modules["triton"] = None
import pkgutil, importlib, mercury_kernels
for found in pkgutil.walk_packages(mercury_kernels.__path__, "mercury_kernels."):
    if not found.name.endswith(".kernel"):
        importlib.import_module(found.name)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
