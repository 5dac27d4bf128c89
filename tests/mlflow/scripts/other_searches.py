"""Searching experiments, registered models, model versions and logged models."""

import time

from mlflow.entities import LoggedModelStatus, Metric, ViewType
from observing import Observed, recent

import mlflow

seen = Observed()
client = seen.client

# ── experiments ──────────────────────────────────────────────────────────────────────────────────────────────────────
EXPERIMENTS = [
    ("es-one", {"k": "v", "team": "red"}),
    ("es-Two", {"k": "V"}),
    ("es-three", {"team": "blue"}),
    ("es-four'", {}),
    ("es-five %_", {"k": "v"}),
]
ids = {}
for name, tags in EXPERIMENTS:
    ids[name] = client.create_experiment(name, tags=tags)
    time.sleep(0.002)
client.delete_experiment(ids["es-three"])


def experiments(filter_string=None, view=ViewType.ALL, order=("name",), only="es-", **more):
    found = client.search_experiments(view, filter_string=filter_string, order_by=order and list(order), **more)
    return [e.name for e in found if e.name.startswith(only)]


for filter_string in """
name = 'es-one'
attribute.name = 'es-one'
attributes.name = 'es-one'
attr.name = 'es-one'
name != 'es-one'
name LIKE 'es-%'
name LIKE 'ES-%'
name ILIKE 'ES-%'
name like 'es-t%'
name = "es-four'"
name LIKE 'es-five %'
name LIKE 'es-f_ve%'
name IN ('es-one', 'es-Two')
name > 'es-one'
name IS NULL
tags.k = 'v'
tag.k = 'v'
tags.`k` = 'v'
tags."k" = 'v'
tags.k != 'v'
tags.k LIKE 'v'
tags.k ILIKE 'v'
tags.k IS NULL AND name LIKE 'es-%'
tags.k IS NOT NULL AND name LIKE 'es-%'
tags.k = 'v' AND tags.team = 'red'
tags.k > 'v'
tags.k = 1
tags.missing = 'x'
creation_time > 0 AND name LIKE 'es-t%'
creation_time < 0
last_update_time > 1000 AND name = 'es-one'
creation_time > '0'
creation_time > 0.5
creation_time LIKE '1'
creation_time = 5
experiment_id = '987654'
experiment_id IN ('987654', '987655')
experiment_id > '0'
experiment_id = 'abc'
lifecycle_stage = 'active'
artifact_location LIKE 'm%'
metrics.x > 1
params.x = '1'
foo = 'x'
name = 'es-one' OR name = 'es-Two'
name = 'es-one'; DROP TABLE experiments
(name = 'es-one')
name =
nonsense
""".strip().split("\n"):
    seen.see(f"experiments: {filter_string}", lambda f=filter_string: experiments(f))
seen.see("experiments: by id", lambda: experiments(f"experiment_id = '{ids['es-one']}'"))
for order in (
    ["name"],
    ["name DESC"],
    ["name desc"],
    ["creation_time", "name"],
    ["creation_time DESC"],
    ["last_update_time DESC", "name"],
    ["experiment_id"],
    ["experiment_id DESC"],
    ["attribute.name"],
    ["tags.k"],
    ["foo"],
    ["name UP"],
    ["name; DROP TABLE experiments"],
    [""],
):
    seen.see(f"experiments: order {order}", lambda o=order: experiments(order=o))
seen.see("experiments: default order", experiments(order=None))
seen.see("experiments: active", experiments(view=ViewType.ACTIVE_ONLY))
seen.see("experiments: deleted", experiments(view=ViewType.DELETED_ONLY))
page = client.search_experiments(ViewType.ALL, 2, "name LIKE 'es-%'", ["name"])
more = client.search_experiments(ViewType.ALL, 2, "name LIKE 'es-%'", ["name"], page.token)
last = client.search_experiments(ViewType.ALL, 2, "name LIKE 'es-%'", ["name"], more.token)
seen.see("experiments: pages", [[e.name for e in p] + [bool(p.token)] for p in (page, more, last)])
seen.see("experiments: pages of none", lambda: experiments(max_results=0))
seen.see("experiments: pages of 50001", lambda: experiments(max_results=50001))
seen.see("experiments: made-up token", lambda: experiments(page_token="made up"))
seen.see("experiments: fluent", len(mlflow.search_experiments(filter_string="name LIKE 'es-%'")))

