"""Bundles: sealed, read, unpacked, opened and proven, with every byte checked."""

import datetime as dt
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest

from treadle.online.encoding import encode_frame
from treadle.packaging import bundle, flavors
from treadle.packaging.scoring import score_fitted, score_frame
from treadle.records.errors import TreadleError
from treadle.store.blobs import LocalBlobs
from treadle.training import fit

FEATURES = ["carrier", "distance", "share", "night"]
WHEN = dt.datetime(2013, 2, 1, tzinfo=dt.UTC)


def rows(n=3000, seed=0):
    rng = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {
            "carrier": rng.choice(["AA", "UA", "B6"], n).tolist(),
            "distance": rng.integers(80, 3000, n),
            "share": np.round(rng.random(n), 6),
            "night": rng.random(n) < 0.3,
        }
    )
    frame = frame.with_columns(carrier=pl.when(pl.col("share") < 0.05).then(None).otherwise("carrier"))
    odds = frame["share"].to_numpy() + 0.3 * (frame["carrier"] == "UA").fill_null(False).to_numpy() + rng.normal(0, 0.3, n)
    return frame.with_columns(late=pl.Series(odds > 0.6))


@pytest.fixture(scope="module")
def models():
    train = rows()
    return {
        "lightgbm": fit.fit_lightgbm(train, features=FEATURES, label="late", params={"n_estimators": 20}, unknown={"carrier": "other"}),
        "sklearn": fit.fit_logistic(train, features=FEATURES, label="late"),
    }


@pytest.fixture
def blobs(tmp_path):
    return LocalBlobs(tmp_path / "blobs")


def seal(blobs, fitted, **changes):
    given = {"project": "flights", "model": "delay", "run_id": "run_1", "event_time": WHEN, "proof": encode_frame(fitted.signature, rows())}
    return bundle.seal(blobs, fitted, **{**given, **changes})


@pytest.mark.parametrize("flavor", ["lightgbm", "sklearn"])
def test_sealed_read_unpacked_opened(models, blobs, tmp_path, flavor):
    fitted = models[flavor]
    digest, sealed = seal(blobs, fitted, environment=["numpy==2"], card={"owner": "ops"}, reference_profile=b"profile", trained_on=["d1"])
    assert (
        seal(blobs, fitted, environment=["numpy==2"], card={"owner": "ops"}, reference_profile=b"profile", trained_on=["d1"])[0] == digest
    )
    assert bundle.read(blobs, digest) == sealed
    assert (sealed.flavor, sealed.signature, sealed.trained_on) == (flavor, fitted.signature, ("d1",))
    assert sealed.onnx_equal is not None
    assert sealed.onnx_equal < (1e-12 if flavor == "lightgbm" else 1e-6)
    assert bundle.content(blobs, sealed, bundle.PROFILE) == b"profile"
    assert bundle.content(blobs, sealed, "absent") is None
    path = bundle.unpack(blobs, digest, tmp_path / "bundles")
    assert path == bundle.unpack(blobs, digest, tmp_path / "bundles")
    opened, predictor = bundle.open_bundle(path)
    assert opened == sealed
    assert predictor.kind == "onnx"
    assert bundle.prove(path, predictor) < 1e-6
    _, native = bundle.open_bundle(path, native=True)
    assert native.kind == flavor
    assert bundle.prove(path, native) <= 1e-12
    test = rows(500, seed=1).with_columns(carrier=pl.lit("never seen"))
    assert np.abs(score_frame(opened.signature, predictor, test) - score_fitted(fitted, test)).max() < 1e-6


def test_two_unpack_at_once_and_a_torn_one_never_shows(models, blobs, tmp_path):
    digest, _ = seal(blobs, models["lightgbm"])
    with ThreadPoolExecutor(6) as pool:
        paths = set(pool.map(lambda _: bundle.unpack(blobs, digest, tmp_path / "b"), range(12)))
    assert paths == {tmp_path / "b" / digest}
    assert [p.name for p in (tmp_path / "b").iterdir()] == [digest]
    lost, sealed = seal(blobs, models["lightgbm"], run_id="run_2", reference_profile=b"only here")
    blobs.delete(next(f.digest for f in sealed.files if f.path == bundle.PROFILE))
    with pytest.raises(TreadleError) as caught:
        bundle.unpack(blobs, lost, tmp_path / "b")
    assert caught.value.code == "not_found"
    assert [p.name for p in (tmp_path / "b").iterdir()] == [digest]


