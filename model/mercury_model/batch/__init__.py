"""Dynamic batching: many infills over one model, the calls of several in each pass.

from mercury_model.batch import DynamicBatcher, Order

with DynamicBatcher(models.load("mini", cache_dir=folder)) as batcher:
    futures = [batcher.submit(Order(gap)) for gap in gaps]
    texts = [future.result().text for future in futures]
"""

from mercury_model.batch.batcher import DynamicBatcher
from mercury_model.batch.engine import Engine, Limits
from mercury_model.batch.order import Job, Order, Outcome, Priority

__all__ = ["DynamicBatcher", "Engine", "Job", "Limits", "Order", "Outcome", "Priority"]
