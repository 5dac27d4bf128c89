"""Experiments, runs, charts, files and models in a real Chromium: with one run, with a thousand, and with a hundred thousand."""

import io
import re
import signal
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from console_runs import fill, line
from test_console_browser import CONTRAST, PHONE, WIDE, Watched, browsers, until

from treadle.operations.registry import CreateVersion, SetAlias
from treadle.operations.tracking import CreateLoggedModel, LogBatch, LogInputs, PutFile, StartRun, UpdateLoggedModel, UpdateRun
from treadle.records.layout import Layout
from treadle.records.states import RunState
from treadle.records.tracking import ModelState, Point, RunInput, RunModel
from treadle.workshop.home import Workshop, open_home
from treadle.workshop.supervisor import living

pytestmark = [pytest.mark.chromium, pytest.mark.timeout(300)]

BASE = "/projects/default/dev"
SMALL = {"width": 1340, "height": 1000}
#: What an uploaded page tries: it draws itself, and reaches for everything around it.
HOSTILE = """<!doctype html><title>report</title><style>b { color: teal }</style><h1 id="drawn">nothing yet</h1><script>
const told = [];
const tried = (name, f) => { try { f(); told.push(name + " worked"); } catch { told.push(name + " refused"); } };
tried("cookie", () => document.cookie); tried("storage", () => localStorage.length); tried("parent", () => parent.document.title);
document.getElementById("drawn").textContent = told.join(", ");
fetch("/projects").then(() => document.body.append(" fetched"), () => document.body.append(" not fetched"));
</script>"""


class Server:
    """`treadle server` over a home."""

    def __init__(self, root: Path, *options: str):
        self.layout = Layout(root)
        command = [sys.executable, "-m", "treadle", "server", "--home", str(root), "--port", "0", *options]
        self.output = root / "server.out"
        with self.output.open("ab") as out:
            self.process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)

    @property
    def url(self) -> str:
        def found() -> Any:
            assert self.process.poll() is None, self.output.read_text()
            return next((n for n in living(self.layout) if n.name == "server"), None)

        return until(found).url

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


@pytest.fixture
def chromium() -> Iterator[Any]:
    """A headless browser."""
    yield from browsers()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workshop, str]]:
    """A home with a thousand runs in one experiment, open here and served."""
    patch = pytest.MonkeyPatch()
    root = tmp_path_factory.mktemp("tracking")
    for name in ("TREADLE_HOME", "TREADLE_TOKEN", "TREADLE_URL", "TREADLE_PROJECT"):
        patch.delenv(name, raising=False)
    patch.setenv("TREADLE_HEADS", str(root / "heads"))
    with open_home(root / "home") as shop:
        fill(shop, 1000)
        server = Server(root / "home")
        yield shop, server.url
        server.stop()
    patch.undo()


