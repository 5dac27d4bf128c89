"""Pages of experiments, runs, files and models: what they ask, what they say, what they refuse; nothing that was uploaded is obeyed."""

import csv
import datetime as dt
import io
import json
import re
from html import unescape
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import polars as pl
import pytest
from console_still import APPROVAL, EXPERIMENT, LOGGED, MODEL, NOW, Browser, Still, tracked, version
from msgspec.structs import replace

from treadle.console import listing as listings
from treadle.console.app import build_console
from treadle.console.asked import Address
from treadle.console.lineage import draw
from treadle.operations import ledger, registry, tracking, workshop
from treadle.records.errors import TreadleError
from treadle.records.ledger import Edge, Page, Version
from treadle.records.models import Card, CardSection, CardTable, Comparison, Difference, Use
from treadle.records.states import ApprovalState, RunState, VersionState
from treadle.records.tracking import Lifecycle, Point, SavedView, View

BASE = "/projects/flights/prod"
SAME = {"origin": "http://127.0.0.1"}
ONE = f"{1:032x}"
EVIL = "<img src=x onerror=alert(1)>\"'&{{7*7}}</script><script>alert(2)</script>"


def client(still: Still) -> Browser:
    return Browser(build_console(still))


def asked(still: Still, kind: type) -> list[Any]:
    return [c[0] for c in still.calls if isinstance(c[0], kind)]


def text(html: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html)))


# ── the table of runs ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_address_is_what_is_searched() -> None:
    still = Still()
    address = "/experiments/77/runs?filter=metrics.auc+%3E+0.5&sort=metrics.a+b&dir=asc&view=deleted&n=100&page=t0"
    assert client(still).get(BASE + address).status_code == 200
    request = next(r for r in asked(still, tracking.SearchRuns) if r.limit == 100)
    assert request.experiments == ["77"]
    assert request.filter == "metrics.auc > 0.5"
    assert request.order_by == ["metrics.`a b` ASC"]
    assert (request.view, request.limit, request.page) == (View.deleted, 100, "t0")


def test_nonsense_in_the_address_counts_as_not_said() -> None:
    still = Still()
    assert client(still).get(f"{BASE}/runs?sort=took&view=none&n=7&group=metrics.auc&col=nonsense").status_code == 200
    request = next(r for r in asked(still, tracking.SearchRuns) if r.limit == 50)
    assert (request.order_by, request.view, request.page) == ([], View.active, None)


def test_every_link_of_the_table_keeps_what_it_does_not_change() -> None:
    html = client(Still()).get(f"{BASE}/experiments/77/runs?filter=a&col=params.depth&col=metrics.auc&n=25&page=p").text
    head = html[html.index("<thead>") : html.index("</thead>")]
    for href in re.findall(r'href="([^"]+)"', head):
        query = parse_qsl(urlsplit(unescape(href)).query)
        assert ("filter", "a") in query
        assert ("n", "25") in query
        assert [v for k, v in query if k == "col"] == ["params.depth", "metrics.auc"]
        assert "page" not in dict(query)


def test_a_filter_that_cannot_be_read_is_kept_and_explained() -> None:
    still = Still()

    def wrong(request: Any) -> Any:
        if request.filter:
            raise TreadleError("Invalid clause(s) in filter string: 'x'", remedy="Write metrics.auc > 0.8")
        return tracking.TrackedRuns(items=[], page=Page())

    still.answers[tracking.SearchRuns] = wrong
    answer = client(still).get(f"{BASE}/runs?filter=x+%3C%3Cb%3E")
    assert answer.status_code == 400
    assert 'value="x &lt;&lt;b&gt;"' in answer.text
    assert "Write metrics.auc &gt; 0.8" in answer.text


def test_it_says_more_and_never_counts() -> None:
    still = Still()
    runs = [tracked(i) for i in range(50)]
    still.answers[tracking.SearchRuns] = tracking.TrackedRuns(items=runs, page=Page(next="t1"))
    html = client(still).get(f"{BASE}/experiments/77/runs").text
    assert "The first 50 runs of depths, newest first; more follow." in html
    assert 'rel="next"' in html
    assert "page=t1" in html


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "No run has been logged to depths yet."),
        ("filter=metrics.auc+%3E+2", "No run of depths matches this filter."),
        ("view=deleted", "The bin of depths is empty."),
    ],
)
def test_empty_tables_teach(query: str, said: str) -> None:
    still = Still()
    still.answers[tracking.SearchRuns] = tracking.TrackedRuns(items=[], page=Page())
    html = client(still).get(f"{BASE}/experiments/77/runs?{query}").text
    assert said in html
    assert ("mlflow.set_tracking_uri(&#34;http://127.0.0.1&#34;)" in html) == (query == "")


def test_groups_are_of_a_bounded_head_of_the_listing() -> None:
    still = Still()
    values = ["2", "10", None, "odd"]

    def endless(request: Any) -> Any:
        runs = [tracked(i, params={"depth": values[i % 4]} if values[i % 4] else {}) for i in range(request.limit)]
        return tracking.TrackedRuns(items=runs, page=Page(next="more"))

    still.answers[tracking.SearchRuns] = endless
    html = client(still).get(f"{BASE}/experiments/77/runs?group=params.depth&col=metrics.auc").text
    assert "4 groups by params.depth of the first 2,000 runs, newest first; there are more." in html
    body = text(html[html.index('id="groups"') : html.index("</section>", html.index('id="groups"'))])
    assert re.search(r" 2 500 .* 10 500 .* odd 500 .* \(none\) 500 ", body), body
    assert "params.depth+%3D+%272%27" in html
    assert "params.depth+IS+NULL" in html
    searches = [r for r in asked(still, tracking.SearchRuns) if r.columns == ["params.depth", "metrics.auc"]]
    assert len(searches) == 2
    values[:] = [None] * 4
    assert "1 group by params.depth" in client(still).get(f"{BASE}/experiments/77/runs?group=params.depth").text


