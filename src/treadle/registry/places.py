"""Where a version's files are, as an address that MLflow clients read: below the root of the artifact proxy.

Files of runs and logged models stand there already. A bundle's files and manifest are laid out under `bundles/DIGEST/` the first time
that somebody asks for them; its blobs are those of the bundle, so that costs rows and no space.
"""

import datetime as dt

from treadle.packaging import bundle as bundles
from treadle.plugins.storage import BlobStore
from treadle.records.errors import TreadleError
from treadle.records.models import ModelVersion
from treadle.registry import sources
from treadle.registry.mlmodel import describe
from treadle.registry.moves import version_of
from treadle.store.db import Connection
from treadle.store.queries import models as queries
from treadle.tracking.paths import BUNDLES

PROXY = "mlflow-artifacts:/"
_DEEPEST = 20


def address_of(tx: Connection, blobs: BlobStore, version: ModelVersion, *, now: dt.datetime) -> str:
    """The address of a version's files; lays out those of a bundle where that was not done yet.

    Raises:
        TreadleError: `not_found` for a copy of a version that is gone, or a version without files.
    """
    for _ in range(_DEEPEST):
        if not version.source:
            return _laid_out(tx, blobs, version, now)
        if not version.source.startswith("models:"):
            return version.source
        read = sources.read(version.source)
        if read.kind == "model":
            return _of_logged_model(tx, version.project, read.owner)
        version = version_of(tx, version.project, read.owner, read.number)
    raise TreadleError(
        f"{version.model}@{version.number} is a copy of a copy, more than {_DEEPEST} deep.", remedy="Register the files themselves."
    )


def _of_logged_model(tx: Connection, project: str, model_id: str) -> str:
    found = queries.logged_model_facts(tx, project, model_id)
    if found is None:
        raise TreadleError(
            f"The logged model {model_id} is gone.",
            remedy="Register another version.",
            code="not_found",
            details={"missing": "logged_model", "id": model_id},
        )
    row = found["model"]
    return row["artifact_location"] or f"{PROXY}{row['experiment']}/models/{model_id}/artifacts"


def _laid_out(tx: Connection, blobs: BlobStore, version: ModelVersion, now: dt.datetime) -> str:
    if not version.sealed:
        raise TreadleError(
            f"{version.model}@{version.number} has neither files nor a bundle.", remedy="Register it again with a source.", code="not_found"
        )
    folder = f"{BUNDLES}/{version.bundle_digest}"
    if not queries.has_file(tx, version.project, "", f"{folder}/{bundles.MANIFEST}"):
        sealed = bundles.read(blobs, version.bundle_digest)
        made = describe(sealed, version.bundle_digest)
        manifest = (bundles.MANIFEST, version.bundle_digest, blobs.size(version.bundle_digest) or 0)
        files = [*((f.path, f.digest, f.size) for f in sealed.files), manifest]
        files += [(path, blobs.put(content), len(content)) for path, content in made.items()]
        queries.insert_files(tx, version.project, "", [(f"{folder}/{path}", digest, size) for path, digest, size in files], now)
    return PROXY + folder
