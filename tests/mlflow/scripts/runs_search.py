"""Searching runs: every comparator on every kind of name, orders with NaN and missing values, pages and view types."""

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, ViewType
from observing import Observed

seen = Observed()
client = seen.client
experiment = client.create_experiment("runs search")
other = client.create_experiment("runs search, other")
seen.name(experiment, "experiment")

BASE = 1_700_000_000_000
NAN, INF = float("nan"), float("inf")
RUNS = [  # name, status, start, metrics, params, tags
    ("alpha", "FINISHED", 1, {"acc": 0.9, "only": 1.0}, {"model": "Tree", "depth": "10"}, {"team": "red", "note": "it's"}),
    ("Beta", "FAILED", 2, {"acc": 0.5}, {"model": "tree", "depth": "9"}, {"team": "Red"}),
    ("gamma_1", "RUNNING", 3, {"acc": NAN}, {"model": "linear"}, {"team": "blue", "odd key:x/y": "50%"}),
    ("gamma%1", "KILLED", 4, {"acc": INF}, {"model": "tree_2", "empty": ""}, {}),
    ("delta", "FINISHED", 5, {"acc": -INF, "neg": -2.5}, {"weird.na-me x": "v", "model": "Baum"}, {"team": "grün"}),
    ("epsilon", "SCHEDULED", 6, {}, {}, {"team": 'say "hi"'}),
    ("zeta", "FINISHED", 7, {"acc": 0.5, "zero": 0.0}, {"model": "x' OR '1'='1"}, {"team": ""}),
]
for name, status, start, metrics, params, tags in RUNS:
    made = client.create_run(
        experiment, start_time=BASE + start, run_name=name, tags={"mlflow.user": "ann" if start % 2 else "bob", **tags}
    )
    seen.name(made.info.run_id, name)
    client.log_batch(
        made.info.run_id,
        [Metric(k, v, BASE, 0) for k, v in metrics.items()],
        [Param(k, v) for k, v in params.items()],
    )
    if status != "RUNNING":
        client.set_terminated(made.info.run_id, status, BASE + 100 + start)
ids = {label[1:-1]: identity for identity, label in seen.labels.items()}
client.log_inputs(
    ids["alpha"],
    [
        DatasetInput(Dataset("wine", "d1", "local", "{}"), [InputTag("mlflow.data.context", "train")]),
        DatasetInput(Dataset("beer", "d2", "local", "{}"), [InputTag("mlflow.data.context", "eval")]),
    ],
)
client.log_inputs(ids["Beta"], [DatasetInput(Dataset("wine", "d3", "local", "{}"), [])])
client.delete_run(ids["zeta"])
client.delete_run(client.create_run(other, start_time=BASE, run_name="gone").info.run_id)
seen.name(client.create_run(other, start_time=BASE + 9, run_name="elsewhere").info.run_id, "elsewhere")


def found(filter_string: str = "", order_by=None, view=ViewType.ALL, ids=(experiment,), **more):
    return [
        r.info.run_name for r in client.search_runs(list(ids), filter_string, view, order_by=order_by or ["attributes.start_time"], **more)
    ]


