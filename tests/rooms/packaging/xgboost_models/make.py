"""How these files were made: models of XGBoost 3.2.0, what it predicts with each, and some that are not to be read.

Run in an environment with xgboost and numpy, in this folder: `python make.py`.
"""

import numpy as np
import xgboost as xgb

rng = np.random.default_rng(5)
rows = rng.normal(size=(400, 4))
rows[rng.random(rows.shape) < 0.1] = np.nan
rows[:, 3] = rng.integers(0, 4, 400)
signal = np.nan_to_num(rows[:, 0]) + np.sin(3 * np.nan_to_num(rows[:, 1])) + rows[:, 3] / 4
label = (signal + rng.normal(0, 0.3, 400) > 0.5).astype(int)
amount = 1000 * signal + rng.normal(0, 50, 400)
data = {"logistic": label, "squared": amount, "poisson": np.round(np.exp(signal)), "dart": label, "forest": label}
told = {
    "logistic": {"objective": "binary:logistic"},
    "squared": {"objective": "reg:squarederror"},
    "poisson": {"objective": "count:poisson"},
    "dart": {"objective": "binary:logistic", "booster": "dart", "rate_drop": 0.3, "seed": 3},
    "forest": {"objective": "binary:logistic", "num_parallel_tree": 3, "subsample": 0.7, "colsample_bynode": 0.7, "seed": 3},
}
expected = {"rows": rows}
for name, target in data.items():
    matrix = xgb.DMatrix(rows, target, feature_names=["a", "b", "c", "d"])
    model = xgb.train({"max_depth": 3, **told[name]}, matrix, 6)
    model.save_model(f"{name}.ubj")
    expected[name] = model.predict(matrix)
model.save_model("forest.json")

early = xgb.XGBClassifier(n_estimators=60, max_depth=5, learning_rate=0.8, early_stopping_rounds=3)
early.fit(rows[:250], label[:250], eval_set=[(rows[250:], label[250:])], verbose=False)
assert early.best_iteration + 1 < early.get_booster().num_boosted_rounds()
early.get_booster().save_model("early.ubj")
expected["early"] = early.predict_proba(rows)[:, 1]
expected["early_all"] = early.get_booster().predict(xgb.DMatrix(rows), iteration_range=(0, early.get_booster().num_boosted_rounds()))

matrix = xgb.DMatrix(rows, rng.integers(0, 3, 400))
xgb.train({"objective": "multi:softprob", "num_class": 3, "max_depth": 2}, matrix, 2).save_model("classes.ubj")
xgb.train({"booster": "gblinear"}, xgb.DMatrix(np.nan_to_num(rows), amount), 2).save_model("linear.ubj")
kinds = xgb.DMatrix(rows[:, 3:], amount, feature_types=["c"], enable_categorical=True)
xgb.train({"max_cat_to_onehot": 1, "max_depth": 2}, kinds, 2).save_model("categories.ubj")
np.savez_compressed("expected.npz", **expected)
