"""The console's pages: every state rendered, everything escaped, nothing from outside, and the one form that writes."""

import datetime as dt
import json
import re
from html import escape, unescape
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote

import pytest
from console_still import APPLIED, APPROVAL, EVENTS, NOW, OWNER, RELEASE, RUN, STATIONS, Browser, Still, days, overview, version
from msgspec.structs import replace

from treadle.console.app import build_console
from treadle.operations import ledger, monitoring, registry, releases, tracking, workshop
from treadle.operations.workshop import ProjectSummary, Station
from treadle.records.definitions import Environment
from treadle.records.errors import TreadleError
from treadle.records.ledger import Page
from treadle.records.models import GateResult
from treadle.records.monitoring import Alarm, WindowReport
from treadle.records.states import AlarmState, ApprovalState, ReleaseState, VersionState

LOOP = "/projects/flights/prod"
EVIL = "<img src=x onerror=alert(1)>\"'&{{7*7}}</script><script>alert(2)</script>"
PAGES = (
    "",
    "/live",
    "/search?q=delay",
    "/search?q=nothing-such",
    "/events",
    "/events/evt_1",
    f"/runs/{RUN}",
    "/models/delay/9",
    "/releases/rel_8",
    "/predictions/01k9-ff-2",
    "/features",
    "/training",
    "/evaluation",
    "/packaging",
    "/registry",
    "/release",
    "/serving",
    "/monitoring",
    "/experiments",
    "/experiments?view=deleted&name=de&folder=ops",
    "/experiments/77/runs",
    "/runs",
    "/runs?filter=metrics.auc+%3E+0.5&sort=metrics.auc&col=params.depth&group=params.depth&view=all&n=25",
    f"/runs/{1:032x}",
    f"/runs/{1:032x}/files",
    "/logged-models/m-1",
    f"/compare?runs={1:032x},{2:032x}",
    f"/removals?thing=run/{1:032x}",
    "/removals/retention",
    "/removals/retention?preview=1",
    "/webhooks",
    "/webhooks?forget=whk_1",
    "/webhooks?webhook=whk_1&state=failed",
    "/models",
    "/models/delay",
    "/models/delay?delete=1",
    "/models/delay/compare?left=8&right=9",
    "/models/delay/9?delete=1",
    "/nonsense",
)


def client(still: Still) -> Browser:
    return Browser(build_console(still))


