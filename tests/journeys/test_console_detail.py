"""Details of the console in a real Chromium: zooming into long lines, names that are scripts, webhooks, a project without a loop."""

import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from console_runs import fill, line
from test_console_browser import CONTRAST, PHONE, Watched, browsers
from test_console_tracking import BASE, SMALL, Server

from treadle.operations.ledger import CreateActor, IssueToken
from treadle.operations.registry import CreateVersion
from treadle.operations.tracking import CreateExperiment, LogBatch, LogInputs, PutFile, SearchRuns, StartRun
from treadle.records.calls import Role
from treadle.records.tracking import Point, RunInput
from treadle.workshop.home import Workshop, open_home

pytestmark = [pytest.mark.chromium, pytest.mark.timeout(300)]

#: What a client may call a thing; wherever it is shown, it must only be read.
SCRIPT = "<img src=x onerror=window.hit=1>\"'><script>window.hit=1</script>{{7*7}}"
NAME = "n <img src=x onerror=window.hit=1>"


@pytest.fixture
def chromium() -> Iterator[Any]:
    """A headless browser."""
    yield from browsers()


@pytest.fixture
def hook() -> Iterator[tuple[str, list[bytes]]]:
    """(host and port, bodies that came) of a server that is told things."""
    came: list[bytes] = []

    class Hook(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing: the test reads what came."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"127.0.0.1:{server.server_address[1]}", came
    server.shutdown()
    server.server_close()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hook: tuple[str, list[bytes]]) -> Iterator[tuple[Workshop, str]]:
    """A home with a few runs, open here and served."""
    for name in ("TREADLE_HOME", "TREADLE_TOKEN", "TREADLE_URL", "TREADLE_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TREADLE_HEADS", str(tmp_path / "heads"))
    monkeypatch.setenv("TREADLE_WEBHOOK_HOSTS", hook[0])
    with open_home(tmp_path / "home") as shop:
        fill(shop, 12)
        server = Server(tmp_path / "home")
        yield shop, server.url
        server.stop()


def test_zooming_into_a_long_line_fetches_it_finer_and_stands_in_the_address(chromium: Any, home: tuple[Workshop, str]) -> None:
    from playwright.sync_api import expect

    shop, url = home
    expect.set_options(timeout=20_000)
    long, other = f"0001{11:028x}", f"0001{10:028x}"
    line(shop, long, 20_000)
    line(shop, other, 20_000)
    seen = Watched(chromium, f"{url}{BASE}/runs/{long}", viewport=SMALL)
    page, figure = seen.page, seen.page.locator("figure[data-key=loss]")
    expect(figure).to_have_attribute("title", "2,400 points drawn")
    expect(page.locator("#lines-note")).to_contain_text("drag over a part to see it finer")
    _brush(page, "figure[data-key=loss] .u-over", 300, 340)
    # Every point of the part now, which is less than a chart has room for; the table still tells of the whole line.
    expect(page).to_have_url(re.compile(r"from=\d+&until=\d+"))
    found = re.search(r"from=(\d+)&until=(\d+)", page.url)
    assert found
    low, high = int(found[1]), int(found[2])
    expect(figure).to_have_attribute("title", f"{high - low + 3:,} points drawn of the part")
    highest = page.locator("tr[data-metric-row=loss] [data-high]").inner_text()
    assert float(highest) > 2
    page.reload()
    expect(figure).to_have_attribute("title", f"{high - low + 3:,} points drawn of the part")
    expect(page.locator("tr[data-metric-row=loss] [data-high]")).to_have_text(highest)
    seen.shot("run-zoomed-light")
    page.get_by_role("button", name="Whole line").click()
    expect(figure).to_have_attribute("title", "2,400 points drawn")
    expect(page).not_to_have_url(re.compile("from="))
    expect(page.get_by_role("button", name="Whole line")).to_be_hidden()
    # Along the clock, and back by a double click.
    page.get_by_label("along").select_option("relative")
    _brush(page, "figure[data-key=loss] .u-over", 300, 340)
    expect(figure).to_have_attribute("title", re.compile("of the part"))
    page.locator("figure[data-key=loss] .u-over").dblclick()
    expect(figure).to_have_attribute("title", "2,400 points drawn")

    # Among runs: the lines of the table, and those that are compared.
    page.goto(f"{url}{BASE}/experiments/77/runs?chart=lines&key=loss&from=100&until=200")
    expect(page.locator("#plot canvas")).to_have_count(1)
    expect(page.locator("#legend a")).to_have_count(2)  # of ten runs, those that have the metric
    page.goto(f"{url}{BASE}/compare?runs={long},{other}&key=loss&from=100&until=200")
    expect(page.locator("figure")).to_have_attribute("title", "103 points drawn of the part")
    assert seen.complaints == []
    page.close()


