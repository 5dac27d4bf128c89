"""Every table there is.

Project and environment stand in every key; ids are made by callers; times are UTC microseconds (`Time`), both *event time* (when
it happened in the business) and *recorded time* (when it was committed); JSON is canonical text (`Json`). A change here needs a
migration in `store/migrations/versions` that first expands and, a release later, contracts.
"""

import datetime as dt
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

from treadle.records.clock import from_micros, micros
from treadle.records.digests import canonical

metadata = MetaData()


class Time(TypeDecorator[dt.datetime]):
    """An aware UTC datetime, stored as microseconds since 1970 in a 64-bit integer."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: Any) -> int | None:
        """To microseconds."""
        return None if value is None else micros(value)

    def process_result_value(self, value: int | None, dialect: Any) -> dt.datetime | None:
        """From microseconds."""
        return None if value is None else from_micros(value)


class Json(TypeDecorator[Any]):
    """Any JSON-able value or msgspec record, stored as canonical text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Any) -> str | None:
        """To canonical JSON."""
        return None if value is None else canonical(value).decode()

    def process_result_value(self, value: str | None, dialect: Any) -> Any:
        """To plain JSON values; queries convert to records."""
        return None if value is None else msgspec.json.decode(value)


def _key(name: str) -> Column[Any]:
    return Column(name, String(200), primary_key=True, nullable=False)


def _name(name: str, *, nullable: bool = False, default: str | None = None) -> Column[Any]:
    return Column(name, String(400), nullable=nullable, server_default=default)


PROJECT = "project"
ENVIRONMENT = "environment"

home = Table(
    "home",
    metadata,
    _key("name"),
    Column("value", Text, nullable=False),
)

# ── actors ───────────────────────────────────────────────────────────────────────────────────────────────────────────

actors = Table(
    "actors",
    metadata,
    _key("actor_id"),
    _name("name"),
    _name("kind"),
    _name("role"),
    Column("recorded_time", Time, nullable=False),
    Column("disabled", Boolean, nullable=False, default=False),
)

grants = Table(
    "grants",
    metadata,
    _key("actor_id"),
    _key(PROJECT),  # "*" = every project
    _key(ENVIRONMENT),  # "*" = every environment
    _name("role"),
    Column("recorded_time", Time, nullable=False),
)

tokens = Table(
    "tokens",
    metadata,
    _key("token_id"),
    _name("actor_id"),
    Column("hash", Text, nullable=False),
    Column("recorded_time", Time, nullable=False),
    Column("revoked_time", Time),
    Index("tokens_actor", "actor_id"),
)

idempotency = Table(
    "idempotency",
    metadata,
    _key("scope"),  # project, or "" for operations of the whole home
    _key("actor_id"),
    _key("idempotency_key"),
    _name("operation"),
    _name("request_digest"),
    Column("response", Text, nullable=False),
    Column("recorded_time", Time, nullable=False),
    Index("idempotency_age", "recorded_time"),
)

# ── events: state changes and their event share a transaction; the sealer gives order and hash afterwards ──────────────

events = Table(
    "events",
    metadata,
    _key(PROJECT),
    _key("event_id"),
    _name(ENVIRONMENT),
    _name("type"),
    _name("subject"),
    _name("actor"),
    Column("event_time", Time, nullable=False),
    Column("recorded_time", Time, nullable=False),
    _name("payload_digest"),
    # Erasable: the chain is over `payload_digest` = BLAKE3(salt || payload), so a payload and its salt can go and the chain still holds.
    Column("salt", String(32)),
    Column("payload", Text),
    Column("seq", BigInteger),
    Column("hash", String(64)),
    UniqueConstraint("seq", name="events_seq"),
    Index("events_project_seq", PROJECT, "seq"),
    Index("events_type_seq", PROJECT, "type", "seq"),
    Index("events_subject_seq", PROJECT, "subject", "seq"),
    Index("events_unsealed", "seq", "recorded_time", "event_id"),
)

heads = Table(
    "heads",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", String(64), nullable=False),
    Column("sealed_time", Time, nullable=False),
)

