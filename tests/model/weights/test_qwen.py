"""The parts of the Qwen files, as far as that can be told without them."""

import re

import pytest

from mercury_model.weights.qwen import QWEN_05B, QWEN_15B
from mercury_model.weights.sources import Artifact

SHA256 = re.compile(r"[0-9a-f]{64}")


@pytest.mark.parametrize(
    ("artifact", "parts", "size"), [(QWEN_05B, 6, 491_400_064), (QWEN_15B, 22, 1_117_320_768)]
)
def test_the_parts_are_numbered_from_one_pinned_and_add_up(
    artifact: Artifact, parts: int, size: int
) -> None:
    assert sum(part.size for part in artifact.parts) == artifact.size == size
    assert len(artifact.parts) == parts
    assert all(0 < part.size <= artifact.parts[0].size for part in artifact.parts)
    for number, part in enumerate(artifact.parts, 1):
        name, version = part.requirement.split("==")
        assert name.endswith(f"-part{number}")
        assert version
        assert part.member == f"{name.replace('-', '_')}/data/part{number:02}.bin"
    hashes = [artifact.sha256, *(part.sha256 for part in artifact.parts)]
    hashes += [part.member_sha256 for part in artifact.parts]
    assert all(SHA256.fullmatch(text) for text in hashes)
    assert len(set(hashes)) == 2 * parts + 1
    assert re.fullmatch(r"[0-9a-f]{40}", artifact.hub.revision)
    assert artifact.hub.file == artifact.file
