"""Training: rows of features and labels become a `Fitted` model, deterministically where the library can.

`fit` trains (LightGBM, a linear baseline, or your own estimator taken over), `steps` are the same as pipeline steps, `reproduce` judges
whether a second training gave the same model. Next room: evaluation.
"""