@pytest.mark.parametrize("name", ["model.txt", "model.onnx", "proof.npy", "manifest.json"])
def test_any_changed_byte_is_found(models, blobs, tmp_path, name):
    digest, _ = seal(blobs, models["lightgbm"])
    path = bundle.unpack(blobs, digest, tmp_path / "b")
    content = bytearray((path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (path / name).write_bytes(bytes(content))
    with pytest.raises(TreadleError) as caught:
        bundle.open_bundle(path)
    assert caught.value.code == "corrupt"
    assert name in caught.value.what
    (path / name).unlink()
    with pytest.raises(TreadleError):
        bundle.open_bundle(path)


def test_bad_manifests(blobs, models):
    _, sealed = seal(blobs, models["lightgbm"])
    newer = blobs.put(msgspec.json.encode({**msgspec.to_builtins(sealed), "format": 99}))
    with pytest.raises(TreadleError) as caught:
        bundle.read(blobs, newer)
    assert caught.value.code == "newer_schema"
    for nonsense in (b"nonsense", b"[]", b"{}"):
        with pytest.raises(TreadleError) as caught:
            bundle.read(blobs, blobs.put(nonsense))
        assert caught.value.code == "corrupt"
    outside = blobs.put(
        msgspec.json.encode({**msgspec.to_builtins(sealed), "files": [{"path": "../evil", "digest": blobs.put(b"x"), "size": 1}]})
    )
    with pytest.raises(TreadleError, match="no plain file name"):
        bundle.unpack(blobs, outside, blobs.root.parent / "b")


def test_proof_rows_must_fit_and_answers_be_finite(models, blobs):
    with pytest.raises(TreadleError, match="proof rows"):
        seal(blobs, models["lightgbm"], proof=np.zeros((3, 2)))
    with pytest.raises(TreadleError, match="proof rows"):
        seal(blobs, models["lightgbm"], proof=np.empty((0, 4)))


def test_no_unpickling_and_no_foreign_types(models):
    import pickle

    import skops.io

    with pytest.raises(TreadleError) as caught:
        flavors.load("sklearn", pickle.dumps({"a": 1}))
    assert caught.value.code == "corrupt"
    with pytest.raises(TreadleError) as caught:
        flavors.load("lightgbm", b"\xff\xfe nonsense")
    assert caught.value.code == "corrupt"
    foreign = skops.io.dumps(Foreign())
    with pytest.raises(TreadleError) as caught:
        flavors.load("sklearn", foreign)
    assert caught.value.code == "denied"
    assert "Foreign" in caught.value.what
    with pytest.raises(TreadleError, match="no model flavor"):
        flavors.load("keras", b"")


class Foreign:
    def predict(self, matrix):
        return np.zeros(len(matrix))


def test_opening_an_exported_bundle_loads_no_training_library(models, blobs, tmp_path):
    digest, _ = seal(blobs, models["lightgbm"])
    path = bundle.unpack(blobs, digest, tmp_path / "b")
    code = f"""
import sys, pathlib, numpy
from treadle.packaging.bundle import open_bundle
b, p = open_bundle(pathlib.Path({str(path)!r}))
assert 0 < p.predict(numpy.zeros((1, 4)))[0] < 1
heavy = [m for m in ("lightgbm", "sklearn", "scipy", "polars", "sqlalchemy", "skl2onnx", "onnx") if m in sys.modules]
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=Path(__file__).parent)


@pytest.mark.parametrize("seed", ["1", "3"])
def test_the_digest_does_not_depend_on_the_process(models, blobs, tmp_path, seed):
    """Between them the two hash seeds give both orders in which skl2onnx writes the operator sets it imports. That order was the only
    thing that ever differed: in 40 processes under load, with hash seeds 1 to 40 and one, two, four and unlimited OpenMP threads, the
    scores, the differences and LightGBM's export were the same to the last bit."""
    code = f"""
import sys, datetime as dt, msgspec, pathlib
from treadle.records.models import Fitted
from treadle.packaging import bundle
from treadle.store.blobs import LocalBlobs
import numpy as np
fitted = msgspec.msgpack.decode(pathlib.Path(sys.argv[1]).read_bytes(), type=Fitted)
proof = np.load(sys.argv[2])
print(bundle.seal(LocalBlobs(pathlib.Path({str(tmp_path)!r}) / "other"), fitted, project="flights", model="delay", run_id="run_1",
    event_time=dt.datetime(2013, 2, 1, tzinfo=dt.UTC), proof=proof)[0])
"""
    for flavor, fitted in models.items():
        here, _ = seal(blobs, fitted)
        (tmp_path / flavor).write_bytes(msgspec.msgpack.encode(fitted))
        np.save(tmp_path / "proof.npy", encode_frame(fitted.signature, rows()))
        command = [sys.executable, "-c", code, str(tmp_path / flavor), str(tmp_path / "proof.npy")]
        there = subprocess.run(command, check=True, capture_output=True, text=True, env={"PYTHONHASHSEED": seed, "PATH": ""}).stdout
        assert there.strip() == here
