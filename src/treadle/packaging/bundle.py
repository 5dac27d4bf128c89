"""The bundle: a sealed, content-addressed model package.

A bundle is a manifest (`Bundle`, canonical JSON) and files, each under its own digest; the digest of the manifest's bytes names the
whole. In the blob store the files lie as blobs; unpacked, they lie in a folder named by the digest, where serving opens it with
nothing but this module: every byte is checked before a model is built from it.

    manifest.json      what it is: signature, views, environment, where it comes from, the card
    model.txt          LightGBM's text model       (or model.skops, or nothing but model.onnx)
    model.onnx         the ONNX export, kept only where it was proven equal on the proof rows
    proof.npy          rows × (inputs + 1): proof rows, and in the last column what the model said about them when it was sealed
    reference.profile  profile of the training rows, which drift is measured against
    requirements.txt   the environment it was trained in
    judged.model       where the model was fitted again after its gates: the one they judged, which later candidates are compared with
    judged.json        on rows that this one has learned from; and its signature

Next: the registry gives it a name and a number.
"""

import datetime as dt
import io
import os
import platform
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from treadle.packaging import export, flavors
from treadle.packaging.flavors import Matrix, Predictor
from treadle.plugins.storage import BlobStore
from treadle.records.definitions import FeatureView
from treadle.records.digests import canonical, digest
from treadle.records.errors import TreadleError
from treadle.records.models import Bundle, BundleFile, Fitted, Signature

FORMAT = 1
MANIFEST = "manifest.json"
ONNX = "model.onnx"
PROOF = "proof.npy"
PROFILE = "reference.profile"
JUDGED, JUDGED_SIGNATURE = "judged.model", "judged.json"
MODEL = {"lightgbm": "model.txt", "sklearn": "model.skops", "xgboost": "model.xgb", "onnx": ONNX}
#: Proof rows that travel in the bundle; the export is proven on all that were given.
KEPT_PROOF_ROWS = 200


def seal(  # noqa: PLR0913  (a manifest has that many facts; all but the model are by name)
    blobs: BlobStore,
    fitted: Fitted,
    *,
    project: str,
    model: str,
    run_id: str,
    event_time: dt.datetime,
    proof: Matrix,
    views: Sequence[FeatureView] = (),
    trained_on: Sequence[str] = (),
    code_digest: str = "",
    environment: Sequence[str] = (),
    card: dict[str, Any] | None = None,
    reference_profile: bytes | None = None,
    judged: Fitted | None = None,
    trust: Sequence[str] = (),
) -> tuple[str, Bundle]:
    """Seal a trained model; returns the bundle's digest and manifest. The same arguments give the same digest.

    Args:
        blobs: where the files and the manifest go.
        fitted: what the fit step returned.
        event_time: business time of the sealing.
        proof: encoded rows (rows × inputs, float64, NaN = missing) that the ONNX export must agree on; take real test rows.
        views: feature views the model reads online.
        trained_on: digests of the dataset versions.
        environment: `name==version` of the distributions it was trained with.
        card: what people should know about it, JSON.
        reference_profile: `evaluation.profiles` bytes of the training rows.
        judged: the model of the same flavor that was evaluated, where `fitted` is its refit on more rows.

    Raises:
        TreadleError: `bad_request` where the proof does not fit the signature or the model gives other than finite numbers on it.
    """
    proof = np.ascontiguousarray(proof, dtype=np.float64)
    if proof.ndim != 2 or proof.shape[1] != len(fitted.signature.inputs) or not len(proof):
        raise TreadleError(
            f"The proof rows have shape {proof.shape}; the model takes {len(fitted.signature.inputs)} inputs.",
            remedy="Encode at least one row with online.encoding.encode_frame(fitted.signature, frame).",
        )
    native = flavors.load(fitted.flavor, fitted.content, trust=trust)
    said = native.predict(proof)
    if not np.isfinite(said).all():
        raise TreadleError(
            f"The model says {said[~np.isfinite(said)][0]} about a proof row; a prediction must be a finite number.",
            remedy="Look for infinities in the training rows, and train again.",
        )
    contents = {MODEL[fitted.flavor]: fitted.content}
    exported, difference = export.export(fitted, native, proof)
    if exported is not None:
        contents[ONNX] = exported
    kept = proof[:KEPT_PROOF_ROWS]
    contents[PROOF] = _npy(np.column_stack([kept, said[: len(kept)]]))
    if reference_profile is not None:
        contents[PROFILE] = reference_profile
    if judged is not None:
        contents |= {JUDGED: judged.content, JUDGED_SIGNATURE: canonical(judged.signature)}
    if environment:
        contents["requirements.txt"] = "".join(f"{line}\n" for line in environment).encode()
    bundle = Bundle(
        format=FORMAT,
        model=model,
        flavor=fitted.flavor,
        signature=fitted.signature,
        views=tuple(views),
        files=tuple(BundleFile(path=path, digest=blobs.put(content), size=len(content)) for path, content in contents.items()),
        onnx_equal=difference,
        environment=tuple(environment),
        python=platform.python_version(),
        code_digest=code_digest,
        run_id=run_id,
        project=project,
        trained_on=tuple(trained_on),
        event_time=event_time,
        card=card or {},
    )
    return blobs.put(canonical(bundle)), bundle


