"""What a run's page shows of its inside, what changed between two runs, how long things are kept: said, escaped, and refused where due."""

import io
import json
import re
from html import unescape
from typing import Any

import polars as pl
import pytest
from console_still import NOW, OVERFIT, RULE, Browser, Still, tracked
from msgspec.structs import replace

from treadle.console.app import build_console
from treadle.console.insides import PROFILE, TENSORS, bars, spent
from treadle.operations import artifacts, diagnosis, tracking
from treadle.records.calls import Actor, Role
from treadle.records.diagnosis import Diagnosis
from treadle.records.errors import TreadleError
from treadle.records.ledger import Page
from treadle.records.states import RunState
from treadle.records.tracking import Point, Removed

BASE = "/projects/flights/prod"
SAME = {"origin": "http://127.0.0.1"}
ONE = f"{1:032x}"
EVIL = "<img src=x onerror=alert(1)>\"'&{{7*7}}</script><script>alert(2)</script>"
SECTIONS = [
    {"section": "step", "depth": 0, "count": 50, "seconds": 20.0},
    {"section": "step/load batch", "depth": 1, "count": 50, "seconds": 15.0},
    {"section": "validate", "depth": 0, "count": 1, "seconds": 5.0},
]


def client(still: Still) -> Browser:
    return Browser(build_console(still))


def asked(still: Still, kind: type) -> list[Any]:
    return [c[0] for c in still.calls if isinstance(c[0], kind)]


def text(html: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html)))


def look(name: str, step: int, **changes: Any) -> dict[str, Any]:
    told = {"name": name, "kind": "activation", "step": step, "norm": 2.5, "zeros": 0.25, "saturated": 0.6, "dead": 0.0, "nan": 0.0}
    shown = {"mean": 0.1, "std": 1.0, "min": -1.0, "max": 1.0, "shape": [4, 5], "counts": [1, 0, 19], "edges": [-1.0, -0.3, 0.3, 1.0]}
    return {**told, **shown, **changes}


def inside(*rows: dict[str, Any]) -> Still:
    still = Still()
    table = io.BytesIO()
    pl.DataFrame(list(rows)).write_parquet(table)
    still.file(TENSORS, table.getvalue())
    still.file(PROFILE, json.dumps(SECTIONS).encode())
    return still


# ── diagnosis ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_page_does_not_wait_for_the_rules_or_the_files() -> None:
    still = inside(look("dense0", 0))
    html = client(still).get(f"{BASE}/runs/{ONE}?tensor=dense0&step=3&said=saved").text
    assert f'hx-get="{BASE}/runs/{ONE}/diagnosis"' in html
    assert f'hx-get="{BASE}/runs/{ONE}/insides?tensor=dense0&amp;step=3"' in html
    assert not asked(still, diagnosis.DiagnoseRun)


@pytest.mark.parametrize("metrics", [[], [Point(key="system/cpu_percent", value=1.0, step=1)]])
def test_a_run_without_metrics_of_its_own_has_no_diagnosis(metrics: list[Point]) -> None:
    still = Still()
    still.answers[tracking.GetTrackedRun] = tracked(1, metrics=metrics)
    html = client(still).get(f"{BASE}/runs/{ONE}").text
    assert 'id="diagnosis"' not in html
    assert 'id="insides"' not in html


def test_findings_have_a_word_a_shape_a_sentence_their_steps_and_advice() -> None:
    still = Still()
    worse = replace(OVERFIT, severity="critical", rule="diverging", text="loss is NaN.", advice="", first_step=7, last_step=7)
    still.answers[diagnosis.DiagnoseRun] = Diagnosis(project="flights", run_id=ONE, findings=[worse, OVERFIT], examined=9)
    answer = client(still).get(f"{BASE}/runs/{ONE}/diagnosis")
    said = text(answer.text)
    assert "<html" not in answer.text
    assert "critical diverging step 7 loss is NaN." in said
    assert "warning overfitting steps 400 to 1,200 valid/loss rises" in said
    assert "Stop earlier, or regularise." in said
    assert 'class="shape harm"' in answer.text
    assert 'class="shape waits"' in answer.text
    assert "every 15s" not in answer.text
    assert client(still).get(f"{BASE}/runs/{ONE}/diagnosis", headers={"if-none-match": answer.headers["etag"]}).status_code == 304


