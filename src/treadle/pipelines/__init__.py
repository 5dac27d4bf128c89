"""Durable Python: steps that are journaled and cached, bodies that resume, workers that may be killed at any moment.

A pipeline is a function that calls steps. A worker (`worker.Worker`) leases its run, executes the body for real and writes every
finished step into the journal (`journal`), so that after a `kill -9` another worker goes on behind the last finished step. What a
step's result depends on (its code, `code`; its inputs and parameters; the installed distributions, `environment`) is its key in the
cache. Triggers (`triggers`) read sealed events and start runs. The next room, `data`, brings the first steps.
"""

from treadle.pipelines.decorators import PipelineFunction, StepFunction, each, pipeline, step
from treadle.pipelines.handle import Handle, value

__all__ = ["Handle", "PipelineFunction", "StepFunction", "each", "pipeline", "step", "value"]
