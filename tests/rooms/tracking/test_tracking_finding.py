"""The verbs that find, through the one door: pages, tokens, experiments, logged models, histories."""

import base64
import json
import math

import pytest

from treadle.ledger import Dispatcher, Ledger
from treadle.operations import tracking as ops
from treadle.records.calls import SYSTEM
from treadle.records.errors import TreadleError
from treadle.records.tracking import Along, ModelState, Point, RunInput, RunModel, View
from treadle.store.blobs import LocalBlobs
from treadle.store.queries import matches
from treadle.tracking.search import history_columns, thinned
from treadle.tracking.service import services

P = "p"


@pytest.fixture
def call(database, tmp_path):
    blobs = LocalBlobs(tmp_path / "blobs")
    dispatch = Dispatcher(database, [Ledger(database, blobs, heads=tmp_path / "heads"), *services(blobs)], complete=False)

    def ask(request):
        return dispatch(request, actor=SYSTEM)

    ask.database = database
    return ask


def refused(text):
    return pytest.raises(TreadleError, match=text, check=lambda e: e.code == "bad_request" and bool(e.remedy))


@pytest.fixture
def filled(call):
    for number in range(12):
        run_id = f"r{number:02}"
        params = {"kind": "even" if number % 2 == 0 else "odd"}
        call(ops.StartRun(project=P, run_id=run_id, name=f"run {number}", started=number * 1000, params=params, tags={"t": str(number)}))
        call(ops.LogBatch(project=P, run_id=run_id, metrics=[Point(key="m", value=number % 5, time=1)]))
    data = RunInput(name="wine", digest="d1", source_type="local", source="x", context="train")
    call(ops.CreateLoggedModel(project=P, model_id="m-1", run_id="r03"))
    call(ops.LogInputs(project=P, run_id="r03", inputs=[data], models=[RunModel(model_id="m-1", role="output", step=2)]))
    return call


def find(call, **more):
    return call(ops.SearchRuns(project=P, **more))


def ids(found):
    return [getattr(i, "run_id", None) for i in found.items]


def every_page(call, request, limit):
    pages, page = [], None
    for _ in range(50):
        found = call(type(request)(**{f: getattr(request, f) for f in request.__struct_fields__} | {"limit": limit, "page": page}))
        pages += found.items
        page = found.page.next
        if page is None:
            return pages
    raise AssertionError("pages without end")


def test_a_found_run_is_what_it_is_when_asked_for_alone(filled):
    found = find(filled, filter="datasets.name = 'wine'")
    assert found.items == [filled(ops.GetTrackedRun(project=P, run_id="r03"))]
    assert [i.context for i in found.items[0].inputs] == ["train"]
    assert found.items[0].models == [RunModel(model_id="m-1", role="output", step=2)]
    assert found.page.next is None


@pytest.mark.parametrize("more", ["", f" and tags.t != '{'x' * 600}'"])
def test_a_text_that_comes_again_is_answered_and_refused_again(filled, more):
    for _ in range(2):
        assert ids(find(filled, filter=f"params.kind = 'odd'{more}", order_by=["metrics.m DESC"], limit=2)) == ["r09", "r03"]
        with refused("Invalid clause"):
            find(filled, filter=f"params.kind = 'odd' or{more}")


def test_columns_limit_what_is_answered(filled):
    run = find(filled, filter="run_id = 'r03'", columns=["params.k*", "inputs"]).items[0]
    assert (run.metrics, run.params, run.tags, run.models, len(run.inputs)) == ([], {"kind": "odd"}, {}, [], 1)


@pytest.mark.parametrize("rare", [0, 2000])
@pytest.mark.parametrize("order", [[], ["metrics.m DESC"], ["params.kind", "metrics.m"], ["status"], ["tags.t DESC"], ["run_id DESC"]])
def test_pages_together_are_the_whole(filled, monkeypatch, rare, order):
    monkeypatch.setattr(matches, "RARE", rare)
    request = ops.SearchRuns(project=P, order_by=order, filter="params.kind = 'odd'")
    whole = ids(filled(request))
    assert len(whole) == 6
    for limit in (1, 2, 5, 6, 7):
        assert [r.run_id for r in every_page(filled, request, limit)] == whole


def test_a_page_goes_on_where_the_last_ended_whatever_came_in_between(filled):
    first = find(filled, limit=3)
    filled(ops.StartRun(project=P, run_id="new", started=10**9))
    assert ids(find(filled, limit=3, page=first.page.next)) == ["r08", "r07", "r06"]


