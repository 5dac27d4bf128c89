"""Files of runs and logged models: folders to walk, and a viewer that never lets what somebody uploaded act as a page of the console.

A picture is shown as a picture, a table by its first rows, text as text. HTML stands in a frame of its own without an origin: the
`sandbox` of the frame *and* of the answer, a policy that lets it load nothing, and only for a frame; opened by itself it is a
download. Its scripts may draw, and reach neither the console, its cookie nor any other host.
"""

import contextlib
import csv
import io
import json
from collections.abc import Iterator
from typing import Any, BinaryIO
from urllib.parse import quote

from msgspec import Struct
from starlette.responses import Response, StreamingResponse

from treadle.console import listing as listings
from treadle.console import words
from treadle.console.asked import Address
from treadle.console.desk import Desk
from treadle.operations.tracking import Files, GetFile, GetLoggedModel, GetTrackedRun, ListFiles
from treadle.records.errors import TreadleError
from treadle.records.ledger import Artifact

#: Rows of a table, characters of a text and bytes of a parsed file that a page shows.
ROWS, CHARACTERS, PARSED = 500, 200_000, 4 * 1024 * 1024
_COLUMNS = 100
#: The largest Parquet file whose first rows are read.
_PARQUET = 512 * 1024 * 1024
_CHUNK = 1 << 20
#: What an <img> may be, by the end of the name: never what the uploader says it is.
PICTURES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "svg": "image/svg+xml",
    "bmp": "image/bmp",
    "ico": "image/x-icon",
}
_TEXT = frozenset(
    "txt md rst log py r sql sh toml yaml yml cfg ini conf patch diff xml tex js ts css c h cpp java scala go rs ipynb lock".split()
)
#: The frame of an uploaded page.
FRAME_POLICY = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "font-src data:; media-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
)
_STILL_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'"


class Grid(Struct, frozen=True, kw_only=True):
    """A table in a file."""

    columns: list[str]
    rows: list[list[str]]
    note: str


def kind_of(path: str) -> str:
    """How a file is looked at, by its name: picture, page, table, json, text, or bytes.

    >>> kind_of("plots/ROC.PNG"), kind_of("report.html"), kind_of("a.csv.gz"), kind_of("MLmodel")
    ('picture', 'page', 'bytes', 'text')
    """
    name = path.rpartition("/")[2].lower()
    end = name.rpartition(".")[2] if "." in name else ""
    if end in PICTURES:
        return "picture"
    if end in ("html", "htm"):
        return "page"
    if end in ("csv", "tsv", "parquet"):
        return "table"
    if end in ("json", "jsonl", "geojson"):
        return "json"
    return "text" if end in _TEXT or not end else "bytes"


def page(desk: Desk) -> Response:
    """A folder, or a file in its viewer."""
    owner, title, home = _owner(desk)
    path = desk.request.path_params.get("path", "").strip("/")
    found = at(desk, owner, path) if path else None
    if found is not None:
        return _viewed(desk, found, title, home)
    after = Address.of(desk.request).get("page") or None
    inside: Files = desk.call(ListFiles(project=desk.project, owner=owner, path=path, page=after))
    if path and not inside.files and not inside.folders and after is None:
        raise TreadleError(f"There is no file {path!r} in {title}.", remedy="See what there is one folder up.", code="not_found")
    n = len(inside.files)
    sentence = f"{n:,} file{'s' if n != 1 else ''}" + (f" and {len(inside.folders)} folders" if inside.folders else "")
    return desk.page(
        "files.html",
        title=path.rpartition("/")[2] or "Files",
        crumbs=_crumbs(title, home, path),
        sentence=f"{sentence} {'in ' + path if path else 'of ' + title}{'; more follow' if inside.page.next else ''}.",
        entries=entries(inside, home),
        more=f"?page={quote(inside.page.next, safe='')}" if inside.page.next else "",
        file=None,
    )


def at(desk: Desk, owner: str, path: str) -> Artifact | None:
    """The file at a path; None where a folder, or nothing, stands there."""
    try:
        return desk.call(GetFile(project=desk.project, owner=owner, path=path))
    except TreadleError as error:
        if error.code != "not_found" and "folder" not in error.details:
            raise
        return None