def test_the_table_alone_is_sent_only_when_it_changed() -> None:
    still = Still()
    browser = client(still)
    first = browser.get(f"{BASE}/experiments/77/runs?part=table")
    assert first.status_code == 200
    assert "<html" not in first.text
    assert browser.get(f"{BASE}/experiments/77/runs?part=table", headers={"if-none-match": first.headers["etag"]}).status_code == 304
    assert f'data-version="{first.headers["etag"].strip(chr(34))}"' in browser.get(f"{BASE}/experiments/77/runs").text
    still.answers[tracking.SearchRuns] = tracking.TrackedRuns(items=[tracked(7, state=RunState.running, ended=None)], page=Page())
    again = browser.get(f"{BASE}/experiments/77/runs?part=table", headers={"if-none-match": first.headers["etag"]})
    assert again.status_code == 200
    assert "1 of them is not done yet" in unescape(again.text)


def test_columns_that_have_no_number_of_a_run_stay_empty() -> None:
    still = Still()
    odd = tracked(1, metrics=[Point(key="auc", value="NaN", time=1)], params={"depth": ""}, name="", tags={})
    still.answers[tracking.SearchRuns] = tracking.TrackedRuns(items=[odd], page=Page())
    html = client(still).get(f"{BASE}/runs?col=metrics.auc&col=metrics.other&col=params.depth&col=params.none&col=ended&col=data").text
    row = re.findall(r"<td[^>]*>(.*?)</td>", html[html.index("<tbody>") : html.index("</tbody>")], re.S)
    assert [text(c).strip() for c in row[1:6]] == [odd.run_id, "NaN", "", "“”", ""]


def test_everything_that_people_named_is_shown_and_not_obeyed() -> None:
    still = Still()
    bad = tracked(
        1,
        name=EVIL,
        user=EVIL,
        metrics=[Point(key=EVIL, value=1.0, time=1)],
        params={EVIL: EVIL},
        tags={EVIL: EVIL, listings.NOTE: EVIL},
        error=EVIL,
        git_revision=EVIL,
    )
    still.answers |= {
        tracking.SearchRuns: tracking.TrackedRuns(items=[bad], page=Page(next=EVIL)),
        tracking.GetTrackedRun: bad,
        tracking.GetExperiment: replace(EXPERIMENT, name=EVIL, folder=EVIL, description=EVIL, tags={EVIL: EVIL}),
        tracking.SearchExperiments: tracking.Experiments(
            items=[replace(EXPERIMENT, name=EVIL, folder=EVIL, description=EVIL)], page=Page()
        ),
        tracking.ListViews: [
            SavedView(
                project="flights",
                view_id=EVIL,
                page="runs",
                name=EVIL,
                actor=EVIL,
                query={"address": [[EVIL, EVIL]], "experiment": "77"},
                recorded_time=NOW,
            )
        ],
        tracking.GetLoggedModel: replace(LOGGED, name=EVIL, params={EVIL: EVIL}, model_type=EVIL),
        registry.GetModel: replace(MODEL, model=EVIL, description=EVIL, tags={EVIL: EVIL}, aliases={EVIL: 9}),
        registry.SearchModels: registry.RegisteredModels(items=[replace(MODEL, model=EVIL, description=EVIL)], page=Page()),
        registry.GetCard: Card(
            project="flights",
            model=EVIL,
            number=9,
            state=EVIL,
            made=NOW,
            sections=[CardSection(key="limits", title=EVIL, text=EVIL, tables=[CardTable(columns=[EVIL], rows=[[EVIL]])])],
        ),
    }
    still.file(f"{EVIL.replace('/', '')}.txt", EVIL.encode())
    browser = client(still)
    pages = (
        "/experiments",
        "/experiments/77/runs",
        "/runs?group=tags.x",
        f"/runs/{ONE}",
        f"/runs/{ONE}/files",
        f"/compare?runs={ONE}",
        "/logged-models/m-1",
        "/models",
        "/models/delay",
        "/models/delay/9",
    )
    for page in pages:
        answer = browser.get(BASE + page)
        assert answer.status_code == 200, answer.text
        html = answer.text
        assert "<img src=x" not in html, page
        assert "<script>alert" not in html, page
        assert "49</script>" not in unescape(html), page


