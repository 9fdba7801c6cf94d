"""Where strings, comments and brackets begin and end, told from the text alone.

One regular expression a family of languages, and no grammar: it must hold while the code is
broken, which is when completions are asked for. Knows nothing of statements; `syntax` does.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

OPENERS = {"(": ")", "[": "]", "{": "}"}
CLOSERS = {closer: opener for opener, closer in OPENERS.items()}


@dataclass(frozen=True, slots=True)
class Quote:
    """A kind of string or comment: regular expressions of its start and of each bit of its body.

    `close` is the mark that ends it, empty for what a newline ends. A body that cannot match a
    newline makes a kind that a newline breaks: then the mark is missing, but no more is spoilt.
    """

    start: str
    body: str
    close: str
    comment: bool = False

    @property
    def end(self) -> str:
        """The regular expression of its end."""
        return re.escape(self.close) if self.close else "(?!)"


def _string(mark: str, start: str | None = None) -> Quote:
    return Quote(start or re.escape(mark), rf"[^{mark}\\\n]|\\(?:.|\Z)", mark)


def _text(mark: str) -> Quote:
    """A string over lines; in it, fewer marks than those that end it are text."""
    fewer = f"|{mark[0]}(?!{mark[1:]})" if len(mark) > 1 else ""
    return Quote(re.escape(mark), rf"[^{mark[0]}\\]|\\(?:.|\Z){fewer}", mark)


def _raw(start: str, end: str) -> Quote:
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

    `kind` is the index of its `Quote`, -1 for brackets and for what is only known when whole.
    `close` is the length of the mark that ends it. `open`: the text ends inside it. `broken`: a
    newline ended what should have been closed.
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
    """What strings, comments and brackets look like in a family of languages.

    `whole` matches what counts as a string only when it is complete; `header` the end of a line
    that a block follows; `definition` a line, after its indentation, that text in strings and
    comments hardly ever looks like. `indented`: blocks are told by their indentation.
    """

    quotes: tuple[Quote, ...]
    whole: str = "(?!)"
    brackets: str = r"[()\[\]{}]"
    header: str = r"\{"
    definition: str = r"[^\s/*#].*\{[ \t\r]*$"
    indented: bool = False
    _pattern: re.Pattern[str] = field(init=False)
    _rests: tuple[re.Pattern[str], ...] = field(init=False)

    def __post_init__(self) -> None:
        kinds = (
            f"(?P<k{n}>(?:{q.start})(?:{q.body})*+(?P<c{n}>{q.end})?)"
            for n, q in enumerate(self.quotes)
        )
        pattern = "|".join((f"(?P<whole>{self.whole})", *kinds, f"(?P<bracket>{self.brackets})"))
        object.__setattr__(self, "_pattern", re.compile(pattern, re.DOTALL))
        rests = (re.compile(f"(?:{q.body})*+(?P<c>{q.end})?", re.DOTALL) for q in self.quotes)
        object.__setattr__(self, "_rests", tuple(rests))

    def tokens(self, text: str, opened: int = -1, lead: str = "") -> Iterator[Token]:
        """The tokens of `text`, which begins inside a token of kind `opened`, if not -1.

        `lead` is what stands before it, of which a few characters may tell what it begins with.
        """
        start = len(lead)
        text = lead + text
        position = start
        if opened >= 0:
            rest = self._rests[opened].match(text, start)
            assert rest is not None  # every part of it is optional
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
        """Whether tokens of this kind are comments."""
        return kind >= 0 and self.quotes[kind].comment

    def _quoted(self, found: re.Match[str], shift: int, kind: int, close: str | None) -> Token:
        start, end = found.start() - shift, found.end() - shift
        if close is not None:
            return Token(start, end, kind, close=len(close))
        if found.end() == len(found.string):
            return Token(start, end, kind, open=True)
        return Token(start, end, kind, broken=not self.quotes[kind].comment)


_PYTHON = Lexis(
    (_line_comment("#"), _text('"""'), _text("'''"), _string('"'), _string("'")),
    header=":",
    definition=r"(?:async )?def \w+\(|class \w+[:(]|@\w[\w.]*(?:\(|\r?$)",
    indented=True,
)
_C = Lexis((_raw(r'R"\(', ')"'), *_C_LIKE))
_JAVA = Lexis((_text('"""'), *_C_LIKE))
_JAVASCRIPT = Lexis((_SLASHES, _BLOCK_COMMENT, _text("`"), _string('"'), _string("'")), _REGEX)
_GO = Lexis((_SLASHES, _BLOCK_COMMENT, _raw("`", "`"), _string('"'), _string("'")))
_RUST = Lexis(
    (_SLASHES, _BLOCK_COMMENT, _raw('r#"', '"#'), _raw('r"', '"'), _text('"')),
    r"'(?:\\[^\n']+|[^\\'\n])'",
)
_PHP = Lexis(
    (_line_comment(r"#(?!\[)"), _SLASHES, _BLOCK_COMMENT, _text('"'), _text("'")), _HEREDOC
)
_BASH = Lexis(
    (_line_comment(r"(?<![^\s;(])#"), _text('"'), _raw("'", "'")),
    rf"\\.|\$#|{_HEREDOC}",
    brackets=r"[\[\]{}]",  # the patterns of a case close parentheses that nothing opens
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
    """The lexis of an LSP language id; of an unknown one, double-quoted strings and brackets."""
    return _LANGUAGES.get(language, _OTHER)
