"""What the product writes is what it wrote when the drafts beside this file were recorded.

A change that is meant to write something else records them anew, as `__main__` says, in a commit
that says why. Ids and text are compared exactly, and so are confidences on the chip and the version
of the library of the record. In int8 there is nothing to compare elsewhere. In double precision
there is: only the rotary angles and the last softmax are in single precision, so that confidences
differ by no more than `ROUNDING`.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from golden_drafts import cases, product, record, runs

ROUNDING = 1e-5
"""Of probabilities. With torch's and MKL's vector instructions off, the worst was 1.5e-6."""

double = product.tiny_in_double_precision
golden = cache(record.read)


def marked(names: list[str], quick: Callable[[int], bool]) -> list[Any]:
    """The runs by name, those slow that are not quick."""
    slow = pytest.mark.slow
    return [pytest.param(n, marks=() if quick(i) else slow) for i, n in enumerate(names)]


def check(name: str, model: Any, run: str, found: Any) -> None:
    tolerance = ROUNDING if elsewhere(name, model) else 0.0
    assert record.difference(found, golden(name)["runs"][run], tolerance) is None


def check_here(name: str, model: Any, run: str, found: Callable[[], Any]) -> None:
    if other := elsewhere(name, model):
        pytest.skip(f"recorded with {other}")
    check(name, model, run, found())


def elsewhere(name: str, model: Any) -> str:
    """How the machine of a record differs from this one; empty where it does not."""
    here, there = product.made_on(model), golden(name)["made_on"]
    return "; ".join(
        f"{key} {there[key]}, not {here[key]}" for key in there if here[key] != there[key]
    )


TINY = list(runs.tiny(double))
GROUP = 4 * len(cases.MODES)  # of sessions that differ in kind


@pytest.mark.parametrize("run", marked(TINY, lambda index: index // GROUP % 4 == 0))
def test_tiny_drafts_what_it_did_on_every_cpu(run: str) -> None:
    check("tiny-float64", double(), run, runs.tiny(double)[run]())


@pytest.mark.parametrize("run", list(runs.whole(double)))
def test_the_whole_product_offers_what_it_did(run: str) -> None:
    check("whole-float64", double(), run, runs.whole(double)[run]())


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which no graph was built by other code than today's."""
    return tmp_path_factory.mktemp("graphs")


@pytest.mark.parametrize("run", TINY)
def test_tiny_in_int8_drafts_what_it_did_on_this_chip(run: str, fresh: Path) -> None:
    model = product.on_onnx("tiny", fresh)
    check_here("tiny-onnx", model, run, runs.tiny(lambda: model)[run])


@pytest.mark.mini
@pytest.mark.slow
@pytest.mark.parametrize("run", list(runs.mini(double)))
def test_mini_in_int8_drafts_what_it_did_on_this_chip(
    run: str, fresh: Path, mini_base: Path
) -> None:
    if not (fresh / mini_base.name).exists():
        (fresh / mini_base.name).symlink_to(mini_base)
    model = product.on_onnx("mini", fresh)
    check_here("mini-onnx", model, run, runs.mini(lambda: model)[run])


@pytest.mark.mini
@pytest.mark.parametrize("run", list(runs.mini(double))[::12])
def test_mini_drafts_what_it_did_with_the_graph_that_is_kept(run: str, cache_dir: Path) -> None:
    model = product.on_onnx("mini", cache_dir)
    check_here("mini-onnx", model, run, runs.mini(lambda: model)[run])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tiny-float64", TINY),
        ("tiny-onnx", TINY),
        ("whole-float64", list(runs.whole(double))),
        ("mini-onnx", list(runs.mini(double))),
    ],
)
def test_a_record_holds_every_run_and_no_other(name: str, expected: list[str]) -> None:
    assert list(golden(name)["runs"]) == expected


def draft(**changed: Any) -> dict[str, Any]:
    parts = {"ids": [7, 8], "settled": "x.", "confidences": [0.25, 0.125], "text": "ab"}
    return parts | {"finished": False, "reason": None, "steps": 2, "ending": 1.0} | changed


def test_what_is_kept_is_read_back_as_it_was(tmp_path: Path) -> None:
    drafts = [draft(), draft(ids=[7, 9, 1], text="ac"), draft(ids=[], confidences=[], text="")]
    found = {"run": [{"context": [3, 1], "drafts": drafts}, {"drafts": 5}]}
    record.write("one", {"chip": "this"}, found, tmp_path)
    assert record.read("one", tmp_path) == {"made_on": {"chip": "this"}, "runs": found}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"ids": [7, 9]}, "0.ids.1: 9, recorded 8"),
        ({"confidences": [0.25, 0.12501]}, "0.confidences.1: 0.12501, recorded 0.125"),
        ({"confidences": [0.25]}, "0.confidences: 1 of them, recorded 2"),
        ({"text": "aB"}, "0.text: 'aB', recorded 'ab'"),
        ({"settled": "xx"}, "0.settled: 'xx', recorded 'x.'"),
        ({"finished": 0}, "0.finished: 0, recorded False"),
        ({"more": 1}, "0.more: 1, recorded None"),
    ],
)
def test_whatever_differs_is_told(changed: dict[str, Any], said: str) -> None:
    assert record.difference([draft(**changed)], [draft()], ROUNDING) == said


def test_a_draft_more_or_less_is_told() -> None:
    assert record.difference([draft()], [draft(), draft()], 0.0) == ": 1 of them, recorded 2"


def test_a_rounding_is_allowed_where_it_is_and_nowhere_else() -> None:
    found, golden = [draft(confidences=[0.25, 0.1250005])], [draft()]
    assert record.difference(found, golden, ROUNDING) is None
    assert record.difference(found, golden, 0.0) is not None