def entries(inside: Files, home: str) -> list[dict[str, Any]]:
    """The lines of a folder, folders first; `home` is the page of the run or logged model."""
    lines: list[dict[str, Any]] = [
        {"name": f"{f.rstrip('/').rpartition('/')[2]}/", "href": _at(home, "files", f), "size": "", "raw": "", "digest": ""}
        for f in inside.folders
    ]
    for file in inside.files:
        lines.append(
            {
                "name": file.path.rpartition("/")[2],
                "href": _at(home, "files", file.path),
                "size": size(file.size),
                "raw": _at(home, "raw", file.path),
                "digest": file.digest,
            }
        )
    return lines


def size(n: int) -> str:
    """A file's size.

    >>> size(17), size(2048), size(5_000_000)
    ('17 B', '2.0 KB', '4.8 MB')
    """
    for unit, factor in (("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)):
        if n >= factor:
            return f"{n / factor:.1f} {unit}"
    return f"{n} B"


def _owner(desk: Desk) -> tuple[str, str, str]:
    """(the id that owns the files, what it is called, its page)."""
    params = desk.request.path_params
    if "model_id" in params:
        model = desk.call(GetLoggedModel(project=desk.project, model_id=params["model_id"], deleted=True))
        return model.model_id, model.name or model.model_id, desk.base + words.path("logged-models", model.model_id)
    run = desk.call(GetTrackedRun(project=desk.project, run_id=params["run_id"]))
    return run.run_id, listings.name_of(run), desk.base + words.path("runs", run.run_id)


def _at(home: str, what: str, path: str) -> str:
    return f"{home}/{what}/" + "/".join(quote(p, safe="") for p in path.strip("/").split("/"))


def _crumbs(title: str, home: str, path: str) -> list[tuple[str, str]]:
    parts = path.split("/")[:-1] if path else []
    crumbs = [(title, home)]
    if path:
        crumbs.append(("files", f"{home}/files"))
    return [*crumbs, *((part, _at(home, "files", "/".join(parts[: i + 1]))) for i, part in enumerate(parts))]


def _viewed(desk: Desk, file: Artifact, title: str, home: str) -> Response:
    kind = kind_of(file.path)
    shown: dict[str, Any] = {"text": "", "grid": None, "note": ""}
    try:
        if kind in ("table", "json"):
            shown |= _table(desk, file) if kind == "table" else _json(desk, file)
        elif kind == "text":
            shown |= _text(desk, file)
    except (ValueError, csv.Error, RecursionError) as error:
        kind = "bytes"
        shown["note"] = f"It cannot be read as what its name says ({str(error)[:200]}), so it can only be downloaded."
    if kind == "json":
        kind = "table" if shown["grid"] else "text"
    if kind == "text" and shown["text"] is None:
        kind, shown["note"] = "bytes", "It is no text, so it can only be downloaded."
    return desk.page(
        "files.html",
        title=file.path.rpartition("/")[2],
        crumbs=_crumbs(title, home, file.path),
        sentence=f"A file of {title}: {size(file.size)}.",
        file=file,
        kind=kind,
        raw=_at(home, "raw", file.path),
        entries=[],
        more="",
        **shown,
    )


def head(desk: Desk, file: Artifact, most: int) -> bytes:
    """The first bytes of a file."""
    with contextlib.closing(opened(desk, file)) as source:
        return source.read(most)


def opened(desk: Desk, file: Artifact) -> BinaryIO:
    """A file's bytes, to be closed by the caller."""
    return desk.workshop.blobs.open_read(file.digest)


def _text(desk: Desk, file: Artifact) -> dict[str, Any]:
    first = head(desk, file, CHARACTERS * 4)
    if b"\0" in first[:8192]:
        return {"text": None}
    text = first.decode("utf-8", "replace")
    cut = len(text) > CHARACTERS or len(first) < file.size
    return {"text": text[:CHARACTERS], "note": f"The first {CHARACTERS:,} characters; download it for the rest." if cut else ""}


def _json(desk: Desk, file: Artifact) -> dict[str, Any]:
    if file.size > PARSED or file.path.lower().endswith(".jsonl"):
        return _text(desk, file)
    content = head(desk, file, PARSED + 1)
    try:
        told = json.loads(content)
    except (ValueError, RecursionError):
        return _text(desk, file)
    if isinstance(told, dict) and isinstance(told.get("columns"), list) and isinstance(told.get("data"), list):  # as `log_table` writes it
        rows = [r for r in told["data"][:ROWS] if isinstance(r, list)]
        return {"grid": _grid([str(c) for c in told["columns"]], [[_cell(c) for c in r] for r in rows], len(told["data"]))}
    text = json.dumps(told, indent=2, ensure_ascii=False)
    return {"text": text[:CHARACTERS], "note": f"The first {CHARACTERS:,} characters of it." if len(text) > CHARACTERS else ""}


def _table(desk: Desk, file: Artifact) -> dict[str, Any]:
    name = file.path.lower()
    if name.endswith(".parquet"):
        return {"grid": _parquet(desk, file)}
    first = head(desk, file, PARSED).decode("utf-8-sig", "replace")
    reader = csv.reader(io.StringIO(first), delimiter="\t" if name.endswith(".tsv") else ",")
    rows = [row for row, _ in zip(reader, range(ROWS + 2), strict=False)]
    if len(first) >= PARSED and len(rows) <= ROWS:
        rows = rows[:-1]  # the last may be cut
    grid = _grid(rows[0] if rows else [], rows[1 : ROWS + 1], None if len(rows) > ROWS + 1 or len(first) >= PARSED else len(rows) - 1)
    return {"grid": grid}


def _parquet(desk: Desk, file: Artifact) -> Grid:
    import polars as pl  # noqa: PLC0415  (only who looks at a table waits for it)

    if file.size > _PARQUET:
        raise ValueError("it is larger than 512 MB")
    try:
        with contextlib.closing(opened(desk, file)) as source:
            total = int(pl.scan_parquet(source).select(pl.len()).collect().item())
            source.seek(0)
            frame = pl.read_parquet(source, n_rows=ROWS)
    except (pl.exceptions.PolarsError, OSError, pl.exceptions.PanicException) as error:
        raise ValueError(str(error)) from error
    return _grid(frame.columns, [[_cell(v) for v in row] for row in frame.rows()], total)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return repr(value) if isinstance(value, float) else str(value)[:1000]


def _grid(columns: list[str], rows: list[list[str]], total: int | None) -> Grid:
    shown = len(rows)
    note = f"all {shown:,} rows" if total == shown else f"the first {shown:,} rows{f' of {total:,}' if total is not None else ''}"
    if len(columns) > _COLUMNS:
        note += f", the first {_COLUMNS} of {len(columns):,} columns"
    return Grid(columns=columns[:_COLUMNS], rows=[[c[:1000] for c in r[:_COLUMNS]] for r in rows], note=note)


# ── the bytes ────────────────────────────────────────────────────────────────────────────────────────────────────────


def raw(desk: Desk) -> Response:
    """The bytes of a file: for the viewer's picture or frame, else as a download."""
    owner, _, _ = _owner(desk)
    path = desk.request.path_params["path"].strip("/")
    file: Artifact = desk.call(GetFile(project=desk.project, owner=owner, path=path))
    wanted, into = desk.request.query_params.get("as"), desk.request.headers.get("sec-fetch-dest", "")
    headers = {
        "content-length": str(file.size),
        "cache-control": "private, no-cache",
        "cross-origin-resource-policy": "same-origin",
        "content-security-policy": _STILL_POLICY,
    }
    kind = kind_of(path)
    if wanted == "picture" and kind == "picture" and into in ("image", ""):
        media = PICTURES[path.rpartition(".")[2].lower()]
    elif wanted == "frame" and kind == "page" and into == "iframe":
        media = "text/html; charset=utf-8"
        headers |= {"content-security-policy": FRAME_POLICY, "x-frame-options": "SAMEORIGIN"}
    else:
        media = "application/octet-stream"
        name = path.rpartition("/")[2]
        plain = "".join(c if c.isascii() and c.isprintable() and c not in '"\\/' else "_" for c in name)
        headers["content-disposition"] = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
    return StreamingResponse(chunks(opened(desk, file)), media_type=media, headers=headers)


def chunks(source: BinaryIO) -> Iterator[bytes]:
    """The bytes of an open file, which is closed after the last."""
    with contextlib.closing(source):
        while chunk := source.read(_CHUNK):
            yield chunk