# ── registered models and versions ───────────────────────────────────────────────────────────────────────────────────
experiment = client.create_experiment("searched models")
runs = [client.create_run(experiment).info for _ in range(2)]
seen.name(runs[0].run_id, "run 0"), seen.name(runs[1].run_id, "run 1")
for name, tags in (("rm-a", {"k": "v", "t": "1"}), ("rm-B", {"k": "V"}), ("rm-c d", {}), ("rm-e'", {"k": "v"})):
    client.create_registered_model(name, tags)
for number, (name, tags) in enumerate((("rm-a", {"x": "1"}), ("rm-a", {"x": "2", "y": "z"}), ("rm-B", {}), ("rm-a", {"x": "1"}))):
    run = runs[number % 2]
    client.create_model_version(name, f"{run.artifact_uri}/m{number}", run.run_id, tags)
client.set_registered_model_alias("rm-a", "champion", "2")
client.create_model_version("rm-B", f"{runs[0].artifact_uri}/gone", runs[0].run_id)
client.delete_model_version("rm-B", "2")
seen.see("a prompt among them", lambda: mlflow.genai.register_prompt("rm-prompt", "hello {{name}}").version)


def models(filter_string=None, **more):
    more.setdefault("order_by", ["name"])
    return [m.name for m in client.search_registered_models(filter_string=filter_string, **more) if m.name.startswith("rm-")]


for filter_string in """
name = 'rm-a'
attribute.name = 'rm-a'
name != 'rm-a'
name LIKE 'rm-%'
name LIKE 'RM-%'
name ILIKE 'RM-%'
name like 'rm-a'
name = "rm-e'"
name IN ('rm-a', 'rm-B')
name NOT IN ('rm-a')
name > 'rm-a'
name IS NULL
tags.k = 'v'
tag.k = 'v'
tags.`k` = 'v'
tags.k != 'v'
tags.k LIKE 'v%'
tags.k ILIKE 'V'
tags.k = 'v' AND tags.t = '1'
tags.k = 'v' AND name = 'rm-a'
tags.k IN ('v')
tags.missing = 'x'
tags.`mlflow.prompt.is_prompt` = 'true'
tags.`mlflow.prompt.is_prompt` = 'false'
tags.`mlflow.prompt.is_prompt` != 'true'
tags.`mlflow.prompt.is_prompt` = 'true' AND name LIKE 'rm-%'
run_id = 'x'
creation_timestamp > 0
description = 'x'
metrics.x > 1
name = 'rm-a' OR name = 'rm-B'
name = 'rm-a'; DROP TABLE registered_models
name = rm-a
name = 5
nonsense
""".strip().split("\n"):
    seen.see(f"models: {filter_string}", lambda f=filter_string: models(f))
for order in (
    ["name"],
    ["name ASC"],
    ["name DESC"],
    ["timestamp", "name"],
    ["timestamp ASC"],
    ["last_updated_timestamp DESC", "name"],
    ["creation_timestamp"],
    ["description"],
    ["name UP"],
    ["name", "name"],
    [""],
    ["tags.k"],
):
    seen.see(f"models: order {order}", lambda o=order: sorted(models(order_by=o)) if "time" in str(o) else models(order_by=o))
seen.see("models: default order", models(order_by=None))
page = client.search_registered_models("name LIKE 'rm-%'", 3, ["name"])
more = client.search_registered_models("name LIKE 'rm-%'", 3, ["name"], page.token)
seen.see("models: pages", [[m.name for m in p] + [bool(p.token)] for p in (page, more)])
seen.see("models: pages of none", lambda: models(max_results=0))
seen.see("models: pages of 1001", lambda: models(max_results=1001))
seen.see("models: made-up token", lambda: models(page_token="made up"))
found = client.search_registered_models("name = 'rm-a'")[0]
seen.see(
    "models: what is found",
    [
        dict(found.tags),
        dict(found.aliases),
        [(v.version, v.current_stage) for v in found.latest_versions],
        recent(found.creation_timestamp),
    ],
)


