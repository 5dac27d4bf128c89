"""Files over real sockets: streamed both ways, whole or not at all, and never a page of the console."""

import http.client
import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from api_house import House
from sqlalchemy import update

from treadle.api.files import FILES, FileRoutes
from treadle.operations.ledger import CreateRun
from treadle.records.calls import Role
from treadle.records.digests import digest
from treadle.store import tables as t
from treadle.tracking.files import Files

HTML = b"<script>document.title='run'</script>"


class Shop(House):
    """A house with files, one run in it, served."""

    def __init__(self, root: Path, **more: Any):
        super().__init__(root, lambda blobs: [Files(blobs)])
        self.dispatch(CreateRun(project="p", run_id="r"), actor=self.owner)
        self.more = more

    def mounted(self) -> Any:
        return self.serving(mounts=[(FILES, FileRoutes(self.dispatch, self.blobs, **self.more))])

    def blobs_there(self) -> list[int]:
        return [size for _, size in self.blobs.listing()]

    def half_written(self) -> list[str]:
        return [f.name for f in (self.blobs.root / "tmp").iterdir() if f.suffix != ".lock"]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    made = Shop(tmp_path_factory.mktemp("house"))
    with made.mounted() as port:
        made.port = port
        yield made
    made.database.close()


def ask(port, method, path, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def told(answer):
    return answer[0], json.loads(answer[2]).get("code")


def test_a_file_comes_back_as_it_was_put(shop):
    status, headers, body = ask(shop.port, "PUT", "/files/p/r/plots/a%20b.png", b"picture")
    made = json.loads(body)
    assert (status, made["path"], made["size"], made["media_type"]) == (200, "plots/a b.png", 7, "image/png")
    assert headers["etag"] == f'"{digest(b"picture")}"'
    status, headers, body = ask(shop.port, "GET", "/files/p/r/plots/a%20b.png")
    assert (status, body, headers["content-type"], headers["etag"]) == (200, b"picture", "image/png", f'"{digest(b"picture")}"')
    assert headers["content-disposition"] == "attachment; filename=\"a b.png\"; filename*=UTF-8''a%20b.png"
    status, headers, body = ask(shop.port, "HEAD", "/files/p/r/plots/a%20b.png")
    assert (status, headers["content-length"], body) == (200, "7", b"")
    assert ask(shop.port, "PUT", "/files/p/r/empty")[0] == 200
    assert ask(shop.port, "GET", "/files/p/r/empty")[2] == b""
    assert ask(shop.port, "PUT", "/files/p/-/shared/notes.md", b"nobody's")[0] == 200
    assert ask(shop.port, "GET", "/files/p/-/shared/notes.md")[2] == b"nobody's"
    assert json.loads(ask(shop.port, "DELETE", "/files/p/r/plots")[2]) == {"changed": True}
    assert told(ask(shop.port, "GET", "/files/p/r/plots/a%20b.png")) == (404, "not_found")


def test_a_page_never_runs_in_the_consoles_origin(shop):
    ask(shop.port, "PUT", "/files/p/r/evil.html", HTML, Content_Type="text/html; charset=utf-8")
    status, headers, body = ask(shop.port, "GET", "/files/p/r/evil.html", Accept="text/html")
    assert (status, body) == (200, HTML)
    assert headers["content-disposition"].startswith("attachment;")
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("sandbox;")
    ask(shop.port, "PUT", "/files/p/r/evil.txt", HTML, Content_Type="text/html\x80; x")
    assert ask(shop.port, "GET", "/files/p/r/evil.txt")[1]["content-type"] == "text/plain"


def test_a_large_file_is_never_held_in_memory(shop):
    """40 MB, over the limit of other requests, in pieces."""
    piece, count = bytes(range(256)) * 4096, 40

    def pieces():
        for _ in range(count):
            yield piece

    status, _, body = ask(shop.port, "PUT", "/files/p/r/large.bin", pieces(), Content_Length=str(count * len(piece)))
    assert (status, json.loads(body)["size"]) == (200, count * len(piece))
    status, headers, body = ask(shop.port, "GET", "/files/p/r/large.bin")
    assert (status, len(body), digest(body)) == (200, count * len(piece), headers["etag"].strip('"'))
    status, _, body = ask(shop.port, "PUT", "/files/p/r/chunked.bin", pieces())  # no length: chunked
    assert (status, json.loads(body)["size"]) == (200, count * len(piece))
    assert told(ask(shop.port, "POST", "/files/p/r/large.bin", b"x" * 100)) == (405, "bad_request")


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("bytes=0-3", (206, b"0123", "bytes 0-3/10")),
        ("bytes=7-", (206, b"789", "bytes 7-9/10")),
        ("bytes=-2", (206, b"89", "bytes 8-9/10")),
        ("bytes=-99", (206, b"0123456789", "bytes 0-9/10")),
        ("bytes=4-999", (206, b"456789", "bytes 4-9/10")),
        ("bytes=5-4", (200, b"0123456789", None)),
        ("bytes=0-1,3-4", (200, b"0123456789", None)),
        ("lines=0-1", (200, b"0123456789", None)),
        ("bytes=-", (200, b"0123456789", None)),
    ],
)
def test_ranges(shop, asked, expected):
    ask(shop.port, "PUT", "/files/p/r/digits", b"0123456789")
    status, headers, body = ask(shop.port, "GET", "/files/p/r/digits", Range=asked)
    assert (status, body, headers.get("content-range")) == expected


