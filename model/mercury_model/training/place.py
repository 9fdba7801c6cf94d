"""Copies the rows of an example to the device and precision of the network."""

from dataclasses import replace

import torch

from mercury_model.training.collate import Packed, Stream


def on_device(packed: Packed, device: torch.device, dtype: torch.dtype) -> Packed:
    """The same rows on `device`, with attention biases in `dtype`."""
    tensors = {
        name: value.to(device)
        for name in Packed.__dataclass_fields__
        if isinstance(value := getattr(packed, name), torch.Tensor)
    }
    return replace(
        packed,
        clean=_stream(packed.clean, device, dtype),
        masks=_stream(packed.masks, device, dtype),
        **tensors,
    )


def _stream(stream: Stream, device: torch.device, dtype: torch.dtype) -> Stream:
    ranges = [replace(part, bias=part.bias.to(device, dtype)) for part in stream.ranges]
    return Stream(stream.ids.to(device), stream.positions.to(device), ranges)
