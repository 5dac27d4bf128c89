"""XGBoost's own model files (UBJSON or JSON), read as data: no XGBoost is needed to seal or serve them.

XGBoost keeps inputs, thresholds and leaves as float32 and goes left where `value < threshold`; a missing value goes where the split says.
`predict` does the same on float32 values and adds leaves in float64, where XGBoost adds in float32: scores differ by that rounding, some
1e-7 of the sum of the leaves, and by nothing else. `export` writes the same trees as an ONNX graph. The layout is that of XGBoost's
"Introduction to Model IO" (JSON schema, since 1.0; UBJSON since 1.6), with `base_score` as a number (before 3.1) or a list of one.
"""

from typing import Any

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from treadle.packaging import ubjson
from treadle.records.errors import TreadleError

Matrix = NDArray[np.float64]

#: objective → what turns the margin into a prediction.
LINKS = {
    **dict.fromkeys(("binary:logistic", "reg:logistic"), "sigmoid"),
    **dict.fromkeys(("count:poisson", "reg:gamma", "reg:tweedie"), "exp"),
    **dict.fromkeys(
        ("reg:squarederror", "reg:linear", "reg:squaredlogerror", "reg:pseudohubererror", "reg:absoluteerror", "reg:quantileerror"),
        "identity",
    ),
    **dict.fromkeys(("binary:logitraw", "rank:pairwise", "rank:ndcg", "rank:map"), "identity"),
}


class Tree(Struct):
    """One tree by node: children (-1 at a leaf), input, threshold or leaf value, whether a missing value goes left."""

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    feature: NDArray[np.int64]
    value: NDArray[np.float32]
    missing_left: NDArray[np.bool_]


class Boosted(Struct):
    """Boosted trees: `link(base + sum of the trees' leaves)`."""

    trees: list[Tree]
    base: float
    link: str
    objective: str
    inputs: int
    names: list[str]

    def predict(self, matrix: Matrix) -> NDArray[np.float64]:
        """Scores of a (rows × inputs) matrix with NaN for missing: float64, one a row."""
        with np.errstate(over="ignore"):
            rows = matrix.astype(np.float32)
        total = np.full(len(rows), self.base)
        for tree in self.trees:
            total += tree.value[_leaves(tree, rows)]
        if self.link == "sigmoid":
            with np.errstate(over="ignore"):
                return 1.0 / (1.0 + np.exp(-total))
        return np.exp(total) if self.link == "exp" else total


def best_only(content: bytes) -> bytes:
    """The model with the trees up to its best iteration, where early stopping found one: what XGBoost's scikit-learn classes predict with
    (a `Booster` predicts with all). The same bytes where there is nothing to leave out.

    Raises:
        TreadleError: `corrupt`.
    """
    whole = _decoded(content)
    try:
        learner = whole["learner"]
        best = learner.get("attributes", {}).pop("best_iteration", None)
        if best is None:
            return content
        booster = learner["gradient_booster"]
        model = booster["gbtree"]["model"] if booster["name"] == "dart" else booster["model"]
        kept = (int(best) + 1) * max(1, int(model["gbtree_model_param"].get("num_parallel_tree", 1)))
        model["trees"] = model["trees"][:kept]
        if "weight_drop" in booster:
            booster["weight_drop"] = booster["weight_drop"][:kept]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _strange(error) from error
    return msgspec.json.encode(whole, enc_hook=lambda array: array.tolist())