def _brush(page: Any, where: str, start: int, end: int) -> None:
    page.locator(where).scroll_into_view_if_needed()
    box = page.locator(where).bounding_box()
    page.mouse.move(box["x"] + start, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + end, box["y"] + 60, steps=4)
    page.mouse.up()


@pytest.mark.heavy
def test_a_run_that_is_looked_at_from_its_start_draws_each_metric_as_it_comes(chromium: Any, home: tuple[Workshop, str]) -> None:
    from playwright.sync_api import expect

    shop, url = home
    expect.set_options(timeout=20_000)
    run = "d" * 32
    shop.call(StartRun(project="default", run_id=run, experiment="77", name="fresh"))

    def log(key: str, steps: range) -> None:
        shop.call(LogBatch(project="default", run_id=run, metrics=[Point(key=key, value=1 / (i + 1), step=i) for i in steps]))

    seen = Watched(chromium, f"{url}{BASE}/runs/{run}", viewport=SMALL)
    page = seen.page
    page.evaluate("window.stayed = true")
    expect(page.locator("#lines")).to_be_hidden()
    log("loss", range(1))
    expect(page.locator("#lines-once")).to_contain_text("Measured once, and told in the table: loss.")
    log("loss", range(1, 30))
    log("system/cpu_percent", range(10))
    expect(page.locator("figure[data-key=loss] canvas")).to_have_count(1)
    expect(page.locator("#lines-once")).to_have_text("")
    page.locator("#machine summary").click()
    expect(page.locator("#machine figure canvas")).to_have_count(1)
    page.locator("figure[data-key=loss] [data-larger]").click()
    expect(page.locator("figure[data-key=loss] [data-larger]")).to_have_text("smaller")
    log("auc", range(10))
    expect(page.locator("figure[data-key=auc] canvas")).to_have_count(1)
    expect(page.locator("figure")).to_have_count(3)
    assert page.evaluate("window.stayed") is True
    assert seen.complaints == []
    page.close()


def test_a_smoothed_line_follows_the_mean_of_what_is_skewed(chromium: Any, home: tuple[Workshop, str]) -> None:
    from playwright.sync_api import expect

    shop, url = home
    run_id = f"0001{12:028x}"
    shop.call(StartRun(project="default", run_id=run_id, experiment="77", name="skewed"))
    for start in range(0, 20_000, 5_000):
        points = [Point(key="loss", value=0.0 if step % 10 else 10.0, step=step, time=step) for step in range(start, start + 5_000)]
        shop.call(LogBatch(project="default", run_id=run_id, metrics=points))
    seen = Watched(chromium, f"{url}{BASE}/runs/{run_id}?smooth=90", viewport=SMALL)
    expect(seen.page.locator("figure[data-key=loss] canvas")).to_have_count(1)
    drawn = seen.page.evaluate(
        "[...document.querySelectorAll('figure[data-key=loss], figure[data-key=loss] *')].find((n) => n.plot).plot.data"
    )
    assert len(drawn) == 3, "steps, the smoothed line, and the values behind it"
    assert set(drawn[2]) == {0, 10}
    assert all(abs(value - 1) < 0.3 for value in drawn[1][200:-200]), "one value in ten is ten"
    assert seen.complaints == []
    seen.shot("run-smoothed-light")


