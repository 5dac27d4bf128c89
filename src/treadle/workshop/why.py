"""Walk from a prediction back to the rows it came from: one link a station, each with the ids to go on from."""

from typing import Any

import msgspec

from treadle.ledger import lineage
from treadle.monitoring.fold import find_folded
from treadle.operations.workshop import Chain
from treadle.packaging.bundle import read
from treadle.plugins.storage import BlobStore
from treadle.records.clock import from_micros
from treadle.records.errors import TreadleError
from treadle.records.layout import Layout
from treadle.records.ledger import Run
from treadle.records.models import Bundle, ModelVersion
from treadle.records.serving import LogEntry, Segment
from treadle.serving.segments import find
from treadle.store.db import Connection
from treadle.store.queries import ledger as ledger_queries
from treadle.store.queries import registry as registry_queries
from treadle.store.queries import workshop as queries


def why_prediction(tx: Connection, layout: Layout, blobs: BlobStore, project: str, prediction_id: str) -> Chain:
    """The chain: prediction → variant → model version → bundle → run → dataset versions → features → code → environment.

    Raises:
        TreadleError: `not_found` where neither a log segment nor the folded table has the id.
    """
    environment, prediction = _find(tx, layout, project, prediction_id)
    links: list[dict[str, Any]] = [{"link": "prediction", "environment": environment, **prediction}]
    version = registry_queries.find_version(tx, project, prediction["model"], prediction["model_version"])
    if version is None:
        raise TreadleError(
            f"{prediction['model']} {prediction['model_version']} answered, but the registry does not know it.",
            remedy="Was this home restored from a backup older than the prediction? treadle doctor",
            code="corrupt",
        )
    bundle = read(blobs, version.bundle_digest)
    links.append(_variant(prediction))
    links.append(_version(version))
    links.append(_bundle(version, bundle))
    run = ledger_queries.get_run(tx, project, bundle.run_id)
    if run is not None:
        links.append(_run(run))
    links += _data(tx, project, bundle)
    links.append(
        {
            "link": "features",
            "views": [{"name": v.name, "entity": list(v.entity), "source": v.source, "features": list(v.features)} for v in bundle.views],
        }
    )
    links.append({"link": "code", "digest": bundle.code_digest, "git_revision": run.git_revision if run else None})
    links.append(
        {
            "link": "environment",
            "digest": run.environment_digest if run else "",
            "python": bundle.python,
            "distributions": len(bundle.environment),
            "lock": list(bundle.environment),
        }
    )
    return Chain(prediction_id=prediction_id, links=links)


def _find(tx: Connection, layout: Layout, project: str, prediction_id: str) -> tuple[str, dict[str, Any]]:
    for applied_project, environment, definitions in queries.environments(tx):
        if applied_project != project:
            continue
        models = {e.name: e.model for e in definitions.endpoints}
        found = _in_segments(layout, project, environment, prediction_id)
        if found is not None:
            segment, entry, row = found
            return environment, {
                "id": prediction_id,
                "where": f"log segment {segment.segment}",
                "endpoint": entry.endpoint,
                "model": models.get(entry.endpoint, entry.endpoint),
                "status": entry.status,
                "event_time": from_micros(entry.event_time),
                "recorded_time": from_micros(entry.recorded_time),
                "generation": entry.generation,
                "variant": entry.variant[row],
                "model_version": entry.model_version[row],
                "unit": entry.unit[row],
                "propensity": entry.propensity[row],
                "output": entry.output[row],
                "inputs": {k: v[row] for k, v in entry.inputs.items()},
                "features": {k: v[row] for k, v in entry.features.items()},
                "latency_us": entry.latency_us,
            }
        folded = find_folded(layout, project, environment, prediction_id)
        if folded is not None:
            return environment, {**folded, "where": "prediction log table", "model": models.get(folded["endpoint"], folded["endpoint"])}
    raise TreadleError(
        f"There is no prediction {prediction_id!r} in {project}.",
        remedy="Copy the id from the answer's `ids`; predictions past the log's retention are gone.",
        code="not_found",
    )


def _in_segments(layout: Layout, project: str, environment: str, prediction_id: str) -> tuple[Segment, LogEntry, int] | None:
    try:
        return find(layout.gateway(project, environment).log, prediction_id)
    except TreadleError as error:
        if error.code in ("not_found", "bad_request"):  # another environment's, or past its retention: the table has it
            return None
        raise


def _variant(prediction: dict[str, Any]) -> dict[str, Any]:
    return {
        "link": "variant",
        "name": prediction["variant"],
        "generation": prediction["generation"],
        "unit": prediction["unit"],
        "propensity": prediction["propensity"],
    }


def _version(version: ModelVersion) -> dict[str, Any]:
    return {
        "link": "model version",
        "model": version.model,
        "number": version.number,
        "state": str(version.state),
        "registered_by": version.actor,
        "event_time": version.event_time,
        "metrics": version.metrics,
        "gates": [msgspec.to_builtins(g) for g in version.gates],
    }


def _bundle(version: ModelVersion, bundle: Bundle) -> dict[str, Any]:
    return {
        "link": "bundle",
        "digest": version.bundle_digest,
        "flavor": bundle.flavor,
        "files": [msgspec.to_builtins(f) for f in bundle.files],
        "onnx_equal": bundle.onnx_equal,
    }


def _run(run: Run) -> dict[str, Any]:
    return {
        "link": "run",
        "run_id": run.run_id,
        "pipeline": run.pipeline,
        "params": run.params,
        "reason": run.reason.text,
        "trigger": run.reason.trigger,
        "event_id": run.reason.event_id,
        "started": run.started,
        "actor": run.actor,
    }


def _data(tx: Connection, project: str, bundle: Bundle) -> list[dict[str, Any]]:
    links: list[dict[str, Any]] = []
    for digest in bundle.trained_on:
        version = lineage.get_version(tx, project, digest)
        facts = version.facts if version else {}
        name, number = (version.name, version.number) if version else ("?", None)
        links.append({"link": "dataset version", "dataset": name, "number": number, "digest": digest, **facts})
    return links
