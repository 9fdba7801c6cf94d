"""Denoising as it is drawn."""

import io
from collections.abc import Iterator

import pytest
from fakes import FORMAT, LetterTokenizer, ScriptedRuntime, card, spell
from rich.console import Console
from rich.live import Live

from mercury_lsp.cli.terminal import (
    COMMITTED,
    DRAFT,
    MASK,
    OPEN,
    Page,
    Screen,
    Tokens,
    caption,
    paint,
    view,
)
from mercury_lsp.core.types import Completion
from mercury_model.decoding.infiller import Infiller
from mercury_model.decoding.output import PartialOutput
from mercury_model.decoding.params import SamplingParams
from mercury_model.decoding.prompt import FimPrompt

TOKENS = Tokens(LetterTokenizer().decode, FORMAT.mask_id)
A, B, OPENED = 5, 6, FORMAT.mask_id


def draft(ids: list[int], committed: list[bool]) -> PartialOutput:
    return PartialOutput(tuple(ids), tuple(committed), (0.5,) * len(ids), "", False, None, 3, 1)


def drafts(text: str) -> Iterator[PartialOutput]:
    infiller = Infiller(card(), LetterTokenizer(), ScriptedRuntime(spell(text)))
    return infiller.drafts(FimPrompt("a" * 100, ""), SamplingParams(quality_speed_tradeoff=0.0))


def test_committed_tokens_are_bright_draft_tokens_plain_and_masks_dim() -> None:
    painted = paint(draft([A, OPENED, OPENED, B, A], [True, False, False, True, False]), TOKENS)
    assert painted.plain == f"a{MASK}{MASK}ba"
    styles = [(painted.plain[span.start : span.end], span.style) for span in painted.spans]
    assert styles == [("a", COMMITTED), (MASK * 2, OPEN), ("b", COMMITTED), ("a", DRAFT)]


def test_masks_only_become_fewer_within_a_block_and_are_gone_at_the_end() -> None:
    shown = [paint(draft, TOKENS).plain for draft in drafts("abcde")]
    counts = [text.count(MASK) for text in shown if text]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 1
    assert shown[-1] == "abcde"


def test_the_view_has_the_line_numbers_of_the_document() -> None:
    text = "\n".join(f"line {n}" for n in range(1, 101))
    start = text.index("line 50") + 4
    shown = view(Page(text, start, start + 3), paint(draft([A], [True]), TOKENS), "so far").plain
    lines = shown.split("\n")
    assert lines[0] == "46 │ line 46"
    assert lines[4] == "50 │ linea"
    assert lines[8] == "54 │ line 54"
    assert lines[9] == "   ╰ so far"
    assert len(lines) == 10


def test_the_view_of_a_short_document_begins_with_line_1() -> None:
    shown = view(Page("", 0, 0), paint(draft([A, OPENED], [True, False]), TOKENS), "").plain
    assert shown.split("\n")[0] == f"1 │ a{MASK}"


@pytest.mark.parametrize(
    ("ids", "committed", "expected"),
    [
        ([], [], "reading the context, chunk 1"),
        ([A, OPENED], [True, False], "step 3, 1 of 2 tokens, 12 ms"),
    ],
)
def test_the_caption_says_how_far_it_is(
    ids: list[int], committed: list[bool], expected: str
) -> None:
    assert caption(draft(ids, committed), 12.3) == expected


def test_the_time_a_step_stays_on_the_screen_is_not_the_models() -> None:
    now = [0]

    def sleep(seconds: float) -> None:
        now[0] += round(seconds * 1e9)

    console = Console(file=io.StringIO(), force_terminal=True, width=60, color_system=None)
    with Live(console=console, auto_refresh=False) as live:
        screen = Screen(live, Page("x = \n", 4, 4), TOKENS, lambda: now[0], sleep)
        for one in drafts("ab"):
            now[0] += 1_000_000
            before = screen.clock()
            screen.draft(one)
            assert screen.clock() == before
        steps = screen.clock() // 1_000_000
        screen.done(Completion("ab", confidence=0.9))
    assert console.file.getvalue().count("ms") > steps > 0  # type: ignore[attr-defined]
    assert "x = ab" in console.file.getvalue()  # type: ignore[attr-defined]
    assert "confidence 0.90" in console.file.getvalue()  # type: ignore[attr-defined]


def test_when_nothing_is_good_the_document_stands_as_it_was() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=60, color_system=None)
    with Live(console=console, auto_refresh=False) as live:
        screen = Screen(live, Page("x = \n", 4, 4), TOKENS, lambda: 0, lambda seconds: None)
        screen.done(None)
    assert "nothing good" in console.file.getvalue()  # type: ignore[attr-defined]
