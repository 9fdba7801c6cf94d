"""Every kernel against its reference, over every odd shape of its cases."""

import itertools
from collections.abc import Callable

import pytest
import torch

from mercury_kernels.case import Case, Source
from mercury_kernels.catalogue import OPERATIONS, Operation

TYPES = {None: "", torch.float8_e4m3fn: "-fp8", torch.int8: "-int8"}

ROWS = [
    pytest.param(operation, case, Source(dtype=dtype, weight_dtype=weights), id=name)
    for operation in OPERATIONS
    for case, dtype, weights in itertools.product(
        operation.tests, (torch.float32, torch.bfloat16), operation.weights
    )
    for name in [f"{operation.name}-{case.name}-{str(dtype)[6:]}{TYPES[weights]}"]
]


@pytest.mark.parametrize(("operation", "case", "source"), ROWS)
def test_a_kernel_agrees_with_its_reference(
    agree: Callable[..., None], operation: Operation, case: Case, source: Source
) -> None:
    agree(operation, case, source)