def picture() -> bytes:
    """A small PNG."""
    rows = b"".join(b"\0" + bytes(c for x in range(120) for c in (x * 2, y * 3, 160)) for y in range(80))

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", 120, 80, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def log_one(shop: Workshop, run_id: str) -> None:
    """A run with everything that a run can have."""
    tags = {
        "treadle.command": "python train.py --depth 4",
        "treadle.git.dirty": "true",
        "treadle.git.branch": "main",
        "treadle.python": "3.11.7",
    }
    shop.call(
        StartRun(
            project="default",
            run_id=run_id,
            experiment="one",
            name="the first",
            user="ada",
            git_revision="5f2c9e1" * 5,
            tags={**tags, "team": "ops", "mlflow.note.content": "## Why\n- *deeper* than `4`\n- <img src=x onerror=alert(1)>"},
            params={"depth": "4", "lr": "0.1", "long": "x" * 900},
        )
    )
    points = [Point(key="loss", value=1 / (i + 1), step=i) for i in range(200)]
    shop.call(LogBatch(project="default", run_id=run_id, metrics=[*points, Point(key="auc", value=0.81), Point(key="odd", value="NaN")]))
    shop.call(
        LogBatch(project="default", run_id=run_id, metrics=[Point(key="system/cpu_percent", value=40 + i % 7, step=i) for i in range(60)])
    )
    shop.call(CreateLoggedModel(project="default", model_id="m-1", experiment_id="0", name="forest", run_id=run_id, params={"trees": "80"}))
    shop.call(UpdateLoggedModel(project="default", model_id="m-1", state=ModelState.ready))
    read = RunInput(name="flights", digest="9f31c2aa", source_type="local", source="flights.csv", context="training")
    shop.call(LogInputs(project="default", run_id=run_id, inputs=[read], models=[RunModel(model_id="m-1", role="output")]))
    frame = pl.DataFrame({"carrier": ["AA", "UA"] * 400, "late": [True, False] * 400, "minutes": [i / 3 for i in range(800)]})
    table = io.BytesIO()
    frame.write_parquet(table)
    kept = {
        "plots/roc.png": picture(),
        "report.html": HOSTILE.encode(),
        "rows.csv": frame.write_csv().encode(),
        "rows.parquet": table.getvalue(),
        "scores.json": b'{"columns": ["who", "score"], "data": [["a", 0.5], ["b", null]]}',
        "config.json": b'{"depth": {"max": 4}}',
        "notes.txt": "plain <b>text</b> and ümlauts\n".encode(),
        "code/uncommitted.patch": b"--- a/train.py\n+++ b/train.py\n@@ -1 +1 @@\n-depth = 3\n+depth = 4\n",
        "environment/requirements.txt": b"numpy==2.0\npolars==2.1\n",
        "model.bin": bytes(range(256)) * 20,
    }
    for path, content in kept.items():
        digest = shop.blobs.put(content)
        shop.call(PutFile(project="default", owner=run_id, path=path, digest=digest, size=len(content)))