FILTERS = """
metrics.acc > 0.5
metrics.acc >= 0.5
metrics.acc = 0.5
metrics.acc != 0.5
metrics.acc < 0.5
metrics.acc <= 0.5
metric.acc > 0.5
metrics.`acc` > 0.5
metrics."acc" > 0.5
metrics.acc>0.5
metrics.acc > -1
metrics.neg < -1.5
metrics.neg = -2.5
metrics.acc > 1e-3
metrics.acc > .5
metrics.acc > 1e308
metrics.zero = 0
metrics.acc = 0
metrics.missing > 0
metrics.missing != 0
metrics.acc > '0.5'
metrics.acc > abc
metrics.acc = NaN
metrics.acc > inf
metrics.acc LIKE '0%'
metrics.acc IS NULL
metrics.acc IN (1, 2)
params.model = 'tree'
params.model = "tree"
param.model = 'tree'
parameter.model = 'tree'
parameters.model = 'tree'
params.`model` = 'tree'
params."model" = 'tree'
`params`.model = 'tree'
params.model != 'tree'
params.model LIKE 'tree%'
params.model LIKE '%ree'
params.model LIKE 'Tr_e'
params.model ILIKE 'TREE%'
params.model ilike 'tree'
params.model like 'tree'
params.model LIKE 'BAUM'
params.model IN ('tree', 'linear')
params.model NOT IN ('tree')
params.model > 'a'
params.depth > '1'
params.depth = 10
params.depth = '10'
params.`weird.na-me x` = 'v'
params."weird.na-me x" = 'v'
params.weird.na-me = 'v'
params.missing = 'x'
params.missing != 'x'
params.empty = ''
params.model IS NULL
params.model IS NOT NULL
params.`weird.na-me x` IS NOT NULL
params.model is null
params.model is not null
tags.team = 'red'
tag.team = 'red'
tags.team != 'red'
tags.team LIKE 'r%'
tags.team LIKE 'R%'
tags.team ILIKE 'R%'
tags.team = 'grün'
tags.team ILIKE 'GRÜN'
tags.team = 'say "hi"'
tags.team = ''
tags.note = "it's"
tags.note = 'it''s'
tags.`odd key:x/y` = '50%'
tags.`odd key:x/y` LIKE '50\\%'
tags."odd key:x/y" LIKE '5_%'
tags.team IS NULL
tags.team IS NOT NULL
tags.team IN ('red', 'blue')
tags.team = red
tags.`mlflow.user` = 'ann'
tags.mlflow.user = 'ann'
tags.`mlflow.runName` LIKE 'g%'
attributes.run_name = 'alpha'
run_name = 'alpha'
attribute.run_name = 'alpha'
attr.run_name = 'alpha'
run.run_name = 'alpha'
attributes.`run name` = 'alpha'
attributes."Run Name" = 'alpha'
attributes.run_name LIKE 'gamma_1'
attributes.run_name LIKE 'gamma%'
attributes.run_name ILIKE 'BETA'
attributes.run_name = 'beta'
attributes.run_name != 'alpha'
attributes.run_name IN ('alpha', 'Beta')
attributes.run_name NOT IN ('alpha')
attributes.run_name IS NULL
attributes.status = 'FINISHED'
attributes.status = 'finished'
attributes.status != 'FINISHED'
attributes.status LIKE 'F%'
attributes.status IN ('FAILED', 'KILLED')
status = 'RUNNING'
attributes.user_id = 'ann'
attributes.user_id = 'unknown'
attributes.user_id LIKE 'a%'
attributes.start_time = 1700000000003
attributes.start_time != 1700000000003
attributes.start_time > 1700000000003
attributes.start_time >= 1700000000003
attributes.start_time < 1700000000003
attributes.start_time <= 1700000000003
start_time > 1700000000004
attributes.created > 1700000000004
attributes.Created > 1700000000004
attributes.start_time > 1700000000004.5
attributes.start_time > '1700000000004'
attributes.start_time IN (1700000000004)
attributes.end_time > 1700000000104
attributes.end_time = 1700000000104
attributes.end_time IS NULL
attributes.artifact_uri LIKE 'mlflow-artifacts:%'
attributes.lifecycle_stage = 'deleted'
attributes.experiment_id = '1'
attributes.run_uuid = 'x'
attributes.nothing = 'x'
attributes.run_id = 'x'
run_id IN ('x')
run_id NOT IN ('x')
run_id IN ()
run_id IN (1, 2)
run_id IN ('x'
run_id IN 'x'
datasets.name = 'wine'
dataset.name = 'wine'
datasets.name != 'wine'
datasets.name LIKE 'w%'
datasets.name ILIKE 'W%'
datasets.name IN ('wine', 'beer')
datasets.name NOT IN ('wine')
datasets.digest = 'd1'
datasets.digest IN ('d1', 'd3')
datasets.context = 'train'
datasets.context LIKE 'tr%'
datasets.context IN ('train', 'eval')
datasets.name = 'wine' AND datasets.context = 'train'
datasets.name = 'beer' AND datasets.context = 'train'
datasets.source = 'x'
datasets.name IS NULL
metrics.acc >= 0.5 AND params.model = 'Tree'
metrics.acc >= 0.5 and params.model = 'Tree' And tags.team = 'red'
metrics.acc > 0.4 AND metrics.acc < 0.6
metrics.acc > 0.5 AND metrics.only = 1
params.model = 'tree' AND params.depth = '9'
tags.team = 'red' AND tags.note LIKE 'it%' AND attributes.status = 'FINISHED'
metrics.acc > 0.5 OR params.model = 'tree'
(metrics.acc > 0.5)
metrics.acc > 0.5 AND (params.model = 'tree')
NOT metrics.acc > 0.5
metrics.acc > 0.5;
metrics.acc > 0.5; DROP TABLE runs
metrics.acc > 0.5 AND
AND metrics.acc > 0.5
metrics.acc >
> 0.5
metrics.acc
0.5 < metrics.acc
metrics.acc == 0.5
metrics.acc <> 0.5
metrics.acc BETWEEN 0 AND 1
metrics. > 1
metrics.`acc > 1
foo.bar = 'x'
foo = 'x'
params.model = 'x'' OR ''1''=''1'
params.model = 'x' OR '1'='1'
params.model = 'x'; --
params.model = (SELECT 1)
params.model = 'x' UNION SELECT 1
tags.team = 'red' -- comment
tags.team = 'red' /* comment */
params.`model' OR 1=1 --` = 'tree'
   metrics.acc   >   0.5
metrics.acc > 0.5
AND params.model = 'Tree'
""".strip("\n").split("\n")
FILTERS[-2:] = ["\n".join(FILTERS[-2:])]
for filter_string in FILTERS:
    seen.see(f"filter: {filter_string}", lambda f=filter_string: found(f))