def text(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


@pytest.mark.parametrize("page", PAGES)
def test_every_page_is_one_whole_page_and_loads_nothing_from_outside(page: str) -> None:
    answer = client(Still()).get(LOOP + page)
    assert answer.status_code == (404 if "nothing-such" in page or "nonsense" in page else 200), answer.text
    html = answer.text
    addresses = re.findall(r'(?:src|href|action|hx-get)="([^"]*)"', html)
    assert addresses
    assert all(a.startswith(("/", "#", "?")) for a in addresses), addresses
    assert not re.search(r"<script(?![^>]*(src=|application/json))", html)
    assert not re.search(r"<[a-z][^>]* (on\w+|style)=", html)
    assert html.count("<h1") == 1
    if page != "/live":
        assert html.startswith("<!doctype html>")
        assert html.count("<main") == html.count("</main>") == 1
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("page", PAGES)
def test_no_link_is_dead(page: str) -> None:
    browser = client(Still())
    still_there = re.findall(r'href="(/[^"#]*)', browser.get(LOOP + page).text)
    for address in set(still_there):
        answer = browser.get(address.replace("&amp;", "&"))
        dataset = address.endswith("/data")  # the still home has no rows to list
        assert answer.status_code in ((200, 303, 404) if dataset else (200, 303)), address


def test_the_sentence_comes_first_then_what_waits_then_the_pictures() -> None:
    html = client(Still()).get(LOOP).text
    order = [html.index(x) for x in ("<h1>", 'class="sentence"', 'class="loop"', 'id="waiting"', 'id="quality"', 'id="events"')]
    assert order == sorted(order)
    assert "Version 7 serves 95 % of requests." in html
    assert "2013-09-14 13:42" in html
    assert "replay" in html


def test_the_ring_says_each_state_by_shape_and_word() -> None:
    shapes = {"healthy": "M-2.2,.2L", "tried": "M0,-4.4A", "waits": "M0,-5.8L", "harm": "<rect", "quiet": 'class="hollow" r="4.2"'}
    for state, shape in shapes.items():
        stations = [replace(s, state=state) for s in STATIONS]
        html = client(Still(stations=stations)).get(LOOP).text
        ring = html[html.index('class="loop"') : html.index("</svg>", html.index('class="loop"'))]
        assert ring.count(f'class="node {state}"') == 9
        assert ring.count(shape) == 9
        assert len(re.findall(r"<title>", ring)) == 9


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ({"releases": 6, "retrainings": 4, "budget": 12}, "6 promoted · 4 of 12 retrainings"),
        ({"releases": 1, "retrainings": 1, "budget": None}, "1 promoted · 1 retraining"),
        ({"releases": 0, "retrainings": 2, "budget": None}, "0 promoted · 2 retrainings"),
    ],
)
def test_the_rings_centre_counts_in_the_words_of_its_table(figures: dict[str, Any], said: str) -> None:
    stations = [replace(s, text="6 of 7 promoted") if s.name == "Release" else s for s in STATIONS]
    html = client(Still(stations=stations, figures=figures)).get(LOOP).text
    assert f">{said}<" in html
    assert "releases ·" not in html


def test_only_the_arc_that_is_travelled_is_dashed() -> None:
    assert client(Still()).get(LOOP).text.count('class="arc travelled"') == 1
    assert client(Still(travelling=None)).get(LOOP).text.count('class="arc travelled"') == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "delay waits for a person"),
        ({"waiting": []}, "delay is trying version 8"),
        ({"waiting": [], "challenger": None}, "delay is turning"),
        ({"waiting": [], "challenger": None, "champion": None}, "delay has not begun to turn"),
        ({"waiting": [], "stations": [Station(name="Serving", state="harm", text="version 7 · 0 workers")]}, "delay needs a look: Serving"),
    ],
)
def test_the_title_says_what_the_loop_does(changes: dict[str, Any], said: str) -> None:
    assert f"<h1>{said}</h1>" in client(Still(**changes)).get(LOOP).text


def test_a_loop_that_has_done_nothing_teaches() -> None:
    quiet = [replace(s, state="quiet", text="—") for s in STATIONS]
    nothing: dict[str, Any] = {"champion": None, "challenger": None, "travelling": None, "waiting": [], "quality": [], "marks": []}
    still = Still(**nothing, figures={"blocks": 0}, stations=quiet, virtual=False)
    still.answers[ledger.ListEvents] = ledger.Events(items=[], page=Page())
    html = client(still).get(LOOP).text
    assert "treadle up" in html
    assert "treadle run PIPELINE" in html
    assert "Nothing. The loop asks here" in html
    assert 'id="chart"' not in html
    assert "replay</i>" not in html


def test_data_that_arrives_all_the_time_is_one_line() -> None:
    still = Still()
    arrived = [replace(EVENTS[5], event_id=f"evt_{i}", subject=f"dataset/{'flights' if i % 2 else 'weather'}") for i in range(40)]
    elsewhere = replace(EVENTS[0], environment="staging", event_id="evt_staging")
    still.answers[ledger.ListEvents] = ledger.Events(
        items=[*arrived[:30], elsewhere, EVENTS[0], *arrived[30:31], *EVENTS[1:3]], page=Page()
    )
    html = client(still).get(LOOP).text
    assert "30 new versions of flights, weather · 27,360 new rows" in html
    assert "evt_staging" not in html
    assert html.count("<code>data.arrived</code>") == 1
    assert html.count(">data.arrived</code>") == 2


