"""How the server is connected, and that it ends with whoever it serves. The real command line."""

import asyncio
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path
from typing import Any

import psutil
import pytest
from lsp.wire import SCRIPTED, UTF16, WATCHDOG_SECONDS, Wire, serving

SERVER = [sys.executable, "-m", "mercury_lsp"]
SECRET = "xyzzy_secret"
posix = pytest.mark.skipif(sys.platform == "win32", reason="Unix sockets and signals")


async def talk(wire: Wire) -> None:
    """A short conversation with tiny, which comes with the distribution."""
    wire.open("def add(a, b):\n    return ")
    await wire.hear("mercury/status", state="ready")
    answer = await wire.complete(1, 11)
    assert isinstance(answer["result"], list)
    await wire.result("shutdown", None)
    wire.notify("exit", None)


TINY: dict[str, Any] = {"initializationOptions": {"mercury": {"model": "tiny"}}}


async def test_over_standard_input_and_output_tiny_writes_something() -> None:
    async with serving([*SERVER, "--stdio"]) as wire:
        await wire.initialize(**TINY)
        await talk(wire)
        assert await wire.end() == (0, "")
        records = [m for m in wire.heard if m["method"] == "window/showMessage"]
    assert records == []


async def test_over_tcp_it_serves_the_editor_that_connects_and_ends_with_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [*SERVER, "--tcp", f"127.0.0.1:{port}", "--log-level", "info"]
    process = await asyncio.create_subprocess_exec(
        *command, stdin=DEVNULL, stdout=PIPE, stderr=PIPE
    )
    try:
        assert process.stderr is not None
        async with asyncio.timeout(WATCHDOG_SECONDS):
            while b"listening" not in await process.stderr.readline():
                assert process.returncode is None
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        wire = Wire(process, reader, writer)
        await wire.initialize(**TINY)
        await talk(wire)
        assert (await wire.end())[0] == 0
        writer.close()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@posix
async def test_over_a_pipe_it_connects_to_the_editor(tmp_path: Path) -> None:
    connected: asyncio.Future[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = (
        asyncio.get_running_loop().create_future()
    )
    path = tmp_path / "pipe"
    editor = await asyncio.start_unix_server(lambda *ends: connected.set_result(ends), path)
    async with editor, asyncio.timeout(WATCHDOG_SECONDS):
        process = await asyncio.create_subprocess_exec(
            *SERVER, f"--pipe={path}", stdin=DEVNULL, stdout=PIPE, stderr=PIPE
        )
        reader, writer = await connected
        wire = Wire(process, reader, writer)
        await wire.initialize(**TINY)
        await talk(wire)
        assert await wire.end() == (0, "")
        writer.close()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tcp", "192.0.2.1:1"], "Choose another --tcp"),
        (["--pipe", "/absent/pipe"], "no editor at the pipe"),
    ],
)
async def test_an_address_that_does_not_work_is_one_message(
    arguments: list[str], words: str
) -> None:
    async with serving([*SERVER, *arguments]) as wire:
        code, said = await wire.end()
    assert code == 2
    assert words in said
    assert "Traceback" not in said


async def test_what_is_printed_by_accident_does_not_break_the_protocol() -> None:
    scenario = {"writes": "abc", "prints": "Content-Length: 3\r\n\r\noops"}
    async with serving([*SCRIPTED, json.dumps(scenario)]) as wire:
        await wire.initialize()
        await wire.hear("mercury/status", state="ready")
        code, said = await wire.shut_down()
    assert code == 0
    assert "oops" in said


@pytest.mark.parametrize("flag", [True, False], ids=["flag", "processId"])
async def test_it_ends_with_an_editor_that_is_dead_already(flag: bool) -> None:
    dead = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await dead.wait()
    flagged = [*SERVER, "--stdio", "--clientProcessId", str(dead.pid)]
    async with serving(flagged if flag else SCRIPTED) as wire:
        request = {"processId": None if flag else dead.pid, "capabilities": {}}
        wire.request("initialize", request)
        assert (await wire.end())[0] == 1


@posix
async def test_an_editor_that_is_killed_leaves_no_server_behind(tmp_path: Path) -> None:
    # The editor holds the pipes; with it they close.
    script = (
        "import subprocess, sys\n"
        "server = subprocess.Popen(sys.argv[1:], stdin=-1, stdout=-1)\n"
        "print(server.pid, flush=True)\n"
        "server.wait()\n"
    )
    editor = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, *SCRIPTED), stdout=PIPE
    )
    assert editor.stdout is not None
    server = psutil.Process(int(await editor.stdout.readline()))
    editor.send_signal(signal.SIGKILL)
    await editor.wait()
    gone = await asyncio.to_thread(psutil.wait_procs, [server], timeout=WATCHDOG_SECONDS)
    assert gone == ([server], [])


@posix
async def test_an_editor_that_stops_listening_ends_it_without_a_traceback() -> None:
    inward, outward = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *SCRIPTED, stdin=PIPE, stdout=outward, stderr=PIPE
    )
    os.close(inward)
    os.close(outward)
    wire = Wire(process, asyncio.StreamReader())
    wire.request("initialize", {"processId": None, "capabilities": {}})
    assert process.stderr is not None
    async with asyncio.timeout(WATCHDOG_SECONDS):
        said = await process.stderr.read()
        assert await process.wait() == 1
    wire._reader.cancel()
    assert b"Traceback" not in said


async def test_no_source_text_is_logged_whatever_is_sent(tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = [*SERVER, "--stdio", "--log-file", str(log), "--log-level", "debug"]
    text = f"{SECRET} = 1\nprint({SECRET})\n"
    async with serving(command) as wire:
        wire.replies["workspace/configuration"] = [{SECRET: SECRET}]
        await wire.initialize({**UTF16, "workspace": {"configuration": True}}, **TINY)
        await wire.hear("mercury/status", state="ready")
        wire.open(text)
        end = {"line": 2, "character": 0}
        change = {"range": {"start": end, "end": end}, "text": f"return {SECRET}"}
        document = {"uri": "file:///a.py", "version": 2}
        wire.notify(
            "textDocument/didChange", {"textDocument": document, "contentChanges": [change]}
        )
        for kind in (1, 2):
            await wire.complete(2, 7, kind=kind)
        number, answer = wire.begin(2, 7)
        wire.notify("$/cancelRequest", {"id": number})
        await answer
        for misshapen in (SECRET, [SECRET], {"textDocument": SECRET}):
            wire.notify("textDocument/didOpen", misshapen)
            wire.notify(f"no/{SECRET}", misshapen)
            await wire.ask("textDocument/inlineCompletion", misshapen)
        wire.raw(b"Content-Length: %d\r\n\r\n%b" % (len(SECRET), SECRET.encode()))
        wire.send({"jsonrpc": "1.0", "method": SECRET})
        code, said = await wire.shut_down()
    logged = log.read_text()
    assert code == 0
    assert "ready: tiny" in logged
    assert SECRET not in logged + said


async def test_files_of_the_workspace_are_not_imported_in_place_of_packages(tmp_path: Path) -> None:
    for name in ("typer", "lsprotocol", "mercury_model", "json"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the workspace')")
    paths = os.pathsep.join(path for path in sys.path if path)
    process = await asyncio.create_subprocess_exec(
        *(*SERVER, "--version"),
        cwd=tmp_path,
        stdout=PIPE,
        stderr=PIPE,
        env={**os.environ, "PYTHONPATH": paths},
    )
    out, said = await process.communicate()
    assert (process.returncode, said) == (0, b"")
    assert out.startswith(b"mercury-lsp ")
