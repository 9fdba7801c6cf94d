"""Counts the bytes of the adaptation: the frozen base, both adapters with gradients and moments,
and the activations saved for the backward pass.

The counts follow `network` and `training.objective`. One example runs at a time, first its clean
rows and then its masks; the attention biases of all examples of a step exist at once.
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
    """Rows of one pass, which attend to `before` earlier keys; adapters of `rank` act on them."""

    rows: int
    before: int
    rank: int

    @property
    def scores(self) -> int:
        """The number of attention scores of one head; see `collate._ranges`."""
        starts = range(0, self.rows, RANGE_ROWS)
        stops = [min(start + RANGE_ROWS, self.rows) for start in starts]
        return sum(
            (stop - start) * (self.before + stop) for start, stop in zip(starts, stops, strict=True)
        )


@dataclass(frozen=True, slots=True)
class TrainingLoad:
    """`examples` a step with at most `tokens` clean rows each; `config` has ranks and layers."""

    examples: int
    tokens: int
    config: AdapterConfig

    @property
    def streams(self) -> tuple[Stream, Stream]:
        """The streams of clean rows and of masks."""
        both = self.config.plain_rank + self.config.gated_rank
        return Stream(self.tokens, 0, self.config.plain_rank), Stream(MASK_ROWS, self.tokens, both)


def footprint(shape: NetworkShape, precision: Precision, training: TrainingLoad) -> Footprint:
    """The bytes of a step from the second on, when the optimiser has its moments."""
    c, config = shape.config, training.config
    ranks = config.plain_rank + config.gated_rank
    adapters = 4 * ranks * max(0, c.num_layers - config.first_layer) * _adapter_width(c)
    biases = training.examples * sum(s.scores for s in training.streams) * 4
    saved, workspace = max(
        (_stream_bytes(c, precision.activation, training, stream) for stream in training.streams),
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
                "activations": saved + biases,
                "workspace": workspace,
            }
        ),
    )


def _adapter_width(c: ModelConfig) -> int:
    """The number of adapter weights per rank in one layer: a group shares its inner half."""
    sizes = c.projections
    return sum(sizes[g[0]][1] + sum(sizes[part][0] for part in g) for g in GROUPS)


def _stream_bytes(
    c: ModelConfig, e: int, training: TrainingLoad, stream: Stream
) -> tuple[int, int]:
    """The bytes saved while `stream` runs, and the peak of one operation in addition.

    Keys and values of the clean rows stay until the masks are done. With checkpointing only each
    layer's input is saved, and one layer at a time is recomputed.
    """
    config = training.config
    trained = max(0, c.num_layers - config.first_layer)
    heads = 2 * c.num_kv_heads
    clean_kv = c.num_layers * training.tokens * heads * c.head_dim * e
    layer = _saved(c, e, stream)
    if config.recompute:
        saved, again = trained * stream.rows * c.hidden_size * e, layer if trained else 0
    else:
        own = 0 if stream.before else trained * stream.rows * heads * c.head_dim * e
        saved, again = trained * layer - own, 0
    head = 2 * min(HEAD_ROWS, stream.rows) * c.vocab_size * 4 + 3 * stream.rows * c.hidden_size * e
    backward = again + stream.rows * (4 * c.intermediate_size + 3 * c.hidden_size) * e
    return clean_kv + saved, max(head, backward)


def _saved(c: ModelConfig, e: int, stream: Stream) -> int:
    """The bytes that one trained layer saves for its backward pass.

    These are normed rows before and after scaling, values, rotated queries and keys, the output and
    the probabilities of attention, three rows of the MLP, the adapters' inner rows, and casts.
    """
    queries, keys = c.num_heads * c.head_dim, c.num_kv_heads * c.head_dim
    row = 4 * c.hidden_size + keys + (queries + keys) + queries
    row += 3 * c.intermediate_size + 4 * stream.rank
    joined = 2 * (stream.before + stream.rows) * keys if stream.before else 0
    cast = stream.rank * _adapter_width(c) if stream.before or e < 4 else 0
    return (stream.rows * row + c.num_heads * stream.scores + joined + cast) * e