@pytest.mark.parametrize(
    ("state", "examined", "said"),
    [
        (RunState.finished, 1, "The rules found nothing wrong in 1 metric."),
        (RunState.running, 3, "The rules found nothing wrong so far in 3 metrics."),
        (RunState.finished, 0, "No metric was long enough to be examined."),
    ],
)
def test_nothing_found_is_one_quiet_line(state: RunState, examined: int, said: str) -> None:
    still = Still()
    still.answers[tracking.GetTrackedRun] = tracked(1, state=state)
    still.answers[diagnosis.DiagnoseRun] = Diagnosis(project="flights", run_id=ONE, examined=examined)
    html = client(still).get(f"{BASE}/runs/{ONE}/diagnosis").text
    assert said in text(html)
    assert ("every 15s" in html) == (state == RunState.running)


def test_a_diagnosis_that_fails_says_so_in_its_place() -> None:
    still = Still()

    def refused(request: Any) -> Any:
        raise TreadleError("The store is busy.", remedy="Try again.", code="busy")

    still.answers[diagnosis.DiagnoseRun] = refused
    answer = client(still).get(f"{BASE}/runs/{ONE}/diagnosis")
    assert answer.status_code == 200
    assert "It could not be diagnosed: The store is busy. Try again." in text(answer.text)


# ── where the time went, tensors ─────────────────────────────────────────────────────────────────────────────────────


def test_time_is_drawn_as_bars_and_tensors_as_a_table_with_one_drawn() -> None:
    still = inside(look("dense0", 0), look("dense0", 10, norm=3.5, nan=0.01), look("dense1", 10, counts=None, edges=None))
    html = client(still).get(f"{BASE}/runs/{ONE}/insides").text
    said = text(html)
    assert "25 s in all" in said
    assert re.search(r"step 20 s 80 % 50 400 ms load batch 15 s 60 % 50 300 ms validate 5 s 20 % 1 5 s", said), said
    assert 'width="80.0"' in html
    assert "dense0 10 3.5000 25 % 60 % 0 1.0 % dense1 10 2.5000" in said, said
    assert "dense0 at step 10: how often which value, from -1 to 1" in html
    assert "<title>19 between 0.3000 and 1</title>" in html
    early = client(still).get(f"{BASE}/runs/{ONE}/insides?tensor=dense0&step=0").text
    assert "dense0 at step 0" in early
    assert "There is no histogram of this look" in client(still).get(f"{BASE}/runs/{ONE}/insides?tensor=dense1&step=0").text


@pytest.mark.parametrize("query", ["?tensor=none&step=10", "?step=x", "?step=" + "9" * 5000, "?step=-", "?tensor=dense0&step=%C2%B2"])
def test_what_is_not_there_to_be_drawn_counts_as_not_asked(query: str) -> None:
    html = client(inside(look("dense0", 0), look("dense0", 10))).get(f"{BASE}/runs/{ONE}/insides{query}").text
    assert "dense0 at step 10" in html


@pytest.mark.parametrize(
    ("path", "content"),
    [
        (PROFILE, b"{"),
        (PROFILE, b'{"a": 1}'),
        (PROFILE, b"[" * 5000 + b"]" * 5000),
        (TENSORS, b"PAR1 no"),
        (TENSORS, b""),
    ],
)
def test_a_file_that_is_something_else_is_said_to_be(path: str, content: bytes) -> None:
    still = Still()
    still.file(path, content)
    answer = client(still).get(f"{BASE}/runs/{ONE}/insides")
    assert answer.status_code == 200
    assert f"{path} cannot be read" in text(answer.text)


@pytest.mark.parametrize(
    "frame",
    [
        {"a": [1]},
        {"name": [None], "step": [1]},
        {"name": ["x"], "step": ["never"]},
        {"name": [["x"]], "step": [1]},
    ],
)
def test_a_table_that_watch_did_not_write_is_left_alone(frame: dict[str, list[Any]]) -> None:
    table = io.BytesIO()
    pl.DataFrame(frame).write_parquet(table)
    still = Still()
    still.file(TENSORS, table.getvalue())
    assert f"{TENSORS} cannot be read" in text(client(still).get(f"{BASE}/runs/{ONE}/insides").text)