def test_one_run_from_its_first_metric_to_its_end(chromium: Any, home: tuple[Workshop, str]) -> None:
    from playwright.sync_api import expect

    shop, url = home
    expect.set_options(timeout=20_000)
    run_id = "a" * 32
    log_one(shop, run_id)
    seen = Watched(chromium, f"{url}{BASE}/runs/{run_id}", viewport=SMALL)
    page = seen.page
    expect(page.locator(".sentence")).to_contain_text("The run is at work")
    expect(page.locator(".prose")).to_contain_text("deeper than 4")
    expect(page.locator("figure[data-key=loss] canvas")).to_have_count(1)
    expect(page.locator("#lines-once")).to_contain_text("auc")
    row = page.locator("tr[data-metric-row=loss]")
    expect(row.locator("[data-high]")).to_have_text("1")

    # It goes on, and ends, while the page is looked at.
    page.evaluate("window.stayed = true")
    shop.call(LogBatch(project="default", run_id=run_id, metrics=[Point(key="loss", value=0.0004, step=300)], params={"late": "yes"}))
    expect(row).to_contain_text("300")
    expect(page.locator("#params")).to_contain_text("late")
    expect(row.locator("[data-low]")).to_have_text("0.0004")
    last = [Point(key="loss", value=7.5, step=301), *(Point(key="late", value=i, step=i) for i in range(3))]
    shop.call(LogBatch(project="default", run_id=run_id, metrics=last))
    shop.call(UpdateRun(project="default", run_id=run_id, state=RunState.finished))
    expect(page.locator(".sentence")).to_contain_text("The run finished")
    expect(page.locator("#poll")).to_have_count(0)
    expect(row.locator("[data-high]")).to_have_text("7.5000")  # what was logged just before the end is drawn, too
    expect(page.locator("figure[data-key=loss]")).to_have_attribute("title", "202 points drawn")
    expect(page.locator("figure[data-key=late] canvas")).to_have_count(1)
    assert page.evaluate("window.stayed") is True
    page.locator("#knobs input[type=range]").fill("60")
    expect(page).to_have_url(re.compile("smooth=60"))
    seen.whole("run-light")

    # What it left, each kind in its viewer.
    home_of = f"{url}{BASE}/runs/{run_id}/files"
    page.goto(f"{home_of}/plots/roc.png")
    assert page.evaluate("document.querySelector('.picture img').naturalWidth") == 120
    for path in ("rows.csv", "rows.parquet"):
        page.goto(f"{home_of}/{path}")
        expect(page.locator("tbody tr")).to_have_count(500)
        expect(page.locator("h2 .note").first).to_have_text(
            "the first 500 rows of 800" if path.endswith("parquet") else re.compile("first 500 rows")
        )
    seen.shot("file-table-light")
    page.goto(f"{home_of}/scores.json")
    expect(page.locator("tbody tr")).to_have_count(2)
    page.goto(f"{home_of}/config.json")
    expect(page.locator("pre")).to_contain_text('"max": 4')
    page.goto(f"{home_of}/notes.txt")
    expect(page.locator("pre")).to_contain_text("plain <b>text</b> and ümlauts")
    page.goto(f"{home_of}/code/uncommitted.patch")
    expect(page.locator(".plus").last).to_have_text("+depth = 4")
    page.goto(f"{home_of}/model.bin")
    expect(page.locator("main")).to_contain_text("no picture here")
    page.goto(home_of)
    expect(page.locator("tbody tr")).to_have_count(10)
    page.get_by_role("link", name="plots/").click()
    expect(page.locator("tbody tr")).to_have_count(1)
    assert seen.complaints == []

    # An uploaded page draws itself in its frame, and reaches nothing from there.
    page.goto(f"{home_of}/report.html")
    frame = page.frame_locator("iframe")
    expect(frame.locator("#drawn")).to_have_text("cookie refused, storage refused, parent refused")
    expect(frame.locator("body")).to_contain_text("not fetched")
    seen.shot("file-page-light")
    assert all("Content Security Policy" in c or "frame" in c for c in seen.complaints), seen.complaints  # the browser says so too
    with page.expect_download() as download:
        page.evaluate("location.href = document.querySelector('iframe').src")
    assert download.value.suggested_filename == "report.html"
    page.close()


