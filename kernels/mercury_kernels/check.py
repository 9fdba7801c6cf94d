"""The checks of a kernel wrapper before it launches: shapes, dtypes, strides and devices."""

from collections.abc import Sequence

import torch
from torch import Tensor


class TensorMismatch(ValueError):
    """A tensor whose shape, strides, dtype or device a kernel does not support; it is named."""


def require(
    name: str,
    tensor: Tensor,
    shape: Sequence[int | None],
    dtypes: Sequence[torch.dtype] = (),
    like: Tensor | None = None,
) -> None:
    """Raise TensorMismatch unless `tensor` is contiguous and has this shape and one of the dtypes.

    None in `shape` is any size. The tensor must be on the device of `like`, if given.
    """
    sizes = list(tensor.shape)
    fits = len(sizes) == len(shape) and all(
        want is None or want == size for want, size in zip(shape, sizes, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        raise TensorMismatch(f"{name} has shape {sizes}; [{wanted}] is needed")
    if dtypes and tensor.dtype not in dtypes:
        wanted = " or ".join(str(dtype) for dtype in dtypes)
        raise TensorMismatch(f"{name} is {tensor.dtype}; {wanted} is needed")
    if not tensor.is_contiguous():
        raise TensorMismatch(f"{name} has strides {list(tensor.stride())}; it must be contiguous")
    if like is not None and tensor.device != like.device:
        raise TensorMismatch(f"{name} is on {tensor.device}; {like.device} is needed")
