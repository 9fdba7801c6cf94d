"""The memory planner: what a network takes, counted from its shape, and the best that fits.

Runs nothing and loads no weights. Counts agree with what processes on a CPU were measured to grow
by, see `tests/model/memory/test_measured.py`; those for CUDA are not measured yet.
"""

from mercury_model.memory.footprint import Footprint
from mercury_model.memory.inference import Device, Precision
from mercury_model.memory.planner import Configuration, MemoryEfficientDiffusion, MemoryPlan
from mercury_model.memory.shape import PRESETS, NetworkShape

__all__ = [
    "PRESETS",
    "Configuration",
    "Device",
    "Footprint",
    "MemoryEfficientDiffusion",
    "MemoryPlan",
    "NetworkShape",
    "Precision",
]
