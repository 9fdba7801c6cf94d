"""Writes the denoiser as an ONNX file from a checkpoint's tensors. Imports no torch; runs nothing.

One graph serves extending, verifying and denoising: what each row sees is an input. It reads keys
and values from buffers [1, G, capacity, W], writes those of its rows in place after the context,
and outputs the likeliest tokens instead of logits. There are R rows, S keys (context and rows),
P predicted rows, V ids that can be predicted, K candidates, and G key-value heads of width W.

inputs    ids [1, R] · predicted [P] (which rows) · allowed [1 or P, 1 or V] (the ids that each row
          may predict; [[True]] for all) · attend.0 [1, 1, R, S] (0, or very negative) ·
          last.0 [1] = S - 1 · total.0 [1] = S · past.0.{layer}.{k|v}
outputs   top [1, P, K] · probs [1, P, K] · entropy [1, P] · present.0.{layer}.{k|v}

A second graph, over the same weights, has MAX_BATCH_SIZE slots, each with a context of its own. The
rows of all slots share the matrix products; the rows of a slot attend to its context. The inputs
and outputs that end in .0 above exist once for each slot, and there are two more inputs:

          rows.{slot} [T] (which of the R) · back [R] (where each is among the rows of all slots)
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from mercury_model.errors import RuntimeUnavailable
from mercury_model.runtime.limits import BLOCKED_LOGIT, MAX_POSITIONS, TOP_K
from mercury_model.runtime.onnx.arithmetic import (
    CONTRIB,
    Arithmetic,
    Fp32,
    Int8,
    Nodes,
    Precision,
    Rows,
    Tensors,
)
from mercury_model.runtime.onnx.files import (
    GATED,
    MAX_BATCH_SIZE,
    VOCABULARY,
    graph_files,
    has_graph,
    written_ids,
)
from mercury_model.spec.model_config import ModelConfig

OPSET = 21
IR_VERSION = 10

_ATTENTION = "GroupQueryAttention"
_PER_SLOT = ("attend", "last", "total", "past", "present")
"""The first parts of the names of inputs and outputs that every slot has."""


def write_graph(
    path: Path, config: ModelConfig, tensors: Tensors, precision: Precision, mask_id: int
) -> None:
    """Write `graph_files(path)`, each atomically.

    `tensors` are named as in `checkpoint`. Gated adapters act on rows with `mask_id`. Raises
    RuntimeUnavailable if ONNX Runtime has no attention operator for the network.
    """
    if not has_graph(config):
        raise RuntimeUnavailable(
            "ONNX Runtime has no attention for this network: "
            "its heads are normed, or their width is not a multiple of 16.",
            "Load it with the torch runtime.",
        )
    graph, batched, weights = graph_files(path)
    partial = {f: f.with_name(f".{f.name}.{os.getpid()}") for f in (graph, batched, weights)}
    try:
        with partial[weights].open("wb") as file:
            nodes = Nodes(file, weights.name)
            model = _Builder(nodes, config, tensors, precision).build(mask_id)
        partial[graph].write_bytes(model.SerializeToString())
        partial[batched].write_bytes(_batched(model).SerializeToString())
        for target, written in partial.items():
            written.replace(target)
    finally:
        for written in partial.values():
            written.unlink(missing_ok=True)


class _Builder:
    """Builds the graph of one network, one layer's tensors at a time."""

    def __init__(
        self, nodes: Nodes, config: ModelConfig, tensors: Tensors, precision: Precision
    ) -> None:
        self._nodes = nodes
        self._config = config
        self._tensors = tensors
        self._taken: set[str] = set()
        self._arithmetic: Arithmetic = (
            Fp32(nodes, config) if precision == Precision.FP32 else Int8(nodes, config, precision)
        )

    def build(self, mask_id: int) -> onnx.ModelProto:
        """The whole model."""
        nodes, config = self._nodes, self._config
        table = nodes.constant("embedding", self._arithmetic.embedding(self._tensors))
        x = nodes.add("Cast", [nodes.add("Gather", [table, "ids"])], to=TensorProto.FLOAT)
        masks, masks_left = self._masks(mask_id)
        for index in range(config.num_layers - 1):
            x = self._layer(index, x, masks, masks)
        x = self._layer(config.num_layers - 1, x, masks, masks_left)
        norm, head = self._arithmetic.head(self._tensors)
        rows = self._arithmetic.normed(x, nodes.constant("norm", norm))
        vocabulary = self._tensors.get("vocabulary")
        self._predict(self._arithmetic.product(rows, "head", head, ""), vocabulary)
        graph = helper.make_graph(
            nodes.nodes, "denoiser", *_interface(config), initializer=nodes.constants
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        if masks:
            model.metadata_props.add(key=GATED, value="yes")
        if vocabulary is not None:
            model.metadata_props.add(key=VOCABULARY, value=written_ids(vocabulary.astype(np.int32)))
        return model

    def _masks(self, mask_id: int) -> list[str]:
        """The indices of the masks, [masks, 2], among all rows and among the predicted rows."""
        if not any(name.endswith(".mask_a") for name in self._tensors):
            return ["", ""]
        nodes = self._nodes
        mask = nodes.constant("mask", np.array(mask_id))
        predicted = nodes.add("Gather", ["ids", "predicted"], axis=1)
        found = [nodes.add("Equal", [ids, mask]) for ids in ("ids", predicted)]
        return [nodes.add("Transpose", [nodes.add("NonZero", [one])]) for one in found]

    def _layer(self, index: int, x: str, masks: str, masks_left: str) -> str:
        """`masks_left` are the masks after the attention, where the last layer has fewer rows."""
        nodes, start = self._nodes, f"layers.{index}."
        layer = self._arithmetic.layer(
            {
                name.removeprefix(start): self._tensors[name]
                for name in self._tensors
                if name.startswith(start)
            }
        )
        norms = [
            nodes.constant(start + norm, layer[norm]) for norm in ("attention_norm", "mlp_norm")
        ]

        def left(rows: Rows, *parts: str) -> str:
            return self._product(start, layer, rows, parts, masks_left)

        rows = self._arithmetic.normed(x, norms[0])
        y = self._product(start, layer, rows, ["q", "k", "v"], masks)
        y = self._attention(index, y)
        if index == self._config.num_layers - 1:  # drop the rows that are not predicted
            x, y = (nodes.add("Gather", [rows, "predicted"], axis=1) for rows in (x, y))
        x = self._arithmetic.added(x, y, "o", lambda rows: left(rows, "o"))
        rows = self._arithmetic.normed(x, norms[1])
        gate, up = f"{start}gate", f"{start}up"
        nodes.add("Split", [left(rows, "g", "u")], [gate, up], axis=-1, num_outputs=2)
        hidden = nodes.add("Mul", [nodes.add("QuickGelu", [gate], alpha=1.0), up])
        return self._arithmetic.added(x, hidden, "d", lambda rows: left(rows, "d"))

    def _product(
        self, start: str, layer: Tensors, rows: Rows, parts: Sequence[str], masks: str
    ) -> str:
        """rows times the matrices of `parts`, side by side, with biases and gated adapters."""
        nodes, name = self._nodes, start + "".join(parts)
        bias = ""
        if f"{parts[0]}.bias" in layer:
            whole = np.concatenate([layer[f"{part}.bias"] for part in parts])
            bias = nodes.constant(f"{name}.bias", whole)
        matrix = np.concatenate([layer[part] for part in parts])
        y = self._arithmetic.product(rows, name, matrix, bias)
        if not any(f"{part}.mask_b" in layer and layer[f"{part}.mask_b"].any() for part in parts):
            return y
        # Only the mask rows are gathered, so that a call without masks costs nothing.
        masked = f"{rows.name}.masked"
        if masked not in self._taken:
            self._taken.add(nodes.add("GatherND", [rows.name, masks], [masked]))
        downs, ups = ([layer[f"{part}.mask_{half}"] for part in parts] for half in "ab")
        if all(np.array_equal(down, downs[0]) for down in downs):
            down, up = downs[0], np.concatenate(ups)
        else:
            down, up = np.concatenate(downs), _diagonal(ups)
        inner = self._arithmetic.product(Rows(masked, rows.grid), f"{name}.mask_a", down, "")
        outer = nodes.add("MatMul", [inner, nodes.constant(f"{name}.mask_b", up.T)])
        return nodes.add("ScatterND", [y, masks, outer], reduction="add")

    def _attention(self, index: int, qkv: str) -> str:
        nodes, config = self._nodes, self._config
        half = np.arange(0, config.head_dim, 2) / config.head_dim
        angles = np.outer(np.arange(MAX_POSITIONS), config.rope_theta**-half)
        past, present = ([f"{when}.0.{index}.{x}" for x in "kv"] for when in ("past", "present"))
        inputs = [qkv, "", "", *past, "last.0", "total.0"]
        inputs += [
            nodes.constant("cos", np.cos(angles).astype(np.float32)),
            nodes.constant("sin", np.sin(angles).astype(np.float32)),
        ]
        inputs += ["", "attend.0"]
        return nodes.add(
            _ATTENTION,
            inputs,
            [f"mixed.{index}", *present],
            num_heads=config.num_heads,
            kv_num_heads=config.num_kv_heads,
            do_rotary=1,
            causal=0,
        )

    def _predict(self, logits: str, vocabulary: NDArray[Any] | None) -> None:
        """The K likeliest tokens, their probabilities, and the entropy −Σ p log p.

        Logit i stands for token `vocabulary[i]`, or for token i if `vocabulary` is None.
        """
        nodes = self._nodes
        free, blocked = (
            nodes.constant(name, np.array(logit, np.float32))
            for name, logit in (("free", 0.0), ("blocked", BLOCKED_LOGIT))
        )
        # If nothing is restricted, this adds zero to all logits, in no measurable time.
        logits = nodes.add("Add", [logits, nodes.add("Where", ["allowed", free, blocked])])
        count = nodes.constant("count", np.array([min(TOP_K, self._config.vocab_size)]))
        axis = nodes.constant("last_axis", np.array([-1]))
        places = "top" if vocabulary is None else "places"
        largest = nodes.add("TopK", [logits, count], ["largest", places])
        if vocabulary is not None:
            ids = nodes.constant("vocabulary", vocabulary.astype(np.int64))
            nodes.add("Gather", [ids, places], ["top"])
        chances = nodes.add("Softmax", [logits], axis=-1)
        probs = nodes.add("GatherElements", [chances, places], ["probs"], axis=-1)
        peak = nodes.add("ReduceMax", [largest, axis], keepdims=0)
        share = nodes.add("Log", [nodes.add("ReduceMax", [probs, axis], keepdims=0)])
        total = nodes.add("Sub", [peak, share])  # log Σ exp(logits)
        mean = nodes.add("ReduceSum", [nodes.add("Mul", [chances, logits]), axis], keepdims=0)
        nodes.add("Relu", [nodes.add("Sub", [total, mean])], ["entropy"])


def _diagonal(blocks: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """A matrix with `blocks` along its diagonal and zeros elsewhere."""
    rows, columns = np.sum([block.shape for block in blocks], axis=0)
    result = np.zeros((rows, columns), np.float32)
    row = column = 0
    for block in blocks:
        result[row : row + block.shape[0], column : column + block.shape[1]] = block
        row, column = row + block.shape[0], column + block.shape[1]
    return result


def _interface(
    config: ModelConfig,
) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    """Inputs and outputs of the graph with one context, as the module's docstring lists them."""
    value, k = helper.make_tensor_value_info, min(TOP_K, config.vocab_size)
    inputs = [
        value("ids", TensorProto.INT64, [1, "R"]),
        value("predicted", TensorProto.INT64, ["P"]),
        value("allowed", TensorProto.BOOL, ["A", "V"]),
        value("attend.0", TensorProto.FLOAT, [1, 1, "R", "S"]),
        value("last.0", TensorProto.INT32, [1]),
        value("total.0", TensorProto.INT32, [1]),
    ]
    outputs = [
        value("top", TensorProto.INT64, [1, "P", k]),
        value("probs", TensorProto.FLOAT, [1, "P", k]),
        value("entropy", TensorProto.FLOAT, [1, "P"]),
    ]
    shape: list[str | int | None] = [1, config.num_kv_heads, "capacity", config.head_dim]
    for layer in range(config.num_layers):
        for part in "kv":
            inputs.append(value(f"past.0.{layer}.{part}", TensorProto.FLOAT, shape))
            outputs.append(value(f"present.0.{layer}.{part}", TensorProto.FLOAT, shape))
    return inputs, outputs


def _batched(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with MAX_BATCH_SIZE contexts: each attention becomes one attention per slot."""
    result, graph = onnx.ModelProto(), model.graph
    result.CopyFrom(model)
    for values in (result.graph.node, result.graph.input, result.graph.output):
        del values[:]
    for node in graph.node:
        result.graph.node.extend(_batched_attention(node) if node.op_type == _ATTENTION else [node])
    for old, new in ((graph.input, result.graph.input), (graph.output, result.graph.output)):
        for value in old:
            own = value.name.partition(".")[0] in _PER_SLOT
            new.extend(
                [_for_slot(value, slot) for slot in range(MAX_BATCH_SIZE)] if own else [value]
            )
    rows = helper.make_tensor_value_info
    result.graph.input.append(rows("back", TensorProto.INT64, ["R"]))
    result.graph.input.extend(
        rows(f"rows.{slot}", TensorProto.INT64, [f"R{slot}"]) for slot in range(MAX_BATCH_SIZE)
    )
    return result


def _for_slot(value: onnx.ValueInfoProto, slot: int) -> onnx.ValueInfoProto:
    """An input or output of slot 0, copied for another slot, with sizes of its own."""
    mine = onnx.ValueInfoProto()
    mine.CopyFrom(value)
    mine.name = _renamed(value.name, slot)
    for size in mine.type.tensor_type.shape.dim:
        if size.dim_param:
            size.dim_param += str(slot)
    return mine


def _batched_attention(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    """One attention per slot: gathers the rows of each, and puts the results back in order."""
    qkv, mixed = node.input[0], node.output[0]
    nodes = []
    for slot in range(MAX_BATCH_SIZE):
        attention = onnx.NodeProto()
        attention.CopyFrom(node)
        attention.name = f"{node.name}.{slot}"
        attention.input[:] = [f"{qkv}.{slot}", *(_renamed(x, slot) for x in node.input[1:])]
        attention.output[:] = [f"{mixed}.{slot}", *(_renamed(x, slot) for x in node.output[1:])]
        rows = [qkv, f"rows.{slot}"]
        nodes += [helper.make_node("Gather", rows, [f"{qkv}.{slot}"], axis=1), attention]
    parts, whole = [f"{mixed}.{slot}" for slot in range(MAX_BATCH_SIZE)], f"{mixed}.slots"
    nodes.append(helper.make_node("Concat", parts, [whole], axis=1))
    nodes.append(helper.make_node("Gather", [whole, "back"], [mixed], axis=1))
    return nodes


def _renamed(name: str, slot: int) -> str:
    """`past.0.7.k` for another slot; names that all slots share stay."""
    head, *tail = name.split(".")
    return ".".join([head, str(slot), *tail[1:]]) if head in _PER_SLOT else name
