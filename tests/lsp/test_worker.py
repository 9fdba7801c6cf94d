"""The model's thread. Events and barriers order what happens; nothing here sleeps."""

import asyncio
import threading
from collections.abc import Callable, Iterator

import pytest

from mercury_lsp.lsp.worker import Worker
from mercury_lsp.service import Superseded

WATCHDOG_SECONDS = 30.0
Stopped = Callable[[], bool]


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.close()
    assert worker.join(WATCHDOG_SECONDS)


class Steps:
    """A job of many steps: `began` is set by the first; it counts those it took until stopped."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.ended = threading.Event()
        self.go_on = threading.Event()
        self.after_stop = 0

    def __call__(self, stopped: Stopped) -> str:
        self.began.set()
        self.go_on.wait(WATCHDOG_SECONDS)
        while not stopped():
            self.after_stop += 1
            if self.after_stop > 1_000_000_000:
                raise AssertionError("nobody stopped it")
        self.ended.set()
        return "stopped"


async def wait(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, WATCHDOG_SECONDS)


async def test_jobs_run_on_one_thread_in_the_order_they_came(worker: Worker) -> None:
    seen: list[tuple[int, int]] = []

    def job(number: int) -> Callable[[Stopped], None]:
        return lambda stopped: seen.append((number, threading.get_ident()))

    await asyncio.gather(*(worker.submit(number, job(number)) for number in range(20)))
    assert [number for number, _ in seen] == list(range(20))
    assert len({thread for _, thread in seen}) == 1


async def test_a_newer_request_stops_the_running_one_of_its_document(worker: Worker) -> None:
    older = Steps()
    first = asyncio.ensure_future(worker.submit("a", older))
    await wait(older.began)
    second = asyncio.ensure_future(worker.submit("a", lambda stopped: "newest"))
    await asyncio.sleep(0)
    older.go_on.set()
    assert await second == "newest"
    with pytest.raises(Superseded):
        await first


async def test_a_newer_request_takes_the_place_of_one_that_waits(worker: Worker) -> None:
    blocker = Steps()
    running = asyncio.ensure_future(worker.submit("b", blocker))
    await wait(blocker.began)
    ran: list[str] = []
    older = asyncio.ensure_future(worker.submit("a", lambda stopped: ran.append("older")))
    newer = asyncio.ensure_future(worker.submit("a", lambda stopped: ran.append("newer")))
    await asyncio.sleep(0)
    with pytest.raises(Superseded):
        await older
    running.cancel()
    blocker.go_on.set()
    await newer
    assert ran == ["newer"]


async def test_a_request_of_another_document_stops_nothing(worker: Worker) -> None:
    def patient(stopped: Stopped) -> bool:
        return stopped()

    results = await asyncio.gather(worker.submit("a", patient), worker.submit("b", patient))
    assert results == [False, False]


async def test_a_cancelled_request_takes_no_further_step(worker: Worker) -> None:
    job = Steps()
    request = asyncio.ensure_future(worker.submit("a", job))
    await wait(job.began)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    job.go_on.set()
    await wait(job.ended)
    assert job.after_stop == 0


async def test_a_job_that_fails_ends_its_request_and_not_the_thread(worker: Worker) -> None:
    def fail(stopped: Stopped) -> None:
        raise ValueError("def secret(): pass")

    with pytest.raises(ValueError, match="secret"):
        await worker.submit("a", fail)
    assert await worker.submit("a", lambda stopped: "alive") == "alive"


async def test_idle_work_gives_way_to_a_request_and_goes_on_afterwards(worker: Worker) -> None:
    idle, turns = Steps(), []
    done = threading.Event()

    def job(stopped: Stopped) -> bool:
        turns.append("idle")
        if len(turns) == 1:
            idle(stopped)
            return False
        done.set()
        return True

    worker.idle("a", job)
    await wait(idle.began)
    request = asyncio.ensure_future(worker.submit("b", lambda stopped: turns.append("request")))
    await asyncio.sleep(0)
    idle.go_on.set()
    await request
    await wait(done)
    assert turns == ["idle", "request", "idle"]


async def test_newer_idle_work_of_a_document_replaces_the_older(worker: Worker) -> None:
    blocker, turns = Steps(), []
    running = asyncio.ensure_future(worker.submit("b", blocker))
    await wait(blocker.began)
    done = threading.Event()

    def newer(stopped: Stopped) -> bool:
        turns.append("newer")
        done.set()
        return True

    def older(stopped: Stopped) -> bool:
        turns.append("older")
        return True

    worker.idle("a", older)
    worker.idle("a", newer)
    running.cancel()
    blocker.go_on.set()
    await wait(done)
    assert turns == ["newer"]


async def test_closing_ends_every_request(worker: Worker) -> None:
    blocker = Steps()
    running = asyncio.ensure_future(worker.submit("a", blocker))
    await wait(blocker.began)
    waiting = asyncio.ensure_future(worker.submit("b", lambda stopped: None))
    await asyncio.sleep(0)
    worker.close()
    blocker.go_on.set()
    for request in (running, waiting):
        with pytest.raises(Superseded):
            await request
    with pytest.raises(Superseded):
        await worker.submit("c", lambda stopped: None)