def test_names_that_are_scripts_never_run(chromium: Any, home: tuple[Workshop, str]) -> None:
    shop, url = home
    run = "c" * 32
    _name_everything(shop, run)
    own = f"{BASE}/runs/{run}"
    seen = Watched(chromium, f"{url}{own}", viewport=PHONE)
    page = seen.page
    todo, done = [own, "/", f"{BASE}/experiments", f"{BASE}/experiments/666/runs", f"{BASE}/models", f"{BASE}/events"], set[str]()
    todo += [f"{BASE}/runs?{q}" for q in ("chart=lines", "chart=scatter", "chart=parallel", "chart=contour", f"group=params.{NAME}")]
    todo += [f"{BASE}/search?q={SCRIPT}", f"{BASE}/removals?thing=run/{run}", f"{BASE}/compare?runs={run},0001{11:028x}"]
    while todo and len(done) < 40:
        address = todo.pop(0)
        if address in done:
            continue
        done.add(address)
        page.goto(f"{url}{address}")
        page.wait_for_timeout(150)
        assert page.evaluate("window.hit") is None, address
        links = page.evaluate("[...document.querySelectorAll('a')].map((a) => a.getAttribute('href') || '')")
        assert not [link for link in links if re.match(r"\s*(javascript|data|vbscript):", link, re.I)], address
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], address
        todo += [k for k in links if k.startswith((f"{own}/files", f"{BASE}/models/")) and "/card." not in k]  # a card is a download
    assert f"{own}/files/c.svg" in done
    assert not [c for c in seen.complaints if "Failed to load resource" not in c], seen.complaints
    page.close()


def _name_everything(shop: Workshop, run: str) -> None:
    shop.call(CreateExperiment(project="default", experiment_id="666", name=SCRIPT, description=SCRIPT))
    note = f"[x](javascript:window.hit=1) {SCRIPT}"
    tags = {"mlflow.note.content": note, NAME: SCRIPT}
    shop.call(
        StartRun(project="default", run_id=run, experiment="666", name=SCRIPT, user=SCRIPT, tags=tags, params={NAME: SCRIPT, "depth": "3"})
    )
    shop.call(LogBatch(project="default", run_id=run, metrics=[Point(key=k, value=i, step=i) for i in range(5) for k in (NAME, "auc")]))
    read = RunInput(name=SCRIPT, digest="d1", source_type="local", source="javascript:window.hit=1", context="training")
    shop.call(LogInputs(project="default", run_id=run, inputs=[read]))
    picture = b'<svg xmlns="http://www.w3.org/2000/svg" onload="window.hit=1"><script>window.hit=1</script></svg>'
    kept = {f"{NAME}.txt": SCRIPT.encode(), 'b"onmouseover="window.hit=1.csv': f"a,{SCRIPT}\n1,2\n".encode(), "c.svg": picture}
    for path, content in kept.items():
        shop.call(PutFile(project="default", owner=run, path=path, digest=shop.blobs.put(content), size=len(content)))
    shop.call(CreateVersion(project="default", model=NAME, run_id=run, create=True))


