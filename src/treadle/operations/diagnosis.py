"""The verbs that ask what a run recorded: is it healthy, and what does it not share with another."""

from msgspec import Struct

from treadle.operations.table import operation
from treadle.records.diagnosis import Diagnosis, RunDifference


@operation("GET /projects/{project}/tracked-runs/{run_id}/diagnosis", allow="read", returns=Diagnosis)
class DiagnoseRun(Struct, frozen=True, kw_only=True):
    """What the rules find in a run's metrics, tensors and sections of time, worst first; of a run that goes on, until now."""

    project: str
    run_id: str


@operation("GET /projects/{project}/tracked-runs/{run_id}/difference", allow="read", returns=RunDifference)
class CompareRuns(Struct, frozen=True, kw_only=True):
    """What changed from one run to another: parameters, code, packages, data, metrics; from its parent where `since` is empty."""

    project: str
    run_id: str
    since: str = ""