def test_a_thousand_runs_are_filtered_ordered_ticked_and_compared(chromium: Any, home: tuple[Workshop, str]) -> None:
    from playwright.sync_api import expect

    _, url = home
    expect.set_options(timeout=20_000)
    seen = Watched(chromium, f"{url}{BASE}/experiments", viewport=SMALL)
    page = seen.page
    expect(page.locator(".tree")).to_contain_text("autumn")
    page.get_by_role("link", name="depths").click()
    expect(page.locator("#said")).to_have_text("The first 50 runs of depths, newest first; more follow.")
    expect(page.locator("#runs tbody tr")).to_have_count(50)
    first = page.locator("#runs tbody tr td.name a").first
    expect(first).to_have_text("depth-999")
    page.get_by_role("link", name="next 50").click()
    expect(first).to_have_text("depth-949")

    # Order, filter, what is wrong with a filter.
    page.goto(f"{url}{BASE}/experiments/77/runs")
    page.locator("#runs thead").get_by_role("link", name="auc").click()
    expect(page).to_have_url(re.compile("sort=metrics.auc"))
    cells = [float(c.inner_text()) for c in page.locator("#runs tbody tr td:nth-child(7)").all()]
    assert cells == sorted(cells, reverse=True)
    page.locator("#f").fill("metrics.auc > > 1")
    page.keyboard.press("Enter")
    expect(page.locator("[role=alert]")).to_contain_text("What you typed is kept above")
    expect(page.locator("#f")).to_have_value("metrics.auc > > 1")
    seen.shot("runs-wrong-light")
    seen.complaints.clear()  # a browser complains of the status 400
    page.locator("#f").fill("params.depth = '4' and tags.team = 'air'")
    page.keyboard.press("Enter")
    expect(page.locator("#said")).to_contain_text("that match the filter")
    expect(page).to_have_url(re.compile("sort=metrics.auc"))

    # Columns and groups.
    page.locator("#m-columns summary").click()
    page.get_by_label("seed").uncheck()
    page.get_by_label("team").check()
    page.get_by_role("button", name="Show these").click()
    expect(page.locator("#runs thead")).to_contain_text("team")
    expect(page.locator("#runs thead")).not_to_contain_text("seed")
    page.goto(f"{url}{BASE}/experiments/77/runs?group=params.depth")
    expect(page.locator("#groups tbody tr")).to_have_count(9)
    expect(page.locator("#said")).to_have_text("9 groups by params.depth of 1,000 runs.")
    page.locator("#groups tbody a").first.click()
    expect(page.locator("#f")).to_have_value("params.depth = '2'")

    # The keyboard: into the table, down, tick, down, tick, open.
    page.goto(f"{url}{BASE}/experiments/77/runs")
    page.keyboard.press("ArrowDown")
    expect(first).to_be_focused()
    page.keyboard.press("x")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("x")
    expect(page.locator("#ticked")).to_have_text("2 runs ticked")
    expect(page).to_have_url(re.compile("sel="))
    page.reload()
    expect(page.locator("#ticked")).to_have_text("2 runs ticked")
    expect(page.locator("tr.ticked")).to_have_count(2)
    seen.shot("runs-ticked-light")
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("#changed")).to_contain_text("From the first run to the second: Only")
    expect(page.locator("main")).to_contain_text("2 runs side by side: depth-999, depth-998")
    everything = page.locator("#compare tbody tr").count()
    seen.shot("compare-light")
    page.get_by_role("switch").click()
    expect(page).to_have_url(re.compile("only=1"))
    assert page.locator("#compare tbody tr").count() < everything
    expect(page.locator("#compare tbody tr:not(.head):not(.differs)")).to_have_count(0)

    # Charts; the address shows a colleague the same.
    for chart in ("Lines", "Scatter", "Parallel", "Contour"):
        page.goto(f"{url}{BASE}/experiments/77/runs")
        page.get_by_role("button", name=chart).click()
        expect(page.locator("#plot svg, #plot .bars")).to_have_count(1)
        expect(page).to_have_url(re.compile(f"chart={chart.lower()}"))
        page.reload()
        expect(page.locator("#plot svg, #plot .bars")).to_have_count(1)
        if chart != "Lines":
            expect(page.locator("#plot-note")).to_contain_text("1,000 of 1,000 runs")
        if chart == "Parallel":  # an axis says where it begins and ends
            assert {"2", "10", "4", "1,024", "0", "999"} <= set(page.locator("#plot text.halo").all_text_contents())
        seen.shot(f"runs-{chart.lower()}-light")

    # To the bin and back.
    page.goto(f"{url}{BASE}/experiments/77/runs")
    page.locator("input[data-run]").first.check()
    page.get_by_role("button", name="Move to the bin").click()
    expect(page.locator(".notice")).to_contain_text("1 run went to the bin")
    expect(first).to_have_text("depth-998")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".notice")).to_contain_text("1 run came back")
    expect(first).to_have_text("depth-999")

    # For good: first what goes, then one tick and one button.
    doomed = page.locator("#runs tbody tr td.name a").nth(3).inner_text()
    page.locator("input[data-run]").nth(3).check()
    page.get_by_role("button", name="Remove for good").click()
    expect(page.locator(".sentence")).to_contain_text("would be removed for good")
    seen.shot("removal-light")
    page.get_by_label("I know that this cannot be undone").check()
    page.get_by_role("button", name="Remove for good").click()
    expect(page.locator(".notice")).to_contain_text("1 thing removed for good")
    page.goto(f"{url}{BASE}/experiments/77/runs")
    expect(page.locator("#runs tbody")).not_to_contain_text(doomed)

    # A view is kept; a table is taken away.
    page.goto(f"{url}{BASE}/experiments/77/runs?sort=metrics.auc&chart=scatter")
    page.locator("#m-views > summary").click()
    page.locator("#vname").fill("the best")
    page.get_by_role("button", name="Keep").click()
    expect(page.locator(".notice")).to_contain_text("The view is kept")
    page.goto(f"{url}{BASE}/experiments/77/runs")
    page.locator("#m-views > summary").click()
    page.locator("#m-views details summary").click()
    page.get_by_label("new name of the view the best").fill("best of all")
    page.get_by_role("button", name="Rename").click()
    expect(page.locator(".notice")).to_contain_text("The view has its new name")
    page.goto(f"{url}{BASE}/experiments/77/runs")
    page.locator("#m-views > summary").click()
    page.get_by_role("link", name="best of all").click()
    expect(page).to_have_url(re.compile("sort=metrics.auc&chart=scatter"))
    page.locator("#m-export summary").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert len(lines) == 1000
    assert lines[0].startswith("run_id,name,experiment_id,state,user,started,ended,metrics.")
    assert seen.complaints == []
    page.close()