def read(content: bytes) -> Boosted:
    """A model from the bytes of `model.ubj` or `model.json`.

    Raises:
        TreadleError: `corrupt` for other bytes; `not_implemented` for several outputs, linear boosters, categorical splits and objectives
            that are not in `LINKS`.
    """
    whole = _decoded(content)
    try:
        learner = whole["learner"]
        booster, shape = learner["gradient_booster"], learner["learner_model_param"]
        objective = str(learner["objective"]["name"])
        if booster["name"] not in ("gbtree", "dart"):
            raise _refused(f"its booster is {booster['name']}")
        if objective not in LINKS or int(shape.get("num_class", 0)) > 1 or int(shape.get("num_target", 1)) > 1:
            raise _refused(f"its objective is {objective}, or it has several outputs")
        model = booster["gbtree"]["model"] if booster["name"] == "dart" else booster["model"]
        inputs = int(shape["num_feature"])
        trees = [_tree(tree, inputs) for tree in model["trees"]]
        weights = booster.get("weight_drop", [])
        for tree, weight in zip(trees, weights, strict=bool(len(weights))):
            tree.value = np.where(tree.left < 0, tree.value * np.float32(weight), tree.value)
        return Boosted(
            trees=trees,
            base=_margin(_number(shape["base_score"]), LINKS[objective]),
            link=LINKS[objective],
            objective=objective,
            inputs=inputs,
            names=[str(name) for name in learner.get("feature_names", [])],
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise _strange(error) from error


def thresholds(model: Boosted) -> list[tuple[int, float]]:
    """(input, threshold) of every split, as float32 written in float64: where two evaluations of one tree could part."""
    found: set[tuple[int, float]] = set()
    for tree in model.trees:
        inner = tree.left >= 0
        found.update(zip(tree.feature[inner].tolist(), tree.value[inner].astype(np.float64).tolist(), strict=True))
    return sorted(found)


def _decoded(content: bytes) -> Any:
    # JSON and UBJSON both begin with a brace; JSON goes on with a quote or space, UBJSON with the length of a name.
    is_json = content[:1] == b"{" and content[1:2] in (b'"', b" ", b"\n", b"\r", b"\t", b"}")
    try:
        return msgspec.json.decode(content) if is_json else ubjson.decode(content)
    except msgspec.DecodeError as error:
        raise _strange(error) from error


def _strange(error: Exception) -> TreadleError:
    what = f"{type(error).__name__}: {error}"
    return TreadleError(f"These bytes are no XGBoost model: {what}.", remedy="Log the model again.", code="corrupt")


def _tree(told: dict[str, Any], inputs: int) -> Tree:
    if any(np.asarray(told.get("split_type", []), dtype=np.int64)):
        raise _refused("it splits on categories")
    tree = Tree(
        left=np.asarray(told["left_children"], dtype=np.int64),
        right=np.asarray(told["right_children"], dtype=np.int64),
        feature=np.asarray(told["split_indices"], dtype=np.int64),
        value=np.asarray(told["split_conditions"], dtype=np.float32),
        missing_left=np.asarray(told["default_left"], dtype=np.bool_),
    )
    nodes = np.arange(len(tree.left))
    children = np.concatenate([tree.left[tree.left >= 0], tree.right[tree.left >= 0]])
    whole = len(nodes) and {len(part) for part in (tree.right, tree.feature, tree.value, tree.missing_left)} == {len(nodes)}
    # A node has one parent at most and the root none (pruned nodes have none either): from the root no way leads in circles or outside.
    if not whole or len(set(children.tolist())) < len(children) or not np.isin(children, nodes[1:]).all():
        raise ValueError("a tree is not one")
    asked = tree.feature[tree.left >= 0]
    if len(asked) and not 0 <= asked.min() <= asked.max() < inputs:
        raise ValueError(f"a tree asks for an input that is none of {inputs}")
    return tree


def _leaves(tree: Tree, rows: NDArray[np.float32]) -> NDArray[np.int64]:
    """The leaf that each row falls into."""
    at = np.zeros(len(rows), dtype=np.int64)
    going = np.flatnonzero(tree.left[at] >= 0)
    while len(going):
        node = at[going]
        value = rows[going, tree.feature[node]]
        left = np.where(np.isnan(value), tree.missing_left[node], value < tree.value[node])
        at[going] = np.where(left, tree.left[node], tree.right[node])
        going = going[tree.left[at[going]] >= 0]
    return at


def _number(told: Any) -> float:
    """`base_score`: a number, text of one, or text of a list of one."""
    return float(str(told).strip("[] "))


def _margin(score: float, link: str) -> float:
    if link == "sigmoid":
        return float(np.log(score / (1.0 - score)))
    return float(np.log(score)) if link == "exp" else score


def _refused(why: str) -> TreadleError:
    return TreadleError(
        f"This XGBoost model cannot be read as boosted trees of one output: {why}.",
        remedy="Train trees of one output on numbers, or export it to ONNX and log that: mlflow.onnx.log_model(…)",
        code="not_implemented",
    )
