"""How pip is run: it reports while it works, and ends when whoever started it does."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mercury_model.weights import wheels

CONNECT = """
import socket, sys
connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
connection.recv(1)
"""
"""A program that lives for as long as the test's end of a connection does."""

START = """
import sys
from pathlib import Path
from mercury_model.weights import wheels
wheels.run([sys.executable, "-c", *sys.argv[2:]], Path(sys.argv[1]), lambda: None)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_a_program_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        port = str(server.getsockname()[1])
        command = [sys.executable, "-c", START, str(tmp_path), CONNECT, port]
        path = os.pathsep.join(entry for entry in sys.path if entry)
        with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}) as parent:
            try:
                connection, _ = server.accept()
            finally:
                parent.kill()
        with connection:
            connection.settimeout(60)
            assert connection.recv(1) == b""  # the system closes what a dead process held


def test_an_interruption_ends_the_program_before_it_is_passed_on(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)

        def interrupt() -> None:
            raise KeyboardInterrupt

        command = [sys.executable, "-c", CONNECT, str(server.getsockname()[1])]
        with pytest.raises(KeyboardInterrupt):
            wheels.run(command, tmp_path, interrupt)


def test_a_program_runs_with_its_temporary_files_in_the_folder_given(tmp_path: Path) -> None:
    code = "import sys, tempfile; print(tempfile.gettempdir()); sys.stderr.write('x'); sys.exit(3)"
    done = wheels.run([sys.executable, "-c", code], tmp_path, lambda: None)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (3, str(tmp_path), "x")


def test_while_a_program_runs_it_is_told_so_again_and_again(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        ticks = 0

        def tick() -> None:
            nonlocal ticks
            ticks += 1
            if ticks == 2:
                server.accept()[0].close()  # ends the program

        command = [sys.executable, "-c", CONNECT, str(server.getsockname()[1])]
        assert wheels.run(command, tmp_path, tick).returncode == 0
        assert ticks >= 2
