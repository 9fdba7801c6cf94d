"""Every kernel against its reference, over every odd shape of its cases."""

from collections.abc import Callable

import pytest
import torch

from mercury_kernels.case import Case, Source
from mercury_kernels.catalogue import OPERATIONS, Operation


def quantized_operands(source: Source) -> list[str]:
    """The operands that are stored in 8 bits, with their types."""
    types = [
        ("weights", source.weight_dtype),
        ("cache", source.cache_dtype),
        ("rows", source.row_dtype),
    ]
    return [f"{what}:{str(dtype)[6:]}" for what, dtype in types if dtype is not None]


ROWS = [
    pytest.param(operation, case, source, id="-".join(name))
    for operation in OPERATIONS
    for dtype in (torch.float32, torch.bfloat16)
    for source in operation.sources("cpu", dtype)
    for case in operation.tests_of(source)
    for name in [(operation.name, case.name, str(dtype)[6:], *quantized_operands(source))]
]


@pytest.mark.parametrize(("operation", "case", "source"), ROWS)
def test_a_kernel_agrees_with_its_reference(
    agree: Callable[..., None], operation: Operation, case: Case, source: Source
) -> None:
    agree(operation, case, source)