cursors = Table(
    "cursors",
    metadata,
    _key(PROJECT),
    _key("reader"),
    Column("seq", BigInteger, nullable=False),
)

# ── lineage ──────────────────────────────────────────────────────────────────────────────────────────────────────────

versions = Table(
    "versions",
    metadata,
    _key(PROJECT),
    _key("digest"),
    _name("kind"),
    _name("name"),
    Column("number", BigInteger),
    Column("facts", Json, nullable=False),
    Column("event_time", Time, nullable=False),
    Column("recorded_time", Time, nullable=False),
    Index("versions_kind_name", PROJECT, "kind", "name", "number"),
)

edges = Table(
    "edges",
    metadata,
    _key(PROJECT),
    _key("child"),
    _key("parent"),
    _key("role"),
    _name("run_id", nullable=True),
    Column("recorded_time", Time, nullable=False),
    Index("edges_parent", PROJECT, "parent"),
)

# ── definitions ──────────────────────────────────────────────────────────────────────────────────────────────────────

applied = Table(
    "applied",
    metadata,
    _key(PROJECT),
    _key(ENVIRONMENT),
    _name("digest"),
    Column("definitions", Json, nullable=False),
    _name("actor"),
    Column("event_time", Time, nullable=False),
    Column("recorded_time", Time, nullable=False),
)

# ── runs and their measurements ──────────────────────────────────────────────────────────────────────────────────────

runs = Table(
    "runs",
    metadata,
    _key(PROJECT),
    _key("run_id"),
    _name(ENVIRONMENT),
    _name("experiment"),
    _name("pipeline"),
    _name("state"),
    Column("params", Json, nullable=False),
    Column("reason", Json, nullable=False),
    _name("actor"),
    _name("definition_digest"),
    _name("project_digest"),
    _name("code_digest"),
    _name("environment_digest"),
    _name("git_revision", nullable=True),
    _name("parent_run", nullable=True),
    Column("event_time", Time, nullable=False),
    Column("recorded_time", Time, nullable=False),
    Column("started", Time),
    Column("ended", Time),
    Column("error", Text),
    Index("runs_newest", PROJECT, "recorded_time", "run_id"),
    Index("runs_pipeline", PROJECT, "pipeline", "recorded_time"),
    Index("runs_state", PROJECT, "state", "recorded_time"),
    Index("runs_experiment", PROJECT, "experiment", "recorded_time"),
)

#: Entity-attribute-value with the experiment copied into the row: a search by value is one index range (docs/architecture.md).
params = Table(
    "params",
    metadata,
    _key(PROJECT),
    _key("run_id"),
    _key("name"),
    _name("experiment"),
    Column("value", Text, nullable=False),
    Index("params_value", PROJECT, "name", "value"),
    sqlite_with_rowid=False,
)

tags = Table(
    "tags",
    metadata,
    _key(PROJECT),
    _key("run_id"),
    _key("name"),
    _name("experiment"),
    Column("value", Text, nullable=False),
    Index("tags_value", PROJECT, "name", "value"),
    sqlite_with_rowid=False,
)

metrics = Table(
    "metrics",
    metadata,
    _key(PROJECT),
    _key("run_id"),
    _key("name"),
    Column("step", BigInteger, primary_key=True, autoincrement=False),
    Column("time", Time, primary_key=True, autoincrement=False),
    Column("value", Double),  # NULL is NaN: SQLite keeps no NaN
    sqlite_with_rowid=False,
)

latest_metrics = Table(
    "latest_metrics",
    metadata,
    _key(PROJECT),
    _key("run_id"),
    _key("name"),
    _name("experiment"),
    Column("step", BigInteger, nullable=False),
    Column("time", Time, nullable=False),
    Column("value", Double),
    Index("latest_metrics_value", PROJECT, "name", "value"),
    Index("latest_metrics_experiment", PROJECT, "experiment", "name", "value"),
    sqlite_with_rowid=False,
)

