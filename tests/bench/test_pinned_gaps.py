"""Five of the sixty gaps that mini must fill exactly, through a real server."""

import sys
from pathlib import Path

import pytest

from mercury_lsp.bench.gaps import cases, source_text
from mercury_lsp.bench.harness import fill_gaps
from mercury_lsp.config import Config

pytestmark = pytest.mark.mini

PINNED = (
    ("bandcampsync/download.py", "return False"),
    ("csvkit/convert/fixed.py", "one"),
    ("mechanicalsoup/browser.py", " response"),
    ("petl/util/parsers.py", "value.strip(), fmt"),
    ("pyrtl/rtllib/libutils.py", ".PyrtlError(msg)"),
)


async def test_five_gaps_in_code_no_training_saw_are_filled_word_for_word(
    cache_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MERCURY_CACHE", str(cache_dir))
    pinned = [
        case
        for case in cases()
        if (case.file, source_text(case.file)[case.start : case.end]) in PINNED
    ]
    assert len(pinned) == len(PINNED)
    settings = {"model": "mini", "invokedDeadlineMs": 60_000, "alternatives": 1}
    (run,) = await fill_gaps(pinned, [Config().mode], settings, lambda what, done, total: None)
    with capsys.disabled():
        for gap in run.filled:
            text = source_text(gap.case.file)
            line = text[text.rfind("\n", 0, gap.case.start) + 1 : gap.case.start].lstrip()
            sys.stdout.write(f"\n{gap.case.file}: {line}‸{gap.offered}")
        sys.stdout.write("\n")
    for gap in run.filled:
        assert gap.exact, f"{gap.case.file}: {gap.offered!r}"
