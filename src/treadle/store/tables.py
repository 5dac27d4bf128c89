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
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
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


def _text(length: int) -> String:
    """Text that is ordered by its bytes, as SQLite orders all of it, whatever language the database speaks."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")


def _key(name: str) -> Column[Any]:
    return Column(name, _text(200), primary_key=True, nullable=False)


def _name(name: str, *, nullable: bool = False, default: str | None = None) -> Column[Any]:
    return Column(name, _text(400), nullable=nullable, server_default=default)


#: Of an index that only what is in the bin is in.
BINNED = text("deleted IS NOT NULL")
_SEALED, _UNSEALED, _CHILDREN = text("seq IS NOT NULL"), text("seq IS NULL"), text("parent_run IS NOT NULL")
_WANTED = text("document IS NULL")
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
    Column("salt", _text(32)),
    Column("payload", Text),
    Column("seq", BigInteger),
    Column("hash", _text(64)),
    # What an event is found by once it has its place, it is put into then: whoever writes one does not wait for that.
    Index("events_seq", "seq", unique=True, sqlite_where=_SEALED, postgresql_where=_SEALED),
    Index("events_project_seq", PROJECT, "seq", sqlite_where=_SEALED, postgresql_where=_SEALED),
    Index("events_type_seq", PROJECT, "type", "seq", sqlite_where=_SEALED, postgresql_where=_SEALED),
    Index("events_subject_seq", PROJECT, "subject", "seq"),
    Index("events_unsealed", "recorded_time", "event_id", sqlite_where=_UNSEALED, postgresql_where=_UNSEALED),
)

heads = Table(
    "heads",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("hash", _text(64), nullable=False),
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
    Index("edges_run", PROJECT, "run_id"),
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

# ── experiments, runs and their measurements ─────────────────────────────────────────────────────────────────────────

experiments = Table(
    "experiments",
    metadata,
    _key(PROJECT),
    _key("experiment_id"),
    Column("name", _text(500), nullable=False),
    _name("folder", default=""),  # `team/quarter`; "" is the top
    _name("lifecycle", default="active"),  # active | deleted (in the bin, until it is restored or removed for good)
    Column("artifact_location", Text, nullable=False, default=""),
    Column("description", Text, nullable=False, default=""),
    _name("actor"),
    Column("created", Time, nullable=False),
    Column("updated", Time, nullable=False),
    Column("deleted", Time),
    UniqueConstraint(PROJECT, "name", name="experiments_name"),
    Index("experiments_newest", PROJECT, "lifecycle", "created", "experiment_id"),
    Index("experiments_folder", PROJECT, "folder", "name"),
)

experiment_tags = Table(
    "experiment_tags",
    metadata,
    _key(PROJECT),
    _key("experiment_id"),
    Column("name", _text(400), primary_key=True),
    Column("value", Text, nullable=False),
    sqlite_with_rowid=False,
)

runs = Table(
    "runs",
    metadata,
    _key(PROJECT),
    _key("run_id"),
    _name(ENVIRONMENT),
    _name("experiment"),  # its id
    _name("pipeline"),  # "" for a run that the engine does not execute
    _name("state"),
    _name("name", default=""),
    _name("user_name", default=""),
    _name("lifecycle", default="active"),  # active | deleted
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
    Column("created", Time, nullable=False),  # when it says it began, else when it was recorded: what listings are ordered by
    Column("started", Time),
    Column("ended", Time),
    Column("deleted", Time),
    Column("error", Text),
    Index("runs_newest", PROJECT, "recorded_time", "run_id"),
    Index("runs_pipeline", PROJECT, "pipeline", "recorded_time"),
    Index("runs_state", PROJECT, "state", "recorded_time"),
    Index("runs_created", PROJECT, "experiment", "lifecycle", "created", "run_id"),
    Index("runs_ended", PROJECT, "experiment", "lifecycle", "ended", "created", "run_id"),
    Index("runs_name", PROJECT, "experiment", "lifecycle", "name", "created", "run_id"),
    Index("runs_status", PROJECT, "experiment", "lifecycle", "state", "created", "run_id"),
    Index("runs_parent", PROJECT, "parent_run", sqlite_where=_CHILDREN, postgresql_where=_CHILDREN),
    Index("runs_binned", PROJECT, "deleted", sqlite_where=BINNED, postgresql_where=BINNED),
)

#: How much of a text value stands in an index: enough to tell values apart, and less than the page of any database.
INDEXED = 200


def _head() -> Column[Any]:
    return Column("head", _text(INDEXED), nullable=False)  # value[:INDEXED]


#: Entity-attribute-value with the run's experiment and creation time copied into the row: a search by value, in the order of that
#: value, is one index range (docs/architecture.md). `head` is the start of the value: what is compared first, and the whole value after it.
params = Table(
    "params",
    metadata,
    _key(PROJECT),
    _key("run_id"),
    Column("name", _text(400), primary_key=True),
    _name("experiment"),
    Column("created", Time, nullable=False),
    Column("value", Text, nullable=False),
    _head(),
    Index("params_value", PROJECT, "experiment", "name", "head", "created", "run_id"),
    sqlite_with_rowid=False,
)

tags = Table(
    "tags",
    metadata,
    _key(PROJECT),
    _key("run_id"),
    Column("name", _text(400), primary_key=True),
    _name("experiment"),
    Column("created", Time, nullable=False),
    Column("value", Text, nullable=False),
    _head(),
    Index("tags_value", PROJECT, "experiment", "name", "head", "created", "run_id"),
    sqlite_with_rowid=False,
)

#: Every point, NaN and infinities included. SQLite keeps no NaN: it is a value of 0 with `nan` set.
metrics = Table(
    "metrics",
    metadata,
    _key(PROJECT),
    _key("run_id"),
    Column("name", _text(400), primary_key=True),
    Column("step", BigInteger, primary_key=True, autoincrement=False),
    Column("time", Time, primary_key=True, autoincrement=False),
    Column("value", Double, primary_key=True),
    Column("nan", SmallInteger, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

#: Of each metric the point with the greatest (step, time, value). NULL is NaN, which no comparison finds.
latest_metrics = Table(
    "latest_metrics",
    metadata,
    _key(PROJECT),
    _key("run_id"),
    Column("name", _text(400), primary_key=True),
    _name("experiment"),
    Column("created", Time, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("time", Time, nullable=False),
    Column("value", Double),
    Index("latest_metrics_value", PROJECT, "experiment", "name", "value", "created", "run_id"),
    sqlite_with_rowid=False,
)

#: What was logged to a run that has ended, as one text, NULL until it is made: a second form of its other rows
#: (`queries.run_documents`).
run_documents = Table(
    "run_documents",
    metadata,
    _key(PROJECT),
    _key("run_id"),
    Column("document", Text),
    Index("run_documents_wanted", PROJECT, "run_id", sqlite_where=_WANTED, postgresql_where=_WANTED),
)

#: A file of a run, of a logged model (its id stands in `run_id`), or of nobody (""). The path may be written again.
artifacts = Table(
    "artifacts",
    metadata,
    _key(PROJECT),
    _key("run_id"),
    Column("path", _text(1000), primary_key=True),
    Column("digest", _text(64), nullable=False),
    Column("size", BigInteger, nullable=False),
    _name("media_type"),
    Column("recorded_time", Time, nullable=False),
    Index("artifacts_digest", "digest"),
)

#: A file that arrives in parts; each part is a blob until the last makes the file.
uploads = Table(
    "uploads",
    metadata,
    _key(PROJECT),
    _key("upload_id"),
    _name("run_id"),
    Column("path", _text(1000), nullable=False),
    Column("parts", Json, nullable=False),  # number → digest
    Column("recorded_time", Time, nullable=False),
    Index("uploads_age", "recorded_time"),
)

#: Data that runs said they read or wrote, once an experiment.
tracked_datasets = Table(
    "tracked_datasets",
    metadata,
    _key(PROJECT),
    _key("experiment"),
    Column("name", _text(500), primary_key=True),
    _key("digest"),
    _name("source_type"),
    Column("source", Text, nullable=False),
    Column("schema", Text),
    Column("profile", Text),
    Column("recorded_time", Time, nullable=False),
)

run_inputs = Table(
    "run_inputs",
    metadata,
    _key(PROJECT),
    _key("run_id"),
    Column("name", _text(500), primary_key=True),
    _key("digest"),
    _name("experiment"),
    Column("created", Time, nullable=False),
    _name("context", default=""),
    Column("tags", Json, nullable=False),
    Index("run_inputs_name", PROJECT, "experiment", "name", "created", "run_id"),
    Index("run_inputs_digest", PROJECT, "experiment", "digest", "created", "run_id"),
)

#: Logged models that a run read (`input`) or made (`output`).
run_models = Table(
    "run_models",
    metadata,
    _key(PROJECT),
    _key("run_id"),
    _key("role"),
    _key("model_id"),
    Column("step", BigInteger, nullable=False, default=0),
    Column("recorded_time", Time, nullable=False),
    Index("run_models_model", PROJECT, "model_id"),
)

logged_models = Table(
    "logged_models",
    metadata,
    _key(PROJECT),
    _key("model_id"),
    _name("experiment"),
    _name("name"),
    _name("run_id", default=""),  # that made it
    _name("state"),
    Column("status_message", Text, nullable=False, default=""),
    _name("model_type", default=""),
    _name("lifecycle", default="active"),
    Column("artifact_location", Text, nullable=False, default=""),
    _name("actor"),
    Column("created", Time, nullable=False),
    Column("updated", Time, nullable=False),
    Column("deleted", Time),
    Index("logged_models_created", PROJECT, "experiment", "lifecycle", "created", "model_id"),
    Index("logged_models_run", PROJECT, "run_id"),
)

logged_model_params = Table(
    "logged_model_params",
    metadata,
    _key(PROJECT),
    _key("model_id"),
    Column("name", _text(400), primary_key=True),
    _name("experiment"),
    Column("value", Text, nullable=False),
    _head(),
    Index("logged_model_params_value", PROJECT, "experiment", "name", "head", "model_id"),
    sqlite_with_rowid=False,
)

logged_model_tags = Table(
    "logged_model_tags",
    metadata,
    _key(PROJECT),
    _key("model_id"),
    Column("name", _text(400), primary_key=True),
    _name("experiment"),
    Column("value", Text, nullable=False),
    _head(),
    Index("logged_model_tags_value", PROJECT, "experiment", "name", "head", "model_id"),
    sqlite_with_rowid=False,
)

logged_model_metrics = Table(
    "logged_model_metrics",
    metadata,
    _key(PROJECT),
    _key("model_id"),
    Column("name", _text(400), primary_key=True),
    _key("run_id"),
    Column("dataset_name", _text(500), primary_key=True),
    _key("dataset_digest"),
    Column("step", BigInteger, primary_key=True, autoincrement=False),
    Column("time", Time, primary_key=True, autoincrement=False),
    _name("experiment"),
    Column("value", Double),
    Index("logged_model_metrics_value", PROJECT, "experiment", "name", "value", "model_id"),
    Index("logged_model_metrics_run", PROJECT, "run_id"),
    sqlite_with_rowid=False,
)

saved_views = Table(
    "saved_views",
    metadata,
    _key(PROJECT),
    _key("view_id"),
    _name("page"),  # runs | models
    _name("name"),
    _name("actor"),
    Column("query", Json, nullable=False),
    Column("recorded_time", Time, nullable=False),
    Index("saved_views_page", PROJECT, "page", "name"),
)

#: What a project keeps, and for how long: read by the removal of what is past it.
retention_rules = Table(
    "retention_rules",
    metadata,
    _key(PROJECT),
    _key("rule_id"),
    Column("rule", Json, nullable=False),
    _name("actor"),
    Column("recorded_time", Time, nullable=False),
)

webhooks = Table(
    "webhooks",
    metadata,
    _key(PROJECT),
    _key("webhook_id"),
    _name("name"),
    Column("url", Text, nullable=False),
    Column("events", Json, nullable=False),
    Column("description", Text, nullable=False, default=""),
    Column("secret", Text),
    _name("state"),
    _name("actor"),
    Column("created", Time, nullable=False),
    Column("updated", Time, nullable=False),
    Index("webhooks_newest", PROJECT, "created", "webhook_id"),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    _key(PROJECT),
    _key("webhook_id"),
    _key("delivery_id"),  # the event's id; `.2` and on behind it where one event is told of more than once
    _name("event_id"),
    _name("event"),  # model_version.created, …
    Column("body", Text, nullable=False),
    _name("state"),  # waiting | delivered | failed | dropped
    Column("attempts", Integer, nullable=False, default=0),
    Column("due", Time, nullable=False),  # next attempt; while one is made, when another worker may make it
    Column("status", Integer),  # of the last answer
    Column("error", Text),
    Column("created", Time, nullable=False),
    Column("updated", Time, nullable=False),
    Index("webhook_deliveries_due", "state", "due"),
    Index("webhook_deliveries_newest", PROJECT, "created", "delivery_id"),
    Index("webhook_deliveries_event", PROJECT, "event_id"),
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
    Column("output", _text(64)),
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
    Column("output", _text(64), nullable=False),
    Column("content", LargeBinary),
    _name("codec"),
    _name("run_id"),
    Column("recorded_time", Time, nullable=False),
    Index("step_cache_step", PROJECT, "step", "recorded_time"),
    Index("step_cache_run", PROJECT, "run_id"),
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
    Index("firings_run", PROJECT, "run_id"),
)

# ── data ─────────────────────────────────────────────────────────────────────────────────────────────────────────────

dataset_versions = Table(
    "dataset_versions",
    metadata,
    _key(PROJECT),
    _key("dataset"),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("digest", _text(64), nullable=False),
    Column("delta_version", BigInteger, nullable=False),
    Column("rows", BigInteger, nullable=False),
    Column("added_rows", BigInteger, nullable=False),
    Column("columns", Json, nullable=False),
    _name("source"),
    Column("profile", _text(64)),
    Column("description", Text, nullable=False, default=""),
    Column("tags", Json, nullable=False),
    Column("event_time", Time, nullable=False),
    Column("recorded_time", Time, nullable=False),
    Column("known_until", Time),
    UniqueConstraint(PROJECT, "dataset", "digest", name="dataset_versions_digest"),
)

# ── models ───────────────────────────────────────────────────────────────────────────────────────────────────────────

models = Table(
    "models",
    metadata,
    _key(PROJECT),
    _key("model"),
    Column("description", Text, nullable=False, default=""),
    _name("actor"),
    Column("tags", Json, nullable=False),  # and each in `model_tags`, where it is searched
    Column("card", Json, nullable=False),  # what people wrote of it: intended use, limits, owners
    Column("created", Time, nullable=False),
    Column("updated", Time, nullable=False),
    Index("models_updated", PROJECT, "updated", "model"),
)

model_tags = Table(
    "model_tags",
    metadata,
    _key(PROJECT),
    _key("model"),
    Column("name", _text(400), primary_key=True),
    Column("value", Text, nullable=False),
    _head(),
    Index("model_tags_value", PROJECT, "name", "head"),
    sqlite_with_rowid=False,
)

#: Numbers of removed versions are not given again: `models` of a deleted model go, the number of its last version stays here.
model_numbers = Table(
    "model_numbers",
    metadata,
    _key(PROJECT),
    _key("model"),
    Column("last", BigInteger, nullable=False),
)

model_versions = Table(
    "model_versions",
    metadata,
    _key(PROJECT),
    _key("model"),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    _name("state"),
    _name("stage", default="None"),  # None | Staging | Production | Archived: the older vocabulary of MLflow clients
    Column("bundle_digest", _text(64)),  # NULL: not sealed, so it may be kept, loaded and compared, and not released
    _name("run_id", default=""),
    Column("source", Text, nullable=False, default=""),  # where its files are: `models:/m-…`, `mlflow-artifacts:/…`
    _name("model_id", default=""),  # the logged model that it was made of
    _name("run_link", default=""),
    _name("status", default="READY"),
    Column("status_message", Text, nullable=False, default=""),
    Column("metrics", Json, nullable=False),
    Column("gates", Json, nullable=False),
    Column("description", Text, nullable=False, default=""),
    Column("tags", Json, nullable=False),  # and each in `version_tags`, where it is searched
    Column("card", Json, nullable=False),  # what people wrote of this version
    Column("pinned", Boolean, nullable=False, default=False),  # kept by every clean-up
    Column("downloads", BigInteger, nullable=False, default=0),
    _name("actor"),
    Column("review_due", Time),
    Column("event_time", Time, nullable=False),
    Column("recorded_time", Time, nullable=False),
    Column("updated", Time, nullable=False),
    UniqueConstraint(PROJECT, "model", "bundle_digest", "run_id", name="model_versions_bundle"),
    Index("model_versions_run", PROJECT, "run_id"),
    Index("model_versions_newest", PROJECT, "recorded_time", "model", "number"),
)

version_tags = Table(
    "version_tags",
    metadata,
    _key(PROJECT),
    _key("model"),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("name", _text(400), primary_key=True),
    Column("value", Text, nullable=False),
    _head(),
    Index("version_tags_value", PROJECT, "name", "head"),
    sqlite_with_rowid=False,
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
    Column("expires", Time),  # business time after which it can no longer be granted
    Column("recorded_time", Time, nullable=False),
    Index("approvals_state", PROJECT, "state", "asked_time"),
    Index("approvals_subject", PROJECT, ENVIRONMENT, "subject"),
)

#: What people said about a thing: `approval/…`, `model/delay/3`, `run/…`.
comments = Table(
    "comments",
    metadata,
    _key(PROJECT),
    _key("comment_id"),
    _name("subject"),
    _name("actor"),
    Column("text", Text, nullable=False),
    Column("event_time", Time, nullable=False),
    Column("recorded_time", Time, nullable=False),
    Index("comments_subject", PROJECT, "subject", "event_time"),
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
