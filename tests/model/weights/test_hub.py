"""The hub's client against a small hub of our own, on this machine."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from source_fakes import CONTENT, HUB

from mercury_model.weights.hub import hub_download


class Hub(ThreadingHTTPServer):
    """Serves CONTENT as the one file there is; `begun` is where each request for it began.

    It hangs up after `gives` bytes of each answer, and heeds ranges if it is told to.
    """

    daemon_threads = True
    gives = len(CONTENT)
    heeds_ranges = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Request)
        self.begun: list[int] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Request(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._head(0)

    def do_GET(self) -> None:
        start = 0
        if self.server.heeds_ranges:
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
        self.server.begun.append(start)
        self._head(start)
        self.wfile.write(CONTENT[start : start + self.server.gives])

    def _head(self, start: int) -> None:
        if HUB.file not in self.path or HUB.revision not in self.path:
            self.send_error(404)
            return
        self.send_response(206 if self.server.heeds_ranges else 200)
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", '"etag"')
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()


@contextmanager
def serving() -> Iterator[Hub]:
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()


@pytest.mark.parametrize("start", [0, 1, 1000, len(CONTENT) - 1])
@pytest.mark.parametrize("heeds_ranges", [True, False])
def test_a_file_is_read_from_where_it_is_wanted_on(start: int, heeds_ranges: bool) -> None:
    with serving() as hub:
        hub.heeds_ranges = heeds_ranges
        read = b"".join(hub_download(HUB, start, endpoint=hub.endpoint))
    assert read == CONTENT[start:]
    assert hub.begun == [start if heeds_ranges else 0]


def test_a_connection_that_breaks_is_opened_again_where_it_broke() -> None:
    with serving() as hub:
        hub.gives = len(CONTENT) // 2 + 1
        read = b"".join(hub_download(HUB, 0, endpoint=hub.endpoint))
    assert read == CONTENT
    assert hub.begun == [0, hub.gives]


def test_connections_that_bring_nothing_are_an_error() -> None:
    with serving() as hub:
        hub.gives = 0
        with pytest.raises(OSError, match="closed"):
            list(hub_download(HUB, 0, endpoint=hub.endpoint))
    assert hub.begun == [0]


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    with serving() as hub:
        list(hub_download(HUB, 0, endpoint=hub.endpoint))
    assert capfd.readouterr() == ("", "")


def test_a_hub_that_refuses_connections_is_an_error_at_once() -> None:
    with Hub() as closed:
        endpoint = closed.endpoint
    with pytest.raises(OSError, match=r"refused|denied"):
        list(hub_download(HUB, 0, endpoint=endpoint))


def test_a_hub_that_does_not_answer_is_an_error_once_patience_ends() -> None:
    begun = time.monotonic()
    with Hub() as silent, pytest.raises(OSError, match="timed out"):  # listens, and never accepts
        list(hub_download(HUB, 0, endpoint=silent.endpoint, answer_s=0.2))
    assert time.monotonic() - begun < 15  # half of what a silent download is given


def test_a_file_that_the_hub_does_not_have_is_an_error() -> None:
    with serving() as hub, pytest.raises(OSError, match="404"):
        list(hub_download(replace(HUB, file="other"), 0, endpoint=hub.endpoint))