def versions(filter_string=None, **more):
    return [f"{v.name} {v.version}" for v in client.search_model_versions(filter_string, **more) if v.name.startswith("rm-")]


for filter_string in """
name = 'rm-a'
name != 'rm-a'
name LIKE 'rm-%'
name ILIKE 'RM-A'
name IN ('rm-a')
name IN ('rm-a', 'rm-B')
name NOT IN ('rm-a')
version_number = 1
version_number > 1
version_number >= 2
version_number != 1
version_number < 2
version_number = '1'
version_number > 1.5
version_number LIKE '1'
version = 1
tags.x = '1'
tag.x = '1'
tags.x != '1'
tags.x LIKE '%'
tags.x ILIKE '1'
tags.x = '2' AND tags.y = 'z'
tags.x = '1' AND name = 'rm-a'
tags.`x` = '1'
source_path LIKE 'mlflow-artifacts:%m1'
source_path = 'nothing'
source_path IN ('a')
aliases = 'champion'
current_stage = 'None'
creation_timestamp > 0
run_id = 'x'
run_id IN ('x', 'y')
run_id IN ()
run_id IN ('x',)
run_id > 'x'
metrics.x > 1
tags.`mlflow.prompt.is_prompt` = 'true'
name = 'rm-a' OR name = 'rm-B'
name = 'rm-a'; DROP TABLE model_versions
nonsense
""".strip().split("\n"):
    seen.see(f"versions: {filter_string}", lambda f=filter_string: versions(f, order_by=["name", "version_number"]))
seen.see("versions: run_id =", lambda: versions(f"run_id = '{runs[0].run_id}'", order_by=["name", "version_number"]))
seen.see("versions: run_id IN", lambda: versions(f"run_id IN ('{runs[1].run_id}', 'x')", order_by=["name", "version_number"]))
seen.see("versions: run_id !=", lambda: versions(f"run_id != '{runs[0].run_id}'", order_by=["name", "version_number"]))
for order in (
    ["name", "version_number"],
    ["name DESC", "version_number DESC"],
    ["version_number DESC"],
    ["name"],
    ["creation_timestamp DESC"],
    ["last_updated_timestamp"],
    ["version"],
    ["foo"],
    ["run_id"],
    ["name UP"],
    ["name", "name"],
):
    seen.see(f"versions: order {order}", lambda o=order: sorted(versions(order_by=o)) if "time" in str(o) else versions(order_by=o))
page = client.search_model_versions("name LIKE 'rm-%'", 3, ["name", "version_number"])
more = client.search_model_versions("name LIKE 'rm-%'", 3, ["name", "version_number"], page.token)
seen.see("versions: pages", [[f"{v.name} {v.version}" for v in p] + [bool(p.token)] for p in (page, more)])
seen.see("versions: pages of none", lambda: versions(max_results=0))
seen.see("versions: pages of 200001", lambda: versions(max_results=200_001))
seen.see("versions: made-up token", lambda: versions(page_token="made up"))
seen.see(
    "versions: aliases in what is found", [v.aliases for v in client.search_model_versions("name = 'rm-a'", order_by=["version_number"])]
)

# ── logged models ────────────────────────────────────────────────────────────────────────────────────────────────────
place = client.create_experiment("searched logged models")
run = client.create_run(place).info
made = {}
for name, kind, params, tags in (
    ("lm-a", "forest", {"depth": "3"}, {"t": "x"}),
    ("lm-B", "linear", {"depth": "10"}, {"t": "X"}),
    ("lm-c", "forest", {}, {}),
):
    model = client.create_logged_model(place, name, run.run_id, tags, params, kind)
    made[name] = seen.name(model.model_id, name)
client.finalize_logged_model(made["lm-a"], LoggedModelStatus.READY)
client.finalize_logged_model(made["lm-B"], LoggedModelStatus.FAILED)
for name, values in (("lm-a", (0.5, 0.9)), ("lm-B", (0.7,))):
    for step, value in enumerate(values):
        client.log_metric(run.run_id, "acc", value, step=step, model_id=made[name], dataset_name="d", dataset_digest="x")
