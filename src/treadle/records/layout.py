"""Where things stand in a home: every path of the embedded layout, in one place. Pure: nothing here touches the disk.

HOME/treadle.db                       metadata (SQLite; elsewhere with --store URL)
HOME/blobs/ab/cdef…                   content-addressed blobs
HOME/blobs.url                        where they are instead, if in object storage; HOME/blobs/cache/ has copies then
HOME/tables/PROJECT/DATASET/          Delta tables; `_log.ENV` are the prediction logs
HOME/online/PROJECT/ENV.db            online features (window tiles and newest values)
HOME/code/DIGEST/                     unpacked code snapshots
HOME/gateways/PROJECT/ENV/            what a gateway needs without a database:
    snapshots/00000012.json           numbered snapshots, the highest is current
    bundles/DIGEST/                   unpacked bundles
    log/SEGMENT.seg                   prediction log segments
    acks/WORKER.json                  what each worker serves
HOME/processes/NAME.json              pid, port and start of processes that run on this home
"""

from pathlib import Path


class Layout:
    """The paths of one home."""

    def __init__(self, root: Path | str):
        self.root = Path(root)

    @property
    def database(self) -> Path:
        """The embedded metadata database."""
        return self.root / "treadle.db"

    @property
    def database_url(self) -> str:
        """Its URL."""
        return f"sqlite:///{self.database}"

    @property
    def blobs(self) -> Path:
        """Root of the blob store."""
        return self.root / "blobs"

    @property
    def blobs_url(self) -> Path:
        """The address of blobs that are elsewhere."""
        return self.root / "blobs.url"

    @property
    def processes(self) -> Path:
        """Where running processes leave their addresses."""
        return self.root / "processes"

    def table(self, project: str, dataset: str) -> Path:
        """A dataset's Delta table."""
        return self.root / "tables" / project / dataset

    def prediction_table(self, project: str, environment: str) -> Path:
        """The Delta table that the prediction log is folded into."""
        return self.root / "tables" / project / f"_log.{environment}"

    def online(self, project: str, environment: str) -> Path:
        """The embedded online store."""
        return self.root / "online" / project / f"{environment}.db"

    def code(self, digest: str) -> Path:
        """An unpacked code snapshot."""
        return self.root / "code" / digest

    def gateway(self, project: str, environment: str) -> "GatewayLayout":
        """A gateway's own folder."""
        return GatewayLayout(self.root / "gateways" / project / environment)


class GatewayLayout:
    """The folder a gateway lives from."""

    def __init__(self, root: Path):
        self.root = root

    @property
    def snapshots(self) -> Path:
        """Numbered snapshots."""
        return self.root / "snapshots"

    @property
    def bundles(self) -> Path:
        """Unpacked bundles by digest."""
        return self.root / "bundles"

    @property
    def log(self) -> Path:
        """Prediction log segments."""
        return self.root / "log"

    @property
    def acks(self) -> Path:
        """Acknowledgements by worker."""
        return self.root / "acks"
