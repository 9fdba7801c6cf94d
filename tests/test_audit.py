"""The promise of the README, held from outside: no network, and no file but in our cache.

Every dependency is held to it, whatever it is called and does: SECURITY.md says how.
"""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from audit import Refused, Room
from lsp.wire import serving

LISTEN_SECONDS = 60
"""ONNX Runtime looks its publisher's address up ten seconds after a model is loaded."""

LIBRARY = """
import asyncio
from mercury_lsp import MercuryInferenceEngine
assert asyncio.run(MercuryInferenceEngine("tiny").generate(["import "]))
"""

TINY = {"initializationOptions": {"mercury": {"model": "tiny"}}}


@pytest.fixture
def room(tmp_path: Path) -> Room:
    room = Room(tmp_path)
    try:
        room.watched([])
    except Refused as reason:
        pytest.skip(str(reason))
    return room


def run(room: Room, *words: str) -> subprocess.CompletedProcess[str]:
    command = room.watched([sys.executable, *words])
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


async def serve(room: Room, seconds: int) -> None:
    """An editor's session of one completion, and so long a silence."""
    command = [sys.executable, "-I", "-m", "mercury_lsp", "--stdio"]
    async with serving(room.watched(command)) as wire:
        await wire.initialize(**TINY)
        wire.open("def add(a, b):\n    return ")
        await wire.hear("mercury/status", state="ready")
        assert isinstance((await wire.complete(1, 11))["result"], list)
        await asyncio.sleep(seconds)
        code, said = await wire.shut_down()
    assert (code, said) == (0, "")


def assert_silent(room: Room) -> None:
    assert room.sockets() == []
    assert room.written_outside() == set()
    assert room.left() == set()


async def test_a_server_opens_no_socket_starts_no_program_and_writes_to_our_cache_alone(
    room: Room,
) -> None:
    await serve(room, seconds=0)
    assert_silent(room)
    assert len(room.programs()) == 1
    assert any(room.cache.iterdir())


@pytest.mark.slow
async def test_a_server_stays_silent_when_it_is_left_alone_for_a_minute(room: Room) -> None:
    await serve(room, LISTEN_SECONDS)
    assert_silent(room)


@pytest.mark.parametrize(
    "words",
    [
        ("-m", "mercury_lsp", "doctor", "--model", "tiny"),
        ("-m", "mercury_lsp", "complete", "--model", "tiny", f"{__file__}:1"),
        ("-c", LIBRARY),
    ],
    ids=["doctor", "complete", "library"],
)
def test_a_command_and_the_library_keep_to_our_cache(room: Room, words: tuple[str, ...]) -> None:
    done = run(room, *words)
    assert done.returncode == 0, done.stderr
    assert_silent(room)


def test_a_picture_is_drawn_without_a_file_in_the_home(room: Room) -> None:
    code = "from mercury_lsp import figure; from pathlib import Path\n"
    code += "figure.save(figure.blank(1, 1, dpi=50), Path('/dev/null'))"
    done = run(room, "-c", code)
    assert done.returncode == 0, done.stderr
    assert_silent(room)


@pytest.mark.slow
def test_the_hub_writes_nothing_but_where_it_is_told_to(room: Room) -> None:
    code = "import sys; from pathlib import Path\n"
    code += "from mercury_model.weights import registry\n"
    code += "from mercury_model.weights.hub import hub_download\n"
    code += "next(hub_download(registry.find('mini').base.hub, 0))"
    done = run(room, "-c", code, str(room.cache))
    assert done.returncode != 0, "there is no network here"
    assert room.sockets() != []
    assert room.left() == set()


@pytest.mark.slow
def test_transformers_is_imported_without_a_trace(room: Room) -> None:
    done = run(room, "-c", "from transformers import LlamaForCausalLM")
    assert done.returncode == 0, done.stderr
    # torch asks the system for the user's name, which may be a local socket.
    assert [call for call in room.sockets() if "AF_UNIX" not in call] == []
    temporary = str(room.home / "tmp")
    assert {path for path in room.left() if not path.startswith(temporary)} == set()


def test_the_audit_sees_sockets_files_and_programs(room: Room) -> None:
    code = "import socket, subprocess; from pathlib import Path\n"
    code += "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
    code += "(Path.home() / '.config').mkdir(); Path('here').touch()\n"
    code += "subprocess.run(['true'])"
    done = run(room, "-c", code)
    assert done.returncode == 0, done.stderr
    assert len(room.sockets()) == 1
    assert room.left() == {str(room.home / ".config")}
    made = {str(room.home / ".config"), str(room.folder / "work" / "here")}
    assert room.written_outside() == made
    assert len(room.programs()) == 2
