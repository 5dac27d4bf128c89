"""Cuts the text of a filter or an order into tokens.

The text is the client's: whatever it holds is text and nothing more. Only words, quoted names, values, lists in brackets and
comparators are known; everything else is a token of its own, which the parser then refuses by name.
"""

import re

from msgspec import Struct

#: A name's parts: bare, in back-ticks or in double quotes, joined by dots. `metrics.` is a name with an empty part.
_PART = r"(?:`[^`]*`|\"(?:\"\"|\\\"|[^\"])*\"|[^\W\d]\w*|(?<=\.)\w+)"
_TOKEN = re.compile(
    rf"""
    (?P<space>\s+)
  | (?P<comment>--[^\r\n]*|/\*.*?\*/|\#[^\r\n]*)
  | (?P<text>'(?:''|\\'|[^'])*')
  | (?P<number>-?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?(?![\w`"]))
  | (?P<name>{_PART}(?:\.{_PART})*\.?)
  | (?P<op>[<>=!~]+)
  | (?P<mark>.)
    """,
    re.VERBOSE | re.DOTALL,
)
#: What makes an expression of a name: `val-loss` is no name without quotes.
_JOINED = re.compile(r"[-+*/%:@](?=[\w`\"])")
#: Words with a meaning of their own where a filter might begin a clause.
KEYWORDS = frozenset(
    "AND OR NOT IN IS NULL BETWEEN LIKE ILIKE RLIKE EXISTS SELECT UNION FROM WHERE ORDER GROUP BY HAVING LIMIT ALL CASE WHEN THEN ELSE END"
    " TRUE FALSE JOIN DROP DELETE UPDATE INSERT CREATE ALTER".split()
)


class Token(Struct, frozen=True):
    """A piece of the text. `kind`: text, number, name, keyword, op, list (in brackets), expression, comment, mark."""

    kind: str
    text: str

    def is_word(self, *words: str) -> bool:
        """Whether this is one of these keywords, in any case."""
        return self.kind == "keyword" and self.text.upper() in words


def tokens(text: str) -> list[Token]:
    """The tokens of a text, without the white space between them; what stands in brackets is one token."""
    pieces = _pieces(text)
    closes = _closes(text, pieces)
    found: list[Token] = []
    number = 0
    while number < len(pieces):
        kind, start, end = pieces[number]
        if number in closes:
            number = closes[number]
            kind, end = "list", pieces[number][2]
        if kind != "space":
            found.append(Token(kind, text[start:end].rstrip("\r\n") if kind == "comment" else text[start:end]))
        number += 1
    return found


def _pieces(text: str) -> list[tuple[str, int, int]]:
    pieces: list[tuple[str, int, int]] = []
    at = 0
    while at < len(text):
        matched = _TOKEN.match(text, at)
        assert matched is not None, "the last alternative takes anything"
        kind, end = str(matched.lastgroup), matched.end()
        if kind == "name":
            end = _expression_end(text, end)
            kind = "expression" if end > matched.end() else "keyword" if text[at:end].upper() in KEYWORDS else kind
        pieces.append((kind, at, end))
        at = end
    return pieces


def _expression_end(text: str, at: int) -> int:
    """Where a name that goes on with operators ends."""
    while _JOINED.match(text, at):
        matched = _TOKEN.match(text, at + 1)
        if matched is None or matched.lastgroup not in ("name", "number"):
            break
        at = matched.end()
    return at


def _closes(text: str, pieces: list[tuple[str, int, int]]) -> dict[int, int]:
    """By the number of an opening bracket's piece, that of the one which closes it."""
    closes: dict[int, int] = {}
    waiting: list[int] = []
    for number, (kind, start, _) in enumerate(pieces):
        if kind == "mark" and text[start] == "(":
            waiting.append(number)
        elif kind == "mark" and text[start] == ")" and waiting:
            closes[waiting.pop()] = number
    return closes