# ── what is taken away ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_view_is_given_another_name_and_keeps_what_it_shows() -> None:
    still = Still()
    query = {"experiment": "77", "address": [["sort", "metrics.auc"]]}
    kept = SavedView(project="flights", view_id="view_1", page="runs", name="best", actor="ada", query=query, recorded_time=NOW)
    still.answers[tracking.ListViews] = [kept, replace(kept, view_id="view_2", name="worst")]
    still.answers[tracking.SaveView] = kept
    browser = client(still)
    html = browser.get(f"{BASE}/experiments/77/runs").text
    assert 'aria-label="new name of the view best"' in html

    def rename(view: str, name: str) -> Any:
        fields = {"act": "rename", "view": view, "name": name, "experiment": "77", "back": f"{BASE}/experiments/77/runs"}
        return browser.post(f"{BASE}/views", data=fields, headers=SAME)

    assert rename("view_1", "best of each depth").headers["location"].endswith("said=view_renamed")
    saved = asked(still, tracking.SaveView)
    assert [(r.view_id, r.name, r.query) for r in saved] == [("view_1", "best of each depth", query)]
    assert rename("view_1", "best").status_code == 303
    assert rename("view_1", "worst").status_code == 409
    assert rename("view_3", "gone").status_code == 404
    assert len(asked(still, tracking.SaveView)) == 2


def test_runs_that_are_moved_nowhere_stay_ticked() -> None:
    still = Still()
    known = still.answers[tracking.GetExperiment]
    still.answers[tracking.GetExperiment] = lambda r: still._lacks("experiment") if r.experiment == "depht" else known
    browser = client(still)
    fields = {"act": "move", "experiment": "depht", "run": ONE, "back": f"{BASE}/experiments/77/runs?sort=metrics.auc"}
    there = browser.post(f"{BASE}/runs", data=fields, headers=SAME).headers["location"]
    assert there == f"{BASE}/experiments/77/runs?sort=metrics.auc&said=moved_nowhere&sel={ONE}"
    assert "No run was moved: there is no such experiment." in browser.get(there).text
    assert not asked(still, tracking.UpdateRun)


def test_csv_has_every_page_and_no_formula() -> None:
    still = Still()
    pages = {None: ("p1", ["=1+1", "-3.5", "plain"]), "p1": (None, ["@x"])}

    def two(request: Any) -> Any:
        following, depths = pages[request.page]
        runs = [tracked(i, params={"depth": d}, name="=cmd") for i, d in enumerate(depths)]
        return tracking.TrackedRuns(items=runs, page=Page(next=following))

    still.answers[tracking.SearchRuns] = two
    answer = client(still).get(f"{BASE}/experiments/77/runs.csv?filter=metrics.auc+%3E+0&sort=metrics.auc")
    assert "attachment" in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [r["params.depth"] for r in rows] == ["'=1+1", "-3.5", "plain", "'@x"]
    assert rows[0]["name"] == "'=cmd"
    assert rows[0]["metrics.auc"] == "0.7"
    assert {(r.filter, tuple(r.order_by)) for r in asked(still, tracking.SearchRuns)} == {("metrics.auc > 0", ("metrics.auc DESC",))}


def test_csv_has_the_columns_of_every_page_and_times_of_one_form() -> None:
    """A metric that only older runs have is a column too; and pandas reads a column of times only where all are written alike."""
    still = Still()
    ended = NOW.replace(microsecond=159_000)
    pages = {
        None: ("p1", tracked(0, params={"depth": "1"}, ended=NOW.replace(microsecond=0))),
        "p1": (None, tracked(1, params={"leaves": "8"}, ended=ended)),
    }
    still.answers[tracking.SearchRuns] = lambda r: tracking.TrackedRuns(items=[pages[r.page][1]], page=Page(next=pages[r.page][0]))
    rows = list(csv.DictReader(io.StringIO(client(still).get(f"{BASE}/experiments/77/runs.csv").text)))
    assert [(r["params.depth"], r["params.leaves"]) for r in rows] == [("1", ""), ("", "8")]
    assert {len(r["ended"]) for r in rows} == {len("2013-09-14T13:42:00.159000+00:00")}
    asked_for = "/experiments/77/runs.csv?col=params.leaves"
    assert client(still).get(BASE + asked_for).text.splitlines()[0].endswith("ended,params.leaves")


def test_the_notebook_asks_the_same_question() -> None:
    answer = client(Still()).get(f"{BASE}/experiments/77/runs.ipynb?filter=params.depth+%3D+%27a%22b%27&sort=metrics.auc&col=metrics.auc")
    notebook = json.loads(answer.text)
    code = [c["source"] for c in notebook["cells"] if c["cell_type"] == "code"]
    called: dict[str, Any] = {}

    class Asked:
        columns = ("run_id", "metrics.auc")

        def select(self, columns: list[str]) -> list[str]:
            return columns

    def runs(*arguments: Any, **named: Any) -> Asked:
        called.update(named, filter=arguments[0])
        return Asked()

    scope: dict[str, Any] = {"treadle": type("Treadle", (), {"runs": staticmethod(runs)})}
    for source in code:
        exec(source.replace("import treadle", ""), scope)
    assert called["filter"] == "params.depth = 'a\"b'"
    assert called["order_by"] == ["metrics.auc DESC"]
    assert called["experiments"] == ["77"]
    assert called["project"] == "flights"


def test_charts_get_columns_of_what_they_draw_and_nothing_more() -> None:
    still = Still()
    told = json.loads(client(still).get(f"{BASE}/experiments/77/runs.json?d=params.depth&d=metrics.auc&d=nonsense").text)
    assert told["columns"] == {"params.depth": ["1", "2", "3"], "metrics.auc": [0.71, 0.72, 0.73]}
    assert told["more"] is False
    assert asked(still, tracking.SearchRuns)[-1].columns == ["params.depth", "metrics.auc"]