def test_champion_challenger_and_open_alarms_are_named_with_since_when() -> None:
    said = text(client(Still()).get(LOOP).text)
    for part in ("champion delay 7 since 28 Jul", "challenger delay 8 since 10 Sep", "open alarm decay since 11 Sep"):
        assert part in said


def test_figures_show_what_is_there_and_no_more_digits_than_it_deserves() -> None:
    html = client(Still()).get(LOOP).text
    for figure in ("0.748", "0.146", "+0.4 pt", "28,211", "2.9 ms", "71 %"):
        assert f">{figure}<" in html, figure
    html = client(Still(figures={"blocks": 3, "predictions": 10, "outcomes": 0, "labels_in": 0.0})).get(LOOP).text
    assert "Last 3 days" in html
    assert "ROC AUC</dt>" not in html


def test_the_charts_data_is_one_json_block_of_plain_numbers() -> None:
    html = client(Still(marks=[{"kind": "alarm", "start": NOW, "end": None, "text": EVIL}])).get(LOOP).text
    block = re.search(r'<script type="application/json" id="series">(.*?)</script>', html, re.S)
    assert block
    drawn = json.loads(block[1])
    lines = drawn["series"]["roc_auc"]
    assert len(drawn["t"]) == len(lines["day"]) == len(lines["line"]) == len(days())
    assert drawn["end"] > drawn["now"] >= drawn["t"][-1]
    assert drawn["marks"][0]["text"] == EVIL
    assert "<" not in block[1]


def test_live_sends_a_page_only_when_something_changed() -> None:
    still = Still()
    browser = client(still)
    first = browser.get(f"{LOOP}/live")
    assert first.status_code == 200
    assert first.text.lstrip().startswith("<nav")
    seen = first.headers["etag"]
    assert browser.get(f"{LOOP}/live", headers={"if-none-match": seen}).status_code == 304
    assert f'data-version="{seen.strip(chr(34))}"' in browser.get(LOOP).text
    still.seen = overview(champion=8)
    assert browser.get(f"{LOOP}/live", headers={"if-none-match": seen}).status_code == 200


def test_hostile_names_are_shown_and_not_obeyed() -> None:
    event = replace(EVENTS[0], payload={"text": EVIL}, subject=f"model/{EVIL}/3", type=f"acme.{EVIL}", event_id=EVIL)
    asked = replace(APPROVAL, question=EVIL, asked_by=EVIL, approval_id=EVIL, subject=EVIL)
    mark = {"kind": "alarm", "start": NOW, "end": NOW, "text": EVIL}
    stations = [Station(name=s.name, state="harm", text=EVIL) for s in STATIONS]
    still = Still(endpoint=EVIL, sentence=EVIL, stations=stations, waiting=[asked], marks=[mark], events=[event])
    bad = version(
        9,
        gates=(GateResult(gate=EVIL, passed=False, text=EVIL),),
        metrics={EVIL: 0.5},
        aliases=(EVIL,),
        description=EVIL,
        tags={EVIL: EVIL},
    )
    still.answers |= {
        workshop.ListProjects: [ProjectSummary(name="flights", environments=["prod", "dev"], endpoints=[EVIL, "b"])],
        ledger.GetEvent: event,
        ledger.ListEvents: ledger.Events(items=[event], page=Page(next=EVIL)),
        registry.GetModelVersion: bad,
        releases.GetRelease: replace(RELEASE, reason=EVIL, endpoint=EVIL, facts={EVIL: EVIL}),
        workshop.WhyPrediction: workshop.Chain(prediction_id=EVIL, links=[{"link": EVIL, EVIL: {EVIL: EVIL}}]),
    }
    browser = client(still)
    for page in (*PAGES, f"/search?q={EVIL}", f"/events?type={EVIL}"):
        html = browser.get(LOOP + page).text
        tags = Tags()
        tags.feed(html)
        assert tags.bad == [], page
        assert "49</script>" not in unescape(html), page  # no template in a name is run