def test_models_in_their_pages(chromium: Any, home: tuple[Workshop, str]) -> None:
    from playwright.sync_api import expect

    shop, url = home
    expect.set_options(timeout=20_000)
    run_id = "b" * 32
    shop.call(StartRun(project="default", run_id=run_id, experiment="one", name="the second", user="ada", params={"depth": "5"}))
    shop.call(LogBatch(project="default", run_id=run_id, metrics=[Point(key="auc", value=0.83)]))
    read = RunInput(name="flights", digest="9f31c2aa", source_type="local", source="flights.csv", context="training")
    shop.call(LogInputs(project="default", run_id=run_id, inputs=[read]))
    before = "e" * 32
    shop.call(StartRun(project="default", run_id=before, experiment="one", name="the one before", user="ada", params={"depth": "3"}))
    shop.call(LogBatch(project="default", run_id=before, metrics=[Point(key="auc", value=0.79)]))
    for run in (before, run_id):
        shop.call(CreateVersion(project="default", model="delay", run_id=run, create=True))
    shop.call(SetAlias(project="default", model="delay", alias="best", number=2))
    seen = Watched(chromium, f"{url}{BASE}/models", viewport=SMALL)
    page = seen.page
    page.locator("td.name").get_by_role("link", name="delay").click()
    expect(page.locator(".sentence")).to_contain_text("2 versions, the newest 2; best is 2")
    seen.shot("model-light")
    page.get_by_role("button", name="Compare left and right").click()
    expect(page.locator(".sentence")).to_contain_text("Version 2 beside version 1: they differ in")
    expect(page.locator("table.compare")).to_contain_text("+0.0400")
    seen.shot("versions-light")
    page.goto(f"{url}{BASE}/runs/{run_id}")
    expect(page.locator("#models")).to_contain_text("Registered as delay 2 (candidate).")
    page.goto(f"{url}{BASE}/models/delay/2")
    expect(page.locator(".sentence")).to_contain_text("It is best. It is not sealed yet")
    expect(page.locator("#lineage")).to_contain_text("flights")
    page.locator("#card-intended_use summary").click()
    page.locator("#card-intended_use textarea").fill("Only for **planning**, <script>never</script> for people.")
    page.locator("#card-intended_use").get_by_role("button", name="Keep it").click()
    expect(page.locator(".notice")).to_contain_text("The card is kept")
    expect(page.locator("#card-intended_use .prose")).to_have_text("Only for planning, <script>never</script> for people.")
    seen.whole("version-light")
    page.locator("#edit summary").click()
    page.get_by_role("link", name="Delete version 2").click()
    expect(page.locator(".danger")).to_contain_text("Goes: version 2, and the alias best.")
    seen.shot("version-delete-light")
    page.get_by_role("button", name="Delete", exact=True).click()
    expect(page.locator(".notice")).to_contain_text("its number is not given again")
    assert seen.complaints == []
    page.close()


