"""The console in a real Chromium, before a real home: from an empty one to an approved version that serves, without a reload."""

import contextlib
import datetime as dt
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from treadle.client.inference import InferenceClient
from treadle.operations.ledger import EmitEvent
from treadle.records.ids import new_id
from treadle.records.layout import Layout
from treadle.records.monitoring import WindowReport
from treadle.store.queries import monitoring as windows
from treadle.workshop.home import open_home
from treadle.workshop.supervisor import Note, living

pytestmark = [pytest.mark.chromium, pytest.mark.timeout(240)]

CHROMIUM = "/usr/bin/chromium"
INSTALL = "apt-get install chromium"
ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"
).split()
SHOTS = Path(__file__).parents[2] / "build" / "screenshots"
WIDE, PHONE = {"width": 1340, "height": 1290}, {"width": 390, "height": 844}
MODULE = '''"""A small loop that trains in a second."""

import numpy as np
import polars as pl

import treadle as tr

asked = tr.dataset("asked", time="time", key="id", columns={"time": "datetime", "id": str, "share": float})
dev = tr.environment("dev", four_eyes=False)


@tr.step
def rows(seed: int, n: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    share = rng.random(n)
    return pl.DataFrame({"carrier": rng.choice(["AA", "UA"], n).tolist(), "share": share, "late": share + rng.normal(0, 0.2, n) > 0.6})


@tr.pipeline
def train(seed: int = 1):
    learned, test = rows(seed, 1500), rows(99, 500)
    fitted = tr.fit_lightgbm(learned, features=["carrier", "share"], label="late", params={"n_estimators": 5})
    baseline = tr.fit_logistic(learned, features=["carrier"], label="late")
    report = tr.evaluate(fitted, test, metrics=["roc_auc", "brier"], slices=["carrier"], baseline=baseline)
    return tr.candidate("delay", fitted, report, gates=[tr.gates.beats_baseline("brier")], rows=learned)


delay = tr.endpoint("delay", model="delay")
'''


def until(condition: Callable[[], Any], seconds: float = 40.0) -> Any:
    """The first true answer; fails when none comes in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = condition()
        if answer:
            return answer
        time.sleep(0.05)
    raise AssertionError("did not come in time")


class Place:
    """A project's folder, and `treadle up` over its home."""

    def __init__(self, root: Path):
        self.folder = root / "shop"
        self.layout = Layout(root / "home")
        self.folder.mkdir(parents=True)
        (self.folder / "treadle.toml").write_text('project = "shop"\nmodule = "loop"\n')
        (self.folder / "loop.py").write_text(MODULE)
        self.output = root / "up.out"
        with self.output.open("ab") as out:
            command = [sys.executable, "-m", "treadle", "up", "--home", str(self.layout.root), "--port", "0"]
            self.process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)

    def note(self, name: str) -> Note | None:
        assert self.process.poll() is None, self.output.read_text()
        return next((n for n in living(self.layout) if n.name == name), None)

    @property
    def url(self) -> str:
        return until(lambda: self.note("server")).url

    def treadle(self, *words: str) -> str:
        command = [sys.executable, "-m", "treadle", *words, "--home", str(self.layout.root)]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def browsers() -> Iterator[Any]:
    """A headless browser. Where there is none: a failure in CI, elsewhere a skip that says how to get one."""
    if not shutil.which(CHROMIUM):
        reason = f"There is no Chromium at {CHROMIUM}: {INSTALL}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    SHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def chromium() -> Iterator[Any]:
    """A headless browser."""
    yield from browsers()


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    for name in ("TREADLE_HOME", "TREADLE_TOKEN", "TREADLE_URL", "TREADLE_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TREADLE_HEADS", str(tmp_path / "heads"))
    made = Place(tmp_path)
    yield made
    made.stop()


