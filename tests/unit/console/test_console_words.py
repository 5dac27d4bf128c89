"""What the console says and draws, as functions of records."""

import datetime as dt
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.console import words
from treadle.console.ring import CENTRE, RADIUS, ring
from treadle.console.series import BLOCKS, months, series
from treadle.operations.workshop import Overview, Station
from treadle.records.ledger import Event

NOW = dt.datetime(2013, 3, 1, tzinfo=dt.UTC)


def seen(quality: list[dict]) -> Overview:
    empty = {"stations": [], "waiting": [], "marks": [], "events": [], "figures": {}}
    return Overview(
        project="p",
        environment="e",
        endpoint="x",
        sentence="",
        now=NOW,
        virtual=False,
        champion=None,
        challenger=None,
        travelling=None,
        quality=quality,
        **empty,
    )


def blocks(values: list[float], weights: list[int]) -> list[dict]:
    start = NOW - dt.timedelta(days=len(values))
    pairs = zip(values, weights, strict=True)
    return [
        {"start": start + dt.timedelta(days=i), "brier": v, "outcomes": w, "predictions": w, "champion": 1}
        for i, (v, w) in enumerate(pairs)
    ]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(1, 1000)), min_size=1, max_size=40))
def test_the_line_is_the_weighted_mean_of_the_last_seven_and_lies_in_its_band(days: list[tuple[float, int]]) -> None:
    drawn = series(seen(blocks([v for v, _ in days], [w for _, w in days])))
    assert drawn is not None
    line = drawn["series"]["brier"]
    for i in range(len(days)):
        last = days[max(0, i - BLOCKS + 1) : i + 1]
        mean = sum(v * w for v, w in last) / sum(w for _, w in last)
        assert math.isclose(line["line"][i], mean, abs_tol=1e-5)
        assert (line["low"][i] is None) == (len(last) < 4)
        if line["low"][i] is not None:
            assert line["low"][i] <= line["line"][i] + 1e-5
            assert line["line"][i] <= line["high"][i] + 1e-5


def test_a_day_without_outcomes_leaves_a_gap_and_nothing_is_drawn_beyond_now() -> None:
    quality = blocks([0.1, 0.2, 0.3, 0.4], [10, 10, 10, 10])
    del quality[2]["brier"]
    drawn = series(seen(quality))
    assert drawn is not None
    assert drawn["series"]["brier"]["line"][2] is None
    assert max(drawn["t"]) <= drawn["now"] < drawn["end"]
    assert series(seen([])) is None


def test_months_are_weighted_by_outcomes() -> None:
    quality = blocks([0.1, 0.3], [300, 100])
    (month,) = months(seen(quality))
    assert math.isclose(month["brier"], 0.15)
    assert month["predictions"] == 400
    assert month["roc_auc"] is None


@given(st.integers(1, 12))
def test_stations_stand_on_the_circle_in_order(number: int) -> None:
    made = ring([Station(name=f"s{i}", state="quiet", text="x") for i in range(number)], "s0")
    assert all(abs(math.hypot(s.x - CENTRE[0], s.y - CENTRE[1]) - RADIUS) < 0.2 for s in made.stops)
    assert [a.travelled for a in made.arcs] == [True] + [False] * (number - 1)


def event(type: str, payload: dict | None) -> Event:
    return Event(
        event_id="evt_1",
        project="p",
        environment="e",
        type=type,
        subject="model/m/1",
        actor="a",
        event_time=NOW,
        recorded_time=NOW,
        payload=payload,
        payload_digest="",
    )


@settings(deadline=None, max_examples=150)
@given(
    st.sampled_from([*words._SAY, "acme.own", "treadle.unknown.thing"]),
    st.none()
    | st.dictionaries(
        st.sampled_from(
            ["model", "number", "rows", "gates", "metrics", "reason", "strategy", "endpoint", "grant", "to", "from", "text", "error"]
        ),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=20) | st.floats(),
            lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=5), x, max_size=3),
        ),
    ),
)
def test_whatever_an_event_carries_it_is_said_in_a_line(type: str, payload: dict | None) -> None:
    assert words.say(event(type, payload))


def test_events_have_the_colour_of_what_they_mean() -> None:
    tones = {
        "treadle.performance.decayed": "waits",
        "treadle.approval.requested": "waits",
        "treadle.release.started": "tried",
        "treadle.release.stopped": "harm",
        "treadle.run.failed": "harm",
        "treadle.run.queued": "tried",
        "treadle.model.registered": "healthy",
        "treadle.release.inconclusive": "quiet",
        "acme.prices.changed": "quiet",
    }
    assert {t: words.event_tone(t) for t in tones} == tones


def test_subjects_lead_to_their_pages() -> None:
    assert words.subject_path("/b", "run/run_1") == "/b/runs/run_1"
    assert words.subject_path("/b", "model/delay/3") == "/b/models/delay/3"
    assert words.subject_path("/b", "model/delay/../x") is None
    assert words.subject_path("/b", "release/../../x") == "/b/releases/..%2F..%2Fx"
    assert words.subject_path("/b", "home") is None


def test_times_are_as_short_as_the_page_allows() -> None:
    assert words.moment(NOW.replace(hour=9), NOW) == "09:00"
    assert words.moment(NOW - dt.timedelta(days=3), NOW) == "26 Feb 00:00"
    assert words.moment(NOW - dt.timedelta(days=90), NOW) == "1 Dec 2012"


def test_a_judged_replay_is_said_beside_what_else_could_have_been_done() -> None:
    def month(declared: float, never: float) -> dict:
        return {"month": "2013-02", "policies": {"declared": {"roc_auc": declared}, "never": {"roc_auc": never}}}

    def said(payload: dict) -> str:
        return words.say(event("treadle.replay.judged", payload))

    told = said({"months": [month(0.72, 0.7), month(0.76, 0.66)]})
    assert told == "2 months judged from outside: ROC AUC 0.740 on average; never retrained 0.680"
    assert said({"months": []}) == "model/m/1"
    assert said({"months": [{"policies": {}}], "text": "as another release says it"}) == "as another release says it"