seen.see("filter: run_id =", lambda: found(f"attributes.run_id = '{ids['alpha']}'"))
seen.see("filter: run_id !=", lambda: found(f"attributes.run_id != '{ids['alpha']}'"))
seen.see("filter: run_id IN", lambda: found(f"attributes.run_id IN ('{ids['alpha']}', '{ids['zeta']}')"))
seen.see("filter: run_id NOT IN", lambda: found(f"run_id NOT IN ('{ids['alpha']}', '{ids['zeta']}')"))
seen.see("filter: run_id LIKE", lambda: found(f"run_id LIKE '{ids['alpha'][:12]}%'"))
seen.see("filter: run_id IN one and a metric", lambda: found(f"run_id IN ('{ids['alpha']}') AND metrics.acc > 0.5"))
seen.see("filter: a long list", lambda: found("run_id IN (" + ", ".join(f"'{i:032x}'" for i in range(500)) + f", '{ids['Beta']}')"))
seen.see("filter: none", lambda: found(None))
seen.see("filter: spaces only", lambda: found("   "))
seen.see("filter: twenty clauses", lambda: found(" AND ".join(["metrics.acc >= 0.5"] * 20)))

ORDERS = [
    ["metrics.acc"],
    ["metrics.acc ASC"],
    ["metrics.acc DESC"],
    ["metrics.acc desc"],
    ["metric.acc DESC"],
    ["metrics.`acc` DESC"],
    ["metrics.missing"],
    ["metrics.missing DESC"],
    ["params.depth"],
    ["params.depth DESC"],
    ["params.model"],
    ["params.model DESC"],
    ["params.`weird.na-me x`"],
    ["tags.team"],
    ["tags.team DESC"],
    ["tags.`odd key:x/y`"],
    ["attributes.start_time DESC"],
    ["start_time"],
    ["created DESC"],
    ["attributes.Created"],
    ["attributes.status", "attributes.start_time DESC"],
    ["status DESC", "metrics.acc"],
    ["metrics.acc", "attributes.run_name"],
    ["run_name"],
    ["attributes.run_name DESC"],
    ["attributes.`Run Name`"],
    ["end_time"],
    ["end_time DESC"],
    ["metrics.acc DESC", "params.model ASC", "tags.team"],
    ["attributes.user_id", "run_name"],
    ["tags.`mlflow.user`", "run_name"],
    ["attributes.artifact_uri"],
    ["attributes.run_id"],
    [],
    ["metrics.acc", "metrics.acc"],
    ["metrics.acc", "metrics.acc DESC"],
    ["metrics.acc UP"],
    ["metrics.acc ASC DESC"],
    ["metrics.acc; DROP TABLE runs"],
    ["metrics.acc, metrics.only"],
    ["foo.bar"],
    ["nothing"],
    ["attributes.nothing"],
    ["datasets.name"],
    [""],
    ["metrics."],
    ["attributes.lifecycle_stage"],
]
for order in ORDERS:
    seen.see(
        f"order: {order}",
        lambda o=order: (
            len(found(order_by=o))
            if o == ["attributes.run_id"] or "artifact_uri" in str(o)
            else [r.info.run_name for r in client.search_runs([experiment], "", ViewType.ALL, order_by=o)]
        ),
    )