class Watched:
    """A page, and everything that it must not do."""

    def __init__(self, browser: Any, url: str, **how: Any):
        self.host = urlsplit(url).netloc
        self.complaints: list[str] = []
        self.polls = 0
        self.page = browser.new_page(viewport=how.pop("viewport", WIDE), color_scheme=how.pop("scheme", "light"), **how)
        self.page.on("console", lambda m: self.complaints.append(f"{m.type}: {m.text}") if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", self._asked)
        self.page.goto(url)

    def _asked(self, request: Any) -> None:
        parts = urlsplit(request.url)
        self.polls += parts.path.endswith("/live")
        if parts.netloc != self.host and parts.scheme != "data":
            self.complaints.append(f"foreign request: {request.url}")

    def shot(self, name: str) -> None:
        self.page.screenshot(path=str(SHOTS / f"{name}.png"))

    def whole(self, name: str) -> None:
        """The page from its first line to its last."""
        self.page.screenshot(path=str(SHOTS / f"{name}.png"), full_page=True)


@pytest.mark.heavy
def test_from_an_empty_home_to_a_version_that_serves(chromium: Any, place: Place) -> None:
    from playwright.sync_api import expect

    expect.set_options(timeout=40_000)
    seen = Watched(chromium, place.url)
    page = seen.page
    expect(page.locator("h1")).to_have_text("Nothing here yet")
    seen.shot("empty-light")

    place.treadle("apply", "--env", "dev")
    page.goto(place.url)
    expect(page).to_have_url(re.compile("/projects/shop/dev$"))
    expect(page.locator("h1")).to_have_text("delay has not begun to turn")
    expect(page.locator("#chart")).to_have_count(0)
    page.evaluate("window.stayed = true")

    # The page shows what happens without being loaded again.
    place.treadle("run", "train", "--env", "dev", "--detach")
    expect(page.locator("h1")).to_have_text("delay waits for a person")
    card = page.locator("form.ask")
    expect(card).to_contain_text("1 of 1 gates passed")
    expect(card).to_contain_text("delay 1 then serves all requests of dev")

    # What somebody types is not written over, while the rest goes on.
    card.locator("input").fill("it beats the baseline")
    _emit(place, "acme.prices.changed", "prices went up")
    page.wait_for_timeout(2500)
    expect(card.locator("input")).to_have_value("it beats the baseline")
    seen.shot("waits-light")
    assert page.evaluate("window.stayed") is True
    page.get_by_role("button", name="Approve delay 1").click()
    expect(page.locator(".notice.healthy")).to_contain_text("delay 1 was granted for dev by")
    expect(page.locator(".notice.healthy")).to_contain_text("it beats the baseline")
    expect(page.locator("form.ask")).to_have_count(0)
    expect(page.locator("#events")).to_contain_text("prices went up")

    # A worker releases it, a gateway serves it, and the page says so.
    page.evaluate("window.stayed = true")
    expect(page.locator("h1")).to_have_text("delay is turning")
    expect(page.locator(".sentence")).to_contain_text("Version 1 serves all traffic.")
    prediction = _predict(place)

    # The days come, and the chart draws itself.
    _watch(place, 90)
    expect(page.locator("#chart canvas")).to_have_count(1)
    expect(page.locator("#figures")).to_contain_text("0.7")
    assert page.evaluate("window.stayed") is True
    shown = _pixels(page)
    page.get_by_role("button", name="Calibration").click()
    assert _pixels(page) != shown
    expect(page).to_have_url(re.compile("metric=calibration"))
    page.locator("#chart").scroll_into_view_if_needed()
    box = page.locator("#chart").bounding_box()
    assert box
    page.mouse.move(box["x"] + 200, box["y"] + 100)
    expect(page.locator(".tip")).to_contain_text("labels in")
    page.mouse.down()
    page.mouse.move(box["x"] + 400, box["y"] + 100, steps=4)
    page.mouse.up()
    expect(page).to_have_url(re.compile("from="))  # the browser tells of a replaced address a moment later
    page.get_by_role("button", name="Whole time").click()
    expect(page).not_to_have_url(re.compile("from="))
    canvas = page.evaluate_handle("document.querySelector('#chart canvas')")
    _watch(place, 91)
    expect(page.locator("#bymonth")).to_be_attached()
    page.wait_for_timeout(2500)
    assert page.evaluate("c => c.isConnected", canvas), "the chart is drawn on, not made anew"

    # The keyboard finds the prediction, and its page leads to the run.
    page.keyboard.press("/")
    expect(page.locator("#q")).to_be_focused()
    page.keyboard.type(prediction)
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text("Why prediction")
    expect(page.locator(".sentence")).to_contain_text("Version 1 of delay answered")
    seen.shot("why-light")
    page.locator(".chain h2 a", has_text="run").click()
    expect(page.locator(".sentence")).to_contain_text("The run finished")
    expect(page.locator("#steps")).to_contain_text("fit_lightgbm")
    seen.shot("run-light")
    for station in ("Data", "Features", "Training", "Evaluation", "Packaging", "Registry", "Release", "Serving", "Monitoring", "Ledger"):
        page.get_by_role("navigation").get_by_role("link", name=re.compile(f"^{station}")).click()
        expect(page.locator("h1")).to_contain_text(station)
    page.locator(".events a").first.click()
    expect(page.locator(".sentence")).to_contain_text("Recorded by")
    assert seen.complaints == []
    page.close()
    _themes(chromium, place.url)


@pytest.mark.heavy
def test_a_hidden_page_asks_nothing_and_a_lost_server_is_said(chromium: Any, place: Place) -> None:
    from playwright.sync_api import expect

    place.treadle("apply", "--env", "dev")
    seen = Watched(chromium, place.url)
    page = seen.page
    until(lambda: page.wait_for_timeout(100) or seen.polls > 0)
    page.evaluate("Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
    page.wait_for_timeout(300)
    before = seen.polls
    page.wait_for_timeout(4500)
    assert seen.polls == before
    page.evaluate("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    until(lambda: page.wait_for_timeout(100) or seen.polls > before, 5)
    assert seen.complaints == []
    place.stop()
    expect(page.locator("#lost")).to_be_visible(timeout=10_000)


def _themes(browser: Any, url: str) -> None:
    """Both themes, wide and narrow: nothing spills over, text stands out from what is behind it, no complaint."""
    for scheme in ("light", "dark"):
        for name, viewport in (("wide", WIDE), ("phone", PHONE)):
            seen = Watched(browser, url, scheme=scheme, viewport=viewport)
            seen.page.wait_for_selector("#chart canvas")
            seen.page.wait_for_timeout(200)
            seen.shot(f"overview-{name}-{scheme}")
            assert seen.page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
            poor = seen.page.evaluate(CONTRAST)
            assert poor == [], (scheme, name, poor)
            assert seen.complaints == []
            seen.page.close()


#: Every visible text with less contrast than WCAG AA asks for (4.5 : 1; 3 : 1 from 24 px, or 18.66 px bold).
CONTRAST = """() => {
  const parse = (c) => { const m = c.match(/[\\d.]+/g).map(Number); return { rgb: m.slice(0, 3), a: m.length > 3 ? m[3] : 1 }; };
  const light = (rgb) => { const [r, g, b] = rgb.map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (e) => { const layers = [];
    for (let x = e; x; x = x.parentElement) { const c = parse(getComputedStyle(x).backgroundColor); layers.push(c); if (c.a === 1) break; }
    return layers.reverse().reduce((under, c) => under.map((v, i) => v * (1 - c.a) + c.rgb[i] * c.a), [255, 255, 255]); };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement, s = getComputedStyle(e);
    if (!walker.currentNode.textContent.trim() || e.closest("script, style, title, .sr, .skip, .u-over")) continue;
    if (!e.getClientRects().length) continue;
    const ink = parse(e.namespaceURI.endsWith("svg") ? s.fill : s.color).rgb, ground = behind(e);
    const [a, b] = [light(ink), light(ground)].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
    const size = parseFloat(s.fontSize), large = size >= 24 || (size >= 18.66 && Number(s.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) poor.push(`${walker.currentNode.textContent.trim().slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return poor;
}"""


def _pixels(page: Any) -> str:
    page.wait_for_timeout(150)
    return page.evaluate("document.querySelector('#chart canvas').toDataURL()")


def _emit(place: Place, type: str, text: str) -> None:
    with open_home(place.layout.root) as shop:
        shop.call(EmitEvent(project="shop", event_id=new_id("evt"), type=type, subject="prices", environment="dev", payload={"text": text}))


def _predict(place: Place) -> str:
    note = until(lambda: place.note("gateway-shop-dev"))
    with InferenceClient(note.host or "127.0.0.1", note.port) as client:
        answer = client.predict("delay", {"carrier": ["AA"], "share": [0.9]})
    assert json.dumps(answer.ids)
    return answer.ids[0]


def _watch(place: Place, days: int) -> None:
    """What the monitor would write about so many days of traffic."""
    chance = random.Random(3)
    start = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0) - dt.timedelta(days=91)
    made = []
    for day in range(days):
        observed = 0.3 + 0.05 * math.sin(day / 9)
        measured = {
            "roc_auc": 0.74 + 0.03 * math.sin(day / 20) + chance.gauss(0, 0.015),
            "brier": 0.15 + chance.gauss(0, 0.006),
            "mean_predicted": observed + chance.gauss(0, 0.01),
            "mean_observed": observed,
            "latency_p99_us": 2400.0,
        }
        moment = start + dt.timedelta(days=day)
        made.append(
            WindowReport(
                project="shop",
                environment="dev",
                endpoint="delay",
                start=moment,
                end=moment + dt.timedelta(days=1),
                predictions=900,
                rejected=0,
                outcomes=860,
                metrics=measured,
                drift={"share": 0.01},
                champion=1,
            )
        )
    with contextlib.closing(open_home(place.layout.root)) as shop:
        shop.database.write(lambda tx: windows.put_windows(tx, made, dt.datetime.now(dt.UTC)))