def read(blobs: BlobStore, bundle_digest: str) -> Bundle:
    """The manifest of a sealed bundle.

    Raises:
        TreadleError: `not_found`, `corrupt`, or `newer_schema` for a format that this release does not know.
    """
    return _manifest(blobs.get(bundle_digest), bundle_digest)


def content(blobs: BlobStore, bundle: Bundle, path: str) -> bytes | None:
    """One file of a bundle, verified; None where the bundle has no such file."""
    found = next((file for file in bundle.files if file.path == path), None)
    return None if found is None else blobs.get(found.digest)


def load(blobs: BlobStore, bundle_digest: str, *, native: bool = False, trust: Sequence[str] = ()) -> tuple[Bundle, Predictor]:
    """Open a bundle straight from the blob store. `native` asks for the model itself even where there is an ONNX export."""
    bundle = read(blobs, bundle_digest)
    model = content(blobs, bundle, MODEL[bundle.flavor])
    assert model is not None
    return bundle, flavors.load(bundle.flavor, model, onnx=None if native else content(blobs, bundle, ONNX), trust=trust)


def load_judged(blobs: BlobStore, bundle: Bundle, *, trust: Sequence[str] = ()) -> tuple[Signature, Predictor] | None:
    """The model that the gates judged, where the sealed one was fitted again after that; else None."""
    model, signature = content(blobs, bundle, JUDGED), content(blobs, bundle, JUDGED_SIGNATURE)
    if model is None or signature is None:
        return None
    return msgspec.json.decode(signature, type=Signature), flavors.load(bundle.flavor, model, trust=trust)


def unpack(blobs: BlobStore, bundle_digest: str, into: Path) -> Path:
    """Unpack a bundle as the folder `into/DIGEST` and return it; it appears complete or not at all. One that is there is left alone."""
    target = into / bundle_digest
    if target.is_dir():
        return target
    into.mkdir(parents=True, exist_ok=True)
    bundle = read(blobs, bundle_digest)
    building = into / f".{bundle_digest[:16]}.{secrets.token_hex(4)}"
    building.mkdir()
    try:
        for file in bundle.files:
            _write(building / _inside(file.path), blobs.get(file.digest))
        _write(building / MANIFEST, blobs.get(bundle_digest))
        try:
            building.rename(target)
        except OSError:
            if not target.is_dir():  # else another process was first, with the same bytes
                raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return target


def open_bundle(path: Path, *, native: bool = False, trust: Sequence[str] = ()) -> tuple[Bundle, Predictor]:
    """Open an unpacked bundle: check every file's digest, then build the predictor. Needs no blob store.

    Raises:
        TreadleError: `not_found`, `corrupt` naming the file, `newer_schema`, `denied` for untrusted types.
    """
    manifest_file = path / MANIFEST
    if not manifest_file.is_file():
        raise TreadleError(f"There is no bundle in {path}.", remedy="Publish the endpoint again: treadle apply", code="not_found")
    encoded = manifest_file.read_bytes()
    if len(path.name) == 64 and digest(encoded) != path.name:
        raise _corrupt(manifest_file)
    bundle = _manifest(encoded, path.name)
    contents: dict[str, bytes] = {}
    for file in bundle.files:
        found = path / _inside(file.path)
        contents[file.path] = found.read_bytes() if found.is_file() else b""
        if digest(contents[file.path]) != file.digest:
            raise _corrupt(found)
    predictor = flavors.load(bundle.flavor, contents[MODEL[bundle.flavor]], onnx=None if native else contents.get(ONNX), trust=trust)
    return bundle, predictor


def prove(path: Path, predictor: Predictor) -> float:
    """The smoke test of an unpacked bundle: the largest absolute difference, on its proof rows, between what `predictor` says here and
    what the model said when it was sealed."""
    rows = np.load(path / PROOF, allow_pickle=False)
    return float(np.max(np.abs(predictor.predict(np.ascontiguousarray(rows[:, :-1])) - rows[:, -1])))


def _manifest(encoded: bytes, name: str) -> Bundle:
    try:
        made = msgspec.json.decode(encoded, type=dict[str, Any]).get("format")
        if isinstance(made, int) and made > FORMAT:
            raise TreadleError(
                f"Bundle {name[:12]} has format {made}; this release reads up to {FORMAT}.",
                remedy="Upgrade Treadle: pip install -U treadle",
                code="newer_schema",
            )
        return msgspec.json.decode(encoded, type=Bundle)
    except msgspec.DecodeError as error:
        raise TreadleError(
            f"{name[:12]} is no bundle: {error}.", remedy="Give the digest of a bundle: treadle models MODEL", code="corrupt"
        ) from error


def _inside(path: str) -> str:
    """A file's path, refused where it could leave the bundle's folder."""
    if not path or path.startswith(("/", ".")) or "/" in path or "\\" in path:
        raise TreadleError(f"A bundle names the file {path!r}, which is no plain file name.", remedy="Do not use it.", code="corrupt")
    return path


def _write(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _corrupt(path: Path) -> TreadleError:
    return TreadleError(
        f"{path} does not match the digest in its bundle.",
        remedy=f"Remove the folder and publish again: rm -r {path.parent}",
        code="corrupt",
    )