def test_a_line_is_thinned_unless_every_point_is_asked_for() -> None:
    still = Still()
    browser = client(still)
    line = json.loads(browser.get(f"{BASE}/history?key=loss&run={ONE}").text)["lines"][0]
    assert len(line["step"]) == len(line["time"]) == len(line["value"]) == 20
    assert line["value"][-1] is None
    assert (line["min"], line["max"]) == (1 / 19, 1.0)
    browser.get(f"{BASE}/history?key=loss&run={ONE}&every=1")
    assert [r.most for r in asked(still, tracking.MetricColumns)] == [2400, 0]
    assert browser.get(f"{BASE}/history").status_code == 400


def test_what_a_chart_has_zoomed_in_on_is_asked_for_along_its_axis() -> None:
    still = Still()
    browser = client(still)
    asking = ["from=3&until=9.2", "x=relative&from=1.5&until=2", "x=time&from=1700000000&until=1700000001", "from=3", "from=nan&until=inf"]
    for query in asking:
        assert browser.get(f"{BASE}/history?key=loss&run={ONE}&{query}").status_code == 200
    assert [(str(r.along), r.low, r.high) for r in asked(still, tracking.MetricColumns)] == [
        ("step", 3, 10),
        ("relative", 1_500_000, 2_000_000),
        ("time", 1_700_000_000_000_000, 1_700_000_001_000_000),
        ("step", None, None),
        ("step", None, None),
    ]


# ── files ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def files() -> Still:
    still = Still()
    table = io.BytesIO()
    pl.DataFrame({"a": list(range(700)), "b": [None, "x"] * 350}).write_parquet(table)
    still.file("page.html", b"<script>alert(1)</script>")
    still.file("pic.png", b"\x89PNG")
    still.file("pic.svg", b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
    still.file("rows.csv", b"a,b\n" + b"1,<b>\n" * 700)
    still.file("rows.parquet", table.getvalue())
    still.file("broken.parquet", b"PAR1 no")
    still.file("deep.json", b"[" * 5000 + b"]" * 5000)
    still.file("log.txt", b"one <b>\n")
    still.file("zeros", b"\0" * 100)
    return still


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("rows.csv", "the first 500 rows"),
        ("rows.parquet", "the first 500 rows of 700"),
        ("broken.parquet", "cannot be read as what its name says"),
        ("deep.json", "[[[["),
        ("log.txt", "one <b>"),
        ("zeros", "It is no text"),
    ],
)
def test_each_kind_of_file_has_its_viewer(path: str, said: str) -> None:
    answer = client(files()).get(f"{BASE}/runs/{ONE}/files/{path}")
    assert answer.status_code == 200
    assert said in text(answer.text)
    assert answer.text.count("<tr>") in (0, 501)


def test_an_uploaded_page_is_a_download_except_in_its_frame() -> None:
    browser = client(files())
    html = browser.get(f"{BASE}/runs/{ONE}/files/page.html").text
    frame = re.search(r"<iframe[^>]*>", html)
    assert frame
    assert 'sandbox="allow-scripts"' in frame[0]
    address = re.search(r'src="([^"]+)"', frame[0])
    assert address
    inside = browser.get(address[1], headers={"sec-fetch-dest": "iframe"})
    assert inside.headers["content-type"].startswith("text/html")
    policy = inside.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts; default-src 'none';")
    assert "allow-same-origin" not in policy
    assert "connect-src" not in policy
    for headers in ({}, {"sec-fetch-dest": "document"}, {"sec-fetch-dest": "image"}):
        alone = browser.get(address[1], headers=headers)
        assert alone.headers["content-type"] == "application/octet-stream"
        assert alone.headers["content-disposition"].startswith("attachment;")
        assert alone.headers["content-security-policy"].startswith("sandbox;")
        assert alone.headers["x-frame-options"] == "DENY"
        assert alone.headers["x-content-type-options"] == "nosniff"


def test_a_picture_is_what_its_name_says_and_never_a_page() -> None:
    browser = client(files())
    for name, media in (("pic.png", "image/png"), ("pic.svg", "image/svg+xml")):
        answer = browser.get(f"{BASE}/runs/{ONE}/raw/{name}?as=picture", headers={"sec-fetch-dest": "image"})
        assert answer.headers["content-type"] == media
        assert answer.headers["content-security-policy"].startswith("sandbox;")
        opened = browser.get(f"{BASE}/runs/{ONE}/raw/{name}?as=picture", headers={"sec-fetch-dest": "document"})
        assert opened.headers["content-disposition"].startswith("attachment;")
    page = browser.get(f"{BASE}/runs/{ONE}/raw/page.html?as=picture", headers={"sec-fetch-dest": "image"})
    assert page.headers["content-type"] == "application/octet-stream"


def test_a_file_name_cannot_break_the_header() -> None:
    still = Still()
    still.file('a";ü.bin', b"x")
    answer = client(still).get(f"{BASE}/runs/{ONE}/raw/a%22%3B%C3%BC.bin")
    assert answer.headers["content-disposition"] == "attachment; filename=\"a_;_.bin\"; filename*=UTF-8''a%22%3B%C3%BC.bin"


def test_a_file_that_is_not_there_is_said_to_be_missing() -> None:
    still = files()
    still.answers[tracking.ListFiles] = tracking.Files(root="x", files=[], folders=[], page=Page())
    assert client(still).get(f"{BASE}/runs/{ONE}/files/nothing.txt").status_code == 404


