"""What the protocol has besides experiments and models: the server's own words about itself, and what Treadle does not do.

Traces, the gateway and the tools for language models are answered NOT_IMPLEMENTED. Clients take that as final: they do not try again, a
program that is traced goes on, and its trace is not kept.
"""

from typing import Any

from treadle.api.mlflow.table import Context, Nothing, ProtocolError, Row

#: The parts of the API that are not here, as the first word of their paths.
ABSENT = {
    "traces": "Traces",
    "unified-traces": "Traces",
    "get-online-trace-details": "Traces",
    "trace-metrics": "Traces",
    "assessments": "Assessments",
    "datasets": "Evaluation datasets",
    "prompt-optimization": "Prompt optimisation",
    "scorers": "Scorers",
    "scorer": "Scorers",
    "issues": "Issues",
    "label-schemas": "Label schemas",
    "review-queues": "Review queues",
    "gateway": "The gateway",
    "gateway-proxy": "The gateway",
    "mcp-servers": "The registry of MCP servers",
    "workspaces": "Workspaces",
    "genai": "Evaluation of language models",
    "assistant": "The assistant",
    "demo": "The demo",
    "jobs": "Jobs",
}


def absent(path: str) -> ProtocolError | None:
    """The error of a path (`/api/3.0/mlflow/traces/…`) of a part that is not here; None of any other."""
    parts = path.split("/")
    if path == "/graphql":
        part = "GraphQL"
    elif path == "/v1/traces" or (len(parts) > 3 and parts[3] in ("jobs", "mcp-servers")):
        part = "Traces" if path == "/v1/traces" else ABSENT[parts[3]]
    elif len(parts) > 4 and parts[3] == "mlflow":
        part = ABSENT.get(parts[4], "")
    else:
        return None
    if not part:
        return None
    return ProtocolError("NOT_IMPLEMENTED", f"{part}: Treadle does not do this; it tracks experiments, runs, models and their files.")


def server_info(_context: Context, _request: Nothing) -> dict[str, Any]:
    """`server-info`: what this server can do."""
    return {
        "store_type": "SqlStore",
        "workspaces_enabled": False,
        "trace_archival_enabled": False,
        "multipart_uploads_enabled": True,
        "multipart_downloads_enabled": False,
        "presigned_upload_run_id_supported": False,
        "presigned_upload_model_id_supported": False,
        "features_enabled": {"gateway": False},
    }


ROWS = [Row("GET", "/server-info", Nothing, server_info, version="3.0")]
