import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.online.encoding import encode
from treadle.packaging.bundle import open_bundle
from treadle.records.errors import TreadleError
from treadle.records.serving import Split
from treadle.serving import snapshots
from treadle.serving.generation import Loader
from treadle.serving.log import PredictionLog
from treadle.serving.metrics import Metrics
from treadle.serving.segments import SegmentReader, find, segments
from treadle.serving.service import Serving
from treadle.serving.split import challenged, position
from treadle.testing.gateways import ENDPOINT, NOW_US, TinyHome, flights


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> TinyHome:
    return TinyHome(tmp_path_factory.mktemp("serving") / "home")


@pytest.fixture
def serving(home, tmp_path):
    log = PredictionLog(tmp_path / "log", project="tiny", environment="prod", worker="w", capacity=1 << 20)
    yield Serving(log, Metrics())
    log.close()


_numbers = iter(range(1, 10_000))


def serve(home, serving, **how):
    number = next(_numbers)
    home.publish(number, **how)
    loader = Loader(home.here, home.layout.online("tiny", "prod"))
    serving.switch(loader.load(snapshots.read(home.here, number)))
    return loader


def entries(serving):
    folder = serving.log._current.path.parent
    return [entry for path in segments(folder) for _, entry in SegmentReader(path).entries()]


def expected(home, place, columns, features):
    bundle, predictor = open_bundle(home.here.bundles / home.digests[place])
    return predictor.predict(encode(bundle.signature, {**columns, **features})).tolist()


def test_a_prediction_reads_features_scores_and_is_logged(home, serving):
    serve(home, serving)
    columns = flights(4, 3) | {"carrier": ["UA", "AA", "UA", "B6"], "origin": ["JFK", "JFK", "EWR", None]}
    answer = serving.predict(ENDPOINT, columns, NOW_US, ["a", "b", "c", "d"], request_id="r1")
    (entry,) = entries(serving)
    assert entry.features == {"lateness.late_6h": [2 / 3, None, 2 / 3, None], "weather.temp": [1.5, 1.5, None, None]}
    assert entry.inputs == columns
    assert answer.predictions == entry.output == expected(home, 0, columns, entry.features)
    assert (entry.event_time, entry.request_id, entry.unit, entry.ids) == (NOW_US, "r1", columns["flight_id"], ["a", "b", "c", "d"])
    assert (answer.variant, answer.model_version, answer.row_ids) == (["champion"] * 4, [1] * 4, ["a", "b", "c", "d"])
    assert entry.propensity == [1.0] * 4
    assert entry.other == [None] * 4
    for row, name in enumerate(answer.ids):
        assert find(serving.log._current.path.parent, name)[1:] == (entry, row)


def test_a_feature_the_row_brings_is_taken_as_given(home, serving):
    serve(home, serving)
    columns = flights(2) | {"lateness.late_6h": [0.9, 0.1]}
    answer = serving.predict(ENDPOINT, columns, NOW_US)
    (entry,) = entries(serving)
    assert set(entry.features) == {"weather.temp"}
    assert entry.inputs["lateness.late_6h"] == [0.9, 0.1]
    assert answer.predictions == expected(home, 0, columns, entry.features)


def test_rows_of_several_event_times_get_features_of_their_own_time(home, serving):
    serve(home, serving)
    columns = {name: values * 3 for name, values in flights(1).items()} | {"carrier": ["UA"] * 3, "origin": ["JFK"] * 3}
    times = [NOW_US, NOW_US - 250 * 60_000_000, NOW_US]
    answer = serving.predict(ENDPOINT, columns, times, ["a", "b", "c"])
    first, second = entries(serving)
    assert first.features["lateness.late_6h"] == [2 / 3, 2 / 3]
    assert second.features == {"lateness.late_6h": [1.0], "weather.temp": [None]}
    assert answer.predictions == [first.output[0], second.output[0], first.output[1]]
    assert (first.ids, second.ids, answer.row_ids) == (["a", "c"], ["b"], ["a", "b", "c"])
    assert find(serving.log._current.path.parent, answer.ids[2])[1:] == (first, 1)


@pytest.mark.parametrize("paired", [True, False])
def test_a_canary_takes_its_share_of_the_units_and_scores_them_twice(home, serving, paired):
    serve(home, serving, challenger=1, split=Split(share=0.4, paired=paired, salt="s"))
    columns = flights(200)
    answer = serving.predict(ENDPOINT, columns, NOW_US)
    (entry,) = entries(serving)
    old, new = (expected(home, place, columns, entry.features) for place in (0, 1))
    chosen = set(challenged("s", 0.4, columns["flight_id"]))
    assert 50 < len(chosen) < 110
    for row in range(200):
        mine = row in chosen
        assert answer.predictions[row] == (new if mine else old)[row]
        assert (answer.variant[row], answer.model_version[row]) == (("challenger", 2) if mine else ("champion", 1))
        assert entry.propensity[row] == (0.4 if mine else 0.6)
        assert (entry.other[row], entry.other_version[row]) == ((old[row], 1) if mine and paired else (None, None))


