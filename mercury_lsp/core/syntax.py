"""Counts syntax errors with tree-sitter. The only module that imports it.

Total and bounded: it accepts any text and any language. Strings, comments and brackets are the
business of `lexis`, which also works on incomplete code.
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

MAX_PARSE_STEPS = 200
"""The limit of one parse, in progress callbacks of the parser (about 100 actions each).

A window of ordinary code takes 20 to 100. A parse that takes more is abandoned.
"""

MAX_ERRORS = 100
"""Counting stops here."""


def errors(language: str, text: str) -> int | None:
    """The number of syntax errors in `text`, at most about `MAX_ERRORS`.

    None if the language has no grammar or the parse was abandoned.
    """
    if language == "php" and "<?" not in text:
        language = "php without its tag"
    parser = _parser(language)
    if parser is None:
        return None
    source = text.encode("utf-8", errors="replace")
    steps = 0

    def over_budget(_offset: int, _has_error: bool) -> bool:
        nonlocal steps
        steps += 1
        return steps > MAX_PARSE_STEPS

    try:
        tree = parser.parse(lambda offset, _point: source[offset:], progress_callback=over_budget)
    except ValueError:  # the binding raises this when the callback stops the parse
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
    """Count the error and missing nodes under `root`, visiting only subtrees that have some."""
    found = 0
    pending = [root] if root.has_error else []
    while pending and found < MAX_ERRORS:
        node = pending.pop()
        found += node.is_error or node.is_missing
        pending.extend(child for child in node.children if child.has_error or child.is_missing)
    return found
