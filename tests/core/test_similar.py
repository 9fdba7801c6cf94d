"""Which excerpts of other documents the model sees."""

import time

from hypothesis import given
from hypothesis import strategies as st

from mercury_lsp.core.similar import DOCUMENTS, MAX_SNIPPETS, QUERY_CHARS, similar
from mercury_lsp.core.types import Document

SHAPES = "\n".join(
    f"def area_of_{name}(radius, height):\n    surface = radius * height\n    return surface\n"
    for name in ("cone", "cube", "torus")
)
WEATHER = "\n".join(f"def forecast_{n}(station):\n    return station.rain\n" for n in range(30))
HERE = Document(
    "file:///project/main.py",
    "python",
    "import shapes\n\n\ndef total(radius, height):\n    surface = area_of_cone(radius, height)\n"
    * 30,
)


def other(name: str, text: str) -> Document:
    return Document(f"file:///project/lib/{name}", "python", text)


def test_the_excerpt_with_the_most_words_in_common_is_chosen() -> None:
    others = (other("weather.py", WEATHER), other("geometry.py", SHAPES))
    found = similar(HERE, len(HERE.text), others, 2_000)
    assert found[0].path == "project/lib/geometry.py"
    assert "area_of_cone" in found[0].text


def test_an_imported_document_goes_before_an_equal_one() -> None:
    others = (other("copy.py", SHAPES), other("shapes.py", SHAPES))
    assert similar(HERE, len(HERE.text), others, 4_000)[0].path == "project/lib/shapes.py"


def test_a_package_is_imported_by_the_name_of_its_folder() -> None:
    others = (other("copy.py", SHAPES), other("shapes/__init__.py", SHAPES))
    assert similar(HERE, len(HERE.text), others, 4_000)[0].path == "lib/shapes/__init__.py"


def test_imports_of_other_languages_are_read_too() -> None:
    for line in (
        "import { area } from './shapes'",
        "const area = require('./shapes')",
        '#include "shapes.h"',
        "use crate::shapes::area;",
        "source ./shapes.sh",
        "require_once 'lib/shapes.php';",
        "import org.project.shapes;",
        'import (\n\t"project/shapes"\n)',
    ):
        here = Document("file:///project/main", "?", f"{line}\n{HERE.text[14:]}")
        others = (other("copy.x", SHAPES), other("shapes.x", SHAPES))
        assert similar(here, len(here.text), others, 9_000)[0].path.endswith("shapes.x"), line


def test_the_choice_stays_the_same_while_a_person_types() -> None:
    others = (other("weather.py", WEATHER), other("shapes.py", SHAPES))
    step = QUERY_CHARS // 2
    choices = set()
    for typed in range(0, 50, 7):
        text = HERE.text[: 2 * step] + "forecast_1(station)" * typed
        document = Document(HERE.uri, "python", text[: 3 * step - 1])
        choices.add(similar(document, len(document.text), others, 3_000))
    assert len(choices) == 1


def test_a_model_without_room_for_other_files_gets_none() -> None:
    assert similar(HERE, 0, (other("shapes.py", SHAPES),), 0) == ()


def test_the_document_itself_is_not_another_one() -> None:
    assert similar(HERE, len(HERE.text), (HERE,), 1_000) == ()


def test_dissimilar_documents_are_left_out() -> None:
    assert similar(HERE, len(HERE.text), (other("poem.txt", "zzz yyy xxx\n" * 9),), 1_000) == ()


def test_a_long_excerpt_is_cut_to_whole_lines() -> None:
    found = similar(HERE, len(HERE.text), (other("shapes.py", SHAPES),), 100)
    assert 0 < len(found[0].text) <= 100
    assert SHAPES.startswith(found[0].text + "\n")


@given(st.lists(st.text(max_size=300), max_size=12), st.integers(0, 700), st.integers(-1, 400))
def test_any_documents_give_bounded_excerpts(texts: list[str], limit: int, offset: int) -> None:
    others = tuple(other(f"{n}.py", text) for n, text in enumerate(texts))
    document = Document("file:///a", "python", "".join(texts))
    found = similar(document, min(max(offset, 0), len(document.text)), others, limit)
    assert sum(len(snippet.text) for snippet in found) <= limit
    assert len(found) <= MAX_SNIPPETS


def test_many_huge_documents_cost_no_more_than_the_caps() -> None:
    others = tuple(other(f"{n}.py", f"{n}" + WEATHER * 2_000) for n in range(40 * DOCUMENTS))
    began = time.process_time()
    similar(HERE, len(HERE.text), others, 2_000)
    assert time.process_time() - began < 5  # a watchdog: reading all would take a minute