def test_tokens_that_are_made_up_are_refused(filled):
    token = find(filled, limit=3, order_by=["metrics.m"]).page.next
    content = json.loads(base64.b64decode(token))
    assert ids(find(filled, limit=1, order_by=["metrics.m"], page=token))

    def other(change):
        changed = json.loads(json.dumps(content))
        change(changed)
        return base64.b64encode(json.dumps(changed).encode()).decode()

    bad = [
        ("made up", "could not base64-decode"),
        ("ümlaut", "could not base64-decode"),
        ("e30=", r"parsed value=\{\}"),
        ("MTIz", "parsed value=123"),
        (base64.b64encode(b"nothing").decode(), "decoded value=b'nothing'"),
        (base64.b64encode(b"[" * 100_000).decode(), "."),
        ("'; DROP TABLE runs", "could not base64-decode"),
        (find(filled, limit=3).page.next, "parsed value"),
        (other(lambda c: c[1].append([0, 1])), "parsed value"),
        (other(lambda c: c[1][0].__setitem__(1, "text")), "parsed value"),
        (other(lambda c: c[1][0].__setitem__(1, 10**30)), "parsed value"),
        (other(lambda c: c[1][0].__setitem__(1, math.nan)), "parsed value"),
        (other(lambda c: c[1][0].__setitem__(0, 7)), "parsed value"),
        (other(lambda c: c.__setitem__(2, None)), "parsed value"),
        (other(lambda c: c.__setitem__(3, "nul\0")), "parsed value"),
        (other(lambda c: c.__setitem__(3, "\ud800")), "parsed value"),
    ]
    for page, told in bad:
        with refused(told):
            find(filled, limit=3, order_by=["metrics.m"], page=page)


def test_experiments_and_views_limit_what_is_found(filled):
    filled(ops.CreateExperiment(project=P, experiment_id="7", name="seven"))
    filled(ops.StartRun(project=P, run_id="other", experiment="7", started=99))
    filled(ops.BinRun(project=P, run_id="r01", lifecycle="deleted"))
    assert ids(find(filled, experiments=["7"])) == ["other"]
    assert ids(find(filled, experiments=["7", "7", "nope", "nul\0"])) == ["other"]
    assert len(ids(find(filled, view=View.all))) == 13
    assert ids(find(filled, view=View.deleted)) == ["r01"]
    assert "r01" not in ids(find(filled))


@pytest.mark.parametrize(("limit", "told"), [(0, "must be a positive integer"), (-1, "must be a positive"), (50_001, "at most 50000")])
def test_pages_have_a_length(filled, limit, told):
    with refused(told):
        find(filled, limit=limit)


def test_sql_in_a_filter_is_text(filled):
    assert ids(find(filled, filter="params.kind = \"x' OR '1'='1\"")) == []
    assert ids(find(filled, filter="tags.`t' OR 1=1 --` = '3'")) == []
    assert len(ids(find(filled, filter='params.kind != "\'; DROP TABLE runs; --"'))) == 12
    with refused("multiple expression"):
        find(filled, filter="params.kind = 'odd'; DROP TABLE runs")
    with refused("too long"):
        find(filled, filter=f"params.kind LIKE '{'%a' * 6000}'")


def test_numbers_beyond_64_bits_find_what_they_should(filled):
    assert len(ids(find(filled, filter=f"start_time < {10**40}"))) == 12
    assert ids(find(filled, filter=f"start_time > {10**40}")) == []
    assert ids(find(filled, filter="metrics.m > 1e999")) == []
    assert len(ids(find(filled, filter=f"metrics.m < {'9' * 5000}"))) == 12


# ── experiments and logged models ────────────────────────────────────────────────────────────────────────────────────


