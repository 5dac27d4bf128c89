"""From the database to the gateways' folder: bundles first, then the numbered snapshot that names them.

Publishing is idempotent and may be done by anybody at any time after the transaction that made a generation: whoever comes second finds
the file there. A gateway never sees a snapshot whose bundles are not complete on disk.
"""

from treadle.packaging import bundle
from treadle.plugins.storage import BlobStore
from treadle.records.layout import Layout
from treadle.records.serving import Ack
from treadle.serving import snapshots
from treadle.store.db import Database
from treadle.store.queries import releases as queries


class Publisher:
    """Writes the newest snapshots of environments where their gateways look for them."""

    def __init__(self, database: Database, layout: Layout, blobs: BlobStore):
        self.database = database
        self.layout = layout
        self.blobs = blobs

    def publish(self, project: str, environment: str) -> int:
        """Put the newest generation of an environment before its gateways; returns its number, 0 where there is none.

        Raises:
            TreadleError: `not_found` or `corrupt` for a bundle's blobs, `storage_full`; the generation before keeps serving.
        """
        with self.database.read() as connection:
            snapshot = queries.newest_snapshot(connection, project, environment)
        if snapshot is None:
            return 0
        gateway = self.layout.gateway(project, environment)
        if snapshot.generation in snapshots.generations(gateway)[:1]:
            return snapshot.generation
        for endpoint in snapshot.endpoints:
            for variant in (endpoint.champion, endpoint.challenger):
                if variant is not None:
                    bundle.unpack(self.blobs, variant.bundle_digest, gateway.bundles)
        snapshots.write(gateway, snapshot)
        return snapshot.generation

    def publish_all(self) -> dict[tuple[str, str], int]:
        """Publish every environment; (project, environment) → generation."""
        with self.database.read() as connection:
            places = queries.environments(connection)
        return {place: self.publish(*place) for place in places}

    def acks(self, project: str, environment: str) -> list[Ack]:
        """What the live gateway workers of an environment say they serve."""
        return snapshots.read_acks(self.layout.gateway(project, environment))

    def acknowledged(self, project: str, environment: str, generation: int) -> tuple[bool, str]:
        """Whether all live workers serve `generation` or a later one (so where none lives), and the first error about it."""
        acks = self.acks(project, environment)
        error = next((f"{a.worker}: {a.error}" for a in acks if a.state == "error" and a.generation >= generation), "")
        return all(a.state == "ready" and a.generation >= generation for a in acks), error
