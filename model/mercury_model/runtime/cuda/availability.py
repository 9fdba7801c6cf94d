"""Whether the kernels can serve on this machine, and if not, why. Looks for a driver first: on a
machine without one torch, which takes seconds to import, is never imported.
"""

import platform
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

DRIVERS = (Path("/proc/driver/nvidia/version"), Path("/dev/dxg"))
"""Where Linux has a driver for NVIDIA GPUs, and Linux within Windows one for all GPUs."""


def has_driver() -> bool:
    """Whether there may be a GPU that CUDA can use."""
    return platform.system() == "Linux" and any(path.exists() for path in DRIVERS)


def is_installed(package: str) -> bool:
    """Whether a package can be imported; does not import it."""
    return find_spec(package) is not None


def device_refusal() -> str | None:
    """What torch and the kernels themselves have against this GPU. Imports torch."""
    import torch

    from mercury_kernels.dispatch import decide

    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    decision = decide("cuda", torch.cuda.get_device_capability(), triton=True)
    return None if decision.kernels else decision.why


def unavailable_reason(
    driver: Callable[[], bool] = has_driver,
    installed: Callable[[str], bool] = is_installed,
    refused: Callable[[], str | None] = device_refusal,
) -> str | None:
    """What the kernels lack here; None where they can serve."""
    if not driver():
        return "there is no driver of an NVIDIA GPU"
    for package in ("torch", "triton"):
        if not installed(package):
            return f"{package} is not installed; mercury-lsp[cuda] has it"
    return refused()
