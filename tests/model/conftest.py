"""Networks in these tests are small: more threads than one only wait for each other."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """For the whole session, since nothing here depends on how many there are."""
    torch.set_num_threads(1)
