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
    "open_home": "treadle.workshop",
    "TreadleError": "treadle.records.errors",
}
__all__ = ["__version__", *_OWNERS]  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:
    from treadle.pipelines import each, pipeline, step
    from treadle.records.errors import TreadleError
    from treadle.workshop import open_home


def __getattr__(name: str) -> Any:
    if name not in _OWNERS:
        raise AttributeError(f"module 'treadle' has no attribute {name!r}")
    owner = import_module(_OWNERS[name])
    value = getattr(owner, name, owner)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
