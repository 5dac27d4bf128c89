"""One prediction over HTTP, beside a bare app.

The bare app is uvicorn + ASGI + msgspec + ONNX Runtime and nothing else: no checks, no split, no log. Ours is the gateway as it runs, log
on. Both serve the same model (12 features, 100 boosted trees) to the same clients, one server at a time on the same machine, turn by
turn so that a busy neighbour hits both. Budget (DESIGN §7): at least 70 % of the bare app's requests/s.

    python -m bench.prediction [--seconds 0.5] [--rounds 12]
"""

import argparse
import asyncio
import datetime as dt
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FEATURES = [f"x{i}" for i in range(12)]

BARE = """
import sys, socket, msgspec, numpy as np, onnxruntime, uvicorn
class Body(msgspec.Struct):
    rows: list[list[float]]
decode, encode = msgspec.json.Decoder(Body).decode, msgspec.json.Encoder().encode
options = onnxruntime.SessionOptions(); options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
name, out = session.get_inputs()[0].name, session.get_outputs()[-1].name
dtype = np.float64 if session.get_inputs()[0].type == "tensor(double)" else np.float32
async def app(scope, receive, send):
    body = (await receive())["body"]
    scores = session.run([out], {name: np.array(decode(body).rows, dtype=dtype)})[0]
    answer = encode({"predictions": scores.reshape(-1).tolist()})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
listening = socket.socket(); listening.bind(("127.0.0.1", 0)); listening.listen(2048)
print(listening.getsockname()[1], flush=True)
options = {"loop": "uvloop", "http": "httptools", "ws": "none", "lifespan": "off", "log_level": "error"}
config = uvicorn.Config(app, **options, access_log=False, server_header=False, date_header=False, proxy_headers=False)
uvicorn.Server(config).run(sockets=[listening])
"""


class Connection(asyncio.Protocol):
    """One kept-alive connection that asks again as soon as it is answered."""

    def __init__(self, request: bytes, done: asyncio.Event):
        self.request, self.done = request, done
        self.latencies: list[float] = []
        self.until = 0.0
        self.buffer = b""

    def connection_made(self, transport):
        self.transport = transport

    def ask(self):
        self.sent = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data):
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end].lower()
        size = int(head.split(b"content-length:")[1].split(b"\r")[0])
        if len(self.buffer) < end + 4 + size:
            return
        if not head.startswith(b"http/1.1 200"):
            raise RuntimeError(self.buffer.decode())
        self.buffer = self.buffer[end + 4 + size :]
        now = time.perf_counter()
        self.latencies.append(now - self.sent)
        if now < self.until:
            self.ask()
        else:
            self.transport.close()
            self.done.set()


async def _load(port: int, request: bytes, connections: int, seconds: float) -> list[float]:
    loop, made = asyncio.get_running_loop(), []
    for _ in range(connections):
        done = asyncio.Event()
        _, protocol = await loop.create_connection(lambda done=done: Connection(request, done), "127.0.0.1", port)
        made.append(protocol)
    until = time.perf_counter() + seconds
    for protocol in made:
        protocol.until = until
        protocol.ask()
    for protocol in made:
        await protocol.done.wait()
    return [latency for protocol in made for latency in protocol.latencies]