# ── one run ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("state", list(RunState))
def test_every_state_of_a_run_has_a_sentence_and_only_living_ones_are_polled(state: RunState) -> None:
    still = Still()
    alive = str(state) in listings.LIVE
    still.answers[tracking.GetTrackedRun] = tracked(1, state=state, ended=None if alive else NOW)
    html = client(still).get(f"{BASE}/runs/{ONE}").text
    sentence = re.search(r'<p class="sentence"[^>]*>(.*?)</p>', html, re.S)
    assert sentence
    assert text(sentence[1]).strip().startswith("The run")
    assert ('id="poll"' in html) == alive
    assert client(still).get(f"{BASE}/runs/{ONE}/live").status_code == 200


def test_a_run_in_the_bin_can_be_restored_or_removed_for_good() -> None:
    still = Still()
    still.answers[tracking.GetTrackedRun] = tracked(1, lifecycle=Lifecycle.deleted)
    html = client(still).get(f"{BASE}/runs/{ONE}").text
    assert "It is in the bin." in html
    assert f"{BASE}/removals?thing=run/{ONE}" in html


# ── compare ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_differences_only_leaves_out_what_is_the_same() -> None:
    still = Still()
    still.answers[tracking.GetTrackedRun] = lambda r: tracked(int(r.run_id, 16))
    browser = client(still)
    address = f"{BASE}/compare?runs={1:032x},{2:032x}"
    both, only = browser.get(address).text, browser.get(f"{address}&only=1").text
    assert ">lr</th>" in both
    assert ">lr</th>" not in only
    assert ">depth</th>" in only
    assert "the same, not shown" in only
    assert browser.get(f"{BASE}/compare").status_code == 404


def test_two_environments_are_told_line_by_line() -> None:
    still = Still()
    locks = {f"{1:032x}": b"numpy==1.0\npolars==2.0\n", f"{2:032x}": b"numpy==1.1\npolars==2.0\n"}
    still.answers[tracking.GetTrackedRun] = lambda r: tracked(int(r.run_id, 16))
    made = {run: still.blobs.put(lock) for run, lock in locks.items()}

    def lock(request: Any) -> Any:
        if request.path != "environment/requirements.txt":
            raise TreadleError("No such file.", remedy="Log one.", code="not_found")
        still.file(request.path, locks[request.owner])
        return replace(still.files[-1], digest=made[request.owner])

    still.answers[tracking.GetFile] = lock
    html = client(still).get(f"{BASE}/compare?runs={1:032x},{2:032x}").text
    assert '<span class="minus">-numpy==1.0</span>' in html
    assert '<span class="plus">+numpy==1.1</span>' in html
    assert "polars" in html


def test_an_environment_that_cannot_be_read_is_not_taken_for_none() -> None:
    still = Still()
    still.answers[tracking.GetTrackedRun] = lambda r: tracked(int(r.run_id, 16))
    still.file("environment/requirements.txt", b"numpy==1.0\n")
    gone = TreadleError("The bucket does not answer.", remedy="Look at AWS_ENDPOINT_URL.", code="unavailable")

    def away(digest: str) -> Any:
        raise gone

    still.blobs.open_read = away
    told = text(client(still).get(f"{BASE}/compare?runs={1:032x},{2:032x}").text)
    assert "Installed packages" in told
    assert "It cannot be compared now. The bucket does not answer. Look at AWS_ENDPOINT_URL." in told


# ── what is written ──────────────────────────────────────────────────────────────────────────────────────────────────

WRITES: list[tuple[str, dict[str, str], type]] = [
    ("/experiments", {"name": "new", "folder": "/a/b/", "description": "x"}, tracking.CreateExperiment),
    ("/experiments/77", {"act": "change", "name": "n", "folder": "", "description": "d"}, tracking.UpdateExperiment),
    ("/experiments/77", {"act": "tag", "tag": "k", "value": "v"}, tracking.SetExperimentTags),
    ("/experiments/77", {"act": "bin"}, tracking.BinExperiment),
    ("/experiments/77", {"act": "restore"}, tracking.BinExperiment),
    ("/runs", {"act": "bin", "run": ONE}, tracking.BinRun),
    ("/runs", {"act": "restore", "run": ONE}, tracking.BinRun),
    ("/runs", {"act": "move", "run": ONE, "experiment": "depths"}, tracking.UpdateRun),
    ("/views", {"name": "v", "back": f"{BASE}/runs?sort=name&page=x&said=moved"}, tracking.SaveView),
    ("/views", {"act": "forget", "view": "v"}, tracking.DeleteView),
    (f"/runs/{ONE}", {"act": "rename", "name": "n"}, tracking.UpdateRun),
    (f"/runs/{ONE}", {"act": "move", "experiment": "depths"}, tracking.UpdateRun),
    (f"/runs/{ONE}", {"act": "note", "note": "a\r\nb"}, tracking.LogBatch),
    (f"/runs/{ONE}", {"act": "tag", "tag": "k", "value": ""}, tracking.LogBatch),
    (f"/runs/{ONE}", {"act": "finish"}, tracking.UpdateRun),
    (f"/runs/{ONE}", {"act": "bin"}, tracking.BinRun),
    ("/removals", {"thing": f"run/{ONE}", "sure": "yes"}, tracking.RemoveForGood),
    ("/models", {"name": "m"}, registry.CreateModel),
    ("/models/delay", {"act": "describe", "description": "d"}, registry.UpdateModel),
    ("/models/delay", {"act": "tag", "tag": "k", "value": "v"}, registry.UpdateModel),
    ("/models/delay", {"act": "rename", "name": "late"}, registry.RenameModel),
    ("/models/delay", {"act": "unalias", "alias": "best"}, registry.DeleteAlias),
    ("/models/delay", {"act": "delete"}, registry.DeleteModel),
    ("/models/delay/9", {"act": "ask", "environment": "prod"}, registry.RequestApproval),
    ("/models/delay/9", {"act": "grant", "approval": APPROVAL.approval_id, "comment": "fine"}, registry.DecideApproval),
    ("/models/delay/9", {"act": "refuse", "approval": APPROVAL.approval_id}, registry.DecideApproval),
    ("/models/delay/9", {"act": "alias", "alias": "best"}, registry.SetAlias),
    ("/models/delay/9", {"act": "reject", "reason": "r"}, registry.MoveVersion),
    ("/models/delay/9", {"act": "archive"}, registry.MoveVersion),
    ("/models/delay/9", {"act": "stage", "stage": "Staging", "others": "yes"}, registry.SetStage),
    ("/models/delay/9", {"act": "describe", "description": "d", "pinned": "yes"}, registry.UpdateVersion),
    ("/models/delay/9", {"act": "tag", "tag": "k", "value": "v"}, registry.SetVersionTags),
    ("/models/delay/9", {"act": "card", "limits": "none known", "everywhere": "yes"}, registry.UpdateCard),
    ("/models/delay/9", {"act": "comment", "text": "hm"}, registry.AddComment),
    ("/models/delay/9", {"act": "delete"}, registry.DeleteVersion),
]


