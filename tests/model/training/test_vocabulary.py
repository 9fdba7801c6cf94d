from mercury_model.training.data import Source
from mercury_model.training.vocabulary import LEAST, written


def lengths(text: str) -> list[int]:
    return [len(word) for word in text.split()]


def source(text: str) -> Source:
    return Source("python", "made-up", "MIT", "a.py", text)


def test_tokens_that_come_more_than_a_few_times_are_kept_in_order() -> None:
    texts = [source("four two\n" * LEAST), source("seldom"), source("")]
    ids = written(texts, lengths, [], seed=0).tolist()
    assert ids == sorted(ids)
    assert {3, 4} <= set(ids)
    assert 6 not in ids


def test_marks_are_kept_though_no_source_has_them() -> None:
    assert 99 in written([source("a b c")], lengths, [99], seed=0)


def test_words_are_counted_as_they_end_too() -> None:
    ids = written([source("configuration\n" * 9_000)], lengths, [], seed=0)
    assert ids.tolist() == list(range(1, 14))


def test_the_same_seed_gives_the_same_vocabulary() -> None:
    texts = [source(f"some {'wo' * n}rd\n" * 20) for n in range(40)]
    one, other = (written(texts, lengths, [], seed=3) for _ in range(2))
    assert one.tolist() == other.tolist()
