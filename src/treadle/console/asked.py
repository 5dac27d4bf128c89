"""What a page was asked: its address with what is set in it, and the fields of a form.

Every filter, order, column and selection stands in the address, so that a link shows a colleague the same. `Address` makes the links of
a page from the address it was asked at: what a link does not change, it keeps.
"""

from collections.abc import Iterable, Sequence
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

Pairs = Sequence[tuple[str, str]]
#: Bytes of a form: the longest notes and card sections fit.
LARGEST = 512 * 1024


class Address:
    """A path and the query after it.

    >>> here = Address("/runs", [("filter", "metrics.auc > 0.8"), ("page", "b")])
    >>> here.to(page=None, sort="metrics.auc")
    '/runs?filter=metrics.auc+%3E+0.8&sort=metrics.auc'
    """

    def __init__(self, path: str, pairs: Pairs):
        self.path = path
        self.pairs = [(k, v) for k, v in pairs if v != ""]

    @classmethod
    def of(cls, request: Request) -> "Address":
        """The one that a page was asked at."""
        return cls(request.scope.get("raw_path", b"").decode("latin-1") or request.url.path, request.query_params.multi_items())

    @classmethod
    def parse(cls, text: str) -> "Address":
        """The one that a text is."""
        parts = urlsplit(text)
        return cls(parts.path, parse_qsl(parts.query))

    def get(self, name: str, default: str = "", most: int = 10_000) -> str:
        """The first value of a name."""
        return next((v for k, v in self.pairs if k == name), default)[:most]

    def all(self, name: str, most: int = 100) -> list[str]:
        """Every value of a name, each once."""
        return list(dict.fromkeys(v for k, v in self.pairs if k == name))[:most]

    def to(self, path: str | None = None, **changes: str | Iterable[str] | None) -> str:
        """A link with other values; None takes a name out."""
        kept = [(k, v) for k, v in self.pairs if k not in changes]
        for name, value in changes.items():
            if value is not None:
                kept += [(name, one) for one in ([value] if isinstance(value, str) else value)]
        query = urlencode(kept)
        return (self.path if path is None else path) + (f"?{query}" if query else "")

    def hidden(self, *without: str) -> list[tuple[str, str]]:
        """The rest, for the hidden fields of a form that sets `without`."""
        return [(k, v) for k, v in self.pairs if k not in without]


class Fields:
    """The fields of a form; a name may stand in it several times."""

    def __init__(self, pairs: Pairs):
        self.pairs = list(pairs)

    def get(self, name: str, default: str = "") -> str:
        """The first value of a name, without blanks around it."""
        return next((v for k, v in self.pairs if k == name), default).strip()

    def text(self, name: str) -> str:
        """A text of several lines as it was typed; browsers send carriage returns in it."""
        return next((v for k, v in self.pairs if k == name), "").replace("\r\n", "\n")

    def all(self, name: str) -> list[str]:
        """Every value of a name, each once."""
        return list(dict.fromkeys(v for k, v in self.pairs if k == name and v))


async def read_form(request: Request, most: int = LARGEST) -> Fields:
    """The fields of an urlencoded form.

    Raises:
        HTTPException: 413 for one that no page of the console sends.
    """
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise HTTPException(413)
    try:
        return Fields(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=5000))
    except ValueError as error:
        raise HTTPException(413) from error


def back(fields: Fields, otherwise: str, **said: str) -> Response:
    """To the page that a form was sent from (a path of this console's own, in its field `back`), with what is to be said there."""
    wanted = fields.get("back")
    parts = urlsplit(wanted)
    own = wanted.startswith("/") and not wanted.startswith(("//", "/\\")) and not parts.netloc and not parts.scheme and wanted.isprintable()
    there = Address.parse(wanted if own else otherwise)
    return RedirectResponse(there.to(**{"said": None, "done": None, "undo": None, **said}), 303)
