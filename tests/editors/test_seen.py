"""The judge of recordings, on recordings that are made up."""

from collections.abc import Sequence

from editors.measure import RESULTS, kept, table
from editors.seen import Figures, Offer, Recording, Shown, flickers, stale

LINE = "return a + b"


def frame(at: float, typed: str, *, ghost: bool) -> Shown:
    """The line as far as it is typed, with or without the rest as a ghost."""
    return Shown(at, LINE if ghost else typed, LINE.removeprefix(typed) if ghost else "")


def recording(keys: Sequence[float], *frames: Shown) -> Recording:
    return Recording("some editor", keys, [1000.0], frames, [Offer(7, 12.0, LINE)], {7: 30.0})


def test_the_time_to_a_new_ghost_is_split_into_the_server_and_the_rest() -> None:
    seen = recording([10.0], frame(15, "retur", ghost=False), frame(50, "retur", ghost=True))
    figures = Figures.of(seen)
    assert (figures.ghost.count, figures.ghost.p50) == (1, 40.0)
    assert (figures.server.p50, figures.rest.p50) == (30.0, 10.0)


def test_a_ghost_that_was_there_before_is_kept_and_not_new() -> None:
    seen = recording([10.0, 60.0], frame(50, "retur", ghost=True), frame(65, "return", ghost=True))
    figures = Figures.of(seen)
    assert (figures.ghost.count, figures.kept.count, figures.kept.p50) == (1, 1, 5.0)


def test_a_ghost_of_an_older_key_does_not_count_for_a_newer_one() -> None:
    seen = recording([20.0], frame(50, "retur", ghost=True))
    assert Figures.of(seen).ghost.count == 0


def test_a_ghost_in_the_rest_after_typing_counts_for_no_key() -> None:
    seen = recording([10.0], frame(1001, "retur", ghost=True))
    assert Figures.of(seen).ghost.count == 0


def test_a_ghost_that_goes_and_comes_back_with_one_key_has_flickered() -> None:
    gone = frame(61, "return", ghost=False)
    around = [frame(50, "retur", ghost=True), gone, frame(70, "return", ghost=True)]
    assert flickers(recording([10.0, 60.0], *around)) == [gone]
    assert flickers(recording([10.0, 60.0, 65.0], *around)) == [], "two keys: it was asked anew"


def test_a_ghost_that_goes_since_something_else_was_typed_has_not_flickered() -> None:
    other = Shown(61, "returx", "")
    around = [frame(50, "retur", ghost=True), other, frame(70, "retur", ghost=True)]
    assert flickers(recording([10.0, 60.0], *around)) == []


def test_a_ghost_that_no_answer_explains_is_stale() -> None:
    late = Shown(55, "returx" + "n a + b", "n a + b")
    seen = recording([10.0], frame(50, "retur", ghost=True), late)
    assert stale(seen) == [late]


def test_the_readme_shows_the_figures_that_are_kept() -> None:
    assert table(kept()) in (RESULTS.parent / "README.md").read_text("utf-8")
