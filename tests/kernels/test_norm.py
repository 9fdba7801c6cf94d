import pytest
import torch

from mercury_kernels.case import Source
from mercury_kernels.check import TensorMismatch
from mercury_kernels.norm import cases
from mercury_kernels.norm.reference import add_rmsnorm as reference


@pytest.mark.parametrize(
    ("name", "shape"), [("parts", (1, 3, 63)), ("weight", (63,)), ("residual", (3,))]
)
def test_a_wrong_shape_is_an_error_that_names_the_tensor(
    interpreter: None, name: str, shape: tuple[int, ...]
) -> None:
    from mercury_kernels.norm.kernel import add_rmsnorm

    given = cases.NormCase(3, 64, 2).inputs(Source())
    given[name] = torch.zeros(shape)
    with pytest.raises(TensorMismatch, match=name):
        add_rmsnorm(**given)


def test_a_transposed_tensor_is_an_error_that_names_it(interpreter: None) -> None:
    from mercury_kernels.norm.kernel import add_rmsnorm

    given = cases.NormCase(8, 8, 1).inputs(Source())
    given["residual"] = given["residual"].T
    with pytest.raises(TensorMismatch, match="residual has strides"):
        add_rmsnorm(**given)


def test_the_residual_is_rounded_before_it_is_normalised() -> None:
    residual = torch.tensor([[1.0, 256.0]], dtype=torch.bfloat16)
    parts = torch.tensor([[[0.0, 0.9]]])
    out = reference(parts, residual, torch.ones(2), 0.0)
    assert residual.tolist() == [[1.0, 256.0]]
    assert out.float()[0, 1] == pytest.approx(2**0.5, rel=1e-2)
