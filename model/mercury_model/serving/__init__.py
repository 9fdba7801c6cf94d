"""Continuous batching: many requests over one model, the calls of several in each pass.

from mercury_model.serving import DynamicBatcher, InfillRequest

with DynamicBatcher(load("mini", cache_dir=folder)) as batcher:
    futures = [batcher.submit(InfillRequest(prompt)) for prompt in prompts]
    texts = [future.result().text for future in futures]
"""

from mercury_model.serving.batcher import DynamicBatcher
from mercury_model.serving.engine import Engine, EngineLimits
from mercury_model.serving.request import InfillRequest, InfillSequence, Outcome, Priority

__all__ = [
    "DynamicBatcher",
    "Engine",
    "EngineLimits",
    "InfillRequest",
    "InfillSequence",
    "Outcome",
    "Priority",
]
