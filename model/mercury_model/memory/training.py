"""Bytes that the adaptation takes: the frozen base, both adapters with gradients and moments, and
what the forward passes keep for the backward ones.

Counted from `network` and `training.objective`. One example is in work at a
time, its clean rows first and then its masks; those of a step are laid out together.
"""

from dataclasses import dataclass
from types import MappingProxyType

from mercury_model.memory.footprint import Footprint
from mercury_model.memory.inference import LIBRARIES, Precision, weight_bytes
from mercury_model.memory.shape import NetworkShape
from mercury_model.network.adapters import GROUPS
from mercury_model.spec.model_config import ModelConfig
from mercury_model.training.adaptation import AdapterConfig
from mercury_model.training.collate import RANGE_ROWS, Blocks
from mercury_model.training.feed import MAX_CUTS
from mercury_model.training.objective import HEAD_ROWS

_BLOCKS = Blocks()
MASK_ROWS = (MAX_CUTS * _BLOCKS.per_branch + _BLOCKS.on_chain) * _BLOCKS.longest
"""The most masks that an example has."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Rows that go through the network together, over `before` keys of others; `rank` of the
    adapters that act on them.
    """

    rows: int
    before: int
    rank: int

    @property
    def scores(self) -> int:
        """How many entries one head's attention has: see `collate._ranges`."""
        starts = range(0, self.rows, RANGE_ROWS)
        stops = [min(start + RANGE_ROWS, self.rows) for start in starts]
        return sum(
            (stop - start) * (self.before + stop) for start, stop in zip(starts, stops, strict=True)
        )


@dataclass(frozen=True, slots=True)
class TrainingLoad:
    """`examples` a step, each with at most `tokens` clean rows; ranks and layers as `plan` has."""

    examples: int
    tokens: int
    plan: AdapterConfig

    @property
    def streams(self) -> tuple[Stream, Stream]:
        """Clean rows and masks."""
        both = self.plan.plain_rank + self.plan.gated_rank
        return Stream(self.tokens, 0, self.plan.plain_rank), Stream(MASK_ROWS, self.tokens, both)


def footprint(shape: NetworkShape, precision: Precision, training: TrainingLoad) -> Footprint:
    """Everything that a step takes, from the second on: by then the optimiser has its moments."""
    c, plan = shape.config, training.plan
    ranks = plan.plain_rank + plan.gated_rank
    adapters = 4 * ranks * max(0, c.num_layers - plan.first_layer) * _adapter_width(c)
    laid_out = training.examples * sum(s.scores for s in training.streams) * 4
    kept, workspace = max(
        (_in_work(c, precision.activation, training, stream) for stream in training.streams),
        key=sum,
    )
    return Footprint(
        LIBRARIES["torch"],
        MappingProxyType(
            {
                "weights": weight_bytes(NetworkShape(shape.name, c), precision),
                "adapters": adapters,
                "gradients": adapters,
                "optimiser": 2 * adapters,
                "activations": kept + laid_out,
                "workspace": workspace,
            }
        ),
    )


def _adapter_width(c: ModelConfig) -> int:
    """Numbers that one rank costs in one layer: a group shares its inner half."""
    sizes = c.projections
    return sum(sizes[g[0]][1] + sum(sizes[part][0] for part in g) for g in GROUPS)


def _in_work(c: ModelConfig, e: int, training: TrainingLoad, stream: Stream) -> tuple[int, int]:
    """What is kept while `stream` is in work, and the most that an operation needs besides.

    Keys and values of the clean rows stay until the masks are done. Checkpointing keeps each
    layer's input instead of the rest, and has the rest of one layer at a time.
    """
    plan = training.plan
    trained = max(0, c.num_layers - plan.first_layer)
    heads = 2 * c.num_kv_heads
    remembered = c.num_layers * training.tokens * heads * c.head_dim * e
    saved = _saved(c, e, stream)
    if plan.recompute:
        kept, again = trained * stream.rows * c.hidden_size * e, saved if trained else 0
    else:
        own = 0 if stream.before else trained * stream.rows * heads * c.head_dim * e
        kept, again = trained * saved - own, 0
    head = 2 * min(HEAD_ROWS, stream.rows) * c.vocab_size * 4 + 3 * stream.rows * c.hidden_size * e
    backward = again + stream.rows * (4 * c.intermediate_size + 3 * c.hidden_size) * e
    return remembered + kept, max(head, backward)


def _saved(c: ModelConfig, e: int, stream: Stream) -> int:
    """Of one trained layer: normed rows before and after scaling, values, rotated queries and keys,
    what attention mixed and its probabilities, three rows of the MLP, adapters' inner rows, casts.
    """
    queries, keys = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
    row = 4 * c.hidden_size + keys + (queries + keys) + queries
    row += 3 * c.intermediate_size + 4 * stream.rank
    joined = 2 * (stream.before + stream.rows) * keys if stream.before else 0
    cast = stream.rank * _adapter_width(c) if stream.before or e < 4 else 0
    return (stream.rows * row + c.num_heads * stream.scores + joined + cast) * e
