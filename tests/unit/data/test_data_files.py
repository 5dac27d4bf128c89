"""Files: every format, and each way in which one can be broken."""

import datetime as dt
import gzip

import polars as pl
import pytest

from treadle.data.files import read_file
from treadle.records.definitions import Column
from treadle.records.errors import TreadleError

FRAME = pl.DataFrame(
    {
        "id": [1, 2, 3],
        "at": [dt.datetime(2013, 1, 1, h, tzinfo=dt.UTC) for h in range(3)],
        "origin": ["JFK", None, "LGA"],
        "x": [0.5, None, 2.0],
    }
)
SCHEMA = (
    Column(name="id", dtype="int64"),
    Column(name="at", dtype="datetime"),
    Column(name="origin", dtype="string"),
    Column(name="x", dtype="float64"),
)


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".tsv", ".parquet", ".arrow", ".feather", ".jsonl", ".ndjson"])
def test_every_format_gives_the_same_rows(tmp_path, suffix):
    path = tmp_path / f"rows{suffix}"
    if suffix == ".parquet":
        FRAME.write_parquet(path)
    elif suffix in (".arrow", ".feather"):
        FRAME.write_ipc(path)
    elif suffix in (".jsonl", ".ndjson"):
        FRAME.with_columns(pl.col("at").dt.to_string("%Y-%m-%dT%H:%M:%SZ")).write_ndjson(path)
    else:
        text = FRAME.write_csv(separator="\t" if suffix == ".tsv" else ",").encode()
        path.write_bytes(gzip.compress(text) if suffix == ".csv.gz" else text)
    assert read_file(path, columns=SCHEMA).equals(FRAME)


def test_text_is_read_with_the_schema(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("id,x\n007,NA\n")
    schema = (Column(name="id", dtype="string"), Column(name="x", dtype="float64"))
    with pytest.raises(TreadleError, match="of other types than declared"):
        read_file(path, columns=schema)
    assert read_file(path, columns=schema, nulls=["NA"]).row(0) == ("007", None)


def broken(tmp_path, name: str, content: bytes):
    path = tmp_path / name
    path.write_bytes(content)
    return path


def test_broken_files_are_refused_by_name(tmp_path):
    csv = FRAME.write_csv().encode()
    packed = gzip.compress(csv * 100)
    FRAME.write_parquet(tmp_path / "whole.parquet")
    FRAME.write_ipc(tmp_path / "whole.arrow")
    parquet, arrow = (tmp_path / "whole.parquet").read_bytes(), (tmp_path / "whole.arrow").read_bytes()
    for name, content, word in [
        ("empty.csv", b"", "is empty"),
        ("header.csv", b"id,at,origin,x\n", "no rows"),
        ("cut.csv", csv[: csv.rindex(b"\n", 0, -1) + 4], "of 4 fields"),
        ("cut.csv.gz", packed[: len(packed) // 2], "damaged, truncated"),
        ("no.csv.gz", csv, "damaged, truncated"),
        ("cut.parquet", parquet[: len(parquet) // 2], "damaged, truncated"),
        ("cut.arrow", arrow[: len(arrow) // 2], "damaged, truncated"),
        ("no.jsonl", b'{"id": 1}\n{"id": ', "damaged, truncated"),
        ("noise.csv", bytes(range(128, 256)) * 10, "damaged, truncated"),
        ("wrong.csv", b"id,at,origin,x\none,2013-01-01T00:00:00Z,JFK,1\n", "other types than declared"),
        ("rows.xls", b"x", "a suffix that says no format"),
    ]:
        with pytest.raises(TreadleError) as raised:
            read_file(broken(tmp_path, name, content), columns=SCHEMA)
        assert word in raised.value.what, name
        assert raised.value.code == "bad_data"
        assert name in raised.value.what
    with pytest.raises(TreadleError) as raised:
        read_file(tmp_path / "nothing.csv")
    assert raised.value.code == "not_found"
