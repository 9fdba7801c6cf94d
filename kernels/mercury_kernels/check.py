"""What a kernel wrapper asserts before it launches. Knows shapes, not what the numbers mean."""

from collections.abc import Sequence

import torch
from torch import Tensor


class TensorMismatch(ValueError):
    """A tensor whose shape, strides, type or device is not what a kernel relies on; it is named."""


def require(
    name: str,
    tensor: Tensor,
    shape: Sequence[int | None],
    dtypes: Sequence[torch.dtype] = (),
    like: Tensor | None = None,
) -> None:
    """Raise TensorMismatch unless `tensor` is contiguous, of this shape, one of these types.

    None in `shape` stands for any size. `like` is a tensor whose device it must share.
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
