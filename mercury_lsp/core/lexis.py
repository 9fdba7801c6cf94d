"""A tolerant lexer that finds strings, comments and brackets.

It uses one regular expression per family of languages and no grammar, so it also works on
incomplete code, which is what a completion request usually sees. It does not know statements; see
`syntax` for parsing.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

OPENERS = {"(": ")", "[": "]", "{": "}"}
CLOSERS = {closer: opener for opener, closer in OPENERS.items()}


@dataclass(frozen=True, slots=True)
class Quote:
    """A kind of string or comment, as regular expressions for its start and its body.

    `body` matches one element of the body. `close` is the closing delimiter; it is empty for kinds
    that end with the line. If `body` cannot match a newline, a newline ends the token even without
    its delimiter, so that one missing quote does not affect the lines below.
    """

    start: str
    body: str
    close: str
    comment: bool = False

    @property
    def end(self) -> str:
        """The regular expression for the closing delimiter; it never matches if there is none."""
        return re.escape(self.close) if self.close else "(?!)"


def _string(mark: str, start: str | None = None) -> Quote:
    return Quote(start or re.escape(mark), rf"[^{mark}\\\n]|\\(?:.|\Z)", mark)


def _multiline_string(mark: str) -> Quote:
    """A multi-line string. A shorter run of its delimiter counts as text."""
    fewer = f"|{mark[0]}(?!{mark[1:]})" if len(mark) > 1 else ""
    return Quote(re.escape(mark), rf"[^{mark[0]}\\]|\\(?:.|\Z){fewer}", mark)


def _raw_string(start: str, end: str) -> Quote:
    first, others = re.escape(end[0]), re.escape(end[1:])
    fewer = f"|{first}(?!{others})" if others else ""
    return Quote(start, f"[^{first}]{fewer}", end)


def _line_comment(start: str) -> Quote:
    return Quote(start, r"[^\n]", "", comment=True)


_SLASHES = _line_comment("//")
_BLOCK_COMMENT = Quote(r"/\*", r"[^*]|\*(?!/)", "*/", comment=True)
_C_LIKE = (_SLASHES, _BLOCK_COMMENT, _string('"'), _string("'", r"(?<![0-9A-Fa-f])'"))
_HEREDOC = r"<<[-<~]?[ ]?(?P<q>['\"]?)(?P<w>[A-Za-z_]\w*)(?P=q)[^\n]*\n(?:[^\n]*\n)*?[ \t]*(?P=w)\b"
_REGEX = (
    r"(?:(?<=[=(,:!&|?;\[{}\n])|(?<=[=(,:!&|?] )|(?<=return ))"
    r"/(?![/*])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n\[])++/"
)


class Token(NamedTuple):
    """A string, a comment or a bracket.

    `kind` is the index of its `Quote`; it is -1 for brackets and for matches of `Lexis.whole`.
    `close` is the length of the closing delimiter. `open` means that the text ends inside the
    token, `broken` that a newline ended it before its delimiter.
    """

    start: int
    end: int
    kind: int
    close: int = 0
    open: bool = False
    broken: bool = False

    @property
    def is_bracket(self) -> bool:
        """Whether this is a bracket."""
        return self.kind < 0 and self.end - self.start == 1


@dataclass(frozen=True)
class Lexis:
    """The lexical syntax of a family of languages.

    `whole` matches literals that are recognised only when complete (character and regex literals,
    heredocs). `header` matches the end of a line that opens a block. `definition` matches a
    definition line after its indentation; text in strings and comments rarely matches it.
    `indented` means that indentation delimits blocks.
    """

    quotes: tuple[Quote, ...]
    whole: str = "(?!)"
    brackets: str = r"[()\[\]{}]"
    header: str = r"\{"
    definition: str = r"[^\s/*#].*\{[ \t\r]*$"
    indented: bool = False
    _pattern: re.Pattern[str] = field(init=False)
    _continuations: tuple[re.Pattern[str], ...] = field(init=False)

    def __post_init__(self) -> None:
        kinds = (
            f"(?P<k{n}>(?:{q.start})(?:{q.body})*+(?P<c{n}>{q.end})?)"
            for n, q in enumerate(self.quotes)
        )
        pattern = "|".join((f"(?P<whole>{self.whole})", *kinds, f"(?P<bracket>{self.brackets})"))
        object.__setattr__(self, "_pattern", re.compile(pattern, re.DOTALL))
        continuations = (
            re.compile(f"(?:{q.body})*+(?P<c>{q.end})?", re.DOTALL) for q in self.quotes
        )
        object.__setattr__(self, "_continuations", tuple(continuations))

    def tokens(self, text: str, opened: int = -1, lookbehind: str = "") -> Iterator[Token]:
        """The tokens of `text`.

        `opened` is the kind of the token that `text` begins inside of, or -1. `lookbehind` is the
        text just before it, which the first token may depend on.
        """
        start = len(lookbehind)
        text = lookbehind + text
        position = start
        if opened >= 0:
            rest = self._continuations[opened].match(text, start)
            assert rest is not None  # every part of the pattern is optional
            yield self._quoted(rest, start, opened, rest["c"])
            position = rest.end()
        for found in self._pattern.finditer(text, position):
            name = found.lastgroup or ""
            if name[0] == "k":
                kind = int(name[1:])
                yield self._quoted(found, start, kind, found[f"c{kind}"])
            else:
                yield Token(found.start() - start, found.end() - start, -1)

    def is_comment(self, kind: int) -> bool:
        """Whether `kind` is a kind of comment."""
        return kind >= 0 and self.quotes[kind].comment

    def _quoted(self, found: re.Match[str], shift: int, kind: int, close: str | None) -> Token:
        start, end = found.start() - shift, found.end() - shift
        if close is not None:
            return Token(start, end, kind, close=len(close))
        if found.end() == len(found.string):
            return Token(start, end, kind, open=True)
        return Token(start, end, kind, broken=not self.quotes[kind].comment)


_PYTHON = Lexis(
    (
        _line_comment("#"),
        _multiline_string('"""'),
        _multiline_string("'''"),
        _string('"'),
        _string("'"),
    ),
    header=":",
    definition=r"(?:async )?def \w+\(|class \w+[:(]|@\w[\w.]*(?:\(|\r?$)",
    indented=True,
)
_C = Lexis((_raw_string(r'R"\(', ')"'), *_C_LIKE))
_JAVA = Lexis((_multiline_string('"""'), *_C_LIKE))
_JAVASCRIPT = Lexis(
    (_SLASHES, _BLOCK_COMMENT, _multiline_string("`"), _string('"'), _string("'")), _REGEX
)
_GO = Lexis((_SLASHES, _BLOCK_COMMENT, _raw_string("`", "`"), _string('"'), _string("'")))
_RUST = Lexis(
    (
        _SLASHES,
        _BLOCK_COMMENT,
        _raw_string('r#"', '"#'),
        _raw_string('r"', '"'),
        _multiline_string('"'),
    ),
    r"'(?:\\[^\n']+|[^\\'\n])'",
)
_PHP = Lexis(
    (
        _line_comment(r"#(?!\[)"),
        _SLASHES,
        _BLOCK_COMMENT,
        _multiline_string('"'),
        _multiline_string("'"),
    ),
    _HEREDOC,
)
_BASH = Lexis(
    (_line_comment(r"(?<![^\s;(])#"), _multiline_string('"'), _raw_string("'", "'")),
    rf"\\.|\$#|{_HEREDOC}",
    brackets=r"[\[\]{}]",  # `case` patterns close parentheses that were never opened
    header=r"\{|\b(?:then|do|else)",
)
_OTHER = Lexis((_string('"'),), header=r"[:{]|\b(?:then|do|else)")

_LANGUAGES = {
    "python": _PYTHON,
    "javascript": _JAVASCRIPT,
    "javascriptreact": _JAVASCRIPT,
    "typescript": _JAVASCRIPT,
    "typescriptreact": _JAVASCRIPT,
    "java": _JAVA,
    "c": _C,
    "cpp": _C,
    "php": _PHP,
    "shellscript": _BASH,
    "go": _GO,
    "rust": _RUST,
}


def lexis(language: str) -> Lexis:
    """The lexical syntax for an LSP language id.

    An unknown language gets double-quoted strings and brackets.
    """
    return _LANGUAGES.get(language, _OTHER)
