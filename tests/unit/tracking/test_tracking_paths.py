"""No spelling of a path climbs out of its root."""

import ntpath
import posixpath
from urllib.parse import quote, unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.records.errors import TreadleError
from treadle.tracking.paths import clean, fault, folder, parents

CLIMBING = [
    *("..", "../a", "a/..", "a/../b", "a/../../b", "./a", "a/./b", "."),
    *("%2e%2e/a", "a/%2e%2e/b", "%2E%2E/a", "%252e%252e/a", "..%2fa", "..%252fa", "%25252e%25252e/a", ".%2e/a"),
    *("..\\a", "a\\..\\b", "%5c..%5ca", "..%5ca", "a%255cb", "\\\\host\\share"),
    *("/etc/passwd", "//etc/passwd", "%2fetc/passwd", "%252Fetc", "C:/a", "c:\\a", "C:a", "a/C:/b", "C%3A/a"),
    *("file:/etc/passwd", "file:///etc", "FILE:a", "file%3a/etc", "http://host/a", "s3:/bucket", "mlflow-artifacts:/1"),
    *("a//b", "a/", "", "a\x00b", "a%00b", "a\nb", "a\r\nb", "a\x7fb", "a\u202eb", "\ud800", "%" + "25" * 20 + "2e"),
    *("x" * 1001, "ü" * 1001, "𝄞" * 501, "a/" * 5000 + "a"),
]


@pytest.mark.parametrize("path", CLIMBING, ids=lambda p: ascii(p[:30]))
def test_what_climbs_or_cannot_be_shown_is_refused(path):
    assert fault(path)
    with pytest.raises(TreadleError, check=lambda e: e.code == "bad_request" and len(e.what) < 800) as told:
        clean(path)
    assert told.value.what.isprintable()


@pytest.mark.parametrize(
    "path",
    [
        "a",
        "a/b.txt",
        "..a",
        "a..",
        "...",
        "a..b/..c",
        "100%.txt",
        "a%20b",
        "50%25",
        "images/loss%step%1%timestamp%1700000000000%0a1b.png",
        "loss #1?.png",
        "a:b"[1:] + "x",
        "résumé/図.png",
        "שלום/a",
        ".hidden",
        "model/MLmodel",
        "x" * 1000,
        "12:30.log",
    ],
)
def test_what_does_not_climb_is_taken_as_it_is(path):
    assert clean(path) == path


def test_a_folder_may_be_the_root():
    assert [folder(p) for p in ("", ".", "./", "/", "a/", "a/b")] == ["", "", "", "", "a", "a/b"]
    with pytest.raises(TreadleError):
        folder("a//")
    assert parents("a") == []


pieces = st.sampled_from(
    ["..", ".", "/", "\\", "%2e", "%2E", "%2f", "%5c", "%25", "25", "2e", "2f", "C:", "file:", "a", "b", "é", "%00", " "]
)


@settings(max_examples=500, deadline=None)
@given(st.lists(pieces, min_size=1, max_size=10).map("".join), st.integers(0, 4))
def test_whatever_is_taken_stays_below_its_root_however_it_is_read(path, times):
    if fault(path):
        return
    read = path
    for _ in range(times):
        read = unquote(read)
    assert posixpath.normpath(posixpath.join("/root", read)).startswith("/root/")
    windows = ntpath.normpath(ntpath.join("R:\\root", read))
    assert windows.startswith("R:\\root\\")
    assert not fault(quote(path)) or quote(path) != path
