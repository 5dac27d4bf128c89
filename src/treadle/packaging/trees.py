"""Boosted trees as an ONNX graph, in float64: LightGBM's, and XGBoost's as `xgb` reads them.

The usual converter writes thresholds and inputs as float32. A value that lies closer to a threshold than float32 can tell goes down
the other branch: predictions are then wrong by tenths, on few rows, silently. (Found with rows placed at and beside each threshold of a
model of 80 trees: 389 of 1,964 differed, by up to 0.26.) ONNX's operator for tree ensembles takes float64 since `ai.onnx.ml` 5, so this
module writes that operator from LightGBM's own dump: the same comparisons on the same numbers, hence the same leaves.

A split on categories becomes one set-membership node. Missing values follow LightGBM's three rules. Where the two could still part is
outside any data: LightGBM reads a number nearer to 0 than 1e-35 as 0, and one beyond 1e300 as 1e300.
"""

from typing import Any

import numpy as np
from msgspec import Struct, field

from treadle.packaging.xgb import Boosted, Tree
from treadle.records.errors import TreadleError

_LEQ, _LESS, _MEMBER = 0, 1, 6
_LINKS = {"sigmoid": "Sigmoid", "exp": "Exp", "identity": "Identity"}
_SUM = 1
_TINY, _HUGE = 1e-34, 1e299


class _Table(Struct):
    """The columns of the operator's node and leaf tables, while they are filled."""

    features: list[int] = field(default_factory=list)
    modes: list[int] = field(default_factory=list)
    splits: list[float] = field(default_factory=list)
    tracks: list[int] = field(default_factory=list)
    true_ids: list[int] = field(default_factory=list)
    true_leafs: list[int] = field(default_factory=list)
    false_ids: list[int] = field(default_factory=list)
    false_leafs: list[int] = field(default_factory=list)
    members: list[float] = field(default_factory=list)
    leaves: list[float] = field(default_factory=list)
    roots: list[int] = field(default_factory=list)
    constant: float = 0.0  # of trees that are one leaf


def to_onnx(booster: Any, inputs: int) -> bytes:
    """An ONNX model with input `rows` (n × inputs, float64, NaN = missing) and output `score` (n, float64).

    Raises:
        TreadleError: `not_implemented` for an objective or tree that has no exact counterpart here.
    """
    dump = booster.dump_model()
    link, slope = _link(dump)
    table = _Table()
    for tree in dump["tree_info"]:
        root = tree["tree_structure"]
        if "split_feature" in root:
            table.roots.append(_node(table, root)[0])
        else:
            table.constant += root["leaf_value"]
    return _model(table, inputs, link=link, slope=slope)


def from_xgboost(model: Boosted) -> bytes:
    """The same of an XGBoost model: its comparisons are of float32 numbers, so the rows are rounded to float32 first."""
    table = _Table(constant=model.base)
    for tree in model.trees:
        if tree.left[0] < 0:
            table.constant += float(tree.value[0])
        else:
            table.roots.append(_split(table, tree, 0)[0])
    return _model(table, model.inputs, link=model.link, rounded=True)


