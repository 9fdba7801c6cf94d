"""The extension in a real VS Code: starts the suites of `editors/vscode/test`, one after the other.

What they look at is said there.
"""

from pathlib import Path

import pytest

from editors import vscode

pytestmark = pytest.mark.editors


def suite(name: str, surroundings: dict[str, str]) -> None:
    """Run one file of tests."""
    vscode.run(["node", "--test", "--test-reporter=spec", f"test/{name}.test.mjs"], surroundings)


@pytest.mark.mini
def test_the_extension_with_the_real_server_and_mini(
    cache_dir: Path, surroundings: dict[str, str]
) -> None:
    suite("model", {**surroundings, "MERCURY_CACHE": str(cache_dir)})


def test_the_extension_in_a_folder_that_is_not_trusted(surroundings: dict[str, str]) -> None:
    suite("trust", surroundings)


def test_the_extension_when_something_goes_wrong(surroundings: dict[str, str]) -> None:
    suite("trouble", surroundings)
