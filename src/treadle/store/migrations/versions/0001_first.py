"""The first schema."""

import sqlalchemy as sa
from alembic import op

# ruff: noqa: PLR0915
revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def text(length: int) -> sa.String:
    """Text that is ordered by its bytes."""
    return sa.String(length).with_variant(sa.String(length, collation="C"), "postgresql")


def upgrade() -> None:
    """Every table of the first release."""
    op.create_table(
        "actors",
        sa.Column("actor_id", text(200), nullable=False),
        sa.Column("name", text(400), nullable=False),
        sa.Column("kind", text(400), nullable=False),
        sa.Column("role", text(400), nullable=False),
        sa.Column("recorded_time", sa.BigInteger(), nullable=False),
        sa.Column("disabled", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("actor_id"),
    )
    op.create_table(
        "alarms",
        sa.Column("project", text(200), nullable=False),
        sa.Column("environment", text(200), nullable=False),
        sa.Column("alarm_id", text(200), nullable=False),
        sa.Column("endpoint", text(400), nullable=False),
        sa.Column("kind", text(400), nullable=False),
        sa.Column("state", text(400), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("raised", sa.BigInteger(), nullable=False),
        sa.Column("closed", sa.BigInteger(), nullable=True),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("recorded_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "environment", "alarm_id"),
    )
    op.create_index("alarms_endpoint", "alarms", ["project", "environment", "endpoint", "raised"], unique=False)
    op.create_table(
        "applied",
        sa.Column("project", text(200), nullable=False),
        sa.Column("environment", text(200), nullable=False),
        sa.Column("digest", text(400), nullable=False),
        sa.Column("definitions", sa.Text(), nullable=False),
        sa.Column("actor", text(400), nullable=False),
        sa.Column("event_time", sa.BigInteger(), nullable=False),
        sa.Column("recorded_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "environment"),
    )
    op.create_table(
        "approvals",
        sa.Column("project", text(200), nullable=False),
        sa.Column("approval_id", text(200), nullable=False),
        sa.Column("environment", text(400), nullable=False),
        sa.Column("subject", text(400), nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("state", text(400), nullable=False),
        sa.Column("asked_by", text(400), nullable=False),
        sa.Column("asked_time", sa.BigInteger(), nullable=False),
        sa.Column("decided_by", text(400), nullable=True),
        sa.Column("decided_time", sa.BigInteger(), nullable=True),
        sa.Column("comment", sa.Text(), nullable=False),
        sa.Column("expires", sa.BigInteger(), nullable=True),
        sa.Column("recorded_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "approval_id"),
    )
    op.create_index("approvals_state", "approvals", ["project", "state", "asked_time"], unique=False)
    op.create_index("approvals_subject", "approvals", ["project", "environment", "subject"], unique=False)
    op.create_table(
        "artifacts",
        sa.Column("project", text(200), nullable=False),
        sa.Column("run_id", text(200), nullable=False),
        sa.Column("path", text(1000), nullable=False),
        sa.Column("digest", text(64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("media_type", text(400), nullable=False),
        sa.Column("recorded_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "run_id", "path"),
    )
    op.create_index("artifacts_digest", "artifacts", ["digest"], unique=False)
    op.create_table(
        "comments",
        sa.Column("project", text(200), nullable=False),
        sa.Column("comment_id", text(200), nullable=False),
        sa.Column("subject", text(400), nullable=False),
        sa.Column("actor", text(400), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("event_time", sa.BigInteger(), nullable=False),
        sa.Column("recorded_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "comment_id"),
    )
    op.create_index("comments_subject", "comments", ["project", "subject", "event_time"], unique=False)
    op.create_table(
        "cursors",
        sa.Column("project", text(200), nullable=False),
        sa.Column("reader", text(200), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "reader"),
    )
    op.create_table(
        "dataset_versions",
        sa.Column("project", text(200), nullable=False),
        sa.Column("dataset", text(200), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("digest", text(64), nullable=False),
        sa.Column("delta_version", sa.BigInteger(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("added_rows", sa.BigInteger(), nullable=False),
        sa.Column("columns", sa.Text(), nullable=False),
        sa.Column("source", text(400), nullable=False),
        sa.Column("profile", text(64), nullable=True),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("event_time", sa.BigInteger(), nullable=False),
        sa.Column("recorded_time", sa.BigInteger(), nullable=False),
        sa.Column("known_until", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("project", "dataset", "number"),
        sa.UniqueConstraint("project", "dataset", "digest", name="dataset_versions_digest"),
    )
    op.create_table(
        "edges",
        sa.Column("project", text(200), nullable=False),
        sa.Column("child", text(200), nullable=False),
        sa.Column("parent", text(200), nullable=False),
        sa.Column("role", text(200), nullable=False),
        sa.Column("run_id", text(400), nullable=True),
        sa.Column("recorded_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "child", "parent", "role"),
    )
    op.create_index("edges_parent", "edges", ["project", "parent"], unique=False)
    op.create_index("edges_run", "edges", ["project", "run_id"], unique=False)
    op.create_table(
        "events",
        sa.Column("project", text(200), nullable=False),
        sa.Column("event_id", text(200), nullable=False),
        sa.Column("environment", text(400), nullable=False),
        sa.Column("type", text(400), nullable=False),
        sa.Column("subject", text(400), nullable=False),
        sa.Column("actor", text(400), nullable=False),
        sa.Column("event_time", sa.BigInteger(), nullable=False),
        sa.Column("recorded_time", sa.BigInteger(), nullable=False),
        sa.Column("payload_digest", text(400), nullable=False),
        sa.Column("salt", text(32), nullable=True),
        sa.Column("payload", sa.Text(), nullable=True),
        sa.Column("seq", sa.BigInteger(), nullable=True),
        sa.Column("hash", text(64), nullable=True),
        sa.PrimaryKeyConstraint("project", "event_id"),
    )
    op.create_index(
        "events_project_seq",
        "events",
        ["project", "seq"],
        unique=False,
        sqlite_where=sa.text("seq IS NOT NULL"),
        postgresql_where=sa.text("seq IS NOT NULL"),
    )
    op.create_index(
        "events_seq", "events", ["seq"], unique=True, sqlite_where=sa.text("seq IS NOT NULL"), postgresql_where=sa.text("seq IS NOT NULL")
    )
    op.create_index("events_subject_seq", "events", ["project", "subject", "seq"], unique=False)
    op.create_index(
        "events_type_seq",
        "events",
        ["project", "type", "seq"],
        unique=False,
        sqlite_where=sa.text("seq IS NOT NULL"),
        postgresql_where=sa.text("seq IS NOT NULL"),
    )
    op.create_index(
        "events_unsealed",
        "events",
        ["recorded_time", "event_id"],
        unique=False,
        sqlite_where=sa.text("seq IS NULL"),
        postgresql_where=sa.text("seq IS NULL"),
    )
    op.create_table(
        "experiment_tags",
        sa.Column("project", text(200), nullable=False),
        sa.Column("experiment_id", text(200), nullable=False),
        sa.Column("name", text(400), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("project", "experiment_id", "name"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "experiments",
        sa.Column("project", text(200), nullable=False),
        sa.Column("experiment_id", text(200), nullable=False),
        sa.Column("name", text(500), nullable=False),
        sa.Column("folder", text(400), server_default="", nullable=False),
        sa.Column("lifecycle", text(400), server_default="active", nullable=False),
        sa.Column("artifact_location", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("actor", text(400), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.Column("deleted", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("project", "experiment_id"),
        sa.UniqueConstraint("project", "name", name="experiments_name"),
    )
    op.create_index("experiments_folder", "experiments", ["project", "folder", "name"], unique=False)
    op.create_index("experiments_newest", "experiments", ["project", "lifecycle", "created", "experiment_id"], unique=False)
    op.create_table(
        "firings",
        sa.Column("project", text(200), nullable=False),
        sa.Column("environment", text(200), nullable=False),
        sa.Column("name", text(200), nullable=False),
        sa.Column("run_id", text(200), nullable=False),
        sa.Column("event_time", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("recorded_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "environment", "name", "run_id"),
    )
    op.create_index("firings_run", "firings", ["project", "run_id"], unique=False)
    op.create_index("firings_time", "firings", ["project", "environment", "name", "event_time"], unique=False)
    op.create_table(
        "grants",
        sa.Column("actor_id", text(200), nullable=False),
        sa.Column("project", text(200), nullable=False),
        sa.Column("environment", text(200), nullable=False),
        sa.Column("role", text(400), nullable=False),
        sa.Column("recorded_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("actor_id", "project", "environment"),
    )
    op.create_table(
        "heads",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", text(64), nullable=False),
        sa.Column("sealed_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
    )
    op.create_table(
        "home", sa.Column("name", text(200), nullable=False), sa.Column("value", sa.Text(), nullable=False), sa.PrimaryKeyConstraint("name")
    )
    op.create_table(
        "idempotency",
        sa.Column("scope", text(200), nullable=False),
        sa.Column("actor_id", text(200), nullable=False),
        sa.Column("idempotency_key", text(200), nullable=False),
        sa.Column("operation", text(400), nullable=False),
        sa.Column("request_digest", text(400), nullable=False),
        sa.Column("response", sa.Text(), nullable=False),
        sa.Column("recorded_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("scope", "actor_id", "idempotency_key"),
    )
    op.create_index("idempotency_age", "idempotency", ["recorded_time"], unique=False)
    op.create_table(
        "jobs",
        sa.Column("project", text(200), nullable=False),
        sa.Column("job_id", text(200), nullable=False),
        sa.Column("environment", text(400), nullable=False),
        sa.Column("kind", text(400), nullable=False),
        sa.Column("state", text(400), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("due", sa.BigInteger(), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("owner", text(400), nullable=True),
        sa.Column("beat", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("recorded_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "job_id"),
    )
    op.create_index("jobs_ready", "jobs", ["state", "due", "priority"], unique=False)
    op.create_table(
        "latest_metrics",
        sa.Column("project", text(200), nullable=False),
        sa.Column("run_id", text(200), nullable=False),
        sa.Column("name", text(400), nullable=False),
        sa.Column("experiment", text(400), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("project", "run_id", "name"),
        sqlite_with_rowid=False,
    )
    op.create_index("latest_metrics_value", "latest_metrics", ["project", "experiment", "name", "value", "created", "run_id"], unique=False)
    op.create_table(
        "log_lines",
        sa.Column("project", text(200), nullable=False),
        sa.Column("run_id", text(200), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("step", text(400), nullable=False),
        sa.Column("level", text(400), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "run_id", "number"),
    )
    op.create_table(
        "logged_model_metrics",
        sa.Column("project", text(200), nullable=False),
        sa.Column("model_id", text(200), nullable=False),
        sa.Column("name", text(400), nullable=False),
        sa.Column("run_id", text(200), nullable=False),
        sa.Column("dataset_name", text(500), nullable=False),
        sa.Column("dataset_digest", text(200), nullable=False),
        sa.Column("step", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("time", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("experiment", text(400), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("project", "model_id", "name", "run_id", "dataset_name", "dataset_digest", "step", "time"),
        sqlite_with_rowid=False,
    )
    op.create_index("logged_model_metrics_run", "logged_model_metrics", ["project", "run_id"], unique=False)
    op.create_index(
        "logged_model_metrics_value", "logged_model_metrics", ["project", "experiment", "name", "value", "model_id"], unique=False
    )
    op.create_table(
        "logged_model_params",
        sa.Column("project", text(200), nullable=False),
        sa.Column("model_id", text(200), nullable=False),
        sa.Column("name", text(400), nullable=False),
        sa.Column("experiment", text(400), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("head", text(200), nullable=False),
        sa.PrimaryKeyConstraint("project", "model_id", "name"),
        sqlite_with_rowid=False,
    )
    op.create_index("logged_model_params_value", "logged_model_params", ["project", "experiment", "name", "head", "model_id"], unique=False)
    op.create_table(
        "logged_model_tags",
        sa.Column("project", text(200), nullable=False),
        sa.Column("model_id", text(200), nullable=False),
        sa.Column("name", text(400), nullable=False),
        sa.Column("experiment", text(400), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("head", text(200), nullable=False),
        sa.PrimaryKeyConstraint("project", "model_id", "name"),
        sqlite_with_rowid=False,
    )
    op.create_index("logged_model_tags_value", "logged_model_tags", ["project", "experiment", "name", "head", "model_id"], unique=False)
    op.create_table(
        "logged_models",
        sa.Column("project", text(200), nullable=False),
        sa.Column("model_id", text(200), nullable=False),
        sa.Column("experiment", text(400), nullable=False),
        sa.Column("name", text(400), nullable=False),
        sa.Column("run_id", text(400), server_default="", nullable=False),
        sa.Column("state", text(400), nullable=False),
        sa.Column("status_message", sa.Text(), nullable=False),
        sa.Column("model_type", text(400), server_default="", nullable=False),
        sa.Column("lifecycle", text(400), server_default="active", nullable=False),
        sa.Column("artifact_location", sa.Text(), nullable=False),
        sa.Column("actor", text(400), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.Column("deleted", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("project", "model_id"),
    )
    op.create_index("logged_models_created", "logged_models", ["project", "experiment", "lifecycle", "created", "model_id"], unique=False)
    op.create_index("logged_models_run", "logged_models", ["project", "run_id"], unique=False)
    op.create_table(
        "metrics",
        sa.Column("project", text(200), nullable=False),
        sa.Column("run_id", text(200), nullable=False),
        sa.Column("name", text(400), nullable=False),
        sa.Column("step", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("time", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("nan", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("project", "run_id", "name", "step", "time", "value", "nan"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "model_numbers",
        sa.Column("project", text(200), nullable=False),
        sa.Column("model", text(200), nullable=False),
        sa.Column("last", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "model"),
    )
    op.create_table(
        "model_tags",
        sa.Column("project", text(200), nullable=False),
        sa.Column("model", text(200), nullable=False),
        sa.Column("name", text(400), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("head", text(200), nullable=False),
        sa.PrimaryKeyConstraint("project", "model", "name"),
        sqlite_with_rowid=False,
    )
    op.create_index("model_tags_value", "model_tags", ["project", "name", "head"], unique=False)
    op.create_table(
        "model_versions",
        sa.Column("project", text(200), nullable=False),
        sa.Column("model", text(200), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("state", text(400), nullable=False),
        sa.Column("stage", text(400), server_default="None", nullable=False),
        sa.Column("bundle_digest", text(64), nullable=True),
        sa.Column("run_id", text(400), server_default="", nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("model_id", text(400), server_default="", nullable=False),
        sa.Column("run_link", text(400), server_default="", nullable=False),
        sa.Column("status", text(400), server_default="READY", nullable=False),
        sa.Column("status_message", sa.Text(), nullable=False),
        sa.Column("metrics", sa.Text(), nullable=False),
        sa.Column("gates", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("card", sa.Text(), nullable=False),
        sa.Column("pinned", sa.Boolean(), nullable=False),
        sa.Column("downloads", sa.BigInteger(), nullable=False),
        sa.Column("actor", text(400), nullable=False),
        sa.Column("review_due", sa.BigInteger(), nullable=True),
        sa.Column("event_time", sa.BigInteger(), nullable=False),
        sa.Column("recorded_time", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "model", "number"),
        sa.UniqueConstraint("project", "model", "bundle_digest", "run_id", name="model_versions_bundle"),
    )
    op.create_index("model_versions_newest", "model_versions", ["project", "recorded_time", "model", "number"], unique=False)
    op.create_index("model_versions_run", "model_versions", ["project", "run_id"], unique=False)
    op.create_table(
        "models",
        sa.Column("project", text(200), nullable=False),
        sa.Column("model", text(200), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("actor", text(400), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("card", sa.Text(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "model"),
    )
    op.create_index("models_updated", "models", ["project", "updated", "model"], unique=False)
    op.create_table(
        "params",
        sa.Column("project", text(200), nullable=False),
        sa.Column("run_id", text(200), nullable=False),
        sa.Column("name", text(400), nullable=False),
        sa.Column("experiment", text(400), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("head", text(200), nullable=False),
        sa.PrimaryKeyConstraint("project", "run_id", "name"),
        sqlite_with_rowid=False,
    )
    op.create_index("params_value", "params", ["project", "experiment", "name", "head", "created", "run_id"], unique=False)
    op.create_table(
        "releases",
        sa.Column("project", text(200), nullable=False),
        sa.Column("environment", text(200), nullable=False),
        sa.Column("release_id", text(200), nullable=False),
        sa.Column("endpoint", text(400), nullable=False),
        sa.Column("model", text(400), nullable=False),
        sa.Column("from_version", sa.BigInteger(), nullable=True),
        sa.Column("to_version", sa.BigInteger(), nullable=False),
        sa.Column("strategy", sa.Text(), nullable=True),
        sa.Column("state", text(400), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("actor", text(400), nullable=False),
        sa.Column("started", sa.BigInteger(), nullable=False),
        sa.Column("ended", sa.BigInteger(), nullable=True),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("approval_id", text(400), nullable=True),
        sa.Column("recorded_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "environment", "release_id"),
    )
    op.create_index("releases_endpoint", "releases", ["project", "environment", "endpoint", "started"], unique=False)
    op.create_index("releases_state", "releases", ["state"], unique=False)
    op.create_table(
        "retention_rules",
        sa.Column("project", text(200), nullable=False),
        sa.Column("rule_id", text(200), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("actor", text(400), nullable=False),
        sa.Column("recorded_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "rule_id"),
    )
    op.create_table(
        "run_documents",
        sa.Column("project", text(200), nullable=False),
        sa.Column("run_id", text(200), nullable=False),
        sa.Column("document", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("project", "run_id"),
    )
    op.create_index(
        "run_documents_wanted",
        "run_documents",
        ["project", "run_id"],
        unique=False,
        sqlite_where=sa.text("document IS NULL"),
        postgresql_where=sa.text("document IS NULL"),
    )
    op.create_table(
        "run_inputs",
        sa.Column("project", text(200), nullable=False),
        sa.Column("run_id", text(200), nullable=False),
        sa.Column("name", text(500), nullable=False),
        sa.Column("digest", text(200), nullable=False),
        sa.Column("experiment", text(400), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("context", text(400), server_default="", nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("project", "run_id", "name", "digest"),
    )
    op.create_index("run_inputs_digest", "run_inputs", ["project", "experiment", "digest", "created", "run_id"], unique=False)
    op.create_index("run_inputs_name", "run_inputs", ["project", "experiment", "name", "created", "run_id"], unique=False)
    op.create_table(
        "run_models",
        sa.Column("project", text(200), nullable=False),
        sa.Column("run_id", text(200), nullable=False),
        sa.Column("role", text(200), nullable=False),
        sa.Column("model_id", text(200), nullable=False),
        sa.Column("step", sa.BigInteger(), nullable=False),
        sa.Column("recorded_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "run_id", "role", "model_id"),
    )
    op.create_index("run_models_model", "run_models", ["project", "model_id"], unique=False)
    op.create_table(
        "runs",
        sa.Column("project", text(200), nullable=False),
        sa.Column("run_id", text(200), nullable=False),
        sa.Column("environment", text(400), nullable=False),
        sa.Column("experiment", text(400), nullable=False),
        sa.Column("pipeline", text(400), nullable=False),
        sa.Column("state", text(400), nullable=False),
        sa.Column("name", text(400), server_default="", nullable=False),
        sa.Column("user_name", text(400), server_default="", nullable=False),
        sa.Column("lifecycle", text(400), server_default="active", nullable=False),
        sa.Column("params", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("actor", text(400), nullable=False),
        sa.Column("definition_digest", text(400), nullable=False),
        sa.Column("project_digest", text(400), nullable=False),
        sa.Column("code_digest", text(400), nullable=False),
        sa.Column("environment_digest", text(400), nullable=False),
        sa.Column("git_revision", text(400), nullable=True),
        sa.Column("parent_run", text(400), nullable=True),
        sa.Column("event_time", sa.BigInteger(), nullable=False),
        sa.Column("recorded_time", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("started", sa.BigInteger(), nullable=True),
        sa.Column("ended", sa.BigInteger(), nullable=True),
        sa.Column("deleted", sa.BigInteger(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("project", "run_id"),
    )
    op.create_index(
        "runs_binned",
        "runs",
        ["project", "deleted"],
        unique=False,
        sqlite_where=sa.text("deleted IS NOT NULL"),
        postgresql_where=sa.text("deleted IS NOT NULL"),
    )
    op.create_index("runs_created", "runs", ["project", "experiment", "lifecycle", "created", "run_id"], unique=False)
    op.create_index("runs_ended", "runs", ["project", "experiment", "lifecycle", "ended", "created", "run_id"], unique=False)
    op.create_index("runs_name", "runs", ["project", "experiment", "lifecycle", "name", "created", "run_id"], unique=False)
    op.create_index("runs_newest", "runs", ["project", "recorded_time", "run_id"], unique=False)
    op.create_index(
        "runs_parent",
        "runs",
        ["project", "parent_run"],
        unique=False,
        sqlite_where=sa.text("parent_run IS NOT NULL"),
        postgresql_where=sa.text("parent_run IS NOT NULL"),
    )
    op.create_index("runs_pipeline", "runs", ["project", "pipeline", "recorded_time"], unique=False)
    op.create_index("runs_state", "runs", ["project", "state", "recorded_time"], unique=False)
    op.create_index("runs_status", "runs", ["project", "experiment", "lifecycle", "state", "created", "run_id"], unique=False)
    op.create_table(
        "saved_views",
        sa.Column("project", text(200), nullable=False),
        sa.Column("view_id", text(200), nullable=False),
        sa.Column("page", text(400), nullable=False),
        sa.Column("name", text(400), nullable=False),
        sa.Column("actor", text(400), nullable=False),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("recorded_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "view_id"),
    )
    op.create_index("saved_views_page", "saved_views", ["project", "page", "name"], unique=False)
    op.create_table(
        "snapshots",
        sa.Column("project", text(200), nullable=False),
        sa.Column("environment", text(200), nullable=False),
        sa.Column("generation", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("event_time", sa.BigInteger(), nullable=False),
        sa.Column("recorded_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "environment", "generation"),
    )
    op.create_table(
        "step_cache",
        sa.Column("project", text(200), nullable=False),
        sa.Column("cache_key", text(200), nullable=False),
        sa.Column("step", text(400), nullable=False),
        sa.Column("components", sa.Text(), nullable=False),
        sa.Column("output", text(64), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=True),
        sa.Column("codec", text(400), nullable=False),
        sa.Column("run_id", text(400), nullable=False),
        sa.Column("recorded_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "cache_key"),
    )
    op.create_index("step_cache_run", "step_cache", ["project", "run_id"], unique=False)
    op.create_index("step_cache_step", "step_cache", ["project", "step", "recorded_time"], unique=False)
    op.create_table(
        "steps",
        sa.Column("project", text(200), nullable=False),
        sa.Column("run_id", text(200), nullable=False),
        sa.Column("path", text(200), nullable=False),
        sa.Column("name", text(400), nullable=False),
        sa.Column("state", text(400), nullable=False),
        sa.Column("cache_key", text(400), nullable=False),
        sa.Column("components", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("output", text(64), nullable=True),
        sa.Column("content", sa.LargeBinary(), nullable=True),
        sa.Column("codec", text(400), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("started", sa.BigInteger(), nullable=True),
        sa.Column("ended", sa.BigInteger(), nullable=True),
        sa.Column("worker", text(400), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("project", "run_id", "path"),
    )
    op.create_index("steps_output", "steps", ["output"], unique=False)
    op.create_table(
        "tags",
        sa.Column("project", text(200), nullable=False),
        sa.Column("run_id", text(200), nullable=False),
        sa.Column("name", text(400), nullable=False),
        sa.Column("experiment", text(400), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("head", text(200), nullable=False),
        sa.PrimaryKeyConstraint("project", "run_id", "name"),
        sqlite_with_rowid=False,
    )
    op.create_index("tags_value", "tags", ["project", "experiment", "name", "head", "created", "run_id"], unique=False)
    op.create_table(
        "tokens",
        sa.Column("token_id", text(200), nullable=False),
        sa.Column("actor_id", text(400), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("recorded_time", sa.BigInteger(), nullable=False),
        sa.Column("revoked_time", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("token_id"),
    )
    op.create_index("tokens_actor", "tokens", ["actor_id"], unique=False)
    op.create_table(
        "tracked_datasets",
        sa.Column("project", text(200), nullable=False),
        sa.Column("experiment", text(200), nullable=False),
        sa.Column("name", text(500), nullable=False),
        sa.Column("digest", text(200), nullable=False),
        sa.Column("source_type", text(400), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("schema", sa.Text(), nullable=True),
        sa.Column("profile", sa.Text(), nullable=True),
        sa.Column("recorded_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "experiment", "name", "digest"),
    )
    op.create_table(
        "triggers",
        sa.Column("project", text(200), nullable=False),
        sa.Column("environment", text(200), nullable=False),
        sa.Column("name", text(200), nullable=False),
        sa.Column("cursor", sa.BigInteger(), nullable=False),
        sa.Column("last_fired", sa.BigInteger(), nullable=True),
        sa.Column("next_cron", sa.BigInteger(), nullable=True),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("project", "environment", "name"),
    )
    op.create_table(
        "uploads",
        sa.Column("project", text(200), nullable=False),
        sa.Column("upload_id", text(200), nullable=False),
        sa.Column("run_id", text(400), nullable=False),
        sa.Column("path", text(1000), nullable=False),
        sa.Column("parts", sa.Text(), nullable=False),
        sa.Column("recorded_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "upload_id"),
    )
    op.create_index("uploads_age", "uploads", ["recorded_time"], unique=False)
    op.create_table(
        "version_tags",
        sa.Column("project", text(200), nullable=False),
        sa.Column("model", text(200), nullable=False),
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", text(400), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.Column("head", text(200), nullable=False),
        sa.PrimaryKeyConstraint("project", "model", "number", "name"),
        sqlite_with_rowid=False,
    )
    op.create_index("version_tags_value", "version_tags", ["project", "name", "head"], unique=False)
    op.create_table(
        "versions",
        sa.Column("project", text(200), nullable=False),
        sa.Column("digest", text(200), nullable=False),
        sa.Column("kind", text(400), nullable=False),
        sa.Column("name", text(400), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=True),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("event_time", sa.BigInteger(), nullable=False),
        sa.Column("recorded_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "digest"),
    )
    op.create_index("versions_kind_name", "versions", ["project", "kind", "name", "number"], unique=False)
    op.create_table(
        "webhook_deliveries",
        sa.Column("project", text(200), nullable=False),
        sa.Column("webhook_id", text(200), nullable=False),
        sa.Column("delivery_id", text(200), nullable=False),
        sa.Column("event_id", text(400), nullable=False),
        sa.Column("event", text(400), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("state", text(400), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due", sa.BigInteger(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "webhook_id", "delivery_id"),
    )
    op.create_index("webhook_deliveries_due", "webhook_deliveries", ["state", "due"], unique=False)
    op.create_index("webhook_deliveries_event", "webhook_deliveries", ["project", "event_id"], unique=False)
    op.create_index("webhook_deliveries_newest", "webhook_deliveries", ["project", "created", "delivery_id"], unique=False)
    op.create_table(
        "webhooks",
        sa.Column("project", text(200), nullable=False),
        sa.Column("webhook_id", text(200), nullable=False),
        sa.Column("name", text(400), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("events", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=True),
        sa.Column("state", text(400), nullable=False),
        sa.Column("actor", text(400), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("updated", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "webhook_id"),
    )
    op.create_index("webhooks_newest", "webhooks", ["project", "created", "webhook_id"], unique=False)
    op.create_table(
        "windows",
        sa.Column("project", text(200), nullable=False),
        sa.Column("environment", text(200), nullable=False),
        sa.Column("endpoint", text(200), nullable=False),
        sa.Column("start", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("end", sa.BigInteger(), nullable=False),
        sa.Column("predictions", sa.BigInteger(), nullable=False),
        sa.Column("rejected", sa.BigInteger(), nullable=False),
        sa.Column("outcomes", sa.BigInteger(), nullable=False),
        sa.Column("champion", sa.BigInteger(), nullable=True),
        sa.Column("metrics", sa.Text(), nullable=False),
        sa.Column("drift", sa.Text(), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.Column("profile", sa.LargeBinary(), nullable=True),
        sa.Column("recorded_time", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("project", "environment", "endpoint", "start"),
    )
    op.create_table(
        "aliases",
        sa.Column("project", text(200), nullable=False),
        sa.Column("model", text(200), nullable=False),
        sa.Column("alias", text(200), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("recorded_time", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project", "model", "number"],
            ["model_versions.project", "model_versions.model", "model_versions.number"],
        ),
        sa.PrimaryKeyConstraint("project", "model", "alias"),
    )
