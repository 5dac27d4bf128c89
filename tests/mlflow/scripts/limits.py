"""Names, lengths, sizes of batches, params that change: what is refused, and in which words."""

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from observing import Observed

seen = Observed()
client = seen.client
experiment = client.create_experiment("limits")
run = seen.name(client.create_run(experiment, run_name="limits").info.run_id, "run")
T = 1_700_000_000_000


def data():
    return client.get_run(run).data


seen.see("param", lambda: client.log_param(run, "p", 1))
seen.see("param: the same again", lambda: client.log_param(run, "p", 1))
seen.see("param: the same as text", lambda: client.log_param(run, "p", "1"))
seen.see("param: changed", lambda: client.log_param(run, "p", 2))
seen.see("param: changed in a batch", lambda: client.log_batch(run, params=[Param("p", "3"), Param("q", "1")]))
seen.see("param: a refused batch keeps nothing", sorted(data().params))
seen.see("param: the same in a batch", lambda: client.log_batch(run, params=[Param("p", "1"), Param("q", "1")]))
seen.see("param: twice in a batch", lambda: client.log_batch(run, params=[Param("z", "1"), Param("z", "2")]))
seen.see("param: twice the same in a batch", lambda: client.log_batch(run, params=[Param("z", "1"), Param("z", "1")]))
seen.see("param: two changed", lambda: client.log_batch(run, params=[Param("p", "x"), Param("q", "y")]))
seen.see("param: case matters", lambda: client.log_param(run, "P", 9))
seen.see("param: value empty", lambda: client.log_param(run, "empty", ""))
seen.see("param: value empty then not", lambda: client.log_param(run, "empty", "x"))
seen.see("param: many lines", lambda: client.log_param(run, "lines", "a\nb\tc\r\n"))
seen.see("params so far", data().params)
seen.see(
    "batch: a bad param keeps no metric",
    lambda: client.log_batch(run, [Metric("kept", 1.0, T, 0)], [Param("p", "99")], [RunTag("kept", "x")]),
)
seen.see("batch: nothing was kept", ["kept" in data().metrics, "kept" in data().tags])

NAMES = [
    "ok",
    "with space",
    "a/b",
    "a.b",
    "a-b",
    "a_b",
    "a:b",
    "ключ",
    "漢字",
    "é",
    "a*b",
    "a\\b",
    "a;b",
    "a#b",
    "a?b",
    "a%b",
    "a\nb",
    "a\tb",
    "emoji 🎉",
    "a'b",
    'a"b',
    "a`b",
    "a,b",
    "a(b)",
    "a=b",
    "a@b",
    "a+b",
    "..",
    ".",
    "",
    "/a",
    "a/",
    "a//b",
    "./a",
    "../a",
    "a/../b",
    "a/./b",
    "a/..",
    "...",
    " ",
    " a",
    "<b>",
    "' OR 1=1 --",
]
for name in NAMES:
    seen.see(f"metric name {name!r}", lambda n=name: client.log_metric(run, n, 1.0, T, 0))
    seen.see(f"param name {name!r}", lambda n=name: client.log_param(run, n, "1") and None)
    seen.see(f"tag name {name!r}", lambda n=name: client.set_tag(run, n, "1"))
for name in ("ok2", "a*b", "a//b", "../a", ""):
    seen.see(f"batch: metric name {name!r}", lambda n=name: client.log_batch(run, [Metric("fine", 1.0, T, 0), Metric(n, 1.0, T, 0)]))
    seen.see(f"batch: param name {name!r}", lambda n=name: client.log_batch(run, params=[Param("fine", "1"), Param(n, "1")]))
    seen.see(f"batch: tag name {name!r}", lambda n=name: client.log_batch(run, tags=[RunTag("fine", "1"), RunTag(n, "1")]))
seen.see(
    "names that were kept", [sorted(data().metrics), sorted(data().params), sorted(k for k in data().tags if not k.startswith("mlflow."))]
)

