"""What can be asked of each kind of thing that MLflow's filter language searches: names, comparators, and how the rest is refused."""

from msgspec import Struct

NUMERIC = ("=", "!=", "<", "<=", ">", ">=")
TEXT = ("=", "!=", "LIKE", "ILIKE")
LISTS = ("IN", "NOT IN")
NULLS = ("IS NULL", "IS NOT NULL")


class Language(Struct, frozen=True, kw_only=True):
    """What can be asked of one kind of thing."""

    name: str
    entities: dict[str, str]  # prefix → kind
    told_entities: str  # how an unknown prefix is refused
    texts: tuple[str, ...]  # attributes
    numbers: tuple[str, ...] = ()
    aliases: dict[str, str] = {}
    orders: tuple[str, ...] = ()  # attributes to order by
    lists: tuple[str, ...] = ()  # attributes that compare with a list
    nulls: tuple[str, ...] = ()  # kinds that may be asked for NULL
    quoted_clauses: bool = False
    bare_values: bool = False


_ANY = {"attribute": "attribute", "tag": "tag", "tags": "tag"}
_TOLD_ANY = "Invalid entity type '{}'. Valid entity types are ('attribute', 'tag', 'tags')"

RUNS = Language(
    name="runs",
    entities={
        **dict.fromkeys(("metric", "metrics"), "metric"),
        **dict.fromkeys(("parameter", "parameters", "param", "params"), "param"),
        **dict.fromkeys(("tag", "tags"), "tag"),
        **dict.fromkeys(("attribute", "attributes", "attr", "run"), "attribute"),
        **dict.fromkeys(("dataset", "datasets"), "dataset"),
    },
    told_entities="Invalid entity type '{}'. Valid values are ['metric', 'parameter', 'tag', 'attribute', 'dataset']",
    texts=("artifact_uri", "run_id", "run_name", "status", "user_id"),
    numbers=("start_time", "end_time"),
    aliases={"created": "start_time", "Created": "start_time", **dict.fromkeys(("run name", "Run name", "Run Name"), "run_name")},
    orders=("Created", "artifact_uri", "created", "end_time", "run_id", "run_name", "start_time", "status", "user_id"),
    lists=("run_id",),
    nulls=("tag", "param"),
    quoted_clauses=True,
)
EXPERIMENTS = Language(
    name="experiments",
    entities=_ANY,
    told_entities=_TOLD_ANY,
    texts=("name", "experiment_id"),
    numbers=("creation_time", "last_update_time"),
    orders=("name", "experiment_id", "creation_time", "last_update_time"),
    lists=("experiment_id",),
    nulls=("tag",),
)
REGISTERED_MODELS = Language(
    name="registered models",
    entities=_ANY,
    told_entities=_TOLD_ANY,
    texts=("name",),
    orders=("name", "timestamp", "last_updated_timestamp"),
    lists=("name",),
)
MODEL_VERSIONS = Language(
    name="model versions",
    entities=_ANY,
    told_entities=_TOLD_ANY,
    texts=("name", "run_id", "source_path"),
    numbers=("version_number",),
    orders=("name", "version_number", "creation_timestamp", "last_updated_timestamp"),
    lists=("name", "run_id"),
)
LOGGED_MODELS = Language(
    name="logged models",
    entities={"attributes": "attribute", "metrics": "metric", "params": "param", "tags": "tag"},
    told_entities="Invalid entity type: '{}'. Expected one of ['attributes', 'metrics', 'params', 'tags'].",
    texts=("name", "model_id", "model_type", "status", "source_run_id"),
    numbers=("creation_timestamp", "last_updated_timestamp"),
    aliases={
        **dict.fromkeys(("creation_time", "creation_timestamp_ms"), "creation_timestamp"),
        **dict.fromkeys(("last_updated_time", "last_updated_timestamp_ms"), "last_updated_timestamp"),
    },
    orders=("name", "model_id", "model_type", "status", "source_run_id", "creation_timestamp", "last_updated_timestamp"),
    lists=("name", "model_id", "model_type", "status", "source_run_id"),
    bare_values=True,
)
