"""The filter language: what it reads, what it refuses and in which words, and that nothing else can happen."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.records.errors import TreadleError
from treadle.tracking.filters import (
    EXPERIMENTS,
    LOGGED_MODELS,
    MODEL_VERSIONS,
    REGISTERED_MODELS,
    RUNS,
    Comparison,
    Order,
    parse_filter,
    parse_logged_model_order,
    parse_order,
    written,
)

C = Comparison
ALL = (RUNS, EXPERIMENTS, REGISTERED_MODELS, MODEL_VERSIONS, LOGGED_MODELS)
SEARCHABLE = (
    "{'Created', 'Run Name', 'Run name', 'artifact_uri', 'created', 'end_time', 'run name', 'run_id', 'run_name', 'start_time', "
    "'status', 'user_id'}"
)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("", []),
        ("metrics.acc > 0.5", [C("metric", "acc", ">", 0.5)]),
        ("metric.`acc`>-1e-3", [C("metric", "acc", ">", -0.001)]),
        ('metrics."a b" <= .5', [C("metric", "a b", "<=", 0.5)]),
        ("parameter.model = 'tree'", [C("param", "model", "=", "tree")]),
        ('`params`.model != "tree"', [C("param", "model", "!=", "tree")]),
        ("params.`weird.na-me x` is not null", [C("param", "weird.na-me x", "IS NOT NULL")]),
        ("tag.mlflow.user Like 'a%'", [C("tag", "mlflow.user", "LIKE", "a%")]),
        ("tags.t IS NULL", [C("tag", "t", "IS NULL")]),
        ('tags.note = "it\'s"', [C("tag", "note", "=", "it's")]),
        ("Created >= 5 AND attr.`run name` ILIKE 'X'", [C("attribute", "start_time", ">=", 5), C("attribute", "run_name", "ILIKE", "X")]),
        ("run_id IN ('a', \"b\",)", [C("attribute", "run_id", "IN", ("a", "b"))]),
        ("run_id not in ('it\\'s')", [C("attribute", "run_id", "NOT IN", ("it's",))]),
        ("datasets.context IN ('train')", [C("dataset", "context", "IN", ("train",))]),
        ("AND metrics.x > 1 and", [C("metric", "x", ">", 1.0)]),
        ("metrics.x > 1\n\tand start_time > 1.5", [C("metric", "x", ">", 1.0), C("attribute", "start_time", ">", 1.5)]),
        ("params.`model' OR 1=1 --` = 'x'' OR ''1''=''1'", [C("param", "model' OR 1=1 --", "=", "x'' OR ''1''=''1")]),
    ],
)
def test_reads(text, read):
    assert list(parse_filter(text, RUNS)) == read


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("metrics.acc > '0.5'", "Expected numeric value type for metric. Found '0.5'"),
        ("metrics.acc = NaN", "Expected numeric value type for metric. Found NaN"),
        ("metrics.acc IN (1, 2)", "Expected numeric value type for metric. Found (1, 2)"),
        ("metrics.a == 1", "Invalid comparator '==' not one of '{'!=', '<', '<=', '=', '>', '>='}"),
        ("params.d > '1'", "Invalid comparator '>' not one of '{'!=', '=', 'ILIKE', 'IS NOT NULL', 'IS NULL', 'LIKE'}'"),
        ("params.d = 10", "Expected a quoted string value for parameter (e.g. 'my-value'). Got value 10"),
        ("params.m IN ('a')", "Expected a quoted string value for parameter (e.g. 'my-value'). Got value ('a')"),
        ("params.na-me = 'v'", "Invalid comparison clause. Expected 'Identifier' found 'params.na-me'"),
        (
            "tags.t = red",
            "Parameter value is either not quoted or unidentified quote types used for string value red. Use either single or double "
            "quotes.",
        ),
        ("run_name IN ('a')", "Only ['run_id'] attributes support comparison with a list of quoted string values."),
        ("end_time IS NULL", "IS NULL / IS NOT NULL is only supported for tags and params, not for 'attribute' 'end_time'"),
        ("start_time > '1'", "Expected numeric value type for numeric attribute: start_time. Found '1'"),
        ("attributes.experiment_id = '1'", f"Invalid attribute key 'experiment_id' specified. Valid keys are '{SEARCHABLE}'"),
        ("datasets.source = 'x'", "Invalid dataset key 'source' specified. Valid keys are '{'context', 'digest', 'name'}'"),
        ("run_id IN ()", "While parsing a list in the query, expected a non-empty list of string values, but got empty list"),
        (
            "run_id IN (1, 2)",
            "While parsing a list in the query, expected string value, punctuation, or whitespace, but got different type in list: (1, 2)",
        ),
        ("run_id IN ('x'", "Invalid clause(s) in filter string: 'run_id', 'IN', '(', ''x''"),
        ("metrics.a > 1 OR params.b = 'x'", "Invalid clause(s) in filter string: 'OR'"),
        ("metrics.a > 1 AND (params.b = 'x')", "Invalid clause(s) in filter string: '(params.b = 'x')'"),
        ("NOT metrics.a > 1", "Invalid clause(s) in filter string: 'NOT'"),
        ("metrics.a > 1;", "Invalid clause(s) in filter string: ';'"),
        ("a = 'x'; --", "Invalid clause(s) in filter string: ';', '--'"),
        ("tags.t = 'red' /* c */", "Invalid clause(s) in filter string: '/* c */'"),
        ("metrics.a BETWEEN 0 AND 1", "Invalid clause(s) in filter string: 'metrics.a', 'BETWEEN', '0', '1'"),
        ("params.m = 'x' UNION SELECT 1", "Invalid clause(s) in filter string: 'UNION', 'SELECT', '1'"),
        ("params.m = (SELECT 1)", "Expected a quoted string value for parameter (e.g. 'my-value'). Got value (SELECT 1)"),
        ("metrics.`acc > 1", "Invalid clause(s) in filter string: 'metrics.', '`'"),
        ("0.5 < metrics.acc", "Invalid comparison clause. Expected 'Identifier' found '0.5'"),
        ("foo.bar = 'x'", "Invalid entity type 'foo'. Valid values are ['metric', 'parameter', 'tag', 'attribute', 'dataset']"),
        ("   ", "Invalid filter '   '. Could not be parsed."),
        (
            "metrics.a > 1; DROP TABLE runs",
            "Search filter contained multiple expression 'metrics.a > 1; DROP TABLE runs'. Provide AND-ed expression list.",
        ),
    ],
)
def test_refuses(text, told):
    with pytest.raises(TreadleError) as refused:
        parse_filter(text, RUNS)
    assert (refused.value.what, refused.value.code) == (told, "bad_request")


@pytest.mark.parametrize(
    ("language", "text", "read"),
    [
        (EXPERIMENTS, "name LIKE 'a%' and tags.k is null", [C("attribute", "name", "LIKE", "a%"), C("tag", "k", "IS NULL")]),
        (EXPERIMENTS, "creation_time > 5", [C("attribute", "creation_time", ">", 5)]),
        (EXPERIMENTS, "experiment_id IN ('1', '2')", [C("attribute", "experiment_id", "IN", ("1", "2"))]),
        (REGISTERED_MODELS, "name IN ('a') and tag.k != 'v'", [C("attribute", "name", "IN", ("a",)), C("tag", "k", "!=", "v")]),
        (MODEL_VERSIONS, "version_number >= 2", [C("attribute", "version_number", ">=", 2)]),
        (MODEL_VERSIONS, "version_number = '2'", [C("attribute", "version_number", "=", 2)]),
        (MODEL_VERSIONS, "run_id NOT IN ('a')", [C("attribute", "run_id", "NOT IN", ("a",))]),
        (LOGGED_MODELS, "name = 'a' AND metrics.`x y` > 1", [C("attribute", "name", "=", "a"), C("metric", "x y", ">", 1.0)]),
        (LOGGED_MODELS, "creation_time < 7", [C("attribute", "creation_timestamp", "<", 7)]),
        (LOGGED_MODELS, "status in ('READY', 'PENDING')", [C("attribute", "status", "IN", ("READY", "PENDING"))]),
    ],
)
def test_other_things(language, text, read):
    assert list(parse_filter(text, language)) == read


@pytest.mark.parametrize(
    ("language", "text", "told"),
    [
        (EXPERIMENTS, "name > 'a'", "Invalid comparator '>' not one of '{'!=', '=', 'ILIKE', 'IN', 'LIKE', 'NOT IN'}'"),
        (EXPERIMENTS, "creation_time > 5.5", "Invalid value for numeric attribute 'creation_time': '5.5'"),
        (EXPERIMENTS, "experiment_id LIKE '1%'", "Invalid comparator for experiment_id: LIKE"),
        (EXPERIMENTS, "params.x = '1'", "Invalid entity type 'params'. Valid entity types are ('attribute', 'tag', 'tags')"),
        (EXPERIMENTS, "name = 'a' OR name = 'b'", "Invalid clause(s) in filter string: OR"),
        (REGISTERED_MODELS, "name IS NULL", "Invalid comparison clause. Expected 3 tokens found 2"),
        (REGISTERED_MODELS, "version = '1'", "Invalid attribute key 'version' specified. Valid keys are '{'name'}'"),
        (MODEL_VERSIONS, "version_number = 1.5", "Invalid value for numeric attribute 'version_number': 1.5"),
        (
            MODEL_VERSIONS,
            "source_path IN ('a')",
            "Only ['name', 'run_id'] attributes support comparison with a list of quoted string values.",
        ),
        (LOGGED_MODELS, "tag.x = '1'", "Invalid entity type: 'tag'. Expected one of ['attributes', 'metrics', 'params', 'tags']."),
        (
            LOGGED_MODELS,
            "metrics.x LIKE '1'",
            "Invalid comparison operator for metrics.x: 'LIKE'. Expected one of ('<', '<=', '>', '>=', '=', '!=').",
        ),
        (LOGGED_MODELS, "name = 'a'; name = 'b'", "Invalid filter string: \"name = 'a'; name = 'b'\". Expected a single SQL expression."),
    ],
)
def test_other_things_refuse(language, text, told):
    with pytest.raises(TreadleError) as refused:
        parse_filter(text, language)
    assert refused.value.what == told


@pytest.mark.parametrize(
    ("clause", "order"),
    [
        ("metrics.acc", Order("metric", "acc")),
        ("metric.`a b` desc", Order("metric", "a b", False)),
        ('params."x" ASC', Order("param", "x")),
        ("Created DESC", Order("attribute", "start_time", False)),
        ("metrics.", Order("metric", "")),
        ("tags.mlflow.user", Order("tag", "mlflow.user")),
    ],
)
def test_orders(clause, order):
    assert parse_order([clause], RUNS) == (order,)


@pytest.mark.parametrize(
    ("clauses", "told"),
    [
        (["metrics.a UP"], "Invalid ordering key in order_by clause 'metrics.a UP'."),
        (["metrics.a ASC DESC"], "Invalid order_by clause 'metrics.a ASC DESC'. Could not be parsed."),
        (["metrics.a; DROP TABLE runs"], "Invalid order_by clause 'metrics.a; DROP TABLE runs'. Could not be parsed."),
        (["metrics.a, metrics.b"], "Invalid order_by clause 'metrics.a, metrics.b'. Could not be parsed."),
        ([""], "Invalid order_by clause ''. Could not be parsed."),
        (["datasets.name"], "Invalid identifier type 'dataset'"),
        (["created", "start_time DESC"], "`order_by` contains duplicate fields: ['created', 'start_time DESC']"),
    ],
)
def test_orders_refuse(clauses, told):
    with pytest.raises(TreadleError) as refused:
        parse_order(clauses, RUNS)
    assert refused.value.what == told


def test_orders_of_others():
    assert parse_order(["timestamp DESC", "name"], REGISTERED_MODELS) == (
        Order("attribute", "last_updated_timestamp", False),
        Order("attribute", "name"),
    )
    with pytest.raises(TreadleError, match="Invalid order_by entity: tag"):
        parse_order(["tags.x"], EXPERIMENTS)
    with pytest.raises(TreadleError, match="Invalid order by key 'version'"):
        parse_order(["version"], REGISTERED_MODELS)
    given_order = [{"field_name": "metrics.a", "ascending": False, "dataset_name": "d"}, {"field_name": "creation_time"}]
    assert parse_logged_model_order(given_order) == (Order("metric", "a", False, "d"), Order("attribute", "creation_timestamp"))
    for bad in ({}, {"field_name": "params.x"}, {"field_name": "name", "dataset_digest": "1"}, {"field_name": "name", "ascending": "yes"}):
        with pytest.raises(TreadleError):
            parse_logged_model_order([bad])


def test_long_and_deep_texts_are_read_in_linear_time():
    for piece in ("(", "'", "`", '"', "((a)", "\\'", "a.", "-", "1e", "NOT ", "a-", "run_id IN ('x',"):
        with pytest.raises(TreadleError):
            parse_filter(piece * (190_000 // len(piece)), RUNS)


PIECES = [
    "metrics.",
    "params.`a`",
    "tags.x",
    "run_id",
    " IN ",
    "(",
    ")",
    "'",
    '"',
    "`",
    "\\",
    "LIKE",
    " AND ",
    "IS",
    " NULL",
    "NOT ",
    "=",
    ">",
    "1",
    ".5",
    "e9",
    ";",
]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12).map("".join), st.sampled_from(ALL))
def test_any_text_is_read_or_refused(text, language):
    for read in (lambda: parse_filter(text, language), lambda: parse_order([text], language)):
        with contextlib.suppress(TreadleError):
            read()


names = st.text(st.characters(codec="utf-8", exclude_characters="`\0\n"), max_size=8).filter(lambda t: t[:1] + t[-1:] not in ("''", '""'))
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0'\\"), max_size=8)
numbers = st.floats(allow_nan=False, allow_infinity=False)
comparisons = st.one_of(
    st.builds(C, st.just("metric"), names, st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), numbers),
    st.builds(C, st.sampled_from(["param", "tag"]), names, st.sampled_from(["=", "!=", "LIKE", "ILIKE"]), texts),
    st.builds(C, st.sampled_from(["param", "tag"]), names, st.sampled_from(["IS NULL", "IS NOT NULL"])),
    st.builds(C, st.just("attribute"), st.sampled_from(["run_name", "status"]), st.sampled_from(["=", "LIKE"]), texts),
    st.builds(C, st.just("attribute"), st.sampled_from(["start_time", "end_time"]), st.just(">"), st.integers(-(2**70), 2**70)),
    st.builds(
        C,
        st.just("attribute"),
        st.just("run_id"),
        st.sampled_from(["IN", "NOT IN"]),
        st.lists(texts, min_size=1, max_size=3).map(tuple),
    ),
)


@given(st.lists(comparisons, max_size=4))
def test_what_is_written_is_read_again(wanted):
    assert list(parse_filter(written(wanted), RUNS)) == wanted
