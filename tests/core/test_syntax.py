"""Counting syntax errors in every language with a grammar, on any text."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mercury_lsp.core import syntax

SOUND = {
    "python": "def f(x: int) -> int:\n    return x\n",
    "javascript": "const f = (x) => ({ x, y: `${x}` })\n",
    "javascriptreact": "const a = <p className='b'>{c}</p>\n",
    "typescript": "function f<T>(x: T): T { return x }\n",
    "typescriptreact": "const a = (p: P) => <B {...p} />\n",
    "java": "class A { int f() { return 1; } }\n",
    "c": "int main(void) { return 0; }\n",
    "cpp": "template <class T> T f(T x) { return x; }\n",
    "php": "<?php function f($x) { return $x; }\n",
    "shellscript": 'for f in *; do echo "$f"; done\n',
    "go": "package a\n\nfunc f() int { return 1 }\n",
    "rust": "fn f(x: &str) -> &str { x }\n",
}


@pytest.mark.parametrize("language", SOUND)
def test_valid_code_has_no_errors_and_broken_code_has(language: str) -> None:
    assert syntax.errors(language, SOUND[language]) == 0
    assert syntax.errors(language, SOUND[language].rstrip()[:-1] + " = ) (")


def test_php_is_read_without_its_tag_too() -> None:
    assert syntax.errors("php", "function f($x) { return $x; }\n") == 0
    assert syntax.errors("php", "function f($x) { return = }\n")


def test_a_language_without_a_grammar_gives_none() -> None:
    assert syntax.errors("cobol", "IDENTIFICATION DIVISION") is None


@given(st.sampled_from(list(SOUND)), st.text(max_size=80))
def test_any_text_can_be_parsed(language: str, text: str) -> None:
    found = syntax.errors(language, text)
    assert found is None or found >= 0


@pytest.mark.parametrize("text", ["(" * 15_000, "a<" * 7_500, '"""' * 5_000, "\0" * 15_000])
@pytest.mark.parametrize("language", ["python", "cpp", "typescript", "shellscript"])
def test_parsing_noise_stops_soon_and_the_parser_still_works(language: str, text: str) -> None:
    began = time.process_time()
    syntax.errors(language, text)
    assert time.process_time() - began < 5  # a watchdog
    assert syntax.errors(language, SOUND[language]) == 0
