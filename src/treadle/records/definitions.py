"""What a project is made of, as data.

A definition is a value: frozen, comparable, digestible, and free of user code. Where it needs code (a pipeline body, a feature
transform) it names it as an `Entry`: an import path and the digest of the source it was read from. So the API can validate,
diff and store a whole project without importing a line of it.
"""

from typing import Any

from msgspec import Struct, field, structs

from treadle.records.digests import digest_of


class Entry(Struct, frozen=True, kw_only=True):
    """Where a definition's code stands: `module:qualname`, and the digest of that function and of the project modules it uses."""

    path: str
    code: str = ""


class Column(Struct, frozen=True, kw_only=True):
    """One column of a schema.

    `dtype` is one of `DTYPES`. `unknown` says what a category outside `values` means at inference: `reject` (a 4xx),
    `null` (missing), `other` (a category of its own). `minimum`, `maximum` bound numbers, inclusive.
    """

    name: str
    dtype: str
    nullable: bool = True
    unknown: str = "null"
    values: tuple[str, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None


DTYPES = ("string", "int64", "float64", "bool", "datetime", "date")


class Check(Struct, frozen=True, kw_only=True):
    """A user-defined error detection function: a frame in, a boolean column (true = bad row) out."""

    name: str
    entry: Entry
    halt: bool = True


class Dataset(Struct, frozen=True, kw_only=True):
    """A table that grows by versions. `time` is the column of the moment at which a row is *known*, UTC.

    `provenance` says where the rows come from: a system, a provider and its key, a piece of code. `restrictions` says in words what they
    must not be used for; `only_in` names the environments in which a model that learned from them may serve, all where it is empty.
    """

    name: str
    time: str | None = None
    key: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    checks: tuple[Check, ...] = ()
    max_shift: float = 0.25  # PSI per column from which a version asks for retraining
    owner: str = ""
    license: str = ""
    description: str = ""
    provenance: str = ""
    restrictions: str = ""
    only_in: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    was: str | None = None


class Label(Struct, frozen=True, kw_only=True):
    """What is learned: a column of a dataset, what it means, and where its values come from.

    `source` is one of `LABEL_SOURCES`. `confidence` is the share of values that are believed to be right, 0 to 1. The digest of this
    record is the version of the label's definition; the version of its set of values is the dataset's.
    """

    name: str
    dataset: str
    column: str
    description: str = ""
    source: str = ""
    confidence: float | None = None
    owner: str = ""
    restrictions: str = ""
    only_in: tuple[str, ...] = ()
    was: str | None = None


#: What the world did; what people said; what an algorithm said; what was bought.
LABEL_SOURCES = ("observed", "human", "algorithm", "licensed")


class Window(Struct, frozen=True, kw_only=True):
    """An aggregate over a sawtooth window.

    Its value at T covers `floor((T - over) / hop) * hop <= time <= T`, both ends inclusive, times in whole seconds since 1970 UTC.
    """

    column: str
    aggregate: str  # mean | sum | count
    over_s: int
    hop_s: int


class FeatureView(Struct, frozen=True, kw_only=True):
    """Features of an entity, from one dataset: windows, or the newest row (after a transform) within `ttl_s`.

    `restrictions` and `only_in` as for a dataset.
    """

    name: str
    entity: tuple[str, ...]
    source: str
    windows: dict[str, Window] = {}
    columns: tuple[str, ...] = ()  # newest-value features: the columns taken
    transform: Entry | None = None
    ttl_s: int | None = None
    owner: str = ""
    description: str = ""
    restrictions: str = ""
    only_in: tuple[str, ...] = ()
    was: str | None = None

    @property
    def features(self) -> tuple[str, ...]:
        """The feature columns this view gives, each under its own name prefixed by the view's: `view.feature`."""
        return tuple(f"{self.name}.{name}" for name in (*self.windows, *self.columns))


class Parameter(Struct, frozen=True, kw_only=True):
    """A parameter of a pipeline; `default` is JSON, `required` where there is none."""

    name: str
    annotation: str = ""
    default: Any = None
    required: bool = False


class Pipeline(Struct, frozen=True, kw_only=True):
    """A durable Python function."""

    name: str
    entry: Entry
    parameters: tuple[Parameter, ...] = ()
    virtual_duration_s: int = 0  # business time a run takes in a replay
    description: str = ""
    was: str | None = None


class Gate(Struct, frozen=True, kw_only=True):
    """A check that a candidate must pass. `kind` is a gate plugin; the rest are its numbers.

    `no_worse`: candidate's metric on the same rows is worse than the champion's by no more than `by`.
    `at_least`, `at_most`: a bound on the metric. `slice_floor`: on every slice with at least `min_rows` rows.
    `beats_baseline`: better than the baseline model of the same run by at least `by`.
    """

    kind: str
    metric: str
    by: float = 0.0
    bound: float = 0.0
    slices: tuple[str, ...] = ()
    min_rows: int = 200


class Canary(Struct, frozen=True, kw_only=True):
    """A release strategy: both variants score each canary request; the daily paired differences decide.

    `share` of units (0 to 1) is answered by the challenger, for at most `deadline_blocks` blocks of `block_s` seconds of business
    time. The challenger is promoted when the sequential test rejects "worse by at least `margin`", stopped when it rejects
    "worse by at most 0"; both at level `alpha`, whenever looked at. At the deadline: inconclusive, the champion stays.
    """

    share: float = 0.25
    metric: str = "brier"
    margin: float = 0.01
    alpha: float = 0.05
    block_s: int = 86400
    deadline_blocks: int = 14
    min_rows: int = 20  # a block with fewer paired outcomes is pooled into the next


class Condition(Struct, frozen=True, kw_only=True):
    """When to retrain, or to run a pipeline.

    `decayed` (metric, by), `calibration` (by), `drifted`, `grown` (factor: rows since the last training),
    `cron` (expression, zone), `dataset` (name), `event` (type, filter).
    """

    kind: str
    metric: str = ""
    by: float = 0.0
    factor: float = 0.0
    cron: str = ""
    zone: str = "UTC"
    dataset: str = ""
    event: str = ""
    filter: dict[str, Any] = {}


class Trigger(Struct, frozen=True, kw_only=True):
    """Starts a pipeline on conditions (any of them), at most every so often, within a budget per `budget_window_s`."""

    name: str
    pipeline: str
    when: tuple[Condition, ...]
    parameters: dict[str, Any] = {}
    at_most_every_s: int = 0
    budget: int | None = None
    budget_window_s: int = 31_536_000
    was: str | None = None


class Monitor(Struct, frozen=True, kw_only=True):
    """What is watched at an endpoint, by `block_s` of business time.

    Decay: the metric over the last `window_blocks` blocks of known outcomes against the champion's own evaluation.
    Calibration: mean predicted against mean observed. Drift: features against the reference profile, alarms held to
    `false_alarms` a `false_alarm_window_s`.
    """

    outcome: str = ""  # dataset.column of the truth
    outcome_within_s: int = 86400
    block_s: int = 86400
    window_blocks: int = 14
    decay_metric: str = "brier"
    decay_by: float = 0.01
    calibration_by: float = 0.05
    false_alarms: float = 1.0
    false_alarm_window_s: int = 2_592_000
    slices: tuple[str, ...] = ()


class Endpoint(Struct, frozen=True, kw_only=True):
    """A name that answers predictions, what watches it, and how its model changes."""

    name: str
    model: str
    release: Canary = field(default_factory=Canary)
    monitor: Monitor = field(default_factory=Monitor)
    retrain: Trigger | None = None
    unit: str = ""  # randomisation unit: a request column; the record id where empty
    requests: str = ""  # the dataset whose rows, as they become known, are what is asked: what a replay sends
    predictions_change_outcomes: bool = True
    was: str | None = None


class Environment(Struct, frozen=True, kw_only=True):
    """Where endpoints live. `auto_approve`: the named policy actor that may grant by itself when all gates hold, empty where a person must.

    `documents` are the sections of the model card that must be written before an approval is granted. An approval that nobody gave expires
    after `approval_within_s`; a version that serves is due for review every `review_every_s`; both 0 for never. With `archive_others`,
    older versions that do not serve are archived when one is promoted here. `requires` are the fields (of `ABOUT`) that each dataset,
    feature view and label must have filled in before a project is applied here.
    """

    name: str
    after: str = ""  # the environment in which a version must serve, smoke-tested, before it may come here
    auto_approve: str = ""
    four_eyes: bool = True
    variables: dict[str, str] = {}
    documents: tuple[str, ...] = ()
    approval_within_s: int = 0
    review_every_s: int = 0
    archive_others: bool = False
    requires: tuple[str, ...] = ()


class Project(Struct, frozen=True, kw_only=True):
    """All definitions of a project, and the code snapshot they were read from."""

    name: str
    datasets: tuple[Dataset, ...] = ()
    feature_views: tuple[FeatureView, ...] = ()
    labels: tuple[Label, ...] = ()
    pipelines: tuple[Pipeline, ...] = ()
    triggers: tuple[Trigger, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    environments: tuple[Environment, ...] = ()
    code: str = ""  # digest of the code snapshot manifest
    environment_lock: str = ""  # digest of the list of installed distributions


Definition = Dataset | FeatureView | Label | Pipeline | Trigger | Endpoint | Environment

#: kind → (field of Project, record type), in street order.
KINDS: dict[str, tuple[str, type]] = {
    "environment": ("environments", Environment),
    "dataset": ("datasets", Dataset),
    "feature_view": ("feature_views", FeatureView),
    "label": ("labels", Label),
    "pipeline": ("pipelines", Pipeline),
    "trigger": ("triggers", Trigger),
    "endpoint": ("endpoints", Endpoint),
}

#: Fields that say something *about* a definition, and change nothing that is computed.
ABOUT = ("owner", "license", "description", "provenance", "restrictions", "only_in", "source", "confidence")


def bare(definition: Any) -> Any:
    """A dataset or feature view without what is said about it, for what must not change when only words do: cache keys, bundles."""
    plain = {"owner": "", "description": "", "restrictions": "", "only_in": (), "was": None}
    if isinstance(definition, Dataset):
        plain |= {"license": "", "provenance": "", "tags": (), "checks": ()}
    return structs.replace(definition, **plain)


def kind_of(definition: Definition) -> str:
    """`dataset`, `feature_view`, … of a definition."""
    for kind, (_, record) in KINDS.items():
        if isinstance(definition, record):
            return kind
    raise TypeError(f"{type(definition).__name__} is no definition")


def definition_digest(definition: Definition) -> str:
    """The digest a run or endpoint is pinned to; `was` does not count, since a rename changes nothing else."""
    plain = structs.replace(definition, was=None) if hasattr(definition, "was") else definition
    return digest_of([kind_of(definition), plain])