class Tags(HTMLParser):
    """Collects what a browser would obey and the console never writes."""

    def __init__(self) -> None:
        super().__init__()
        self.bad: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = dict(attrs)
        inline = tag == "script" and "src" not in names and names.get("type") != "application/json"
        if tag in ("img", "iframe", "object", "style", "base") or inline or any(n.startswith("on") or n == "style" for n in names):
            self.bad.append(self.get_starttag_text() or tag)


def test_an_empty_home_says_how_to_begin() -> None:
    still = Still()
    still.answers[workshop.ListProjects] = []
    still.answers[tracking.SearchRuns] = tracking.TrackedRuns(items=[], page=Page())
    answer = client(still).get("/")
    assert answer.status_code == 200
    assert "treadle init flights" in answer.text
    assert "treadle demo" in answer.text


def test_home_leads_to_the_environment_that_the_others_lead_to() -> None:
    assert client(Still()).get("/").headers["location"] == LOOP
    assert client(Still()).get("/projects/flights").headers["location"] == LOOP
    assert client(Still()).get("/projects/other").status_code == 404


def test_an_environment_without_endpoint_says_what_to_do() -> None:
    still = Still()

    def nothing(_request: Any) -> Any:
        raise TreadleError("Nothing is applied to prod of flights.", remedy="treadle apply --env prod", code="not_found")

    still.answers[workshop.GetOverview] = nothing
    answer = client(still).get(LOOP)
    assert answer.status_code == 200
    assert "treadle apply --env prod" in answer.text


# ── the one thing that is written ────────────────────────────────────────────────────────────────────────────────────

APPROVE = f"{LOOP}/approvals/{APPROVAL.approval_id}"
SAME = {"origin": "http://127.0.0.1"}


def test_a_card_says_what_its_buttons_do() -> None:
    card = text(client(Still()).get(LOOP).text)
    assert "May delay@9 serve in prod?" in card
    assert "1 of 1 gates passed" in card
    assert "47 min ago" in card
    assert "delay 9 then answers 5 % of requests beside version 7 for at most 14 days" in card
    assert "roll it back at any time" in card
    assert "version 7 stays, and this question is closed" in card
    first = text(client(Still(champion=None)).get(LOOP).text)
    assert "delay 9 then serves all requests of prod" in first


@pytest.mark.parametrize(("decision", "grant"), [("approve", True), ("refuse", False)])
def test_the_form_decides_as_the_person_who_sent_it(decision: str, grant: bool) -> None:
    still = Still()
    answer = client(still).post(APPROVE, data={"decision": decision, "comment": "looks good"}, headers=SAME)
    assert answer.status_code == 303
    assert answer.headers["location"] == f"{LOOP}?decided={APPROVAL.approval_id}"
    request, actor, at = next(c for c in still.calls if isinstance(c[0], registry.DecideApproval))
    assert (request.grant, request.comment, request.approval_id) == (grant, "looks good", APPROVAL.approval_id)
    assert actor is OWNER
    assert at == NOW  # a replay's business time, which the person saw


def test_an_approver_of_one_environment_answers_on_the_overview() -> None:
    still = Still()
    client(still).post(APPROVE, data={"decision": "approve"}, headers=SAME)
    assert next(c[0] for c in still.calls if isinstance(c[0], registry.DecideApproval)).environment == "prod"