client.log_batch(run.run_id, [Metric("batched", 4.0, 1_700_000_000_000, 0, model_id=made["lm-c"])])
client.create_logged_model(place, "lm-gone")
gone = client.search_logged_models([place], "name = 'lm-gone'")[0]
client.delete_logged_model(gone.model_id)


def logged(filter_string=None, **more):
    more.setdefault("order_by", [{"field_name": "name"}])
    return [m.name for m in client.search_logged_models([place], filter_string, **more)]


for filter_string in """
name = 'lm-a'
attributes.name = 'lm-a'
name != 'lm-a'
name LIKE 'lm-%'
name ILIKE 'LM-%'
name IN ('lm-a', 'lm-c')
name NOT IN ('lm-a')
model_type = 'forest'
status = 'READY'
attributes.status = 'READY'
lifecycle_stage = 'active'
creation_timestamp > 0
creation_time > 0
last_updated_timestamp > 0
creation_timestamp > 99999999999999
params.depth = '3'
params.depth != '3'
params.depth LIKE '1%'
params.`depth` = '3'
tags.t = 'x'
tags.t ILIKE 'x'
tags.t IN ('x', 'X')
metrics.acc > 0.6
metrics.acc > 0.95
metrics.acc = 0.5
metrics.batched = 4
metrics.acc > 0.6 AND params.depth = '3'
metrics.acc LIKE '1'
name > 'a'
foo = 'x'
datasets.name = 'd'
name = 'lm-a' OR name = 'lm-B'
nonsense
""".strip().split("\n"):
    seen.see(f"logged: {filter_string}", lambda f=filter_string: logged(f))
seen.see("logged: model_id =", lambda: logged(f"model_id = '{made['lm-a']}'"))
seen.see("logged: source_run_id =", lambda: logged(f"source_run_id = '{run.run_id}'"))
for order in (
    [{"field_name": "name", "ascending": False}],
    [{"field_name": "metrics.acc"}],
    [{"field_name": "metrics.acc", "ascending": False}],
    [{"field_name": "metrics.acc", "dataset_name": "d"}],
    [{"field_name": "metrics.acc", "dataset_name": "none"}, {"field_name": "name"}],
    [{"field_name": "creation_timestamp"}, {"field_name": "name"}],
    [{"field_name": "params.depth"}],
    [{"field_name": "foo"}],
    [{"field_name": "model_type"}, {"field_name": "name"}],
    [{"ascending": True}],
):
    seen.see(f"logged: order {order}", lambda o=order: sorted(logged(order_by=o)) if "creation" in str(o) else logged(order_by=o))
seen.see("logged: datasets", lambda: logged(datasets=[{"dataset_name": "d"}]))
seen.see("logged: datasets with a digest", lambda: logged(datasets=[{"dataset_name": "d", "dataset_digest": "x"}]))
seen.see("logged: datasets not there", lambda: logged(datasets=[{"dataset_name": "e"}]))
seen.see("logged: datasets and a metric", lambda: logged("metrics.acc > 0.8", datasets=[{"dataset_name": "d"}]))
page = client.search_logged_models([place], max_results=2, order_by=[{"field_name": "name"}])
more = client.search_logged_models([place], max_results=2, order_by=[{"field_name": "name"}], page_token=page.token)
seen.see("logged: pages", [[m.name for m in p] + [bool(p.token)] for p in (page, more)])
seen.see(
    "logged: a token of another query", lambda: [m.name for m in client.search_logged_models([place], max_results=1, page_token=page.token)]
)
seen.see("logged: made-up token", lambda: logged(page_token="made up"))
seen.see("logged: no experiments", lambda: [m.name for m in client.search_logged_models([])])
seen.see(
    "logged: fluent",
    lambda: [m.name for m in mlflow.search_logged_models([place], output_format="list", order_by=[{"field_name": "name"}])],
)
seen.see(
    "logged: metrics of one",
    sorted(
        (m.key, m.value, m.step, m.dataset_name, m.dataset_digest, m.run_id == run.run_id)
        for m in client.get_logged_model(made["lm-a"]).metrics
    ),
)
seen.see("logged: metrics of the run", client.get_run(run.run_id).data.metrics)
seen.done()
