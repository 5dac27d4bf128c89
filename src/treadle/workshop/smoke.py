"""The smoke test of a released version: ask the real gateway a few real questions, and check its answers against the bundle.

It asks with the newest rows of the dataset that the endpoint's requests come from. Every answer must come from the version that was
released, be a finite number, and equal what the sealed bundle gives for the inputs and features that the gateway logged.
"""

import json
import math
from typing import Any

from treadle.client.inference import InferenceClient
from treadle.online.encoding import encode
from treadle.operations.workshop import GetApplied
from treadle.packaging.bundle import load
from treadle.records.clock import micros
from treadle.records.definitions import Endpoint
from treadle.records.errors import TreadleError
from treadle.records.layout import Layout
from treadle.records.models import ModelVersion
from treadle.serving.segments import find
from treadle.workshop.home import Workshop

ROWS = 20
#: Largest difference between the gateway's answer and the bundle's own, absolute.
TOLERANCE = 1e-9


def gateway_address(layout: Layout, project: str, environment: str) -> tuple[str, int]:
    """Host and port of the gateway that runs for an environment.

    Raises:
        TreadleError: `unavailable`, none has left its address.
    """
    path = layout.processes / f"gateway-{project}-{environment}.json"
    try:
        told = json.loads(path.read_text())
    except FileNotFoundError:
        raise TreadleError(
            f"No gateway runs for {environment} of {project}.",
            remedy=f"Start it: treadle gateway --env {environment}, or everything: treadle up",
            code="unavailable",
        ) from None
    return told.get("host", "127.0.0.1"), told["port"]


def smoke_test(shop: Workshop, project: str, environment: str, endpoint: Endpoint, version: ModelVersion) -> dict[str, Any]:
    """Ask and check; the facts of what was seen.

    Raises:
        TreadleError: what did not hold.
    """
    bundle, predictor = load(shop.blobs, version.bundle_digest)
    needed = [c.name for c in bundle.signature.inputs if c.origin == "request"] + [c.name for c in bundle.signature.keys]
    definition = next((d for d in _datasets(shop, project, environment) if d.name == endpoint.requests), None)
    if definition is None or definition.time is None:
        raise TreadleError(
            f"Endpoint {endpoint.name} does not say which dataset its requests are rows of, so nothing can be asked.",
            remedy="Name it in the definition: endpoint(…, requests=DATASET)",
            code="bad_definition",
        )
    frame = shop.data.read(project, definition.name).sort(definition.time).tail(ROWS).collect()
    asked = [endpoint.unit, *needed] if endpoint.unit else needed
    columns = {name: frame[name].to_list() for name in dict.fromkeys(asked)}
    times = [micros(moment) for moment in frame[definition.time]]
    host, port = gateway_address(shop.layout, project, environment)
    with InferenceClient(host, port) as client:
        answer = client.predict(endpoint.name, columns, event_time=times)
    wrong = [n for n in answer.model_version if n != version.number]
    if wrong:
        raise TreadleError(
            f"{endpoint.name} in {environment} answered by version {wrong[0]}, not by {version.number}.",
            remedy=f"See who serves what: treadle status --env {environment}",
            code="conflict",
        )
    largest = 0.0
    for prediction_id, output in zip(answer.ids, answer.predictions, strict=True):
        found = find(shop.layout.gateway(project, environment).log, prediction_id)
        if found is None or output is None or not math.isfinite(output):
            raise TreadleError(
                f"The answer {output!r} under {prediction_id} is no finite number, or was not logged.",
                remedy=f"treadle why {prediction_id}",
                code="corrupt",
            )
        _, entry, row = found
        logged = {name: [values[row]] for name, values in (*entry.inputs.items(), *entry.features.items())}
        expected = float(predictor.predict(encode(bundle.signature, logged))[0])
        largest = max(largest, abs(expected - output))
    if largest > TOLERANCE:
        raise TreadleError(
            f"The gateway's answers differ from the bundle's own by up to {largest:.3g}.",
            remedy=f"Compare the environments: treadle why {answer.ids[0]}",
            code="corrupt",
        )
    return {"rows": len(answer.ids), "largest_difference": largest, "version": version.number}


def _datasets(shop: Workshop, project: str, environment: str) -> Any:

    applied = shop.call(GetApplied(project=project, environment=environment))
    return applied.datasets if applied else ()