def test_experiments_are_found_by_name_tag_and_folder_in_any_order(call):
    for number, (name, folder) in enumerate([("a", ""), ("b", "team"), ("c", "team/q1"), ("B", "teams")]):
        made = ops.CreateExperiment(project=P, experiment_id=str(9 + number), name=name, folder=folder, tags={"n": str(number)})
        call(made)

    def names(**more):
        return [e.name for e in every_page(call, ops.SearchExperiments(project=P, **more), 2)]

    assert names(order_by=["name"]) == ["B", "a", "b", "c"]
    assert names(order_by=["experiment_id"]) == ["a", "b", "c", "B"]
    assert names(order_by=["experiment_id DESC"]) == ["B", "c", "b", "a"]
    assert names() == ["B", "c", "b", "a"]
    assert names(filter="name ILIKE 'b'", order_by=["name"]) == ["B", "b"]
    assert names(filter="tags.n != '1' AND tags.x IS NULL", order_by=["name"]) == ["B", "a", "c"]
    assert names(filter="experiment_id IN ('9', '10')", order_by=["name"]) == ["a", "b"]
    assert names(folder="team", order_by=["name"]) == ["b", "c"]
    assert names(filter="creation_time > 0", order_by=["creation_time"]) == ["a", "b", "c", "B"]
    assert names(filter=f"last_update_time > {10**15}") == []
    call(ops.BinExperiment(project=P, experiment_id="9", lifecycle="deleted"))
    assert names(view=View.deleted) == ["a"]
    found = call(ops.SearchExperiments(project=P, filter="name = 'c'")).items[0]
    assert (found.folder, found.tags) == ("team/q1", {"n": "2"})


def test_logged_models_are_found_by_what_was_measured_of_them(call):
    call(ops.StartRun(project=P, run_id="r"))
    for number in range(4):
        call(ops.CreateLoggedModel(project=P, model_id=f"m-{number}", name=f"n{number % 2}", run_id="r", params={"p": str(number)}))
        point = {"key": "auc", "model_id": f"m-{number}", "time": 1}
        of_data = [
            Point(value=number, dataset_name="d", dataset_digest="1", **point),
            Point(value=-number, dataset_name="e", dataset_digest="2", **point),
        ]
        call(ops.LogBatch(project=P, run_id="r", metrics=of_data if number else []))
    call(ops.UpdateLoggedModel(project=P, model_id="m-2", state=ModelState.ready, tags={"k": "v"}))

    def found(**more):
        return [m.model_id for m in every_page(call, ops.SearchLoggedModels(project=P, **more), 2)]

    down = [{"field_name": "metrics.auc", "ascending": False, "dataset_name": "d"}]
    assert found() == ["m-3", "m-2", "m-1", "m-0"]
    assert found(order_by=down) == ["m-3", "m-2", "m-1", "m-0"]
    assert found(order_by=[{"field_name": "metrics.auc", "dataset_name": "e", "dataset_digest": "2"}]) == ["m-3", "m-2", "m-1", "m-0"]
    assert found(order_by=[{"field_name": "name"}, {"field_name": "model_id"}]) == ["m-0", "m-2", "m-1", "m-3"]
    assert found(filter="metrics.auc > 1") == ["m-3", "m-2"]
    assert found(filter="metrics.auc > 1", datasets=[{"name": "e"}]) == []
    assert found(datasets=[{"name": "e", "digest": "2"}]) == ["m-3", "m-2", "m-1"]
    assert found(filter="params.p = '1'") == ["m-1"]
    assert found(filter="source_run_id = 'r' AND tags.k LIKE 'v%'") == ["m-2"]
    assert found(filter="model_id IN ('m-1', 'm-3') AND name = 'n1'") == ["m-3", "m-1"]
    assert found(filter="status = 'READY'") == found(filter="status = 'LOGGED_MODEL_READY'") == ["m-2"]
    assert found(filter=f"creation_timestamp > {10**14}") == []
    assert found(experiments=["nope"]) == []
    call(ops.BinLoggedModel(project=P, model_id="m-3"))
    assert found(filter="name = 'n1'") == ["m-1"]
    with refused("`dataset_name`"):
        found(datasets=[{"digest": "2"}])


# ── histories ────────────────────────────────────────────────────────────────────────────────────────────────────────


def history(call, **more):
    return call(ops.MetricHistory(project=P, key="m", **more))