def test_an_address_is_told_tried_and_forgotten(chromium: Any, home: tuple[Workshop, str], hook: tuple[str, list[bytes]]) -> None:
    from playwright.sync_api import expect

    _, url = home
    host, came = hook
    expect.set_options(timeout=20_000)
    seen = Watched(chromium, f"{url}{BASE}/models", viewport=SMALL)
    page = seen.page
    page.get_by_role("link", name="Who is told when models change").click()
    expect(page.locator(".sentence")).to_have_text("Nobody is told when models change.")
    expect(page.locator("#hooks")).to_contain_text("treadle webhooks add")
    page.get_by_label("Address").fill("https://elsewhere.example/x")
    page.get_by_role("button", name="Tell this address").click()
    expect(page.locator("[role=alert]")).to_contain_text("TREADLE_WEBHOOK_HOSTS does not name its host")
    expect(page.get_by_label("Address")).to_have_value("https://elsewhere.example/x")
    seen.complaints.clear()  # a browser complains of the status 400
    page.get_by_label("Address").fill(f"http://{host}/models")
    page.get_by_role("button", name="Tell this address").click()
    expect(page.locator(".sentence")).to_have_text("1 address is told when models change.")
    page.get_by_role("button", name="Try it").click()
    expect(page.locator(".notice")).to_contain_text("An example of model_version.created was sent, and answered with 204.")
    assert b"model_version" in came[0]
    seen.shot("webhooks-light")
    assert page.evaluate(CONTRAST) == []
    page.get_by_role("button", name="Switch off").click()
    expect(page.locator("#hooks")).to_contain_text("switched off")
    page.get_by_role("link", name="Forget …").click()
    expect(page.locator(".danger")).to_contain_text("what is still to be delivered to it")
    page.get_by_role("button", name="Forget it").click()
    expect(page.locator(".sentence")).to_have_text("Nobody is told when models change.")
    assert seen.complaints == []
    page.close()


def test_a_project_without_a_loop_teaches_at_every_station(chromium: Any, home: tuple[Workshop, str]) -> None:
    from playwright.sync_api import expect

    _, url = home
    seen = Watched(chromium, f"{url}{BASE}", viewport=SMALL)
    page = seen.page
    expect(page.locator("h1")).to_have_text("default has no loop yet")
    for station in ("Data", "Features", "Training", "Evaluation", "Packaging", "Registry", "Release", "Serving", "Monitoring"):
        page.get_by_role("navigation").get_by_role("link", name=re.compile(f"^{station}")).click()
        expect(page.locator("h1")).to_have_text(station)
        expect(page.locator("main")).to_contain_text("treadle init")
    assert seen.complaints == []
    page.close()


def test_the_links_that_mlflow_clients_print_lead_to_the_run(chromium: Any, home: tuple[Workshop, str]) -> None:
    shop, url = home
    run_id = shop.call(SearchRuns(project="default", limit=1)).items[0].run_id
    shop.call(CreateVersion(project="default", model="churn risk", source="runs:/r/model", create=True))
    for printed, place in (
        (f"/#/experiments/1/runs/{run_id}", f"/runs/{run_id}"),
        ("/#/experiments/0", "/experiments/0/runs"),
        ("/#/models/churn%20risk/versions/1", "/models/churn%20risk/1"),
    ):
        seen = Watched(chromium, f"{url}{printed}", viewport=SMALL)
        seen.page.wait_for_url(f"{url}{BASE}{place}")
        assert seen.page.locator("h1").count() == 1
        seen.page.close()


def test_the_links_of_clients_that_name_their_project_lead_to_its_pages(chromium: Any, home: tuple[Workshop, str]) -> None:
    shop, url = home
    shop.call(CreateExperiment(project="churn", name="trees", experiment_id="7"))
    shop.call(StartRun(project="churn", run_id="c" * 32, experiment="trees"))
    shop.call(CreateVersion(project="churn", model="churn risk", source="runs:/r/model", create=True))
    there = f"{url}/projects/churn/dev"
    for printed, place in (
        (f"/mlflow/churn/#/experiments/7/runs/{'c' * 32}", f"/runs/{'c' * 32}"),
        ("/mlflow/churn/#/experiments/7", "/experiments/7/runs"),
        ("/mlflow/churn#/models/churn%20risk/versions/1", "/models/churn%20risk/1"),
        ("/mlflow/churn/", "/experiments"),
        ("/mlflow/churn/models", "/models"),
    ):
        seen = Watched(chromium, f"{url}{printed}", viewport=SMALL)
        seen.page.wait_for_url(f"{there}{place}")
        assert seen.page.locator("h1").count() == 1
        assert seen.complaints == []
        seen.page.close()
    seen = Watched(chromium, f"{url}/mlflow/nobody/#/experiments/7", viewport=SMALL)
    seen.page.wait_for_url(f"{url}/projects/nobody/dev/experiments/7/runs")
    assert seen.page.locator("h1").inner_text() == "Not here"
    seen.page.close()


