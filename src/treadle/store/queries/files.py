"""Statements on files of runs and logged models: paths that stand for blobs, and files that arrive in parts.

Keys are ordered by the bytes of the path, so a folder is a range of the key: what stands directly under it is found by jumping over
each folder below, and what is below them is not read.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, delete, literal, select, union_all

from treadle.records.ledger import Artifact
from treadle.records.tracking import Upload, UploadPart
from treadle.store import tables as t
from treadle.store.upsert import insert_new, insert_or_update, upsert_rows

_a = t.artifacts.c
_u = t.uploads.c
_COLUMNS = ("project", "run_id", "path", "digest", "size", "media_type")
#: Rows read at a time while a folder is listed: few where every row is in a folder of its own, enough where it is full of files.
_STRIDE = 64


def owner_lifecycle(connection: Connection, project: str, owner: str) -> str | None:
    """`active` or `deleted`, of a run or a logged model; None where there is neither."""
    r, m = t.runs.c, t.logged_models.c
    both = union_all(
        select(r.lifecycle).where(r.project == project, r.run_id == owner),
        select(m.lifecycle).where(m.project == project, m.model_id == owner),
    )
    return connection.execute(both).scalar()


def put_file(tx: Connection, file: Artifact, recorded: int) -> None:
    """Let a blob stand at a path, whatever stood there before."""
    row = (*(getattr(file, name) for name in _COLUMNS), recorded)
    upsert_rows(tx, t.artifacts, (*_COLUMNS, "recorded_time"), [row], update=("digest", "size", "media_type", "recorded_time"))


def get_file(connection: Connection, project: str, owner: str, path: str) -> Artifact | None:
    """The file at a path."""
    columns = [_a[name] for name in _COLUMNS]
    row = connection.execute(select(*columns).where(_a.project == project, _a.run_id == owner, _a.path == path)).first()
    return None if row is None else _file(row)


def is_folder(connection: Connection, project: str, owner: str, path: str) -> bool:
    """Whether a file stands somewhere below a path."""
    return connection.execute(select(_a.path).where(*_below(project, owner, path)).limit(1)).first() is not None


def in_the_way(connection: Connection, project: str, owner: str, path: str, parents: Sequence[str]) -> str | None:
    """A file that stands where the path needs a folder, or below the path itself."""
    mine = (_a.project == project, _a.run_id == owner)
    query = select(_a.path).where(*_below(project, owner, path)).limit(1)
    found = connection.execute(query).scalar()
    if found is None and parents:
        found = connection.execute(select(_a.path).where(*mine, _a.path.in_(parents)).limit(1)).scalar()
    return found


def list_folder(
    connection: Connection, project: str, owner: str, folder: str, *, after: str | None, limit: int
) -> tuple[list[Artifact], list[str], str | None]:
    """Files and folders directly under a folder ("": the root) by their bytes, and where to go on (None: at the end).

    `after` is what an earlier page said, the last entry there; a folder with a slash behind it.
    """
    prefix = f"{folder}/" if folder else ""
    files: list[Artifact] = []
    folders: list[str] = []
    last = after
    columns = [_a[name] for name in _COLUMNS]
    while len(files) + len(folders) < limit:
        start = _start(prefix, last)
        where = [_a.project == project, _a.run_id == owner, start, *_until(prefix)]
        stride = min(_STRIDE, limit - len(files) - len(folders))
        rows = connection.execute(select(*columns).where(*where).order_by(_a.path).limit(stride)).all()
        for row in rows:
            name, slash, _ = row.path[len(prefix) :].partition("/")
            if not slash:
                files.append(_file(row))
                last = row.path
            elif last != f"{prefix}{name}/":
                folders.append(prefix + name)
                last = f"{prefix}{name}/"
        if len(rows) < stride:
            return files, folders, None
    return files, folders, last


def delete_files(tx: Connection, project: str, owner: str, path: str) -> int:
    """Forget the file at a path and all below it; returns how many."""
    gone = tx.execute(delete(t.artifacts).where(_a.project == project, _a.run_id == owner, _a.path == path)).rowcount
    return gone + tx.execute(delete(t.artifacts).where(*_below(project, owner, path))).rowcount


# ── uploads in parts ─────────────────────────────────────────────────────────────────────────────────────────────────


def insert_upload(tx: Connection, upload: Upload) -> bool:
    """A new upload; False where its id is there."""
    return insert_new(tx, t.uploads, _row(upload)) == 1


def get_upload(connection: Connection, project: str, upload_id: str) -> Upload | None:
    """An upload."""
    row = connection.execute(select(t.uploads).where(_u.project == project, _u.upload_id == upload_id)).first()
    if row is None:
        return None
    parts = {int(number): msgspec.convert(part, UploadPart) for number, part in row.parts.items()}
    return Upload(
        project=row.project, upload_id=row.upload_id, owner=row.run_id, path=row.path, parts=parts, recorded_time=row.recorded_time
    )


def put_parts(tx: Connection, upload: Upload) -> None:
    """Write an upload's parts as they are now."""
    insert_or_update(tx, t.uploads, _row(upload), columns=("parts",))


def delete_upload(tx: Connection, project: str, upload_id: str) -> bool:
    """Forget an upload; False where there was none."""
    return tx.execute(delete(t.uploads).where(_u.project == project, _u.upload_id == upload_id)).rowcount == 1


def forget_uploads(tx: Connection, before: dt.datetime) -> int:
    """Forget uploads begun before a time; returns how many."""
    return tx.execute(delete(t.uploads).where(_u.recorded_time < before)).rowcount


def _file(row: Any) -> Artifact:
    return Artifact(**dict(zip(_COLUMNS, row, strict=True)))


def _row(upload: Upload) -> dict[str, Any]:
    parts = {str(number): msgspec.structs.asdict(part) for number, part in upload.parts.items()}
    return {
        "project": upload.project,
        "upload_id": upload.upload_id,
        "run_id": upload.owner,
        "path": upload.path,
        "parts": parts,
        "recorded_time": upload.recorded_time,
    }


def _below(project: str, owner: str, path: str) -> tuple[ColumnElement[bool], ...]:
    return (_a.project == project, _a.run_id == owner, *_until(f"{path}/"), _a.path > literal(f"{path}/"))


def _until(prefix: str) -> tuple[ColumnElement[bool], ...]:
    """Up to the first key behind all that begin with `prefix`, whose last character is a slash: `0` is the character after it."""
    return (_a.path < literal(f"{prefix[:-1]}0"),) if prefix else ()


def _start(prefix: str, last: str | None) -> ColumnElement[bool]:
    if last is None:
        return _a.path > literal(prefix)
    return _a.path >= literal(f"{last[:-1]}0") if last.endswith("/") else _a.path > literal(last)