def writing() -> Still:
    still = Still()
    still.answers |= {kind: still.answers.get(kind) or version(9) for _, _, kind in WRITES}
    return still


@pytest.mark.parametrize(("path", "fields", "kind"), WRITES)
def test_every_form_does_one_thing_and_leads_back(path: str, fields: dict[str, str], kind: type) -> None:
    still = writing()
    answer = client(still).post(BASE + path, fields, SAME)
    assert answer.status_code == 303, answer.text
    location = answer.headers["location"]
    assert location.startswith(f"{BASE}/")
    assert "said=" in location
    done = [r for r in asked(still, kind) if not getattr(r, "preview", False)]
    assert len(done) == 1
    if kind is registry.RequestApproval:
        assert done[0].question == "May delay@9 serve in prod?"
    if kind is tracking.LogBatch and fields["act"] == "note":
        assert done[0].tags == {listings.NOTE: "a\nb"}
    if kind is registry.UpdateCard:
        assert (done[0].sections, done[0].number) == ({"limits": "none known"}, 0)
    if kind is tracking.SaveView:
        assert done[0].query == {"experiment": "", "address": [["sort", "name"]]}
    assert client(still).get(location.replace("&amp;", "&")).status_code == 200


@pytest.mark.parametrize(("path", "fields", "kind"), WRITES)
def test_a_form_from_elsewhere_does_nothing(path: str, fields: dict[str, str], kind: type) -> None:
    for headers in ({}, {"origin": "http://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
        still = writing()
        assert client(still).post(BASE + path, fields, headers).status_code == 403
        assert not [r for r in asked(still, kind) if not getattr(r, "preview", False)]


@pytest.mark.parametrize(("path", "fields", "kind"), [w for w in WRITES if w[0] in ("/experiments", "/models", "/models/delay/9")])
def test_a_refused_form_says_why_and_keeps_what_was_typed(path: str, fields: dict[str, str], kind: type) -> None:
    still = writing()

    def refused(request: Any) -> Any:
        if getattr(request, "preview", False):
            return still
        raise TreadleError("Four eyes are wanted.", remedy="Let another decide.", code="conflict")

    still.answers[kind] = refused
    answer = client(still).post(BASE + path, fields, SAME)
    assert answer.status_code == 400
    assert "Four eyes are wanted." in answer.text
    assert "Let another decide." in answer.text
    for name in ("name", "comment", "reason", "text"):
        if fields.get(name):
            if name != "comment" or "approval" not in fields:
                assert fields[name] in answer.text


def test_a_form_that_says_nothing_useful_is_refused() -> None:
    still = writing()
    browser = client(still)
    for path in ("/experiments/77", f"/runs/{ONE}", "/models/delay", "/models/delay/9", "/runs", "/views"):
        assert browser.post(BASE + path, {"act": "nonsense", "run": ONE}, SAME).status_code in (400, 404), path
    assert browser.post(f"{BASE}/runs", {"act": "bin"}, SAME).status_code == 400
    assert browser.post(f"{BASE}/experiments", {"name": "x" * 600_000}, SAME).status_code == 413


@pytest.mark.parametrize("back", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "evil", "/a\r\nb"])
def test_a_form_leads_back_to_a_page_of_ours_and_nowhere_else(back: str) -> None:
    answer = client(writing()).post(f"{BASE}/runs", {"act": "bin", "run": ONE, "back": back}, SAME)
    assert answer.headers["location"].startswith(f"{BASE}/runs?said=binned")


def test_what_was_done_can_be_undone_from_where_it_is_said() -> None:
    still = writing()
    browser = client(still)
    location = browser.post(f"{BASE}/runs", {"act": "bin", "run": ONE, "back": f"{BASE}/runs?sort=name"}, SAME).headers["location"]
    assert "sort=name" in location
    html = browser.get(location).text
    assert "1 run went to the bin and can be restored" in html
    form = html[html.index('class="notice') : html.index("</form>", html.index('class="notice'))]
    assert 'value="restore"' in form
    assert f'value="{ONE}"' in form


def test_the_address_cannot_put_words_into_the_consoles_mouth() -> None:
    html = client(Still()).get(f"{BASE}/runs?said=Your+token+expired&done=x&undo={EVIL}").text
    assert 'class="notice' not in html


# ── removal ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_removal_shows_what_goes_and_what_keeps_it_and_wants_the_box_ticked() -> None:
    still = Still()
    browser = client(still)
    html = text(browser.get(f"{BASE}/removals?thing=run/{ONE}").text)
    assert "1 run and 40 metric points would be removed for good, and 2.0 KB of space come back." in html
    assert "run/9: model delay 8 was made of it" in html
    assert browser.post(f"{BASE}/removals", {"thing": f"run/{ONE}"}, SAME).status_code == 400
    assert all(r.preview for r in asked(still, tracking.RemoveForGood))
    assert browser.get(f"{BASE}/removals").status_code == 400


# ── models ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_two_versions_stand_side_by_side() -> None:
    still = Still()
    items = [
        Difference(section="metrics", name="auc", left=0.7, right=0.75, same=False, change=0.05),
        Difference(section="params", name="depth", left="3", right="3", same=True),
        Difference(section="code", name="digest", left=None, right="abc", same=False),
    ]
    still.answers[registry.CompareVersions] = Comparison(left=version(8), right=version(9), items=items)
    browser = client(still)
    html = browser.get(f"{BASE}/models/delay/compare?left=8&right=9").text
    assert "they differ in 2 facts" in html
    assert "+0.0500" in html
    assert ">depth</th>" in html
    assert ">depth</th>" not in browser.get(f"{BASE}/models/delay/compare?left=8&right=9&only=1").text
    assert browser.get(f"{BASE}/models/delay/compare?left=8").status_code == 400


def test_a_version_that_waits_is_answered_on_its_page() -> None:
    html = client(Still()).get(f"{BASE}/models/delay/9").text
    assert f'value="{APPROVAL.approval_id}"' in html
    assert ("<option>staging</option>" in html, "prod</option>" in html) == (True, False)  # it can be asked about elsewhere meanwhile
    still = Still()
    still.answers[registry.ListApprovals] = [replace(APPROVAL, state=ApprovalState.granted)]
    html = client(still).get(f"{BASE}/models/delay/9").text
    assert "Ask for approval" in html
    assert "Approved in" not in html  # a granted question of a version that has been to the archive since
    still.answers[registry.GetModelVersion] = version(9, state=VersionState.approved)
    html = client(still).get(f"{BASE}/models/delay/9").text
    assert "Approved in prod." in html
    assert ("<option selected>prod</option>" in html, "<option>staging</option>" in html) == (False, True)
    still.answers[registry.GetModelVersion] = version(9, bundle_digest="", source=f"runs:/{ONE}/model", previous=None)
    html = client(still).get(f"{BASE}/models/delay/9").text
    assert "It is not sealed yet" in html
    assert f"{BASE}/runs/{ONE}/files/model" in html


def test_only_the_moves_that_a_version_may_make_are_offered() -> None:
    offered = {"reject": "Reject<", "archive": "Archive<", "unarchive": "Take it back from the archive<"}
    for state, acts in (("validated", {"reject", "archive"}), ("rejected", {"archive"}), ("archived", {"unarchive"})):
        still = Still()
        still.answers[registry.GetModelVersion] = version(9, state=VersionState(state))
        html = client(still).get(f"{BASE}/models/delay/9").text
        assert {act for act, said in offered.items() if said in html} == acts, state
    still.answers[registry.MoveVersion] = version(9)
    assert client(still).post(f"{BASE}/models/delay/9", data={"act": "unarchive", "reason": "again"}, headers=SAME).status_code == 303
    request = asked(still, registry.MoveVersion)[0]
    assert (request.state, request.reason) == ("validated", "again")


def test_a_run_of_any_id_is_a_run_in_the_lineage() -> None:
    edge = Edge(project="flights", child="version", parent="mine", role="sealed_by", run_id="mine")
    drawing = draw(ledger.Lineage(versions=[], edges=[edge]), "version", [], lambda digest, _: digest)
    assert drawing is not None
    assert {(n.name, n.kind) for n in drawing.nodes if not n.here} == {("mine", "run")}


def test_the_card_is_taken_away_in_three_forms() -> None:
    still = Still()
    still.answers[registry.GetCard] = lambda r: Card(
        project="flights", model="delay", number=9, state="validated", made=NOW, sections=[], text=f"in {r.format}"
    )
    browser = client(still)
    for form in ("md", "html", "json"):
        answer = browser.get(f"{BASE}/models/delay/9/card.{form}")
        assert answer.headers["content-disposition"] == f'attachment; filename="delay-9-card.{form}"'
    assert browser.get(f"{BASE}/models/delay/9/card.exe").status_code == 404


def test_an_alias_that_releases_move_is_not_offered_to_be_taken_away() -> None:
    still = Still()
    still.answers[registry.GetModel] = replace(MODEL, aliases={"best": 9, "champion": 8, "champion.prod": 8, "champions": 8})
    html = client(still).get(f"{BASE}/models/delay").text
    assert html.count("releases move it") == 1  # champion.prod; nobody serves the model, so that champion is free
    still.answers[registry.GetUses] = [Use(kind="endpoint", name="delay", text="serves", keeps=True, environment="prod", number=8)]
    html = client(still).get(f"{BASE}/models/delay").text
    assert html.count("releases move it") == 2
    assert html.count('value="unalias"') == 2


def test_lineage_runs_from_the_data_to_the_endpoint_and_survives_rings() -> None:
    def node(digest: str, kind: str, name: str, number: int | None = None) -> Version:
        return Version(project="p", digest=digest, kind=kind, name=name, number=number)

    def edge(child: str, parent: str) -> Edge:
        return Edge(project="p", child=child, parent=parent, role="made_from")

    graph = ledger.Lineage(
        versions=[node("m", "model", "delay", 9), node("b", "bundle", "delay", 9), node("d", "dataset", "flights", 3)],
        edges=[edge("m", "b"), edge("b", "run_1"), edge("run_1", "d"), edge("b", "d"), edge("d", "b"), edge("d", "m")],
    )
    uses = [Use(kind="endpoint", name="delay", text="serves", keeps=True, environment="prod", number=9)]
    drawing = draw(graph, "m", uses, lambda digest, version: None)
    assert drawing
    at = {n.kind.split()[0]: n.x for n in drawing.nodes}
    assert at["run"] < at["bundle"] < at["model"] < at["endpoint"]
    assert next(n for n in drawing.nodes if n.here).name == "delay 9"
    assert draw(ledger.Lineage(versions=[], edges=[]), "m", [], lambda digest, version: None) is None


def test_a_dataset_stands_in_the_lineage_as_it_was_read_without_what_it_grew_from() -> None:
    def node(digest: str, kind: str, name: str, number: int) -> Version:
        return Version(project="p", digest=digest, kind=kind, name=name, number=number)

    days = [node(f"d{i}", "dataset", "flights", i) for i in range(1, 60)]
    edges = [Edge(project="p", child=f"d{i + 1}", parent=f"d{i}", role="appended_to") for i in range(1, 59)]
    edges += [Edge(project="p", child="m", parent="run_1", role="made_by"), Edge(project="p", child="run_1", parent="d59", role="read")]
    graph = ledger.Lineage(versions=[node("m", "model", "delay", 9), *days], edges=edges)
    drawing = draw(graph, "m", [], lambda digest, version: None)
    assert drawing
    assert [n.name for n in drawing.nodes] == ["delay 9", "run_1", "flights 59"]
    assert drawing.grown
    assert drawing.width < 700


def test_a_pipelines_run_is_called_by_its_pipeline_and_took_no_time_that_it_did_not_take() -> None:
    one = tracked(1, run_id="run_0185pq7br0m9xnjbjtv1mswcep", pipeline="delay_model", name="")
    assert listings.name_of(one) == "delay_model mswcep"
    assert listings.name_of(replace(one, name="mine")) == "mine"
    assert listings.name_of(replace(one, pipeline="")) == one.run_id
    assert listings.took(replace(one, started=NOW, ended=NOW), NOW) == "—"
    assert listings.took(replace(one, started=NOW, ended=NOW + dt.timedelta(seconds=3)), NOW) == "3.0 s"


# ── where nothing is applied ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_home_that_only_scripts_logged_to_opens_on_its_experiments() -> None:
    still = Still()
    still.answers[workshop.ListProjects] = [workshop.ProjectSummary(name="default", environments=[], endpoints=[])]
    browser = client(still)
    assert browser.get("/").headers["location"] == "/projects/default/dev/experiments"
    assert browser.get("/runs?filter=a").headers["location"] == "/projects/default/dev/runs?filter=a"
    assert client(Still()).get("/models").headers["location"] == f"{BASE}/models"
    for printed in ("/runs/r1", "/experiments/7", "/models/delay/3", "/logged-models/m-1"):
        assert browser.get(printed).headers["location"] == f"/projects/default/dev{printed}"
    page = browser.get("/projects/default/dev/experiments")
    assert page.status_code == 200
    assert "depths" in page.text
    still.answers[workshop.GetApplied] = None
    for station in ("data", "features", "training", "evaluation", "packaging", "registry", "release", "serving", "monitoring"):
        answer = browser.get(f"/projects/default/dev/{station}")
        assert answer.status_code == 200
        assert "default has runs and no loop yet." in text(answer.text)
        assert "treadle init" in answer.text


def test_addresses_keep_order_and_repetition() -> None:
    here = Address("/r", [("col", "a"), ("col", "b"), ("page", "x"), ("empty", "")])
    assert here.to(page=None, sort="s") == "/r?col=a&col=b&sort=s"
    assert here.to(col=["c", "d"]) == "/r?page=x&col=c&col=d"
    assert here.to("/q", col=None, page=None) == "/q"


def test_a_year_away_is_said_with_its_year() -> None:
    still = Still()
    old = tracked(1, started=NOW - dt.timedelta(days=800), ended=NOW - dt.timedelta(days=800))
    still.answers[tracking.SearchRuns] = tracking.TrackedRuns(items=[old], page=Page())
    assert "2011" in client(still).get(f"{BASE}/runs").text