def test_a_login_leads_back_to_the_run_that_a_client_printed(chromium: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TREADLE_HEADS", str(tmp_path / "heads"))
    with open_home(tmp_path / "home") as shop:
        shop.call(StartRun(project="churn", run_id="c" * 32))
        shop.call(CreateActor(actor_id="ada", name="Ada", role=Role.editor))
        token = shop.call(IssueToken(actor_id="ada", token_id="t1")).token
    server = Server(tmp_path / "home", "--require-token")
    try:
        page = chromium.new_page()
        page.goto(f"{server.url}/mlflow/churn/#/experiments/0/runs/{'c' * 32}")
        page.locator("#token").fill(token)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"{server.url}/projects/churn/dev/runs/{'c' * 32}")
        page.close()
    finally:
        server.stop()


def test_a_chart_of_points_is_one_stop_for_the_keyboard_and_says_what_is_under_it(chromium: Any, home: tuple[Workshop, str]) -> None:
    from playwright.sync_api import expect

    _, url = home
    seen = Watched(chromium, f"{url}{BASE}/experiments/77/runs", viewport=SMALL)
    page = seen.page
    for chart in ("scatter", "parallel", "contour"):
        page.goto(f"{url}{BASE}/experiments/77/runs?chart={chart}")
        expect(page.locator("svg.plane a")).to_have_count(12)
        expect(page.locator("svg.plane a[tabindex='0']")).to_have_count(1)
        expect(page.locator("[role=img] a")).to_have_count(0)  # a picture's links are not read out
        page.locator("#plot").focus()
        page.keyboard.press("Tab")
        names = set()
        for _ in range(12):
            names.add(page.locator("#plot > .tip b").inner_text())
            assert page.evaluate("document.activeElement.getAttribute('aria-label')").startswith(
                page.locator("#plot > .tip b").inner_text()
            )
            page.keyboard.press("ArrowRight")
        assert names == {f"depth-{i}" for i in range(12)}
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.closest('svg.plane')") is None
    page.mouse.move(0, 0)
    page.goto(f"{url}{BASE}/experiments/77/runs?chart=scatter")
    page.locator("svg.plane a").nth(5).hover()
    expect(page.locator("#plot > .tip")).to_contain_text("auc")
    seen.shot("runs-scatter-tip-light")
    assert seen.complaints == []
    page.close()


def test_a_dark_screen_prints_on_white_paper_with_what_was_folded(chromium: Any, home: tuple[Workshop, str]) -> None:
    _, url = home
    seen = Watched(chromium, f"{url}{BASE}/runs/0001{11:028x}", viewport=SMALL, scheme="dark")
    page = seen.page
    ground = "getComputedStyle(document.body).backgroundColor"
    ink = "getComputedStyle(document.documentElement).getPropertyValue('--ink').trim()"
    dark, light = page.evaluate(ground), page.evaluate(ink)
    page.evaluate("const d = document.createElement('details'); d.id = 'folded'; document.querySelector('main').append(d)")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(ink) == "#191e23"
    assert page.evaluate("document.querySelector('#folded').open") is True
    page.emulate_media(media="print")
    assert page.evaluate(ground) == "rgb(255, 255, 255)"
    assert page.evaluate(CONTRAST) == []
    page.emulate_media(media="screen")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert (page.evaluate(ground), page.evaluate(ink)) == (dark, light)
    assert page.evaluate("document.querySelector('#folded').open") is False
    assert seen.complaints == []
    page.close()