def load(port: int, path: str, body: bytes, connections: int, seconds: float) -> tuple[float, float]:
    """requests/s and p99 in ms."""
    import uvloop

    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        latencies = sorted(runner.run(_load(port, head.encode() + body, connections, seconds)))
    return len(latencies) / seconds, latencies[int(len(latencies) * 0.99)] * 1000


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _home(root: Path) -> tuple[object, Path]:
    import numpy as np
    import polars as pl

    from treadle.online.encoding import encode_frame
    from treadle.packaging import bundle
    from treadle.records.layout import Layout
    from treadle.records.serving import ServedEndpoint, Snapshot, Variant
    from treadle.serving import snapshots
    from treadle.store.blobs import LocalBlobs
    from treadle.training.fit import fit_lightgbm

    draw = np.random.default_rng(7)
    values = draw.normal(size=(4000, 12))
    frame = pl.DataFrame({name: values[:, i] for i, name in enumerate(FEATURES)}).with_columns(
        late=pl.Series((values[:, 0] + values[:, 1] * values[:, 2] + draw.normal(size=4000) > 0).astype(float))
    )
    fitted = fit_lightgbm(frame, features=FEATURES, label="late", params={"n_estimators": 100})
    layout = Layout(root)
    blobs, here, now = LocalBlobs(layout.blobs), layout.gateway("bench", "prod"), dt.datetime.now(dt.UTC)
    proof = encode_frame(fitted.signature, frame.head(100))
    digest, sealed = bundle.seal(blobs, fitted, project="bench", model="m", run_id="run_bench", event_time=now, proof=proof)
    assert sealed.onnx_equal is not None
    folder = bundle.unpack(blobs, digest, here.bundles)
    endpoint = ServedEndpoint(name="m", model="m", champion=Variant(name="champion", model_version=1, bundle_digest=digest))
    snapshots.write(here, Snapshot(project="bench", environment="prod", generation=1, endpoints=(endpoint,), published=now))
    return layout, folder / bundle.ONNX


def main(arguments: list[str] | None = None) -> dict[str, float]:
    """Run both, print a table, return the medians."""
    from treadle.testing.gateways import GatewayProcess

    parser = argparse.ArgumentParser(prog="python -m bench.prediction", description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=12)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        layout, onnx = _home(Path(folder) / "home")
        bare = subprocess.Popen([sys.executable, "-c", BARE, str(onnx)], stdout=subprocess.PIPE, text=True)
        ours = GatewayProcess(layout, project="bench", environment="prod")
        try:
            row = [0.25 * i - 1 for i in range(12)]
            servers = {
                "bare": (int(bare.stdout.readline()), "/", json.dumps({"rows": [row]}).encode(), bare.pid),
                "ours": (
                    ours.port,
                    "/endpoints/m/predict",
                    json.dumps({"rows": [dict(zip(FEATURES, row, strict=True))]}).encode(),
                    ours.process.pid,
                ),
            }
            found: dict[str, list[tuple[float, float, float]]] = {}
            for _ in range(given.rounds):
                for connections in (1, 32):
                    for name, (port, path, body, pid) in servers.items():
                        before = _cpu(pid)
                        speed, p99 = load(port, path, body, connections, given.seconds)
                        cost = (_cpu(pid) - before) / (speed * given.seconds) * 1e6
                        found.setdefault(f"{name} {connections}", []).append((speed, p99, cost))
        finally:
            bare.terminate()
            bare.wait()
            ours.stop()
    medians = {key: [statistics.median(column) for column in zip(*values, strict=True)] for key, values in found.items()}
    print(f"one row of 12 features, 100 boosted trees, one worker; medians of {given.rounds} rounds of {given.seconds:g} s")
    print(f"{'':26}{'req/s':>9}{'p99 ms':>9}{'server CPU µs':>15}")
    answer: dict[str, float] = {}
    for connections in (1, 32):
        for name in ("bare", "ours"):
            speed, p99, cost = medians[f"{name} {connections}"]
            print(f"{name + f', {connections} connections':26}{speed:9.0f}{p99:9.2f}{cost:15.0f}")
        ratios = [a[0] / b[0] for a, b in zip(found[f"ours {connections}"], found[f"bare {connections}"], strict=True)]
        answer[f"ratio_{connections}"] = statistics.median(ratios)
        answer[f"cpu_{connections}"] = cpu = medians[f"bare {connections}"][2] / medians[f"ours {connections}"][2]
        print(f"  ours / bare, requests/s: {answer[f'ratio_{connections}']:.2f}   (budget ≥ 0.70); by server CPU {cpu:.2f}")
    answer["start_s"] = ours.start_s
    print(f"gateway start to listening: {ours.start_s:.2f} s   (budget < 1)")
    return answer


if __name__ == "__main__":
    main()