def test_numbers_that_are_none_are_not_drawn() -> None:
    odd = [{"section": "a", "seconds": v, "count": 1} for v in (float("nan"), float("inf"), -1, "x", None, True, 10**400)]
    assert spent([*odd, 3, {"section": "b", "seconds": 1, "count": -1}, {"section": "c/d", "seconds": 0.0}])["total"] == "1 s"
    assert spent([]) == {"sections": [], "more": 0, "total": "0 s"}
    for counts, edges in (([1], [0.0]), ([-1], [0.0, 1.0]), ([0], [0.0, 1.0]), ([1], [0.0, float("inf")]), ("1", "01"), ([None], [0, 1])):
        assert bars(counts, edges) is None
    constant = bars([5], [2.0, 2.0])
    assert constant
    assert constant.zero is None


def test_nothing_of_it_is_obeyed() -> None:
    still = inside(look(EVIL, 0, kind=EVIL), look("b", 0))
    still.file("x", b"")
    still.files = [f for f in still.files if f.path != PROFILE]
    still.file(PROFILE, json.dumps([{"section": EVIL, "seconds": 1.0, "count": 1}]).encode())
    bad = replace(OVERFIT, rule=EVIL, severity=EVIL, text=EVIL, advice=EVIL, metrics=[EVIL])
    still.answers |= {
        diagnosis.DiagnoseRun: Diagnosis(project="flights", run_id=ONE, findings=[bad], examined=1),
        diagnosis.CompareRuns: lambda r: diagnosis.RunDifference(project="flights", before="a", after="b", text=EVIL),
        artifacts.ListRetention: [replace(RULE, rule_id=EVIL, what=EVIL, keep_tagged=EVIL)],
        artifacts.ApplyRetention: Removed(preview=True, runs=1, things=[EVIL, f"run/{EVIL}"], kept=[EVIL]),
    }
    browser = client(still)
    pages = (f"/runs/{ONE}/diagnosis", f"/runs/{ONE}/insides", f"/compare?runs={ONE},{2:032x}", "/removals/retention?preview=1")
    for page in pages:
        answer = browser.get(BASE + page)
        assert answer.status_code == 200, answer.text
        assert "<img src=x" not in answer.text, page
        assert "<script>alert" not in answer.text, page
        assert "&lt;img src=x" in answer.text, page


# ── a run that ends while it is looked at ────────────────────────────────────────────────────────────────────────────


def test_the_rest_of_the_page_is_asked_for_once_when_a_run_has_ended() -> None:
    still = Still()
    still.answers[tracking.GetTrackedRun] = tracked(1, state=RunState.running, ended=None)
    browser = client(still)
    assert 'id="ended"' not in browser.get(f"{BASE}/runs/{ONE}/live").text
    still.answers[tracking.GetTrackedRun] = tracked(1, state=RunState.failed, ended=NOW, error="out of memory <b>")
    still.file("late.txt", b"x")
    part = browser.get(f"{BASE}/runs/{ONE}/live").text
    assert f'id="ended" hx-get="{BASE}/runs/{ONE}/rest"' in part
    assert "out of memory &lt;b&gt;" in part
    whole = browser.get(f"{BASE}/runs/{ONE}").text
    assert 'id="ended"' not in whole
    rest = browser.get(f"{BASE}/runs/{ONE}/rest")
    assert "<html" not in rest.text
    assert "late.txt" in rest.text
    assert "The record" in rest.text
    assert rest.text.strip() in whole


def test_the_rest_of_an_engines_run_has_its_steps_and_log() -> None:
    html = client(Still()).get(f"{BASE}/runs/run_1/rest").text
    assert 'id="steps"' in html
    assert "fitted 80 trees" in html


# ── what changed ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_two_runs_are_compared_in_a_sentence_and_others_are_not() -> None:
    still = Still()
    browser = client(still)
    html = text(browser.get(f"{BASE}/compare?runs={ONE},{2:032x}").text)
    assert "Only data changed (flights version 3 → version 4). Metrics: auc 0.81 → 0.74 (worse)." in html
    assert [(r.since, r.run_id) for r in asked(still, diagnosis.CompareRuns)] == [(ONE, f"{2:032x}")]
    for runs in (ONE, f"{ONE},{2:032x},{3:032x}"):
        assert 'id="changed"' not in browser.get(f"{BASE}/compare?runs={runs}").text
    del still.answers[diagnosis.CompareRuns]
    answer = browser.get(f"{BASE}/compare?runs={ONE},{2:032x}")
    assert answer.status_code == 200
    assert 'id="changed"' not in answer.text


# ── how long things are kept ─────────────────────────────────────────────────────────────────────────────────────────

RETENTION = f"{BASE}/removals/retention"