for size in (250, 251):
    seen.see(f"metric name of {size}", lambda s=size: client.log_metric(run, "m" * s, 1.0, T, 0))
    seen.see(f"param name of {size}", lambda s=size: client.log_param(run, "p" * s, 1) and None)
    seen.see(f"tag name of {size}", lambda s=size: client.set_tag(run, "t" * s, 1))
    seen.see(f"batch: names of {size}, metric", lambda s=size: client.log_batch(run, [Metric("n" * s, 1.0, T, 0)]))
    seen.see(f"batch: names of {size}, param", lambda s=size: client.log_batch(run, params=[Param("n" * s, "1")]))
    seen.see(f"batch: names of {size}, tag", lambda s=size: client.log_batch(run, tags=[RunTag("n" * s, "1")]))
    seen.see(f"experiment tag name of {size}", lambda s=size: client.set_experiment_tag(experiment, "e" * s, "1"))
for size in (500, 6000, 6001, 100_000):
    seen.see(f"param value of {size}", lambda s=size: client.log_param(run, f"value {s}", "v" * s) and None)
    seen.see(f"param value of {size} is kept as", len(data().params.get(f"value {size}", "")))
for size in (8000, 8001, 50_000):
    seen.see(f"tag value of {size}", lambda s=size: client.set_tag(run, f"value {s}", "v" * s))
    seen.see(f"tag value of {size} is kept as", len(data().tags.get(f"value {size}", "")))
for size in (5000, 5001, 20_000, 20_001):
    seen.see(f"experiment tag value of {size}", lambda s=size: client.set_experiment_tag(experiment, f"value {s}", "v" * s))
for size in (500, 501):
    seen.see(f"experiment name of {size}", lambda s=size: bool(client.create_experiment("n" * s)))
for name in ("", " ", "a/b", "ключ", "a\nb", None, 5):
    seen.see(f"experiment name {name!r}", lambda n=name: bool(client.create_experiment(n)))
for place in (
    "runs:/abc/x",
    "s3://bucket/path",
    "file:///tmp/x",
    "/tmp/x",
    "mlflow-artifacts:/elsewhere",
    "http://h/p?q=1",
    "http://h/p#f",
    "s3://b/" + "x" * 3000,
):
    seen.see(f"experiment at {place[:40]}", lambda p=place: bool(client.create_experiment(f"at {p[:40]}", p)))

seen.see("batch: 1000 metrics", lambda: client.log_batch(run, [Metric(f"k{i}", float(i), T, 0) for i in range(1000)]))
seen.see("batch: 1001 metrics are split", lambda: client.log_batch(run, [Metric(f"l{i}", float(i), T, 0) for i in range(1001)]))
seen.see("batch: 101 params are split", lambda: client.log_batch(run, params=[Param(f"s{i}", str(i)) for i in range(101)]))
seen.see("batch: 101 tags are split", lambda: client.log_batch(run, tags=[RunTag(f"s{i}", str(i)) for i in range(101)]))
seen.see("batch: what arrived", [sum(k.startswith("l") for k in data().metrics), sum(k.startswith("s") for k in data().params)])
LOG = "/api/2.0/mlflow/runs/log-batch"
point = {"value": 1, "timestamp": T, "step": 0}
for count in (1000, 1001):
    seen.call(
        f"raw batch: {count} metrics", "POST", LOG, json={"run_id": run, "metrics": [{"key": f"r{i}", **point} for i in range(count)]}
    )
for count in (100, 101):
    seen.call(
        f"raw batch: {count} params", "POST", LOG, json={"run_id": run, "params": [{"key": f"r{i}", "value": "1"} for i in range(count)]}
    )
    seen.call(f"raw batch: {count} tags", "POST", LOG, json={"run_id": run, "tags": [{"key": f"r{i}", "value": "1"} for i in range(count)]})