artifacts = Table(
    "artifacts",
    metadata,
    _key(PROJECT),
    _key("run_id"),
    Column("path", String(1000), primary_key=True),
    Column("digest", String(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    _name("media_type"),
    Column("recorded_time", Time, nullable=False),
    Index("artifacts_digest", "digest"),
)

# ── the engine ───────────────────────────────────────────────────────────────────────────────────────────────────────

jobs = Table(
    "jobs",
    metadata,
    _key(PROJECT),
    _key("job_id"),
    _name(ENVIRONMENT),
    _name("kind"),  # run | release
    _name("state"),
    Column("payload", Json, nullable=False),
    Column("due", Time, nullable=False),  # business time from which it may be leased
    Column("priority", Integer, nullable=False, default=0),
    _name("owner", nullable=True),  # worker that holds the lease
    Column("beat", BigInteger, nullable=False, default=0),  # heartbeat: a lease is dead when observers see it stand still
    Column("attempt", Integer, nullable=False, default=0),
    Column("max_attempts", Integer, nullable=False, default=5),
    Column("error", Text),
    Column("recorded_time", Time, nullable=False),
    Index("jobs_ready", "state", "due", "priority"),
)

steps = Table(
    "steps",
    metadata,
    _key(PROJECT),
    _key("run_id"),
    _key("path"),
    _name("name"),
    _name("state"),
    _name("cache_key"),
    Column("components", Json, nullable=False),
    Column("why", Text, nullable=False),
    Column("output", String(64)),
    Column("content", LargeBinary),  # the output itself, where it is small; else it is a blob
    _name("codec", nullable=True),
    Column("attempt", Integer, nullable=False),
    Column("started", Time),
    Column("ended", Time),
    _name("worker", nullable=True),
    Column("error", Text),
    Index("steps_output", "output"),
)

step_cache = Table(
    "step_cache",
    metadata,
    _key(PROJECT),
    _key("cache_key"),
    _name("step"),
    Column("components", Json, nullable=False),
    Column("output", String(64), nullable=False),
    Column("content", LargeBinary),
    _name("codec"),
    _name("run_id"),
    Column("recorded_time", Time, nullable=False),
    Index("step_cache_step", PROJECT, "step", "recorded_time"),
)

log_lines = Table(
    "log_lines",
    metadata,
    _key(PROJECT),
    _key("run_id"),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    _name("step"),
    _name("level"),
    Column("text", Text, nullable=False),
    Column("time", Time, nullable=False),
)

triggers = Table(
    "triggers",
    metadata,
    _key(PROJECT),
    _key(ENVIRONMENT),
    _key("name"),
    Column("cursor", BigInteger, nullable=False),  # last sealed event read
    Column("last_fired", Time),  # business time
    Column("next_cron", Time),
    Column("facts", Json, nullable=False),
)

firings = Table(
    "firings",
    metadata,
    _key(PROJECT),
    _key(ENVIRONMENT),
    _key("name"),
    _key("run_id"),
    Column("event_time", Time, nullable=False),
    Column("reason", Json, nullable=False),
    Column("recorded_time", Time, nullable=False),
    Index("firings_time", PROJECT, ENVIRONMENT, "name", "event_time"),
)

# ── data ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

dataset_versions = Table(
    "dataset_versions",
    metadata,
    _key(PROJECT),
    _key("dataset"),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("digest", String(64), nullable=False),
    Column("delta_version", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("added_rows", BigInteger, nullable=False),
    Column("columns", Json, nullable=False),
    _name("source"),
    Column("profile", String(64)),
    Column("description", Text, nullable=False, default=""),
    Column("tags", Json, nullable=False),
    Column("event_time", Time, nullable=False),
    Column("recorded_time", Time, nullable=False),
    Column("known_until", Time),
    UniqueConstraint(PROJECT, "dataset", "digest", name="dataset_versions_digest"),
)

# ── models ───────────────────────────────────────────────────────────────────────────────────────────────────────────

model_versions = Table(
    "model_versions",
    metadata,
    _key(PROJECT),
    _key("model"),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    _name("state"),
    Column("bundle_digest", String(64), nullable=False),
    _name("run_id"),
    Column("metrics", Json, nullable=False),
    Column("gates", Json, nullable=False),
    Column("description", Text, nullable=False, default=""),
    Column("tags", Json, nullable=False),
    _name("actor"),
    Column("event_time", Time, nullable=False),
    Column("recorded_time", Time, nullable=False),
    UniqueConstraint(PROJECT, "model", "bundle_digest", "run_id", name="model_versions_bundle"),
    Index("model_versions_run", PROJECT, "run_id"),
)

aliases = Table(
    "aliases",
    metadata,
    _key(PROJECT),
    _key("model"),
    _key("alias"),
    Column("number", BigInteger, nullable=False),
    Column("recorded_time", Time, nullable=False),
    ForeignKeyConstraint([PROJECT, "model", "number"], ["model_versions.project", "model_versions.model", "model_versions.number"]),
)

approvals = Table(
    "approvals",
    metadata,
    _key(PROJECT),
    _key("approval_id"),
    _name(ENVIRONMENT),
    _name("subject"),
    Column("question", Text, nullable=False),
    _name("state"),
    _name("asked_by"),
    Column("asked_time", Time, nullable=False),
    _name("decided_by", nullable=True),
    Column("decided_time", Time),
    Column("comment", Text, nullable=False, default=""),
    Column("recorded_time", Time, nullable=False),
    Index("approvals_state", PROJECT, "state", "asked_time"),
    Index("approvals_subject", PROJECT, ENVIRONMENT, "subject"),
)

# ── releases ─────────────────────────────────────────────────────────────────────────────────────────────────────────

snapshots = Table(
    "snapshots",
    metadata,
    _key(PROJECT),
    _key(ENVIRONMENT),
    Column("generation", BigInteger, primary_key=True, autoincrement=False),
    Column("body", Json, nullable=False),
    Column("event_time", Time, nullable=False),
    Column("recorded_time", Time, nullable=False),
)

releases = Table(
    "releases",
    metadata,
    _key(PROJECT),
    _key(ENVIRONMENT),
    _key("release_id"),
    _name("endpoint"),
    _name("model"),
    Column("from_version", BigInteger),
    Column("to_version", BigInteger, nullable=False),
    Column("strategy", Json),
    _name("state"),
    Column("generation", BigInteger, nullable=False),
    _name("actor"),
    Column("started", Time, nullable=False),
    Column("ended", Time),
    Column("verdict", Text, nullable=False, default=""),
    Column("reason", Text, nullable=False, default=""),
    Column("facts", Json, nullable=False),
    _name("approval_id", nullable=True),
    Column("recorded_time", Time, nullable=False),
    Index("releases_endpoint", PROJECT, ENVIRONMENT, "endpoint", "started"),
    Index("releases_state", "state"),
)

# ── monitoring ───────────────────────────────────────────────────────────────────────────────────────────────────────

windows = Table(
    "windows",
    metadata,
    _key(PROJECT),
    _key(ENVIRONMENT),
    _key("endpoint"),
    Column("start", Time, primary_key=True, autoincrement=False),
    Column("end", Time, nullable=False),
    Column("predictions", BigInteger, nullable=False),
    Column("rejected", BigInteger, nullable=False),
    Column("outcomes", BigInteger, nullable=False),
    Column("champion", BigInteger),
    Column("metrics", Json, nullable=False),
    Column("drift", Json, nullable=False),
    Column("facts", Json, nullable=False),
    Column("profile", LargeBinary),
    Column("recorded_time", Time, nullable=False),
)

alarms = Table(
    "alarms",
    metadata,
    _key(PROJECT),
    _key(ENVIRONMENT),
    _key("alarm_id"),
    _name("endpoint"),
    _name("kind"),
    _name("state"),
    Column("text", Text, nullable=False),
    Column("raised", Time, nullable=False),
    Column("closed", Time),
    Column("facts", Json, nullable=False),
    Column("recorded_time", Time, nullable=False),
    Index("alarms_endpoint", PROJECT, ENVIRONMENT, "endpoint", "raised"),
)