def test_histories_come_by_time_step_and_value_and_in_pages(call):
    points = [(5, 1, 2.0), (1, 9, 1.0), (1, 9, 0.5), (1, 2, math.nan), (3, 0, math.inf)]
    for run_id in ("a", "b"):
        call(ops.StartRun(project=P, run_id=run_id))
        call(ops.LogBatch(project=P, run_id=run_id, metrics=[Point(key="m", value=v, step=s, time=t) for t, s, v in points]))
    whole = history(call, run_ids=["a", "none", "b"])
    assert [(p.time, p.step) for p in whole.points["a"]] == [(1, 2), (1, 9), (1, 9), (3, 0), (5, 1)]
    assert [str(p.value) for p in whole.points["a"]] == ["NaN", "0.5", "1.0", "Infinity", "2.0"]
    assert whole.points["none"] == []
    for limit in (1, 2, 4, 5, 10):
        got, page = {}, None
        while True:
            part = history(call, run_ids=["a", "none", "b"], limit=limit, page=page)
            assert sum(map(len, part.points.values())) <= limit
            for run_id, some in part.points.items():
                got.setdefault(run_id, []).extend(some)
            page = part.page.next
            if page is None:
                break
        assert {k: [(p.time, p.step, str(p.value)) for p in v] for k, v in got.items() if v} == {
            k: [(p.time, p.step, str(p.value)) for p in v] for k, v in whole.points.items() if v
        }
    with refused("Invalid page token"):
        history(call, run_ids=["a"], page="e30=")
    columns = call(ops.MetricColumns(project=P, run_id="a", key="m"))
    assert (columns.times, columns.steps, columns.values) == ([1, 1, 1, 3, 5], [2, 9, 9, 0, 1], ["NaN", 0.5, 1.0, "Infinity", 2.0])
    with call.database.read() as connection:
        assert history_columns(connection, P, "a", "nope") == ([], [], [])
    assert len(history(call, run_ids=["a"], most=3).points["a"]) == 3


def test_thinning_keeps_ends_and_extremes():
    points = [(i, i, math.sin(i / 50) + 100 * (i == 777), 0) for i in range(10_000)]
    for most in (1, 2, 3, 4, 5, 100, 1001):
        few = thinned(points, most)
        assert len(few) <= most
        assert few == sorted(few)
        assert few[-1] == points[-1]
        assert most < 2 or few[0] == points[0]
        assert most < 4 or points[777] in few
    assert thinned(points, 0) == thinned(points, 20_000) == points


def test_a_thinned_line_comes_with_the_means_of_what_it_stands_for(call):
    values: list[float | str] = [0.0 if n % 10 else 10.0 for n in range(1002)]  # one in ten is high
    values[1:51] = ["NaN"] * 50
    values[51] = "Infinity"
    call(ops.StartRun(project=P, run_id="skewed"))
    call(ops.LogBatch(project=P, run_id="skewed", metrics=[Point(key="m", value=v, step=n, time=n) for n, v in enumerate(values)]))
    found = call(ops.MetricColumns(project=P, run_id="skewed", key="m", most=42))  # twenty parts of fifty, and the ends
    assert found.means is not None
    assert len(found.means) == len(found.values) == len(found.steps)
    assert (found.means[0], found.means[-1]) == (10.0, 0.0)
    by_part = dict(zip(((step - 1) // 50 for step in found.steps), found.means, strict=True))
    assert by_part[0] is None, "no number among them"
    assert by_part[1] == pytest.approx(50 / 49), "the infinite one aside"
    assert [by_part[part] for part in range(2, 20)] == [1.0] * 18
    assert call(ops.MetricColumns(project=P, run_id="skewed", key="m", most=1002)).means is None
    assert call(ops.MetricColumns(project=P, run_id="skewed", key="m")).means is None


def test_a_part_of_a_history_comes_with_the_points_beside_it(call):
    first = 1_700_000_000_000_000
    points = [Point(key="m", value=float(s), step=s * 10, time=first + s * 1_000_000) for s in range(1000)]
    call(ops.StartRun(project=P, run_id="zoomed"))
    call(ops.LogBatch(project=P, run_id="zoomed", metrics=points))

    def part(along: str, low: int, high: int, most: int = 0) -> list[int]:
        return call(ops.MetricColumns(project=P, run_id="zoomed", key="m", along=Along(along), low=low, high=high, most=most)).steps

    assert part("step", 2000, 2020) == [1990, 2000, 2010, 2020, 2030]
    assert part("step", 2001, 2009) == [2000, 2010]
    assert part("relative", 3_000_000, 3_500_000) == [20, 30, 40]
    assert part("time", first + 3_000_000, first + 3_500_000) == [20, 30, 40]
    assert part("step", -50, 5) == [0, 10]
    assert part("step", 20_000, 30_000) == [9990]
    few = part("step", 0, 9990, 100)
    assert len(few) <= 100
    assert (few[0], few[-1]) == (0, 9990)
