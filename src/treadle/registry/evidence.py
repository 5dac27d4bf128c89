"""What the record knows of a version: its bundle, its run, its logged model, the data. Gathered once for comparisons and cards."""

from typing import Any

from msgspec import Struct

from treadle.packaging import bundle as bundles
from treadle.plugins.storage import BlobStore
from treadle.records.definitions import Dataset, FeatureView, Label
from treadle.records.errors import TreadleError
from treadle.records.models import Bundle, ModelVersion
from treadle.registry import meaning, sources
from treadle.registry.mlmodel import flavors_of, schema_of
from treadle.store.db import Connection
from treadle.store.queries import models as queries
from treadle.store.queries import registry

#: The largest file of a logged model that is read for its facts.
_READ = 1 << 20


class Data(Struct, frozen=True):
    """One dataset version that a version was made from, as far as it is known."""

    name: str
    version: str
    digest: str
    rows: int | None = None
    until: str = ""
    licence: str = ""
    owner: str = ""
    context: str = ""
    provenance: str = ""
    restrictions: str = ""


class Evidence(Struct, frozen=True):
    """A version and everything recorded about where it comes from."""

    version: ModelVersion
    bundle: Bundle | None
    run: dict[str, Any] | None  # see `queries.run_facts`
    logged: dict[str, Any] | None  # see `queries.logged_model_facts`
    data: list[Data]
    schema: dict[str, str]
    flavor: str
    environment: dict[str, str]
    views: list[FeatureView]
    labels: list[Label]
    unread: str = ""  # why its bundle, or the files that it was logged with, cannot be read now; what they say is missing here then

    @property
    def params(self) -> dict[str, Any]:
        """What it was trained with: the logged model's, the run's, the bundle's."""
        own = self.bundle.card.get("params", {}) if self.bundle else {}
        return {**(self.run["params"] if self.run else {}), **(self.logged["params"] if self.logged else {}), **own}

    @property
    def metrics(self) -> dict[str, float]:
        """What was measured: at registration, and of an unsealed version since."""
        if self.version.sealed:
            return self.version.metrics
        since = self.logged["metrics"] if self.logged and self.logged["metrics"] else (self.run["metrics"] if self.run else {})
        return {**self.version.metrics, **since}

    @property
    def code(self) -> dict[str, str]:
        """Code digest, git revision, where it was run."""
        row = self.run["run"] if self.run else {}
        tags = self.run["tags"] if self.run else {}
        found = {
            "code snapshot": (self.bundle.code_digest if self.bundle else "") or row.get("code_digest") or "",
            "git revision": row.get("git_revision") or tags.get("mlflow.source.git.commit", ""),
            "source": tags.get("mlflow.source.name", ""),
            "pipeline": row.get("pipeline") or "",
        }
        return {k: v for k, v in found.items() if v}

    def sections(self, *, files: bool = True) -> dict[str, dict[str, Any]]:
        """The facts that two versions are compared by; without `files`, those that the record has by itself."""
        v = self.version
        facts = {
            "state": str(v.state),
            "stage": v.stage,
            "sealed": v.sealed,
            "flavor": self.flavor,
            "run": v.run_id,
            "registered by": v.actor,
            "registered": v.event_time.isoformat(),
            "python": self.bundle.python if self.bundle else None,
        }
        found = {
            "facts": facts,
            "metrics": dict(sorted(self.metrics.items())),
            "params": dict(sorted(self.params.items())),
            "schema": self.schema,
            "data": {f"{d.name} {d.context}".strip(): f"{d.version} {d.digest[:12]}".strip() for d in self.data},
            "code": self.code,
            "environment": self.environment,
            "tags": dict(sorted(v.tags.items())),
        }
        if files:
            return found
        known = {name: value for name, value in facts.items() if name not in ("flavor", "python")}
        return {"facts": known, "metrics": found["metrics"], "tags": found["tags"]}