@pytest.mark.parametrize("page", [LOOP, f"{LOOP}/models/delay/9"])
def test_who_asked_may_take_it_back_and_is_told_of_four_eyes(page: str) -> None:
    theirs = client(Still()).get(page).text
    assert ("Take it back" in theirs, "wants four eyes" in theirs, "Approve delay 9</button>" in theirs) == (False, False, True)
    mine = replace(APPROVAL, asked_by=OWNER.actor_id, expires=NOW + dt.timedelta(hours=3))
    still = Still(waiting=[mine])
    still.answers[registry.ListApprovals] = [mine]
    html = client(still).get(page).text
    assert ("Take it back" in html, "Approve delay 9</button>" in html) == (True, False)
    assert "You asked, and prod wants four eyes: somebody else approves." in html
    assert re.search("It can be (answered|granted) until", html)
    places = (Environment(name="prod", four_eyes=False),)
    still.answers[workshop.GetApplied] = replace(APPLIED, environments=places)
    assert "Approve delay 9</button>" in client(still).get(page).text


def test_a_question_is_taken_back_on_the_overview_and_on_its_page() -> None:
    for path, fields in ((APPROVE, {"decision": "withdraw"}), (f"{LOOP}/models/delay/9", {"act": "withdraw"})):
        still = Still()
        still.answers[registry.WithdrawApproval] = APPROVAL
        answer = client(still).post(path, data={**fields, "approval": APPROVAL.approval_id, "comment": "too early"}, headers=SAME)
        assert answer.status_code == 303
        request = next(c[0] for c in still.calls if isinstance(c[0], registry.WithdrawApproval))
        assert (request.approval_id, request.reason) == (APPROVAL.approval_id, "too early")


def test_outside_a_replay_an_answer_is_given_now() -> None:
    still = Still(virtual=False)
    client(still).post(APPROVE, data={"decision": "approve"}, headers=SAME)
    assert next(c[2] for c in still.calls if isinstance(c[0], registry.DecideApproval)) is None


def test_who_did_what_when_is_said_afterwards() -> None:
    still = Still(waiting=[])
    still.answers[registry.GetApproval] = replace(APPROVAL, state=ApprovalState.granted, decided_by="ada", decided_time=NOW, comment="fine")
    html = client(still).get(f"{LOOP}?decided={APPROVAL.approval_id}").text
    assert "delay 9 was granted for prod by ada at 2013-09-14 13:42 UTC: fine" in text(html)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "none"},
    ],
)
def test_a_form_from_elsewhere_decides_nothing(headers: dict[str, str]) -> None:
    still = Still()
    answer = client(still).post(APPROVE, data={"decision": "approve"}, headers=headers)
    assert answer.status_code == 403
    assert not any(isinstance(c[0], registry.DecideApproval) for c in still.calls)


def test_an_error_says_what_and_keeps_what_was_typed() -> None:
    still = Still()

    def four_eyes(_request: Any) -> Any:
        raise TreadleError("ada asked for this approval, and prod wants four eyes.", remedy="Let another approver decide.", code="denied")

    still.answers[registry.DecideApproval] = four_eyes
    answer = client(still).post(APPROVE, data={"decision": "approve", "comment": "I am <b>sure</b>"}, headers=SAME)
    assert answer.status_code == 400
    assert "prod wants four eyes" in answer.text
    assert "Let another approver decide." in answer.text
    assert 'value="I am &lt;b&gt;sure&lt;/b&gt;"' in answer.text


def test_a_form_without_a_decision_and_one_too_large_decide_nothing() -> None:
    still = Still()
    assert client(still).post(APPROVE, data={"comment": "hm"}, headers=SAME).status_code == 400
    assert client(still).post(APPROVE, data={"comment": "x" * 100_000}, headers=SAME).status_code == 413
    assert not any(isinstance(c[0], registry.DecideApproval) for c in still.calls)


def test_reading_changes_nothing() -> None:
    still = Still()
    browser = client(still)
    for page in PAGES:
        browser.get(LOOP + page)
    reads = {o for o in {type(c[0]) for c in still.calls} if o.__name__.startswith(("Get", "List", "Read", "Why", "Search", "Compare"))}
    reads |= {type(c[0]) for c in still.calls if getattr(c[0], "preview", False)}
    assert reads == {type(c[0]) for c in still.calls}
    assert browser.get(APPROVE).status_code == 303