def test_a_challenger_that_fails_does_not_fail_the_request(home, serving):
    serve(home, serving, challenger=1, split=Split(share=1.0, salt="s"))

    class Broken:
        kind = "broken"

        def predict(self, matrix):
            raise RuntimeError("out of luck")

    serving.endpoint(ENDPOINT).challenger.predictor = Broken()
    answer = serving.predict(ENDPOINT, flights(3), NOW_US)
    (entry,) = entries(serving)
    assert answer.variant == ["champion"] * 3
    assert "out of luck" in entry.error
    assert serving.metrics.challenger_errors == {ENDPOINT: 1}


@pytest.mark.parametrize(
    ("change", "column", "words"),
    [
        ({"distance": None}, "distance", "missing"),
        ({"carrier": None}, "carrier", "missing"),
        ({"origin": None}, "origin", "entity key"),
        ({"flight_id": None}, "flight_id", "randomisation unit"),
        ({"distance": ["far", 1.0]}, "distance", "a number"),
        ({"hour": [1.5, 2]}, "hour", "a whole number"),
        ({"hour": [True, 2]}, "hour", "a whole number"),
        ({"carrier": ["ZZ", "UA"]}, "carrier", "unknown category 'ZZ'"),
        ({"hour": [1]}, "hour", "has 1 values"),
        ({"note": [{"a": 1}, 1]}, "note", "plain values"),
    ],
)
def test_a_wrong_request_is_refused_by_name_and_logged(home, serving, change, column, words):
    serve(home, serving)
    columns = {name: values for name, values in (flights(2) | change).items() if values is not None}
    with pytest.raises(TreadleError, match=words) as error:
        serving.predict(ENDPOINT, columns, NOW_US)
    assert error.value.code == "bad_request"
    assert error.value.details["column"] == column
    assert {"expected", "given"} <= set(error.value.details)
    (entry,) = entries(serving)
    assert (entry.status, entry.rows) == (400, 0)
    assert column in entry.error


def test_other_refusals(home, serving):
    with pytest.raises(TreadleError, match="no snapshot yet"):
        serving.predict(ENDPOINT, flights(1))
    serve(home, serving)
    with pytest.raises(TreadleError, match="no endpoint 'other'"):
        serving.predict("other", flights(1))
    for columns, times, ids in (({}, None, ()), ({"a": []}, None, ()), (flights(2), [NOW_US], ()), (flights(2), None, ["a"])):
        with pytest.raises(TreadleError):
            serving.predict(ENDPOINT, columns, times, ids)
    with pytest.raises(TreadleError, match="cannot be recorded"):
        serving.predict(ENDPOINT, flights(1) | {"extra": [2**70]})


def test_a_model_that_breaks_is_told_and_logged(home, serving):
    serve(home, serving)

    class Broken:
        kind = "broken"

        def predict(self, matrix):
            raise RuntimeError("out of luck")

    serving.endpoint(ENDPOINT).champion.predictor = Broken()
    with pytest.raises(TreadleError, match="RuntimeError: out of luck") as error:
        serving.predict(ENDPOINT, flights(1))
    assert error.value.code == "internal"
    (entry,) = entries(serving)
    assert entry.status == 500


def test_unseen_tail_numbers_count_as_missing(home, serving):
    serve(home, serving)
    unseen = serving.predict(ENDPOINT, flights(2) | {"tailnum": ["N99999", "X"]}, NOW_US)
    missing = serving.predict(ENDPOINT, flights(2) | {"tailnum": [None, None]}, NOW_US)
    assert unseen.predictions == missing.predictions
    assert all(math.isfinite(score) for score in unseen.predictions)


def test_a_switch_keeps_the_readers_and_lets_go_of_what_is_not_served(home, serving):
    loader = serve(home, serving)
    readers = dict(loader._readers)
    number = next(_numbers)
    home.publish(number, champion=1)
    before = time.process_time()
    serving.switch(loader.load(snapshots.read(home.here, number)))
    assert time.process_time() - before < 1
    assert loader._readers == readers
    assert list(loader._opened) == [home.digests[1]]


@settings(deadline=None, max_examples=20)
@given(salt=st.text(max_size=8), small=st.floats(0, 1), large=st.floats(0, 1))
def test_the_split_is_sticky_and_grows_with_the_share(salt, small, large):
    small, large = sorted((small, large))
    units = [f"u{i}" for i in range(300)]
    few, many = challenged(salt, small, units), challenged(salt, large, units)
    assert set(few) <= set(many)
    assert challenged(salt, small, units) == few
    assert abs(len(many) / 300 - large) < 0.15
    assert all(0 <= position(salt, unit) < 1 for unit in units)
