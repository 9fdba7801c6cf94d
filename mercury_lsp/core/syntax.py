"""Whether code still parses, by the grammars of tree-sitter. The only place that knows them.

Total and bounded: any text is an answer, and so is a language without a grammar. What `lexis` can
tell from the text alone (strings, comments, brackets) is told there: it holds while code is broken.
"""

import importlib
from functools import cache

from tree_sitter import Language, Node, Parser

_GRAMMARS = {
    "python": ("tree_sitter_python", "language"),
    "javascript": ("tree_sitter_javascript", "language"),
    "javascriptreact": ("tree_sitter_javascript", "language"),
    "typescript": ("tree_sitter_typescript", "language_typescript"),
    "typescriptreact": ("tree_sitter_typescript", "language_tsx"),
    "java": ("tree_sitter_java", "language"),
    "c": ("tree_sitter_cpp", "language"),
    "cpp": ("tree_sitter_cpp", "language"),
    "php": ("tree_sitter_php", "language_php"),
    "php without its tag": ("tree_sitter_php", "language_php_only"),
    "shellscript": ("tree_sitter_bash", "language"),
    "go": ("tree_sitter_go", "language"),
    "rust": ("tree_sitter_rust", "language"),
}

PARSE_STEPS = 200
"""The most work on one parse, in the parser's own units (some 100 actions each).

A window of ordinary code takes 20 to 100. Noise, which takes more, is as good as not parsed.
"""

MOST_ERRORS = 100
"""Where counting stops."""


def errors(language: str, text: str) -> int | None:
    """How many errors a parse of `text` finds; None if there is no grammar, or no end to it.

    Text broken beyond `MOST_ERRORS` has that many.
    """
    if language == "php" and "<?" not in text:
        language = "php without its tag"
    parser = _parser(language)
    if parser is None:
        return None
    source = text.encode("utf-8", errors="replace")
    steps = 0

    def tired(_offset: int, _has_error: bool) -> bool:
        nonlocal steps
        steps += 1
        return steps > PARSE_STEPS

    try:
        tree = parser.parse(lambda offset, _point: source[offset:], progress_callback=tired)
    except ValueError:  # how the binding says that the callback ended the parse
        parser.reset()
        return None
    return _count(tree.root_node)


@cache
def _parser(language: str) -> Parser | None:
    if language not in _GRAMMARS:
        return None
    module, function = _GRAMMARS[language]
    return Parser(Language(getattr(importlib.import_module(module), function)()))


def _count(root: Node) -> int:
    """The error and missing nodes under `root`, walking only where there are some."""
    found = 0
    pending = [root] if root.has_error else []
    while pending and found < MOST_ERRORS:
        node = pending.pop()
        found += node.is_error or node.is_missing
        pending.extend(child for child in node.children if child.has_error or child.is_missing)
    return found