seen.call(
    "raw batch: 1100 together",
    "POST",
    LOG,
    json={
        "run_id": run,
        "metrics": [{"key": f"r{i}", **point} for i in range(900)],
        "params": [{"key": f"r{i}", "value": "1"} for i in range(100)],
        "tags": [{"key": f"r{i}", "value": "1"} for i in range(100)],
    },
)
seen.call("raw batch: nothing", "POST", LOG, json={"run_id": run})
seen.call("raw batch: a metric without value", "POST", LOG, json={"run_id": run, "metrics": [{"key": "a", "timestamp": T}]})
seen.call("raw batch: a metric without time", "POST", LOG, json={"run_id": run, "metrics": [{"key": "a", "value": 1}]})
seen.call("raw batch: a metric without key", "POST", LOG, json={"run_id": run, "metrics": [{"value": 1, "timestamp": T}]})
seen.call("raw batch: a param without key", "POST", LOG, json={"run_id": run, "params": [{"value": "1"}]})
seen.call("raw batch: a tag without key", "POST", LOG, json={"run_id": run, "tags": [{"value": "1"}]})
seen.call("raw batch: without a run", "POST", LOG, json={"metrics": []})
seen.call("raw batch: of a missing run", "POST", LOG, json={"run_id": "0" * 32, "params": [{"key": "a", "value": "1"}]})
seen.call("raw batch: of a bad run id", "POST", LOG, json={"run_id": "../x", "params": [{"key": "a", "value": "1"}]})
seen.call("raw batch: a text for a number", "POST", LOG, json={"run_id": run, "metrics": [{"key": "a", "value": "x", "timestamp": T}]})
seen.call("raw batch: no list", "POST", LOG, json={"run_id": run, "metrics": "abc"})

for label, dataset in {
    "name of 500": ("n" * 500, "d", "local", "{}"),
    "name of 501": ("n" * 501, "d", "local", "{}"),
    "digest of 36": ("n", "d" * 36, "local", "{}"),
    "digest of 37": ("n", "d" * 37, "local", "{}"),
    "source of 65535": ("n", "s", "local", "s" * 65535),
    "source of 65536": ("n", "s", "local", "s" * 65536),
}.items():
    seen.see(f"dataset: {label}", lambda d=dataset: client.log_inputs(run, [DatasetInput(Dataset(*d), [])]))
for label, tag in {
    "key of 255": ("k" * 255, "v"),
    "key of 256": ("k" * 256, "v"),
    "value of 500": ("k", "v" * 500),
    "value of 501": ("k", "v" * 501),
}.items():
    seen.see(
        f"dataset tag: {label}",
        lambda t=tag, n=label: client.log_inputs(run, [DatasetInput(Dataset(n, "d", "local", "{}"), [InputTag(*t)])]),
    )
seen.see(
    "dataset: twice",
    lambda: [client.log_inputs(run, [DatasetInput(Dataset("twice", "d", "local", "{}"), [InputTag("a", str(i))])]) for i in range(2)],
)
seen.see(
    "dataset: twice is one",
    [(i.dataset.name, [(t.key, t.value) for t in i.tags]) for i in client.get_run(run).inputs.dataset_inputs if i.dataset.name == "twice"],
)

for name in ("fine", "a/b", "a:b", "", " ", "..", "a..b", "ключ", "a\\b", "n" * 256):
    seen.see(f"registered model name {name[:9]!r}", lambda n=name: client.create_registered_model(n).name[:20])
client.create_registered_model("limited")
version = client.create_model_version("limited", f"{client.get_run(run).info.artifact_uri}/m", run).version
for size in (250, 251):
    seen.see(f"model tag name of {size}", lambda s=size: client.set_registered_model_tag("limited", "k" * s, "v"))
    seen.see(f"version tag name of {size}", lambda s=size: client.set_model_version_tag("limited", version, "k" * s, "v"))
for size in (100_000, 100_001):
    seen.see(f"model tag value of {size}", lambda s=size: client.set_registered_model_tag("limited", "k", "v" * s))
    seen.see(f"version tag value of {size}", lambda s=size: client.set_model_version_tag("limited", version, "k", "v" * s))
for alias in ("fine", "with-dash_1", "latest", "Latest", "v1", "V12", "v1a", "1", "a b", "a/b", "a.b", "", "ключ", "a" * 255, "a" * 256):
    seen.see(f"alias {alias[:12]!r} {len(alias)}", lambda a=alias: client.set_registered_model_alias("limited", a, version))
for name in ("fine", "a/b", "a.b", "a:b", "a%b", "a'b", 'a"b', " ", "ключ"):
    seen.see(f"logged model name {name!r}", lambda n=name: client.create_logged_model(experiment, n).name)
seen.done()
