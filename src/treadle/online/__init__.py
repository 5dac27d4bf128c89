"""The cellar of features: how a request becomes a model's matrix, and the embedded online store with its in-memory reader.

Nothing here knows the metadata database, so a gateway can serve from this room and a bundle alone. What is written here is a
derived copy: the datasets are the truth, and the store can be rebuilt from them at any time (`features.materialise.rebuild`).
"""
