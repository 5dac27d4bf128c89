"""Treadle: the closed loop of machine learning in one package.

The names here are what a project's definition file needs; each is loaded when it is first used, so that `import treadle` costs a
few milliseconds. Everything else is imported from the room that owns it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

#: name → the module that owns it.
_OWNERS = {
    # data
    "dataset": "treadle.data.declare",
    "column": "treadle.data.declare",
    "label": "treadle.data.declare",
    "validate": "treadle.data.steps",
    "split_by_time": "treadle.data.steps",
    "split_random": "treadle.data.steps",
    # features
    "feature_view": "treadle.features.declare",
    "mean": "treadle.features.declare",
    "sum": "treadle.features.declare",
    "count": "treadle.features.declare",
    "training_set": "treadle.features.steps",
    # pipelines
    "step": "treadle.pipelines",
    "pipeline": "treadle.pipelines",
    "each": "treadle.pipelines",
    # training, evaluation, registry
    "fit_lightgbm": "treadle.training.steps",
    "fit_logistic": "treadle.training.steps",
    "evaluate": "treadle.registry.steps",
    "candidate": "treadle.registry.steps",
    "cross_validate": "treadle.packaging.crossval",
    "gates": "treadle.evaluation.declare",
    # releases, monitoring
    "endpoint": "treadle.releases.declare",
    "environment": "treadle.releases.declare",
    "canary": "treadle.releases.declare",
    "not_harmed": "treadle.releases.declare",
    "monitor": "treadle.monitoring.declare",
    "false_alarms": "treadle.monitoring.declare",
    "retrain": "treadle.monitoring.declare",
    "trigger": "treadle.monitoring.declare",
    "when": "treadle.monitoring.declare",
    # the whole
    "run": "treadle.workshop.sdk",
    "runs": "treadle.workshop.sdk",
    "open_home": "treadle.workshop",
    "TreadleError": "treadle.records.errors",
}
__all__ = [*_OWNERS]  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:  # the same for editors and type checkers
    from treadle.data.declare import column as column
    from treadle.data.declare import dataset as dataset
    from treadle.data.declare import label as label
    from treadle.data.steps import split_by_time as split_by_time
    from treadle.data.steps import split_random as split_random
    from treadle.data.steps import validate as validate
    from treadle.evaluation import declare as gates
    from treadle.features.declare import count as count
    from treadle.features.declare import feature_view as feature_view
    from treadle.features.declare import mean as mean
    from treadle.features.declare import sum as sum
    from treadle.features.steps import training_set as training_set
    from treadle.monitoring import declare as when
    from treadle.monitoring.declare import false_alarms as false_alarms
    from treadle.monitoring.declare import monitor as monitor
    from treadle.monitoring.declare import retrain as retrain
    from treadle.monitoring.declare import trigger as trigger
    from treadle.packaging.crossval import cross_validate as cross_validate
    from treadle.pipelines import each as each
    from treadle.pipelines import pipeline as pipeline
    from treadle.pipelines import step as step
    from treadle.records.errors import TreadleError as TreadleError
    from treadle.registry.steps import candidate as candidate
    from treadle.registry.steps import evaluate as evaluate
    from treadle.releases.declare import canary as canary
    from treadle.releases.declare import endpoint as endpoint
    from treadle.releases.declare import environment as environment
    from treadle.releases.declare import not_harmed as not_harmed
    from treadle.training.steps import fit_lightgbm as fit_lightgbm
    from treadle.training.steps import fit_logistic as fit_logistic
    from treadle.workshop import open_home as open_home
    from treadle.workshop.sdk import run as run
    from treadle.workshop.sdk import runs as runs

    _ = (gates, when)


def __getattr__(name: str) -> Any:
    if name not in _OWNERS:
        raise AttributeError(f"module 'treadle' has no attribute {name!r}")
    owner = import_module(_OWNERS[name])
    value = getattr(owner, name, owner)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