# ── who asks, and what is found ──────────────────────────────────────────────────────────────────────────────────────


def test_a_token_signs_in_by_a_cookie_that_scripts_do_not_see() -> None:
    browser = client(Still())
    assert "trd_bad" not in browser.post("/login", data={"token": "trd_bad"}, headers=SAME).text
    answer = browser.post("/login", data={"token": "trd_good"}, headers=SAME)
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"]
    assert "treadle_token=trd_good" in cookie
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert browser.post("/login", data={"token": "trd_good"}).status_code == 403


@pytest.mark.parametrize(
    ("asked", "led"),
    [
        (f"{LOOP}?metric=brier", f"{LOOP}?metric=brier"),
        (f"{LOOP}/search?q=%22a%22", f"{LOOP}/search?q=%22a%22"),
        ("", "/"),
        ("https://evil.example/", "/"),
        ("//evil.example/", "/"),
        ("/\\evil.example/", "/"),
        ("/\t/evil.example/", "/"),
        ("\n//evil.example/", "/"),
        ("/a\r\nSet-Cookie: a=b", "/"),
        ("javascript:alert(1)", "/"),
        ("evil.example", "/"),
        ("/login?next=/login", "/"),
    ],
)
def test_signing_in_leads_back_to_a_path_of_ours_and_nowhere_else(asked: str, led: str) -> None:
    browser = client(Still())
    html = browser.get(f"/login?next={quote(asked)}").text
    assert re.findall(r'name="next" value="([^"]*)"', html) == ([escape(led)] if led != "/" else [])
    refused = browser.post("/login", data={"token": "trd_bad", "next": asked}, headers=SAME)
    assert re.findall(r'name="next" value="([^"]*)"', refused.text) == ([escape(led)] if led != "/" else [])
    answer = browser.post("/login", data={"token": "trd_good", "next": asked}, headers=SAME)
    assert (answer.status_code, answer.headers["location"]) == (303, led)


def test_login_shows_nothing_of_the_home() -> None:
    assert "flights" not in client(Still()).get("/login").text


@pytest.mark.parametrize(
    ("q", "leads"),
    [
        (RUN, f"{LOOP}/runs/{RUN}"),
        ("evt_1", f"{LOOP}/events/evt_1"),
        ("rel_8", f"{LOOP}/releases/rel_8"),
        ("01k9-ff-2", f"{LOOP}/predictions/01k9-ff-2"),
        ("delay@9", f"{LOOP}/models/delay/9"),
        ("delay 9", f"{LOOP}/models/delay/9"),
        ("  delay v9 ", f"{LOOP}/models/delay/9"),
        ("late_3h", f"{LOOP}/features"),
        (f"{7:032x}", f"{LOOP}/runs/{7:032x}"),
        ("m-1", f"{LOOP}/logged-models/m-1"),
        ("DEPTH", f"{LOOP}/experiments/77/runs"),
        ("", LOOP),
    ],
)
def test_search_leads_to_what_an_id_names(q: str, leads: str) -> None:
    assert client(Still()).get(f"{LOOP}/search", params={"q": q}).headers["location"] == leads


def test_search_for_a_part_of_a_name_lists_what_bears_it() -> None:
    html = client(Still()).get(f"{LOOP}/search", params={"q": "ela"}).text
    assert "2 things are called something like" in html
    assert "endpoint" in html


def test_the_ledger_pages_and_filters() -> None:
    still = Still()
    browser = client(still)
    html = browser.get(f"{LOOP}/events", params={"type": "treadle.release.*"}).text
    assert 'href="?type=treadle.release.%2A&amp;page=93"' in html
    browser.get(f"{LOOP}/events", params={"type": "treadle.release.*", "page": "93"})
    asked = [c[0] for c in still.calls if isinstance(c[0], ledger.ListEvents)]
    assert [(a.type, a.page, a.newest) for a in asked] == [("treadle.release.*", None, True), ("treadle.release.*", "93", True)]


