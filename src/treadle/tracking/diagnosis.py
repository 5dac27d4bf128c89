"""What a run recorded, asked: its diagnosis by the rules, and what it does not share with another run."""

from treadle.operations import diagnosis as ops
from treadle.operations import implements
from treadle.plugins.storage import BlobStore
from treadle.records.calls import Call
from treadle.records.diagnosis import Diagnosis, RunDifference
from treadle.records.errors import TreadleError
from treadle.records.insides import sections, watched
from treadle.records.rules import MANY, diagnose
from treadle.records.series import by_step
from treadle.store.db import Connection
from treadle.store.queries import files, insides, run_reads
from treadle.store.queries import ledger as ledger_queries
from treadle.store.queries import tracking as queries
from treadle.tracking.comparing import Known, compare
from treadle.tracking.runs import no_run

#: Where `treadle.run` keeps the packages that were installed, and what was not committed.
PACKAGES, PATCH = "environment/requirements.txt", "code/uncommitted.patch"
_LARGEST = 4 * 1024 * 1024


class Insides:
    """Implements `operations/diagnosis.py`."""

    def __init__(self, blobs: BlobStore):
        self._blobs = blobs

    @implements(ops.DiagnoseRun)
    def diagnose_run(self, connection: Connection, request: ops.DiagnoseRun, call: Call) -> Diagnosis:
        """One statement for all of the run's points, thinned where there are many."""
        if queries.run_head(connection, request.project, request.run_id) is None:
            raise no_run(request.project, request.run_id)
        known = {
            name: by_step(points)
            for name, points in insides.histories(connection, request.project, request.run_id, MANY).items()
            if not name.startswith("system/")
        }
        return Diagnosis(
            project=request.project,
            run_id=request.run_id,
            findings=diagnose(known),
            watched=watched(known),
            sections=sections(known),
            examined=len(known),
        )

    @implements(ops.CompareRuns)
    def compare_runs(self, connection: Connection, request: ops.CompareRuns, call: Call) -> RunDifference:
        """From `since`, or from its parent, to the run."""
        after = self._known(connection, request.project, request.run_id)
        since = request.since or after.run.parent_run
        if not since:
            raise TreadleError(
                f"Run {request.run_id} has no parent to be compared with.",
                remedy="Name the other run, or start the next one with treadle.run(…, parent=RUN).",
            )
        return compare(self._known(connection, request.project, since), after)

    def _known(self, connection: Connection, project: str, run_id: str) -> Known:
        found = run_reads.tracked_runs(connection, project, [run_id])
        if not found:
            raise no_run(project, run_id)
        parents = ledger_queries.edges_of(connection, project, [run_id], upwards=True)
        data: dict[str, list[str]] = {}
        for version in ledger_queries.versions_of(connection, project, sorted({e.parent for e in parents})):
            told = f"version {version.number}" if version.number else str((version.facts or {}).get("digest") or version.digest[:12])
            data.setdefault(version.name, []).append(told)
        digests = insides.surroundings(connection, project, run_id)
        patch = files.get_file(connection, project, run_id, PATCH)
        if patch is not None:
            digests["code_digest"] = patch.digest
        return Known(
            run=found[0],
            packages=self._packages(connection, project, run_id),
            data={name: sorted(told) for name, told in data.items()},
            digests=digests,
        )

    def _packages(self, connection: Connection, project: str, run_id: str) -> dict[str, str]:
        kept = files.get_file(connection, project, run_id, PACKAGES)
        if kept is None or kept.size > _LARGEST or not self._blobs.exists(kept.digest):
            return {}
        lines = self._blobs.get(kept.digest).decode(errors="replace").splitlines()
        pairs = (line.partition("==") for line in lines if not line.startswith("#"))
        return {name.strip(): version.strip() for name, equals, version in pairs if equals}
