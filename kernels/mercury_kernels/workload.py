"""The operations of a denoising step as cases, for the roofline, the compiler and the benchmark.

The shipped cases are exactly those that a step of these workloads launches.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import torch

from mercury_kernels.architecture import ARCHITECTURES, Architecture, quantize_activations_from
from mercury_kernels.attention.cases import AttentionCase
from mercury_kernels.case import Case, Source
from mercury_kernels.catalogue import CACHES, WEIGHTS, Operation
from mercury_kernels.choose.cases import ChooseCase
from mercury_kernels.commit.cases import KINDS, CommitCase
from mercury_kernels.head.cases import HeadCase
from mercury_kernels.kl_divergence.cases import KlDivergenceCase
from mercury_kernels.linear.cases import LinearCase
from mercury_kernels.norm.cases import NormCase
from mercury_kernels.paged import PAGE
from mercury_kernels.quantize.cases import QuantizeCase
from mercury_kernels.rope.cases import EpilogueKind, RopeCase
from mercury_kernels.step import CANVASES, PAGES, SIZES
from mercury_kernels.swiglu.cases import SwigluCase

BF16 = Source("meta", torch.bfloat16)
FP8_WEIGHTS = Source("meta", torch.bfloat16, torch.float8_e4m3fn)
FP8 = Source("meta", torch.bfloat16, torch.float8_e4m3fn, row_dtype=torch.float8_e4m3fn)
"""Weights and activations in fp8: each row is quantized before a product."""

CANDIDATES = 16
"""The candidates of a position."""


def multiplies_in_fp8(architecture: Architecture, rows: int) -> bool:
    """Whether a step of `rows` rows quantizes its activations."""
    least = quantize_activations_from(architecture.hidden_size, architecture.gated_rank)
    return least is not None and rows >= least


@dataclass(frozen=True, slots=True)
class Workload:
    """A step of `batch` sequences, each a block of `block` tokens after `context` tokens.

    A canvas is a block without context.
    """

    architecture: Architecture
    batch: int
    block: int = 32
    context: int = 2048
    source: Source = BF16

    @property
    def rows(self) -> int:
        """The tokens of a step."""
        return self.batch * self.block


@dataclass(frozen=True, slots=True)
class Part:
    """An operation of a step, the number of its calls, and the kernel launches of a call."""

    operation: str
    case: Case
    count: int
    launches: int = 1


def parts(work: Workload) -> list[Part]:
    """All operations of one denoising step."""
    a, rows, source = work.architecture, work.rows, work.source
    heads = (a.num_heads, a.num_kv_heads)
    qkv = LinearCase(rows, a.qkv_width, a.hidden_size)
    output = LinearCase(rows, a.hidden_size, a.num_heads * a.head_dim)
    down = LinearCase(rows, a.hidden_size, a.intermediate_size)
    starts = (work.context,) * work.batch
    attention = attention_of(work)
    epilogue: EpilogueKind = "bias" if a.qkv_bias else "nothing"
    rope = RopeCase(starts, work.block, heads, a.head_dim, qkv.splits(source), epilogue)
    found = [
        Part("norm", NormCase(rows, a.hidden_size, 0), 1),
        Part("norm", NormCase(rows, a.hidden_size, output.splits(source)), a.num_layers),
        Part("norm", NormCase(rows, a.hidden_size, down.splits(source)), a.num_layers),
        Part("rope", rope, a.num_layers),
        Part("attention", attention, a.num_layers, 2 if attention.splits() > 1 else 1),
        Part("head", HeadCase(rows, a.vocabulary, a.hidden_size, CANDIDATES), 1, 2),
        Part("choose", ChooseCase((0.0,) * work.batch, work.block, CANDIDATES), 1),
        Part("commit", CommitCase((1.0,) * work.batch, work.block, "threshold", 0.9), 1),
    ]
    for rank, layers in ((0, a.num_layers - a.gated_layers), (a.gated_rank, a.gated_layers)):
        products = [
            Part("linear", replace(case, rank=rank), layers) for case in (qkv, output, down)
        ]
        gated = SwigluCase(rows, a.intermediate_size, a.hidden_size, rank)
        found += [*products, Part("swiglu", gated, layers)] if layers else []
    if source.row_dtype is not None:
        widths = (a.hidden_size, 2 * a.num_layers + 1), (a.num_heads * a.head_dim, a.num_layers)
        for width, count in (*widths, (a.intermediate_size, a.num_layers)):
            found.append(Part("quantize", QuantizeCase(rows, width), count))
    return found


def attention_of(work: Workload) -> AttentionCase:
    """The attention of one layer."""
    a = work.architecture
    return AttentionCase(
        (work.context,) * work.batch,
        work.block,
        (a.num_heads, a.num_kv_heads),
        a.head_dim,
        pattern="causal-tokens" if a.gated_rank else "block",
    )


Sizes = Sequence[tuple[int, int]]


def shipped(
    operation: Operation, device: str, sizes: Sizes = SIZES
) -> Iterator[tuple[Case, Source]]:
    """Every shipped case of an operation, once, those without fp8 activations first."""
    seen = set()
    plain = [Source(device, torch.bfloat16, *kinds) for kinds in product(WEIGHTS, CACHES)]
    for source in (*plain, replace(FP8, device=device)):
        own = replace(
            source,
            weight_dtype=source.weight_dtype if source.weight_dtype in operation.weights else None,
            cache_dtype=source.cache_dtype if source.cache_dtype in operation.caches else None,
            row_dtype=source.row_dtype if source.row_dtype in operation.rows else None,
        )
        for case in _cases(operation.folder, source, sizes):
            if (case, own) not in seen:
                seen.add((case, own))
                yield case, own


def _cases(folder: str, source: Source, sizes: Sizes) -> Iterator[Case]:
    for batch, block in sizes:
        for architecture in ARCHITECTURES:
            work = Workload(architecture, batch, block, source=source)
            if block in CANVASES:
                work = replace(work, context=0)
            if source.row_dtype is not None and not multiplies_in_fp8(architecture, work.rows):
                continue
            yield from (part.case for part in parts(work) if part.operation == folder)
            if folder == "attention":
                yield from _other_splits(work)
        if folder == "kl_divergence":
            yield KlDivergenceCase((True,) * batch, block, CANDIDATES)
        if folder == "commit":
            opened = (1.0,) * batch
            yield from (CommitCase(opened, block, *kind) for kind in KINDS)


def _other_splits(work: Workload) -> Iterator[AttentionCase]:
    """The attention of the other buckets, if they need another binary."""
    seen = {attention_of(work).splits()}
    for pages in (pages for pages in PAGES if work.block <= pages * PAGE):
        case = attention_of(replace(work, context=pages * PAGE - work.block))
        if case.splits() not in seen:
            seen.add(case.splits())
            yield case
