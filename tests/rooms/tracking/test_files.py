"""Files of runs and logged models: paths written again, one level at a time, whole or not at all."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, update

from treadle.ledger import Dispatcher, Ledger
from treadle.operations import ledger as ledger_ops
from treadle.operations import tracking as ops
from treadle.records.calls import SYSTEM, Actor, Role
from treadle.records.clock import SystemClock
from treadle.records.errors import TreadleError
from treadle.store import tables as t
from treadle.store.blobs import LocalBlobs
from treadle.tracking.files import Files

P = "p"


@pytest.fixture
def blobs(tmp_path):
    return LocalBlobs(tmp_path / "blobs")


@pytest.fixture
def call(database, blobs, tmp_path):
    dispatch = Dispatcher(database, [Ledger(database, blobs, heads=tmp_path / "heads"), Files(blobs)], complete=False)

    def ask(request, *, actor=SYSTEM):
        return dispatch(request, actor=actor)

    ask(ledger_ops.CreateRun(project=P, run_id="r"))
    ask.database = database
    return ask


def fails(code):
    return pytest.raises(TreadleError, check=lambda e: e.code == code and bool(e.remedy))


def put(call, blobs, path, content=b"x", owner="r"):
    digest = blobs.put(content)
    return call(ops.PutFile(project=P, owner=owner, path=path, digest=digest, size=len(content), media_type="text/plain"))


def listed(call, path="", owner="r", limit=1000):
    files, folders, page = [], [], None
    while True:
        found = call(ops.ListFiles(project=P, owner=owner, path=path, limit=limit, page=page))
        files += [f.path for f in found.files]
        folders += found.folders
        page = found.page.next
        if page is None:
            return files, folders


def paths(call, owner="r"):
    files, folders = listed(call, owner=owner)
    while folders:
        folder = folders.pop()
        more, below = listed(call, folder, owner=owner)
        files += more
        folders += below
    return sorted(files)


def test_a_path_is_written_again(call, blobs):
    first = put(call, blobs, "plots/roc.png", b"one")
    second = put(call, blobs, "plots/roc.png", b"second")
    assert first.digest != second.digest
    found = call(ops.GetFile(project=P, owner="r", path="plots/roc.png"))
    assert (found, found.size) == (second, 6)
    with fails("not_found"):
        call(ops.GetFile(project=P, owner="r", path="plots/other.png"))
    with fails("bad_request"):
        call(ops.GetFile(project=P, owner="r", path="plots"))


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
def test_a_folder_is_one_level(call, blobs, limit):
    for path in ["a.txt", "a/b.txt", "a/c/d.txt", "a/c/e.txt", "a-/x", "a0", "b/1", "Z", "ä/ö.txt", "a b/x"]:
        put(call, blobs, path)
    assert listed(call, limit=limit) == (["Z", "a.txt", "a0"], ["a b", "a-", "a", "b", "ä"])
    assert listed(call, "a", limit=limit) == (["a/b.txt"], ["a/c"])
    assert listed(call, "a/c/", limit=limit) == (["a/c/d.txt", "a/c/e.txt"], [])
    assert listed(call, "nothing/here", limit=limit) == ([], [])


def test_a_folder_below_is_not_read(call, blobs, database):
    digest = blobs.put(b"x")
    row = {"project": P, "run_id": "r", "digest": digest, "size": 1, "media_type": "text/plain", "recorded_time": SystemClock().now()}
    rows = [{**row, "path": f"{folder}/{n:05d}.txt"} for folder in ("deep", "more") for n in range(5000)]
    database.write(lambda tx: tx.execute(insert(t.artifacts), [*rows, {**row, "path": "z"}]))
    from treadle.store.queries import files as queries

    read = []
    with database.read() as connection:
        execute = connection.execute

        def counting(statement, *more):
            result = execute(statement, *more)
            fetch = result.all
            result.all = lambda: (got := fetch(), read.append(len(got)))[0]
            return result

        connection.execute = counting
        found = queries.list_folder(connection, P, "r", "", after=None, limit=1000)
    assert ([f.path for f in found[0]], found[1]) == (["z"], ["deep", "more"])
    assert sum(read) <= 3 * queries._STRIDE


def test_a_file_and_a_folder_do_not_share_a_name(call, blobs):
    put(call, blobs, "a/b")
    for path in ("a", "a/b/c", "a/b/c/d"):
        with fails("conflict"):
            put(call, blobs, path)
    put(call, blobs, "a/bc")
    put(call, blobs, "ab")
    assert paths(call) == ["a/b", "a/bc", "ab"]


def test_deleting_takes_a_file_or_a_folder_and_no_neighbour(call, blobs):
    for path in ["a", "ab", "f/1", "f/g/2", "f0", "f-/1"]:
        put(call, blobs, path)
    for path in ("a", "f/"):
        assert call(ops.DeleteFiles(project=P, owner="r", path=path)).changed
    assert paths(call) == ["ab", "f-/1", "f0"]
    assert not call(ops.DeleteFiles(project=P, owner="r", path="gone")).changed
    for root in ("", ".", "/", "./"):
        with fails("bad_request"):
            call(ops.DeleteFiles(project=P, owner="r", path=root))
    assert paths(call) == ["ab", "f-/1", "f0"]


def test_an_owner_must_be_there_and_in_use(call, blobs, database):
    for verb in (ops.ListFiles, ops.GetFile, ops.CheckFile, ops.DeleteFiles):
        with fails("not_found"):
            call(verb(project=P, owner="nobody", path="a"))
    with fails("not_found"):
        put(call, blobs, "a", owner="nobody")
    put(call, blobs, "shared/readme.md", owner="")
    put(call, blobs, "kept.txt")
    database.write(lambda tx: tx.execute(update(t.runs).values(lifecycle="deleted")))
    for request in (ops.CheckFile(project=P, owner="r", path="b"), ops.DeleteFiles(project=P, owner="r", path="kept.txt")):
        with fails("conflict"):
            call(request)
    with fails("conflict"):
        put(call, blobs, "new.txt")
    assert (paths(call), paths(call, owner="")) == (["kept.txt"], ["shared/readme.md"])


def test_a_blob_must_be_there_and_be_as_long_as_it_is_said(call, blobs):
    digest = blobs.put(b"12345")
    for request, code in [
        (ops.PutFile(project=P, owner="r", path="a", digest="0" * 64, size=1), "not_found"),
        (ops.PutFile(project=P, owner="r", path="a", digest=digest, size=4), "bad_request"),
        (ops.PutFile(project=P, owner="r", path="a", digest="../../etc/passwd", size=4), "bad_request"),
        (ops.PutFile(project=P, owner="r", path="a", digest=digest, size=5, media_type="text/html\r\nSet-Cookie: a=b"), "bad_request"),
    ]:
        with fails(code):
            call(request)
    assert paths(call) == []


def test_a_viewer_reads_and_does_not_write(call, blobs):
    put(call, blobs, "a")
    viewer = Actor(actor_id="v", name="v", role=Role.viewer)
    assert call(ops.GetFile(project=P, owner="r", path="a"), actor=viewer).size == 1
    for verb in (ops.CheckFile, ops.DeleteFiles):
        with fails("denied"):
            call(verb(project=P, owner="r", path="a"), actor=viewer)


def test_a_made_up_page_token_is_refused(call, blobs):
    put(call, blobs, "a/b")
    for token in ["", "x", "[]", "[1]", '["b/c"]', '["a"]', '["a/"]', "[" * 20_000, '["a/\\u0000"]', '["a/' + "x" * 2000 + '"]']:
        with fails("bad_request"):
            call(ops.ListFiles(project=P, owner="r", path="a", page=token))


# ── uploads in parts ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_upload_in_parts(call, blobs):
    parts = {2: b"world", 1: b"hello "}
    start = ops.StartUpload(project=P, upload_id="u", owner="r", path="big.bin")
    assert call(start).parts == {}
    assert call(start).upload_id == "u"
    with fails("conflict"):
        call(ops.StartUpload(project=P, upload_id="u", owner="r", path="other.bin"))
    for number, content in parts.items():
        call(ops.PutPart(project=P, upload_id="u", number=number, digest=blobs.put(content), size=len(content)))
    got = call(ops.GetUpload(project=P, upload_id="u")).parts
    assert [blobs.get(got[n].digest) for n in sorted(got)] == [b"hello ", b"world"]
    whole = blobs.put(b"hello world")
    with fails("conflict"):
        call(ops.CompleteUpload(project=P, upload_id="u", digest=blobs.put(b"hello"), size=5))
    assert call(ops.CompleteUpload(project=P, upload_id="u", digest=whole, size=11)).path == "big.bin"
    assert call(ops.GetFile(project=P, owner="r", path="big.bin")).digest == whole
    for verb in (ops.GetUpload, ops.AbortUpload):
        if verb is ops.AbortUpload:
            assert not call(verb(project=P, upload_id="u")).changed
        else:
            with fails("not_found"):
                call(verb(project=P, upload_id="u"))


def test_parts_that_cannot_be(call, blobs):
    digest = blobs.put(b"x")
    with fails("not_found"):
        call(ops.PutPart(project=P, upload_id="none", number=1, digest=digest, size=1))
    call(ops.StartUpload(project=P, upload_id="u", owner="r", path="a"))
    for number in (0, -1, 10_001):
        with fails("bad_request"):
            call(ops.PutPart(project=P, upload_id="u", number=number, digest=digest, size=1))
    with fails("bad_request"):
        call(ops.StartUpload(project=P, upload_id="v", owner="r", path="../a"))


# ── any tree at all ──────────────────────────────────────────────────────────────────────────────────────────────────

names = st.text(st.sampled_from("ab0.-/ "), min_size=1, max_size=9)
#: Enough that a model of a folder tree (a set of paths) and the database disagree somewhere, if they do.
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@quick
@given(st.lists(names, max_size=12), names, st.integers(1, 5))
@example(["a/b", "a", "a/b/c"], "a", 1)
def test_a_tree_is_what_was_put_into_it(call, blobs, asked, gone, limit):
    from treadle.tracking.paths import fault, parents

    call.database.write(lambda tx: tx.execute(t.artifacts.delete()))
    model = set()
    for path in asked:
        fits = not fault(path) and not set(parents(path)) & model and not any(p.startswith(f"{path}/") for p in model)
        if fits:
            put(call, blobs, path)
            model.add(path)
        else:
            with pytest.raises(TreadleError):
                put(call, blobs, path)
    assert paths(call) == sorted(model)
    for folder in {"", *(f for p in model for f in parents(p))}:
        prefix = f"{folder}/" if folder else ""
        inside = sorted(p for p in model if p.startswith(prefix))
        files = [p for p in inside if "/" not in p[len(prefix) :]]
        folders = list(dict.fromkeys(prefix + p[len(prefix) :].partition("/")[0] for p in inside if "/" in p[len(prefix) :]))
        assert listed(call, folder, limit=limit) == (files, folders)
    if not fault(gone):
        call(ops.DeleteFiles(project=P, owner="r", path=gone))
        assert paths(call) == sorted(p for p in model if p != gone and not p.startswith(f"{gone}/"))