@pytest.mark.heavy
def test_the_pages_in_the_dark_on_a_phone_and_on_paper(chromium: Any, home: tuple[Workshop, str]) -> None:
    _, url = home
    some = {
        "experiments": "/experiments",
        "runs": "/experiments/77/runs?chart=parallel",
        "run": f"/runs/0001{999:028x}",
        "compare": f"/compare?runs=0001{999:028x},0001{998:028x}",
        "models": "/models",
    }
    for scheme, name, viewport in (("dark", "wide", WIDE), ("light", "phone", PHONE), ("dark", "phone", PHONE)):
        for what, address in some.items():
            seen = Watched(chromium, url + BASE + address, scheme=scheme, viewport=viewport)
            if what in ("runs", "run", "compare"):
                seen.page.wait_for_selector("#plot svg, #lines .bars, #lines-once:not(:empty)")
            seen.page.wait_for_timeout(200)
            seen.shot(f"{what}-{name}-{scheme}")
            assert seen.page.evaluate("document.documentElement.scrollWidth") <= viewport["width"], (what, name)
            poor = seen.page.evaluate(CONTRAST)
            assert poor == [], (what, scheme, poor)
            assert seen.complaints == []
            seen.page.close()
    seen = Watched(chromium, url + BASE + some["runs"], viewport=SMALL)
    seen.page.emulate_media(media="print")
    seen.page.wait_for_timeout(300)
    seen.shot("runs-print")
    assert not seen.page.locator("nav").is_visible()
    seen.page.close()


@pytest.mark.heavy
@pytest.mark.timeout(900)
def test_a_hundred_thousand_runs_behave_like_ten(chromium: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from playwright.sync_api import expect

    monkeypatch.setenv("TREADLE_HEADS", str(tmp_path / "heads"))
    expect.set_options(timeout=30_000)
    with open_home(tmp_path / "home") as shop:
        made = fill(shop, 100_000)
        line(shop, made[-1], 100_000)
    server = Server(tmp_path / "home")
    try:
        seen = Watched(chromium, f"{server.url}{BASE}/experiments/77/runs", viewport=SMALL)
        page = seen.page
        expect(page.locator("#runs tbody tr")).to_have_count(50)
        assert len(page.content()) < 200_000
        for query in (
            "sort=metrics.auc",
            "sort=params.depth&dir=asc",
            "filter=metrics.auc+%3E+0.66+and+params.depth+%3D+%274%27&sort=metrics.auc",
            "filter=tags.team+%3D+%27rail%27",
            "group=params.depth",
        ):
            page.goto(f"{server.url}{BASE}/experiments/77/runs?{query}")
            expect(page.locator("#runs tbody tr")).to_have_count(50)
        page.get_by_role("link", name="next 50").click()
        expect(page.locator("#runs tbody tr")).to_have_count(50)
        seen.shot("runs-100000-light")
        for chart in ("scatter", "parallel", "contour"):
            page.goto(f"{server.url}{BASE}/experiments/77/runs?chart={chart}")
            expect(page.locator("#plot-note")).to_contain_text("these are the first 1,000")
        page.goto(f"{server.url}{BASE}/runs/{made[-1]}")
        expect(page.locator("figure[data-key=loss] canvas")).to_have_count(1)
        page.locator("figure[data-key=loss] [data-larger]").click()
        expect(page.locator("figure[data-key=loss]")).to_have_attribute("title", "100,000 points drawn")
        seen.shot("run-100000-points-light")
        assert seen.complaints == []
        page.close()
    finally:
        server.stop()