def gather(tx: Connection, blobs: BlobStore, version: ModelVersion) -> Evidence:
    """Everything recorded about a version. A run or a logged file that was removed since is simply not there; a bundle or file that is
    there and cannot be read (the bucket is away, its bytes are damaged) is told of as `unread`."""
    sealed, unread = _bundle(blobs, version)
    run = queries.run_facts(tx, version.project, version.run_id) if version.run_id else None
    logged = queries.logged_model_facts(tx, version.project, version.model_id) if version.model_id else None
    files: dict[str, str] = {}
    if not version.sealed:
        files, unread = _files(tx, blobs, version)
    text = files.get("MLmodel", "")
    views, labels = meaning.said(tx, version, sealed) if sealed else ([], [])
    lines = sealed.environment if sealed else [line for line in files.get("requirements.txt", "").splitlines() if "==" in line]
    return Evidence(
        version=version,
        bundle=sealed,
        run=run,
        logged=logged,
        data=_data(tx, version, sealed, run),
        schema=_schema(sealed) if sealed else schema_of(text),
        flavor=sealed.flavor if sealed else ", ".join(f for f in flavors_of(text) if f != "python_function"),
        environment={name: number for name, _, number in (line.strip().partition("==") for line in lines)},
        views=views,
        labels=labels,
        unread=unread,
    )


def restricted(definition: Dataset | FeatureView | Label) -> str:
    """What something must not be used for, in words."""
    places = f"only in {', '.join(definition.only_in)}" if definition.only_in else ""
    return "; ".join(text for text in (definition.restrictions, places) if text)


def _bundle(blobs: BlobStore, version: ModelVersion) -> tuple[Bundle | None, str]:
    """The manifest of a sealed version, or why it cannot be read."""
    if not version.sealed:
        return None, ""
    try:
        return bundles.read(blobs, version.bundle_digest), ""
    except TreadleError as error:
        return None, f"Its sealed bundle {version.bundle_digest[:12]} cannot be read now. {error.what} {error.remedy}"


def _files(tx: Connection, blobs: BlobStore, version: ModelVersion) -> tuple[dict[str, str], str]:
    """The small files at the root of what was logged, as text; and why one that is there cannot be read."""
    found: dict[str, str] = {}
    for path, digest, size in model_files(tx, version):
        if path in ("MLmodel", "requirements.txt") and size <= _READ:
            try:
                found[path] = blobs.get(digest).decode(errors="replace")
            except TreadleError as error:
                return {}, f"Its file {path} cannot be read now. {error.what} {error.remedy}"
    return found, ""


def model_files(tx: Connection, version: ModelVersion) -> list[tuple[str, str, int]]:
    """Path below the model's root, digest and size of an unsealed version's files."""
    seen = 0
    while version.source:
        try:
            read = sources.read(version.source)
        except TreadleError:
            return []
        if read.kind == "store":
            return []
        if read.kind != "version":
            owner, root = ("", read.path) if read.kind == "proxy" else (read.owner, read.path)
            cut = len(root) + 1 if root else 0
            return [(row.path[cut:], row.digest, row.size) for row in queries.files_of(tx, version.project, owner, root)]
        copied = registry.find_version(tx, version.project, read.owner, read.number)
        seen += 1
        if copied is None or seen > 20:
            return []
        version = copied
    return []


def _schema(sealed: Bundle) -> dict[str, str]:
    found = {f"input {c.name}": f"{c.dtype} ({c.origin})" for c in sealed.signature.inputs}
    return {**found, "output": sealed.signature.output}


def _data(tx: Connection, version: ModelVersion, sealed: Bundle | None, run: dict[str, Any] | None) -> list[Data]:
    found: list[Data] = []
    digests = list(sealed.trained_on) if sealed else []
    declared = {d.name: d for project in registry.applied_environments(tx, version.project).values() for d in project.datasets}
    then = meaning.pinned(tx, version.project, version.run_id)
    declared |= {d.name: d for d in (then.datasets if then else ())}
    for row in queries.dataset_facts(tx, version.project, digests):
        told = declared.get(row["dataset"])
        found.append(
            Data(
                name=row["dataset"],
                version=f"version {row['number']}",
                digest=row["digest"],
                rows=row["rows"],
                until=row["event_time"].date().isoformat(),
                licence=told.license if told else "",
                owner=told.owner if told else "",
                context="training",
                provenance=told.provenance if told else "",
                restrictions=restricted(told) if told else "",
            )
        )
    known = {d.digest for d in found}
    found += [Data(name="?", version="", digest=d) for d in digests if d not in known]
    if run and not found:
        found += [Data(name=name, version="", digest=digest, context=context) for name, digest, context in run["inputs"]]
    return found