def _model(table: _Table, inputs: int, *, link: str, slope: float = 1.0, rounded: bool = False) -> bytes:
    import onnx  # noqa: PLC0415  (only where a bundle is sealed)
    from onnx import TensorProto, helper, numpy_helper  # noqa: PLC0415

    nodes: list[Any] = []
    if not table.roots:
        raise TreadleError("The model has no split at all.", remedy="It needs no export.", code="not_implemented")
    if rounded:
        nodes.append(helper.make_node("Cast", ["rows"], ["single"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Cast", ["single"], ["rounded"], to=TensorProto.DOUBLE))
    members: dict[str, Any] = {"membership_values": numpy_helper.from_array(np.array(table.members))} if table.members else {}
    nodes.append(
        helper.make_node(
            "TreeEnsemble",
            ["rounded" if rounded else "rows"],
            ["trees"],
            domain="ai.onnx.ml",
            aggregate_function=_SUM,
            post_transform=0,
            n_targets=1,
            tree_roots=table.roots,
            nodes_featureids=table.features,
            nodes_modes=numpy_helper.from_array(np.array(table.modes, dtype=np.uint8)),
            nodes_splits=numpy_helper.from_array(np.array(table.splits, dtype=np.float64)),
            nodes_missing_value_tracks_true=table.tracks,
            nodes_truenodeids=table.true_ids,
            nodes_trueleafs=table.true_leafs,
            nodes_falsenodeids=table.false_ids,
            nodes_falseleafs=table.false_leafs,
            leaf_targetids=[0] * len(table.leaves),
            leaf_weights=numpy_helper.from_array(np.array(table.leaves, dtype=np.float64)),
            **members,
        )
    )
    constants = [numpy_helper.from_array(np.array([table.constant]), "constant"), numpy_helper.from_array(np.array([slope]), "slope")]
    constants.append(numpy_helper.from_array(np.array([-1], dtype=np.int64), "flat"))
    nodes.append(helper.make_node("Reshape", ["trees", "flat"], ["sum"]))
    nodes.append(helper.make_node("Add", ["sum", "constant"], ["raw"]))
    nodes.append(helper.make_node("Mul", ["raw", "slope"], ["scaled"]))
    nodes.append(helper.make_node(_LINKS[link], ["scaled"], ["score"]))
    graph = helper.make_graph(
        nodes,
        "treadle",
        [helper.make_tensor_value_info("rows", TensorProto.DOUBLE, [None, inputs])],
        [helper.make_tensor_value_info("score", TensorProto.DOUBLE, [None])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 5)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def thresholds(booster: Any) -> list[tuple[int, float]]:
    """(input, threshold) of every numeric split: where two evaluations of one tree could part. Those that stand for zero or infinity
    (see above) are left out."""
    found: set[tuple[int, float]] = set()
    waiting = [tree["tree_structure"] for tree in booster.dump_model()["tree_info"]]
    while waiting:
        node = waiting.pop()
        if "split_feature" in node:
            if node["decision_type"] == "<=" and _TINY < abs(node["threshold"]) < _HUGE:
                found.add((node["split_feature"], node["threshold"]))
            waiting += [node["left_child"], node["right_child"]]
    return sorted(found)


def _link(dump: dict[str, Any]) -> tuple[str, float]:
    """What turns the sum of leaves into a prediction: (`sigmoid` or `identity`, factor)."""
    words = str(dump.get("objective", "")).split()
    name = words[0] if words else ""
    averaged = dump.get("average_output", False)
    if dump.get("num_tree_per_iteration", 1) != 1 or averaged:
        raise TreadleError("The model has several outputs or averages its trees.", remedy="It is served natively.", code="not_implemented")
    if name == "binary":
        slope = next((float(word.partition(":")[2]) for word in words if word.startswith("sigmoid:")), 1.0)
        return "sigmoid", slope
    if name in ("regression", "regression_l1", "huber", "fair", "quantile", "mape") and "sqrt" not in words:
        return "identity", 1.0
    raise TreadleError(f"The objective {name!r} has no exact ONNX counterpart.", remedy="It is served natively.", code="not_implemented")


def _node(table: _Table, node: dict[str, Any]) -> tuple[int, int]:
    """Write a node and all below it; (its index, 0), or (leaf index, 1)."""
    if "split_feature" not in node:
        table.leaves.append(node["leaf_value"])
        return len(table.leaves) - 1, 1
    index = _place(table, node["split_feature"], *_decision(table, node))
    table.true_ids[index], table.true_leafs[index] = _node(table, node["left_child"])
    table.false_ids[index], table.false_leafs[index] = _node(table, node["right_child"])
    return index, 0


def _split(table: _Table, tree: Tree, at: int) -> tuple[int, int]:
    """As `_node`, of an XGBoost tree."""
    if tree.left[at] < 0:
        table.leaves.append(float(tree.value[at]))
        return len(table.leaves) - 1, 1
    index = _place(table, int(tree.feature[at]), _LESS, float(tree.value[at]), int(tree.missing_left[at]))
    table.true_ids[index], table.true_leafs[index] = _split(table, tree, int(tree.left[at]))
    table.false_ids[index], table.false_leafs[index] = _split(table, tree, int(tree.right[at]))
    return index, 0


def _place(table: _Table, feature: int, mode: int, split: float, tracks: int) -> int:
    """A new inner node, its children still open; its index."""
    table.features.append(feature)
    table.modes.append(mode)
    table.splits.append(split)
    table.tracks.append(tracks)
    for column in (table.true_ids, table.true_leafs, table.false_ids, table.false_leafs):
        column.append(0)
    return len(table.features) - 1


def _decision(table: _Table, node: dict[str, Any]) -> tuple[int, float, int]:
    """(mode, threshold, whether NaN goes to the true branch) of a split."""
    if node["decision_type"] == "==":
        table.members += [*(float(code) for code in str(node["threshold"]).split("||")), float("nan")]
        return _MEMBER, 0.0, 0  # LightGBM sends a missing category right
    if node["missing_type"] == "Zero":
        raise TreadleError("The model takes zero as missing.", remedy="It is served natively.", code="not_implemented")
    if node["missing_type"] == "None":  # NaN is read as 0
        return _LEQ, node["threshold"], int(node["threshold"] >= 0)
    return _LEQ, node["threshold"], int(node["default_left"])
