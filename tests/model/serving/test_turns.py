from mercury_model.decoding.prompt import FimPrompt
from mercury_model.serving.request import InfillRequest, InfillSequence, Priority
from mercury_model.serving.scheduler import Scheduler

GAP = FimPrompt("", "")
KEYSTROKE, SPECULATIVE, BULK = Priority


def job(
    number: int,
    priority: Priority = BULK,
    client: str = "",
    deadline_ns: int | None = None,
    arrived_ns: int = 0,
) -> InfillSequence:
    return InfillSequence(
        InfillRequest(GAP, priority=priority, client=client), number, arrived_ns, deadline_ns
    )


def numbers(
    jobs: list[InfillSequence], turns: Scheduler | None = None, now_ns: int = 10
) -> list[int]:
    return [job.number for job in (turns or Scheduler(1_000, 2)).schedule(jobs, now_ns)]


def test_a_key_comes_before_what_is_done_ahead_and_that_before_bulk() -> None:
    assert numbers([job(1), job(2, SPECULATIVE), job(3, KEYSTROKE)]) == [3, 2, 1]


def test_an_earlier_deadline_comes_first_and_none_last() -> None:
    jobs = [job(1), job(2, deadline_ns=90), job(3, deadline_ns=50), job(4)]
    assert numbers(jobs) == [3, 2, 1, 4]


def test_the_first_of_every_client_comes_before_the_second_of_any() -> None:
    many = [job(number, client="a") for number in range(1, 5)]
    assert numbers([*many, job(5, client="b"), job(6, client="b")]) == [1, 5, 2, 6, 3, 4]


def test_contexts_are_read_first_until_there_are_calls_to_share_a_pass() -> None:
    jobs = [job(number) for number in range(1, 5)]
    jobs[0].reading = False
    assert numbers(jobs) == [2, 3, 4, 1]
    jobs[1].reading = False
    assert numbers(jobs) == [1, 2, 3, 4]


def test_what_has_a_deadline_waits_for_no_reading() -> None:
    writing = job(1, deadline_ns=50)
    writing.reading = False
    assert numbers([writing, job(2, deadline_ns=90), job(3)]) == [1, 2, 3]


def test_no_priority_starves() -> None:
    turns, bulk = Scheduler(1_000, 2), job(1, BULK)
    keys = [job(number, KEYSTROKE, arrived_ns=900) for number in (2, 3)]
    assert numbers([bulk, *keys], turns, 999) == [2, 3, 1]
    assert numbers([bulk, *keys], turns, 1_000) == [1, 2, 3]
    turns.served([bulk], 1_000)
    assert numbers([bulk, *keys], turns, 1_100) == [2, 3, 1]


def test_what_waited_longest_is_served_before_it_starves() -> None:
    jobs = [job(1, SPECULATIVE, arrived_ns=50), job(2, BULK, arrived_ns=0)]
    turns = Scheduler(1_000, 2)
    turns.served(jobs[:1], 200)
    assert numbers(jobs, turns, 5_000) == [2, 1]
