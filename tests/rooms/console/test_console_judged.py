"""The year's judgement in the console: the numbers of the event are the numbers of the page, and without it there are others."""

import datetime as dt
import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from console_still import Browser

from treadle.console.app import build_console
from treadle.ledger.events import append
from treadle.ledger.sealer import seal
from treadle.operations.workshop import ApplyProject
from treadle.records.calls import SYSTEM, Call
from treadle.records.clock import VirtualClock
from treadle.records.definitions import Endpoint, Environment, Project
from treadle.records.monitoring import WindowReport
from treadle.store.queries import monitoring as windows
from treadle.workshop.home import Workshop, open_home
from treadle.workshop.overview import JUDGED

LOOP = "/projects/flights/prod"
FIRST = dt.datetime(2013, 2, 1, tzinfo=dt.UTC)
DAYS = 59  # February and March
#: As the judge tells them: different from anything that the windows could give.
MONTHS = [
    {"month": "2013-02", "rows": 24611, "roc_auc": 0.71234, "brier": 0.15678, "mean_predicted": 0.21111, "mean_observed": 0.22222},
    {"month": "2013-03", "rows": 27902, "roc_auc": 0.72345, "brier": 0.14567, "mean_predicted": 0.23333, "mean_observed": 0.24444},
]
NEVER = {
    "2013-02": {"roc_auc": 0.70001, "roc_auc_by_day": 0.69012, "brier": 0.16012, "mean_predicted": 0.2, "mean_observed": 0.22222},
    "2013-03": {"roc_auc": 0.64001, "roc_auc_by_day": 0.63012, "brier": 0.17012, "mean_predicted": 0.2, "mean_observed": 0.24444},
}


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Workshop]:
    with open_home(tmp_path / "home", clock=VirtualClock(FIRST + dt.timedelta(days=DAYS))) as opened:
        definitions = Project(
            name="flights", endpoints=(Endpoint(name="delay", model="delay"),), environments=(Environment(name="prod", four_eyes=False),)
        )
        opened.call(ApplyProject(project="flights", environment="prod", definitions=definitions))
        reports = [
            WindowReport(
                project="flights",
                environment="prod",
                endpoint="delay",
                start=FIRST + dt.timedelta(days=i),
                end=FIRST + dt.timedelta(days=i + 1),
                predictions=900,
                rejected=0,
                outcomes=810,
                metrics={"roc_auc": 0.68, "brier": 0.19, "mean_predicted": 0.3, "mean_observed": 0.31},
                drift={},
                champion=1 if i < 40 else 2,
            )
            for i in range(DAYS)
        ]
        opened.database.write(lambda tx: windows.put_windows(tx, reports, dt.datetime.now(dt.UTC)))
        yield opened


def judge(shop: Workshop, months: list[dict[str, Any]], **where: str) -> None:
    """Store what a replay's judge tells."""
    call = Call(actor=SYSTEM, event_time=shop.clock.now())
    place = {"project": "flights", "environment": "prod", **where}
    shop.database.write(lambda tx: append(tx, call, type=JUDGED, subject="endpoint/delay", payload={"months": months}, **place))
    seal(shop.database)


def table(shop: Workshop) -> tuple[str, list[list[str]]]:
    """The by-month table's title and its rows."""
    html = Browser(build_console(shop)).get(LOOP).text
    part = html[html.index('id="bymonth"') : html.index("</table>")]
    title = re.findall(r"<summary>(.*?)</summary>", part)[0]
    rows = re.findall(r"<tr>(.*?)</tr>", part, re.DOTALL)[1:]
    return title, [[unescape(re.sub(r"<[^>]+>", "", cell)) for cell in re.findall(r"<td.*?>(.*?)</td>", row)] for row in rows]


def chart(shop: Workshop) -> tuple[dict[str, Any], str]:
    html = Browser(build_console(shop)).get(LOOP).text
    return json.loads(re.findall(r'<script type="application/json" id="series">(.*?)</script>', html, re.DOTALL)[0]), html


def test_the_table_by_month_shows_the_judges_numbers_and_no_others(shop: Workshop) -> None:
    judge(shop, MONTHS)
    title, rows = table(shop)
    assert title == "By month, as judged from outside after the replay: all rows of a local month together"
    assert rows == [
        ["2013-03", "27,902", "90 %", "0.723", "0.146", "0.233", "0.244", "1, 2"],
        ["2013-02", "24,611", "90 %", "0.712", "0.157", "0.211", "0.222", "1"],
    ]


def test_without_a_judge_the_table_falls_back_to_the_windows(shop: Workshop) -> None:
    title, rows = table(shop)
    assert title == "The same as a table, by month"
    assert rows == [
        ["2013-03", "27,900", "90 %", "0.680", "0.190", "0.300", "0.310", "1, 2"],
        ["2013-02", "25,200", "90 %", "0.680", "0.190", "0.300", "0.310", "1"],
    ]
    judge(shop, MONTHS, environment="staging")
    judge(shop, MONTHS, project="other")
    assert table(shop) == (title, rows)  # another's judgement is not ours


def test_the_newest_judgement_counts_and_a_month_it_does_not_tell_of_keeps_its_windows(shop: Workshop) -> None:
    judge(shop, MONTHS)
    judge(shop, [{**MONTHS[1], "roc_auc": 0.7777}])
    _, rows = table(shop)
    assert [row[3] for row in rows] == ["0.778", "0.680"]


def test_the_chart_draws_what_never_retraining_would_have_given_month_by_month(shop: Workshop) -> None:
    drawn, html = chart(shop)
    assert set(drawn["series"]) == {"roc_auc", "brier", "mean_predicted", "mean_observed"}
    assert "k-never" not in html
    judge(shop, MONTHS)  # a judge that compared no policies
    assert "k-never" not in chart(shop)[1]
    judge(shop, [{**m, "policies": {"never": NEVER[m["month"]]}} for m in MONTHS])
    drawn, html = chart(shop)
    assert drawn["series"]["never_roc_auc"]["line"] == [0.69012] * 28 + [0.63012] * 31
    assert drawn["series"]["never_brier"]["line"] == [0.16012] * 28 + [0.17012] * 31
    assert "never retrained" in html[html.index('id="k-never"') : html.index("</span>", html.index('id="k-never"'))]
    assert "never retrained it would have been 0.630 in that month" in html