def test_rules_are_listed_and_applied_only_after_they_were_previewed() -> None:
    still = Still()
    browser = client(still)
    html = browser.get(RETENTION).text
    said = text(html)
    assert "One rule says how long things are kept" in said
    assert "old-failures failed and stopped runs" in said
    assert f'href="{BASE}/experiments/77/runs"' in html
    assert not asked(still, artifacts.ApplyRetention)
    preview = browser.get(f"{RETENTION}?preview=1").text
    assert "2 runs to the bin" in text(preview)
    assert "1 run for good" in text(preview)
    assert f'href="{BASE}/runs/{ONE}"' in preview
    assert browser.post(RETENTION, {"act": "apply"}, SAME).status_code == 400
    assert all(r.preview for r in asked(still, artifacts.ApplyRetention))
    done = browser.post(RETENTION, {"act": "apply", "sure": "yes"}, SAME)
    assert done.headers["location"] == f"{RETENTION}?said=applied&done=2"
    assert not asked(still, artifacts.ApplyRetention)[-1].preview
    assert "The rules were applied to 2 things." in browser.get(done.headers["location"]).text


def test_a_rule_is_set_and_taken_back() -> None:
    still = Still()
    browser = client(still)
    fields = {"act": "set", "rule": "r", "what": "binned", "days": "30", "experiment": "depths", "tag": "keep"}
    assert browser.post(RETENTION, fields, SAME).headers["location"] == f"{RETENTION}?said=rule"
    assert browser.post(RETENTION, {**fields, "experiment": "", "tag": ""}, SAME).status_code == 303
    assert browser.post(RETENTION, {"act": "drop", "rule": "old-failures"}, SAME).headers["location"] == f"{RETENTION}?said=rule_gone"
    one, two, gone = asked(still, artifacts.SetRetention)
    assert (one.rule_id, one.what, one.days, one.experiment, one.keep_tagged) == ("r", "binned", 30, "77", "keep")
    assert two.experiment == "*"
    assert (gone.rule_id, gone.what, gone.days) == ("old-failures", "failed_runs", 0)
    assert browser.post(RETENTION, {"act": "drop", "rule": "none"}, SAME).status_code == 404
    assert browser.post(RETENTION, {"act": "nonsense"}, SAME).status_code == 400


@pytest.mark.parametrize("days", ["", "0", "-3", "1.5", "x", "9" * 5000, "²"])
def test_days_that_are_no_number_are_refused_and_what_was_typed_is_kept(days: str) -> None:
    still = Still()
    answer = client(still).post(RETENTION, {"act": "set", "rule": "mine <b>", "what": "binned", "days": days}, SAME)
    assert answer.status_code == 400
    assert 'value="mine &lt;b&gt;"' in answer.text
    assert 'value="binned" selected' in answer.text
    assert not asked(still, artifacts.SetRetention)


@pytest.mark.parametrize("act", [{"act": "apply", "sure": "yes"}, {"act": "drop", "rule": "old-failures"}, {"act": "set", "days": "1"}])
def test_a_form_from_elsewhere_does_nothing(act: dict[str, str]) -> None:
    for headers in ({}, {"origin": "http://evil.example"}, {"sec-fetch-site": "cross-site"}):
        still = Still()
        assert client(still).post(RETENTION, act, headers).status_code == 403
        assert not asked(still, artifacts.SetRetention)
        assert not asked(still, artifacts.ApplyRetention)


def test_who_is_no_admin_sees_the_rules_and_no_button() -> None:
    still = Still()
    still.actor = Actor(actor_id="eve", name="eve", role=Role.viewer)
    html = client(still).get(f"{RETENTION}?preview=1").text
    assert "old-failures" in html
    assert "<button" not in html.partition("<main")[2]
    assert not asked(still, artifacts.ApplyRetention)


def test_where_nothing_is_ruled_the_page_teaches() -> None:
    still = Still()
    still.answers[artifacts.ListRetention] = []
    html = client(still).get(f"{RETENTION}?preview=1").text
    assert "There is no rule: everything is kept until somebody removes it." in html
    assert "treadle retention set" in html
    assert not asked(still, artifacts.ApplyRetention)


def test_the_bin_leads_to_the_rules() -> None:
    still = Still()
    still.answers[tracking.SearchRuns] = tracking.TrackedRuns(items=[], page=Page())
    for page in ("/runs?view=deleted", "/experiments?view=deleted", f"/removals?thing=run/{ONE}"):
        assert f'href="{RETENTION}"' in client(still).get(BASE + page).text
