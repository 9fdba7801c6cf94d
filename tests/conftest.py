"""What every test may ask for. Tests that need the pulled weights say so and skip without them."""

import shutil
from pathlib import Path

import pytest
from hypothesis import settings

from mercury_lsp.config import surroundings
from mercury_model.weights import registry

# How long an example takes says more about what else the machine does than about the code.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

MISSING = "the weights of mini are not here; run: mercury-lsp models pull mini"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Editors are driven by one worker, one after the other: what is on a screen takes time."""
    for item in items:
        if item.get_closest_marker("editors"):
            item.add_marker(pytest.mark.xdist_group("editors"))


@pytest.fixture
def tiny_folder(tmp_path: Path) -> Path:
    """The tiny model in a folder of a user's own."""
    folder = tmp_path / "my-model"
    folder.mkdir()
    shutil.copy(registry.BUNDLED / "tiny.json", folder / "card.json")
    shutil.copy(registry.BUNDLED / "tiny-tokenizer.json", folder / "tokenizer.json")
    shutil.copy(registry.BUNDLED / "tiny.safetensors", folder / "any.safetensors")
    return folder


@pytest.fixture(scope="session")
def cache_dir() -> Path:
    """The cache folder in which mini's base is."""
    folder = surroundings().cache_dir
    if not registry.is_available("mini", folder):
        pytest.skip(MISSING)
    return folder


@pytest.fixture(scope="session")
def mini_base(cache_dir: Path) -> Path:
    """The GGUF file that mini is built on."""
    base = registry.find("mini").base
    assert base is not None
    return cache_dir / base.file
