"""`@step` and `@pipeline`: what a user writes.

Both leave a function callable as it is: outside a run a step just runs and returns its value, which is what a notebook or a unit
test wants. In a run, the same call goes through the journal and returns a handle.
"""

import functools
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar, overload

import msgspec

from treadle.pipelines import code, context
from treadle.pipelines.handle import value
from treadle.records.clock import seconds
from treadle.records.definitions import Entry, Parameter, Pipeline
from treadle.records.errors import TreadleError

P = ParamSpec("P")
R = TypeVar("R")


class StepFunction(Generic[P, R]):
    """A function whose calls in a run are journaled and cached. Made by `@step`.

    The annotation says `R`; in the body of a run the call gives a `Handle[R]`, which further steps accept in place of an `R`.
    """

    def __init__(
        self,
        function: Callable[P, R],
        *,
        cache: bool = True,
        retries: int = 0,
        backoff_s: float = 1.0,
        timeout_s: float | None = None,
        codec: str | None = None,
        name: str | None = None,
    ):
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name or function.__name__
        self.cache = cache
        self.retries = retries
        self.backoff_s = backoff_s
        self.timeout_s = timeout_s
        self.codec = codec
        self.signature = inspect.signature(function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        running = context.peek()
        if running is None or running.journal is None:
            return self.function(*value(args), **value(kwargs))  # pyright: ignore[reportCallIssue]  (handles gave way to values)
        return running.journal.call(self, args, kwargs)

    def __repr__(self) -> str:
        return f"<step {self.name}>"


class PipelineFunction(Generic[P, R]):
    """A durable body of steps. Made by `@pipeline`. Called directly it runs at once, without a journal."""

    def __init__(self, function: Callable[P, R], *, virtual_duration: str | int | None = None, name: str | None = None):
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name or function.__name__
        self.virtual_duration_s = seconds(virtual_duration) if virtual_duration else 0
        self.signature = inspect.signature(function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    @property
    def definition(self) -> Pipeline:
        """The pipeline as a record, its code digested."""
        return self.define()

    def define(self, root: Path | None = None) -> Pipeline:
        """The pipeline as a record; project modules are those under `root` (found from the function's file if None)."""
        digest, _ = code.code_digest(self.function, root)
        return Pipeline(
            name=self.name,
            entry=Entry(path=f"{self.function.__module__}:{self.function.__qualname__}", code=digest),
            parameters=tuple(_parameter(self.name, p) for p in self.signature.parameters.values()),
            virtual_duration_s=self.virtual_duration_s,
            description=(inspect.getdoc(self.function) or "").split("\n\n")[0],
        )

    def __repr__(self) -> str:
        return f"<pipeline {self.name}>"


def _parameter(pipeline_name: str, parameter: inspect.Parameter) -> Parameter:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
        raise TreadleError(
            f"Pipeline {pipeline_name} takes {parameter}, but a run is started with parameters by name.",
            remedy="Give every parameter of the pipeline a name of its own.",
            code="bad_definition",
        )
    required = parameter.default is parameter.empty
    try:
        default = None if required else msgspec.to_builtins(parameter.default)
    except TypeError as error:
        raise TreadleError(
            f"The default of {parameter.name} in pipeline {pipeline_name} cannot be written as JSON: {error}.",
            remedy="Use a number, text, date, list or dict as default, and build the rest in a step.",
            code="bad_definition",
        ) from error
    annotation = "" if parameter.annotation is parameter.empty else inspect.formatannotation(parameter.annotation)
    return Parameter(name=parameter.name, annotation=annotation, default=default, required=required)


@overload
def step(function: Callable[P, R]) -> StepFunction[P, R]: ...
@overload
def step(
    *,
    cache: bool = ...,
    retries: int = ...,
    backoff_s: float = ...,
    timeout_s: float | None = ...,
    codec: str | None = ...,
    name: str | None = ...,
) -> Callable[[Callable[P, R]], StepFunction[P, R]]: ...
def step(function: Any = None, **options: Any) -> Any:
    """Make a function a step.

    Args:
        function: the function, where the decorator is used bare.
        **options: `cache` (answer from the cache when code, inputs, parameters and environment are the same; switch it off for
            side effects), `retries` after a failure, waiting `backoff_s`, then twice that, …; `timeout_s` of one attempt;
            `codec` (`json`, `arrow`, `npy`, `bytes`, `struct`, …) where the value's type should not choose; `name`.
    """
    if function is None:
        return lambda real: StepFunction(real, **options)
    return StepFunction(function, **options)


@overload
def pipeline(function: Callable[P, R]) -> PipelineFunction[P, R]: ...
@overload
def pipeline(*, virtual_duration: str | int | None = ..., name: str | None = ...) -> Callable[[Callable[P, R]], PipelineFunction[P, R]]: ...
def pipeline(function: Any = None, **options: Any) -> Any:
    """Make a function a pipeline: a body that calls steps, with `if` and `for` as it likes. `virtual_duration` is the business
    time a run takes in a replay (`"30m"`)."""
    if function is None:
        return lambda real: PipelineFunction(real, **options)
    return PipelineFunction(function, **options)


def each(function: StepFunction[..., R], items: Iterable[Any], *args: Any, **kwargs: Any) -> list[R]:
    """Call a step for every item: `each(score, parts, model)` is `[score(part, model) for part in parts]`, under one place in
    the journal."""
    running = context.peek()
    if running is None or running.journal is None:
        return [function(item, *args, **kwargs) for item in value(items)]
    return running.journal.each(function, items, args, kwargs)
