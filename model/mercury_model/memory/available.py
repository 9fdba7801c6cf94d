"""How much memory a new process could take at this moment."""

from mercury_model.errors import RuntimeUnavailable
from mercury_model.memory.inference import Device


def free_memory(device: Device) -> int:
    """Bytes that are free on the first device of its kind. Raises RuntimeUnavailable."""
    if device == "cpu":
        import psutil

        return int(psutil.virtual_memory().available)
    try:
        import torch
    except ImportError as error:
        raise RuntimeUnavailable(
            "Free memory of a GPU cannot be read without torch.",
            "Run: pip install 'mercury-lsp[cuda]', or say how much with --memory.",
        ) from error
    if not torch.cuda.is_available():
        raise RuntimeUnavailable(
            "There is no CUDA device.", "Say how much memory to plan for with --memory."
        )
    return int(torch.cuda.mem_get_info()[0])