same = client.create_experiment("runs search, same start")
for number in range(6):
    client.create_run(same, start_time=BASE, run_name=str(number))
rows = client.search_runs([same])
seen.see("order: equal starts go by id", [r.info.run_id for r in rows] == sorted(r.info.run_id for r in rows))

seen.see("view: default", [r.info.run_name for r in client.search_runs([experiment])])
seen.see("view: active", found(view=ViewType.ACTIVE_ONLY))
seen.see("view: deleted", found(view=ViewType.DELETED_ONLY))
seen.see("view: all", found(view=ViewType.ALL))
seen.see("experiments: two", found(ids=[experiment, other]))
seen.see("experiments: none", found(ids=[]))
seen.see("experiments: missing", found(ids=["987654"]))
seen.see("experiments: missing and real", found(ids=["987654", other]))
seen.see("experiments: no number", lambda: found(ids=["abc"]))
seen.see("experiments: twice the same", found(ids=[other, other]))

for size in (1, 2, 3, 6, 7, 8):
    pages, token = [], None
    while True:
        page = client.search_runs([experiment], "", ViewType.ALL, size, ["attributes.start_time"], token)
        pages.append([r.info.run_name for r in page])
        token = page.token
        if not token:
            break
    seen.see(f"pages of {size}", pages)
first = client.search_runs([experiment], "", ViewType.ALL, 2, ["metrics.acc DESC"])
seen.see("pages: the token is text", isinstance(first.token, str))
second = client.search_runs([experiment], "", ViewType.ALL, 2, ["metrics.acc DESC"], first.token)
seen.see("pages: with an order", [[r.info.run_name for r in page] for page in (first, second)])
seen.see(
    "pages: of a filter", [r.info.run_name for r in client.search_runs([experiment], "metrics.acc > 0", ViewType.ALL, 2, ["metrics.acc"])]
)
seen.see("pages: zero", lambda: found(max_results=0))
seen.see("pages: negative", lambda: found(max_results=-1))
seen.see("pages: 50000", lambda: len(found(max_results=50000)))
seen.see("pages: 50001", lambda: found(max_results=50001))
for token in (
    "made up",
    "garbage!",
    "e30=",
    "eyJvZmZzZXQiOiAieCJ9",
    "eyJvZmZzZXQiOiAtMX0=",
    "eyJvZmZzZXQiOiAxMDAwfQ==",
    "MTIz",
    "'; DROP TABLE runs",
):
    seen.see(f"pages: token {token}", lambda t=token: found(page_token=t))

whole = client.search_runs([experiment], "attributes.run_name = 'alpha'")[0]
seen.see("a found run has its data", [dict(whole.data.metrics), dict(whole.data.params), whole.data.tags])
seen.see(
    "a found run has its inputs",
    sorted((i.dataset.name, i.dataset.digest, [(t.key, t.value) for t in i.tags]) for i in whole.inputs.dataset_inputs),
)
seen.see("a found run has its times", [whole.info.start_time, whole.info.end_time, whole.info.lifecycle_stage])
seen.done()