def test_ranges_that_have_nothing_and_conditions(shop):
    ask(shop.port, "PUT", "/files/p/r/digits", b"0123456789")
    etag = f'"{digest(b"0123456789")}"'
    for asked in ("bytes=10-", "bytes=-0", "bytes=99-100"):
        status, headers, _ = ask(shop.port, "GET", "/files/p/r/digits", Range=asked)
        assert (status, headers.get("content-range")) == (416, "bytes */10")
    assert ask(shop.port, "GET", "/files/p/r/digits", Range="bytes=0-0", If_Range='"old"')[0] == 200
    assert ask(shop.port, "GET", "/files/p/r/digits", Range="bytes=0-0", If_Range=etag)[0] == 206
    assert ask(shop.port, "GET", "/files/p/r/digits", If_None_Match=f'"x", W/{etag}')[0::2] == (304, b"")
    assert ask(shop.port, "GET", "/files/p/r/digits", If_None_Match='"x"')[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "../../etc/passwd",
        "a/../b",
        "%2e%2e/b",
        "%252e%252e/b",
        "a%5c..%5cb",
        "%2fetc/passwd",
        "C:/a",
        "file:/etc/passwd",
        "a//b",
        "a//",
        "",
        "a%00b",
        "x" * 10_000,
    ],
)
def test_paths_that_climb_are_refused_and_leave_nothing(shop, path):
    before = shop.blobs_there()
    for method in ("PUT", "GET", "DELETE"):
        assert told(ask(shop.port, method, f"/files/p/r/{path}", b"x" if method == "PUT" else None)) == (400, "bad_request")
    assert shop.blobs_there() == before


def test_what_is_no_address(shop):
    for path in ("/files/", "/files/p", "/files/p/r", "/files//r/a", "/files/p//a"):
        assert ask(shop.port, "GET", path)[0] == 404
    assert told(ask(shop.port, "GET", "/files/p/r/%ff")) == (400, "bad_request")
    assert told(ask(shop.port, "PUT", "/files/p/none/a", b"x")) == (404, "not_found")
    assert told(ask(shop.port, "PUT", "/files/..%2f..%2fp/r/a", b"x")) == (400, "bad_request")


def raw(port, text):
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(text)
    return connection


@pytest.mark.parametrize("encoding", [b"Content-Length: 5000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n4C4B40\r\n"])
def test_an_upload_that_is_cut_leaves_nothing(shop, encoding):
    before = shop.blobs_there()
    connection = raw(shop.port, b"PUT /files/p/r/cut.bin HTTP/1.1\r\nHost: 127.0.0.1\r\n" + encoding + b"x" * 2_500_000)
    deadline = time.monotonic() + 10
    while not shop.half_written() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert shop.half_written()
    connection.close()
    while shop.half_written() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert (shop.half_written(), shop.blobs_there()) == ([], before)
    assert told(ask(shop.port, "GET", "/files/p/r/cut.bin")) == (404, "not_found")


def test_a_compressed_body_is_refused(shop):
    assert told(ask(shop.port, "PUT", "/files/p/r/z", b"x", Content_Encoding="gzip")) == (415, "bad_request")


def test_a_corrupt_file_is_not_given_out_as_whole(shop):
    for content in (b"small", b"large" * 1_000_000):
        ask(shop.port, "PUT", "/files/p/r/bad", content)
        place = shop.blobs.place(digest(content))
        place.chmod(0o600)
        place.write_bytes(content[:-1] + b"!")
        if len(content) < 1 << 20:
            assert told(ask(shop.port, "GET", "/files/p/r/bad")) == (500, "corrupt")
        else:
            with pytest.raises(http.client.IncompleteRead):
                ask(shop.port, "GET", "/files/p/r/bad")
        place.unlink()
        assert told(ask(shop.port, "GET", "/files/p/r/bad")) == (404, "not_found")


def test_a_run_in_the_bin_is_read_and_not_written(tmp_path):
    shop = Shop(tmp_path)
    with shop.mounted() as port:
        ask(port, "PUT", "/files/p/r/a", b"kept")
        shop.database.write(lambda tx: tx.execute(update(t.runs).values(lifecycle="deleted")))
        assert told(ask(port, "PUT", "/files/p/r/b", b"x")) == (409, "conflict")
        assert told(ask(port, "DELETE", "/files/p/r/a")) == (409, "conflict")
        assert ask(port, "GET", "/files/p/r/a")[2] == b"kept"
        assert shop.blobs_there() == [4]
    shop.database.close()


def test_too_large_a_full_disk_and_who_may(tmp_path, monkeypatch):
    shop = Shop(tmp_path, max_upload=1000)
    token = {"Authorization": f"Bearer {shop.token('viv', 'tok', Role.viewer)}"}
    with shop.mounted() as port:
        assert told(ask(port, "PUT", "/files/p/r/a", b"x" * 1001))[0] == 413
        assert told(ask(port, "PUT", "/files/p/r/a", iter([b"x" * 600, b"x" * 600])))[0] == 413
        assert told(ask(port, "PUT", "/files/p/r/a", b"x", **token)) == (403, "denied")
        assert ask(port, "PUT", "/files/p/r/a", b"x")[0] == 200
        assert ask(port, "GET", "/files/p/r/a", **token)[2] == b"x"
        from treadle.store import blobs as module

        def full(_descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(module.os, "fsync", full)
        assert told(ask(port, "PUT", "/files/p/r/b", b"y")) == (507, "storage_full")
        assert (shop.half_written(), shop.blobs_there()) == ([], [1])
    shop.database.close()