@pytest.mark.parametrize("state", list(ReleaseState))
def test_every_state_of_a_release_has_a_sentence(state: ReleaseState) -> None:
    still = Still()
    still.answers[releases.GetRelease] = replace(RELEASE, state=state, reason="because")
    html = client(still).get(f"{LOOP}/releases/rel_8").text
    assert "because." in html
    assert "ersion 8" in html


@pytest.mark.parametrize("state", list(VersionState))
def test_every_state_of_a_version_has_a_page(state: VersionState) -> None:
    still = Still()
    still.answers[registry.GetModelVersion] = version(9, state=state)
    assert f"Version 9 of delay is {state}: 1 of 1 gates passed." in client(still).get(f"{LOOP}/models/delay/9").text


def test_an_erased_payload_is_said_to_be_erased() -> None:
    still = Still()
    still.answers[ledger.GetEvent] = replace(EVENTS[0], payload=None)
    assert "the payload was erased" in client(still).get(f"{LOOP}/events/evt_1").text


def test_static_files_are_served_and_addressed_by_content() -> None:
    browser = client(Still())
    for address in re.findall(r'(?:src|href)="(/static/[^"]+)"', browser.get(LOOP).text):
        assert "?v=" in address
        assert browser.get(address).status_code == 200, address


def test_a_page_with_a_year_of_days_is_small_and_quick() -> None:
    still = Still(quality=days(dt.datetime(2013, 12, 31, tzinfo=dt.UTC)), now=dt.datetime(2013, 12, 31, tzinfo=dt.UTC))
    answer = client(still).get(LOOP)
    assert len(answer.content) < 160_000


def test_the_first_page_is_of_the_environment_that_the_others_lead_to() -> None:
    still = Still()
    applied = still.answers[workshop.GetApplied]
    staging, prod = (next(e for e in applied.environments if e.name == name) for name in ("staging", "prod"))
    alone = (replace(prod, after=""), staging)
    # As they were declared, or by name: a project comes back from the store in either order.
    for environments, first in (((staging, prod), "prod"), ((prod, staging), "prod"), (alone, "staging"), (alone[::-1], "prod")):
        still.answers[workshop.GetApplied] = replace(applied, environments=environments)
        assert client(still).get("/").headers["location"] == f"/projects/flights/{first}"


def test_monitoring_shows_the_quality_and_names_what_is_open() -> None:
    still = Still()
    alarm = Alarm(
        project="flights",
        environment="prod",
        alarm_id="alm_1",
        endpoint="delay",
        kind="drift",
        state=AlarmState.open,
        text="Inputs have drifted.",
        raised=NOW - dt.timedelta(days=3),
    )
    start = NOW.replace(hour=0, minute=0)
    window = WindowReport(
        project="flights",
        environment="prod",
        endpoint="delay",
        start=start,
        end=start + dt.timedelta(days=1),
        predictions=900,
        rejected=0,
        outcomes=860,
        metrics={},
        drift={},
        champion=7,
    )
    still.answers[monitoring.ListAlarms] = [alarm]
    still.answers[monitoring.ListWindows] = [window]
    html = client(still).get(f"{LOOP}/monitoring").text
    assert "1 alarm is open: drift of delay since " in text(html)
    assert f"{start.day} {start:%b %Y}" in text(html)
    assert 'id="chart"' in html
    assert 'id="series"' in html
    assert 'id="chart"' not in client(still).get(f"{LOOP}/registry").text


def test_a_long_reason_keeps_a_readable_width_on_a_phone() -> None:
    still = Still()
    still.answers[releases.ListReleases] = [replace(RELEASE, reason="That the challenger is worse by 0.001 or more is rejected. " * 3)]
    html = client(still).get(f"{LOOP}/release").text
    assert '<td class="long"><span>That the challenger' in html
